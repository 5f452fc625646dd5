//! Which of Envoy's messages we compile.

/// The messages that are asked for; those that their fields refer to come along.
pub(crate) const ROOTS: &[&str] = &[
    // What is served.
    ".envoy.config.cluster.v3.Cluster",
    ".envoy.config.core.v3.TypedExtensionConfig",
    ".envoy.config.endpoint.v3.ClusterLoadAssignment",
    ".envoy.config.listener.v3.Listener",
    ".envoy.config.route.v3.RouteConfiguration",
    ".envoy.extensions.transport_sockets.tls.v3.Secret",
    // What is packed into these.
    ".envoy.config.trace.v3.ZipkinConfig",
    ".envoy.extensions.access_loggers.file.v3.FileAccessLog",
    ".envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    ".envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    ".envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    ".envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    ".envoy.extensions.filters.http.rbac.v3.RBAC",
    ".envoy.extensions.filters.http.router.v3.Router",
    ".envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    ".envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ".envoy.extensions.filters.network.rbac.v3.RBAC",
    ".envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ".envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    ".envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    ".envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    ".envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    ".envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    // How it is served.
    ".envoy.service.discovery.v3.DeltaDiscoveryRequest",
    ".envoy.service.discovery.v3.DeltaDiscoveryResponse",
    ".envoy.service.discovery.v3.DiscoveryRequest",
    ".envoy.service.discovery.v3.DiscoveryResponse",
    // What Envoy sends of its own accord.
    ".envoy.service.accesslog.v3.StreamAccessLogsMessage",
    ".envoy.service.accesslog.v3.StreamAccessLogsResponse",
];

/// Messages, or whole packages, that are left out together with the fields that refer to them: parts of Envoy that we
/// do not use and that are large. A decoder skips fields that it does not know.
pub(crate) const LEFT_OUT: &[&str] = &[
    // Envoy lists some 500 extensions in the first message of every stream; nobody reads them.
    ".envoy.config.core.v3.Extension",
    ".envoy.config.core.v3.BuildVersion",
    ".envoy.config.core.v3.GrpcService.GoogleGrpc",
    ".envoy.config.core.v3.QuicProtocolOptions",
    ".envoy.config.core.v3.AlternateProtocolsCacheOptions",
    ".envoy.config.cluster.v3.Cluster.RingHashLbConfig",
    ".envoy.config.cluster.v3.Cluster.MaglevLbConfig",
    ".envoy.config.cluster.v3.Cluster.LbSubsetConfig",
    ".envoy.config.common.matcher.v3",
    ".envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
    ".envoy.config.listener.v3.UdpListenerConfig",
    ".envoy.config.route.v3.RateLimit",
    ".envoy.config.route.v3.ScopedRouteConfiguration",
    ".envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes",
    ".envoy.service.discovery.v3.DynamicParameterConstraints",
    ".envoy.service.discovery.v3.ResourceLocator",
    ".google.api",
    ".xds.core.v3.CollectionEntry",
    ".xds.type.matcher.v3",
];

/// Whether a message is left out.
pub(crate) fn is_left_out(message: &str) -> bool {
    LEFT_OUT
        .iter()
        .any(|prefix| message.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}
