//! Encodes the resource of one key.

use std::sync::Arc;

use bytes::Bytes;
use envoy_api::envoy::config::core::v3::TypedExtensionConfig;
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::{Any, Packed, ResourceType};
use prost::Message;

use crate::key::ResourceKey;
use crate::{
    cluster, endpoints, http, inbound, metrics, names, outbound, raw, rbac, routes, secret, tracing, transparent,
};

/// A resource as it is served.
#[derive(Clone, PartialEq, Debug)]
pub struct Encoded {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name, unique among those of its type.
    pub name: Arc<str>,
    /// The message, encoded. It goes into an `Any` with the type URL of the resource type.
    pub value: Bytes,
    /// The resource that has to be sent again right after this one, even if it has not changed: Envoy waits 15 s for
    /// the endpoints of a cluster that it was sent, and acknowledges no cluster until then.
    pub requires: Option<(ResourceType, Arc<str>)>,
    /// Whether it is a placeholder for endpoints that are not known yet: see [`ResourceKey::Endpoints`].
    pub placeholder: bool,
}

/// Encodes the resource of a key.
pub fn encode(key: &ResourceKey) -> Encoded {
    match key {
        ResourceKey::LocalCluster { port, http } => {
            let cluster = cluster::local(*port, *http);
            resource(ResourceType::Cluster, cluster.name.as_str().into(), &cluster)
        }
        ResourceKey::AdminCluster { address } => {
            resource(ResourceType::Cluster, names::ADMIN_CLUSTER.into(), &cluster::admin(*address))
        }
        // Not transparent: Prometheus may run on this machine, where the firewall does not redirect its connections.
        ResourceKey::MetricsListener { port, path } => listener(metrics::listener(*port, path), false),
        ResourceKey::ServiceCluster { name, tls, health, http } => {
            let cluster = cluster::service(name, tls.as_deref(), health.as_deref(), *http);
            Encoded {
                requires: Some((ResourceType::Endpoint, name.clone())),
                ..resource(ResourceType::Cluster, name.clone(), &cluster)
            }
        }
        ResourceKey::TracingCluster { name, host, port } => {
            resource(ResourceType::Cluster, name.clone(), &tracing::collector(name, host, *port))
        }
        ResourceKey::PassThroughCluster => {
            resource(ResourceType::Cluster, names::PASS_THROUGH.into(), &cluster::pass_through())
        }
        ResourceKey::Endpoints { cluster, endpoints, placeholder } => Encoded {
            placeholder: *placeholder,
            ..resource(ResourceType::Endpoint, cluster.clone(), &endpoints::assignment(cluster, endpoints))
        },
        ResourceKey::InboundListener { address, port, service_port, tls, http, transparent } => {
            listener(inbound::listener(*address, *port, *service_port, *tls, *http), *transparent)
        }
        ResourceKey::HttpInbound { inbound, service, port, tracing } => {
            extension(names::http(inbound), Any::pack(&http::inbound(inbound, service, *port, tracing.as_deref())))
        }
        ResourceKey::AllowedPeers { inbound, roots, peers } => {
            let name: Arc<str> = names::allowed_peers(inbound).into();
            resource(ResourceType::Secret, name.clone(), &secret::allowed_peers(&name, roots, peers))
        }
        ResourceKey::Rbac { inbound, policies } => {
            extension(names::rbac(inbound), Any::pack(&rbac::filter(inbound, policies)))
        }
        ResourceKey::HttpRbac { inbound, policies } => {
            extension(names::http_rbac(inbound), Any::pack(&rbac::of_requests(policies.as_deref())))
        }
        ResourceKey::OutboundListener { address, port, flow, http, transparent } => {
            listener(outbound::listener(*address, *port, flow, *http), *transparent)
        }
        ResourceKey::HttpOutbound { outbound, service, log, tracing } => {
            extension(names::http(outbound), Any::pack(&http::outbound(service, log.as_deref(), tracing.as_deref())))
        }
        ResourceKey::Routes { service, clusters } => {
            let routes = routes::to_service(service, clusters);
            resource(ResourceType::Route, routes.name.as_str().into(), &routes)
        }
        ResourceKey::CatchAllListener { address, port } => listener(transparent::catch_all(*address, *port), false),
        ResourceKey::Split { outbound, service, clusters, log } => {
            extension(names::split(outbound), Any::pack(&outbound::split(service, clusters, log.as_deref())))
        }
        ResourceKey::Raw { resource_type, resource } => raw::encoded(*resource_type, resource),
        ResourceKey::MeshCa { roots } => resource(ResourceType::Secret, names::MESH_CA.into(), &secret::mesh_ca(roots)),
    }
}

pub(crate) fn resource<M: Packed>(resource_type: ResourceType, name: Arc<str>, message: &M) -> Encoded {
    debug_assert_eq!(M::TYPE_URL, resource_type.type_url());
    Encoded { resource_type, name, value: Message::encode_to_vec(message).into(), requires: None, placeholder: false }
}

/// A transparent listener binds no port: it gets its connections from the catch-all listener.
fn listener(mut listener: Listener, transparent: bool) -> Encoded {
    if transparent {
        listener.bind_to_port = Some(false);
    }
    resource(ResourceType::Listener, listener.name.as_str().into(), &listener)
}

fn extension(name: String, config: Any) -> Encoded {
    let shared: Arc<str> = name.as_str().into();
    resource(ResourceType::ExtensionConfig, shared, &TypedExtensionConfig { name, typed_config: Some(config) })
}
