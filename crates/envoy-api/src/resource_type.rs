//! The kinds of xDS resource that are served, and their names on the wire.

/// The six kinds of xDS resource we serve, in the order in which they are sent: what is referred to goes before what
/// refers to it (xds_protocol.rst, "Eventual consistency considerations").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`, by CDS.
    Cluster = 0,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, by EDS.
    Endpoint,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, by SDS.
    Secret,
    /// `envoy.config.listener.v3.Listener`, by LDS.
    Listener,
    /// `envoy.config.core.v3.TypedExtensionConfig`, by ECDS.
    ExtensionConfig,
    /// `envoy.config.route.v3.RouteConfiguration`, by RDS.
    Route,
}

impl ResourceType {
    /// How many kinds there are.
    pub const COUNT: usize = 6;

    /// All kinds, in the order in which they are sent.
    pub const ALL: [ResourceType; ResourceType::COUNT] = [
        ResourceType::Cluster,
        ResourceType::Endpoint,
        ResourceType::Secret,
        ResourceType::Listener,
        ResourceType::ExtensionConfig,
        ResourceType::Route,
    ];

    /// The type URL of the `Any` that carries such a resource, and of the requests for it.
    pub const fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind that a type URL names, if it is one of ours.
    pub fn from_type_url(type_url: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|resource_type| resource_type.type_url() == type_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_read_back() {
        for (index, resource_type) in ResourceType::ALL.into_iter().enumerate() {
            assert_eq!(resource_type as usize, index);
            assert_eq!(ResourceType::from_type_url(resource_type.type_url()), Some(resource_type));
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/envoy.api.v2.Cluster"), None);
    }
}
