//! The types of resource that a simulated Envoy asks for.

/// Versions of Envoy's API. They differ in names; the field numbers that matter here are the same in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum ApiVersion {
    /// For control planes of before 2021, such as the original Kuma 0.3.2.
    V2,
    V3,
}

/// In the order in which a returning Envoy asks for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(usize)]
pub(crate) enum Type {
    Cluster,
    Endpoint,
    Secret,
    Listener,
    ExtensionConfig,
    Route,
}

impl Type {
    pub(crate) const ALL: [Type; 6] =
        [Type::Cluster, Type::Endpoint, Type::Secret, Type::Listener, Type::ExtensionConfig, Type::Route];

    pub(crate) const fn url(self, api: ApiVersion) -> &'static str {
        match (api, self) {
            (ApiVersion::V3, Type::Cluster) => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            (ApiVersion::V3, Type::Endpoint) => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            (ApiVersion::V3, Type::Secret) => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            (ApiVersion::V3, Type::Listener) => "type.googleapis.com/envoy.config.listener.v3.Listener",
            (ApiVersion::V3, Type::Route) => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            (ApiVersion::V2, Type::Cluster) => "type.googleapis.com/envoy.api.v2.Cluster",
            (ApiVersion::V2, Type::Endpoint) => "type.googleapis.com/envoy.api.v2.ClusterLoadAssignment",
            (ApiVersion::V2, Type::Secret) => "type.googleapis.com/envoy.api.v2.auth.Secret",
            (ApiVersion::V2, Type::Listener) => "type.googleapis.com/envoy.api.v2.Listener",
            (ApiVersion::V2, Type::Route) => "type.googleapis.com/envoy.api.v2.RouteConfiguration",
            // Nothing refers to one in v2.
            (_, Type::ExtensionConfig) => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }

    pub(crate) fn from_url(url: &str, api: ApiVersion) -> Option<Type> {
        Type::ALL.into_iter().find(|candidate| candidate.url(api) == url)
    }

    /// Whether Envoy asks for all of the type rather than by name.
    pub(crate) const fn is_wildcard(self) -> bool {
        matches!(self, Type::Cluster | Type::Listener)
    }
}
