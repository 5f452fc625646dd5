//! `google.protobuf.Any` with shared bytes, and the messages that travel in one.

use bytes::Bytes;
use prost::Message;

use crate::envoy::config::{cluster, core, endpoint, listener, route, trace};
use crate::envoy::extensions::{access_loggers, filters, http, retry, transport_sockets, upstreams};

/// A message of any type: what it is, and its bytes. The bytes are shared: a clone copies none.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Any {
    /// Name of the message's type, after `type.googleapis.com/`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Any {
    /// Packs a message.
    pub fn pack<M: Packed>(message: &M) -> Any {
        Any { type_url: M::TYPE_URL.to_owned(), value: message.encode_to_vec().into() }
    }

    /// The message, if it is of this type and reads as one.
    pub fn unpack<M: Packed>(&self) -> Option<M> {
        (self.type_url == M::TYPE_URL).then(|| M::decode(self.value.clone()).ok()).flatten()
    }
}

/// A message that travels in an [`Any`].
pub trait Packed: Message + Default {
    /// The type URL of its `Any`.
    const TYPE_URL: &'static str;
}

/// One table, from message to name.
macro_rules! packed {
    ($($message:ty = $name:literal),+ $(,)?) => {
        $(impl Packed for $message {
            const TYPE_URL: &'static str = concat!("type.googleapis.com/", $name);
        })+

        /// The names above, for the test that looks them up.
        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),+];
    };
}

packed! {
    cluster::v3::Cluster = "envoy.config.cluster.v3.Cluster",
    core::v3::TypedExtensionConfig = "envoy.config.core.v3.TypedExtensionConfig",
    endpoint::v3::ClusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment",
    listener::v3::Listener = "envoy.config.listener.v3.Listener",
    route::v3::RouteConfiguration = "envoy.config.route.v3.RouteConfiguration",
    trace::v3::ZipkinConfig = "envoy.config.trace.v3.ZipkinConfig",
    access_loggers::file::v3::FileAccessLog = "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    access_loggers::grpc::v3::HttpGrpcAccessLogConfig =
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    access_loggers::grpc::v3::TcpGrpcAccessLogConfig = "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    access_loggers::stream::v3::StdoutAccessLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    filters::http::header_mutation::v3::HeaderMutation =
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    filters::http::rbac::v3::Rbac = "envoy.extensions.filters.http.rbac.v3.RBAC",
    filters::http::router::v3::Router = "envoy.extensions.filters.http.router.v3.Router",
    filters::http::upstream_codec::v3::UpstreamCodec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    filters::network::http_connection_manager::v3::HttpConnectionManager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    filters::network::rbac::v3::Rbac = "envoy.extensions.filters.network.rbac.v3.RBAC",
    filters::network::tcp_proxy::v3::TcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    http::early_header_mutation::header_mutation::v3::HeaderMutation =
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    retry::host::previous_hosts::v3::PreviousHostsPredicate =
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    transport_sockets::tls::v3::DownstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    transport_sockets::tls::v3::Secret = "envoy.extensions.transport_sockets.tls.v3.Secret",
    transport_sockets::tls::v3::UpstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    upstreams::http::v3::HttpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FILE_DESCRIPTOR_SET, ResourceType};

    #[test]
    fn every_name_is_one_of_envoys() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors read");
        let known: Vec<String> = set
            .file
            .iter()
            .flat_map(|file| {
                file.message_type.iter().map(move |message| format!("{}.{}", file.package(), message.name()))
            })
            .collect();
        for name in NAMES {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
        for resource_type in ResourceType::ALL {
            assert!(
                NAMES.iter().any(|name| resource_type.type_url().ends_with(&format!("/{name}"))),
                "{resource_type:?}"
            );
        }
    }

    #[test]
    fn another_type_does_not_unpack() {
        let any = Any::pack(&cluster::v3::Cluster { name: "a".into(), ..Default::default() });
        assert_eq!(any.unpack::<listener::v3::Listener>(), None);
    }

    #[test]
    fn maps_encode_in_order() {
        use crate::envoy::config::rbac::v3::Rbac;
        let names = ["web", "api", "db", "cache", "queue"];
        let forwards = Rbac {
            policies: names.iter().map(|n| (n.to_string(), Default::default())).collect(),
            ..Default::default()
        };
        let backwards = Rbac {
            policies: names.iter().rev().map(|n| (n.to_string(), Default::default())).collect(),
            ..Default::default()
        };
        assert_eq!(forwards.encode_to_vec(), backwards.encode_to_vec());
    }
}
