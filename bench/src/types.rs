//! The types of resource that a simulated Envoy asks for.

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

    pub(crate) const fn url(self) -> &'static str {
        match self {
            Type::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Type::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Type::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Type::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Type::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Type::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub(crate) fn from_url(url: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|candidate| candidate.url() == url)
    }

    /// Whether Envoy asks for all of the type rather than by name.
    pub(crate) const fn is_wildcard(self) -> bool {
        matches!(self, Type::Cluster | Type::Listener)
    }
}
