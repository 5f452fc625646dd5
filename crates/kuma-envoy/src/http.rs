//! HTTP instead of bare connections: what the proxies of services do that say `protocol: http`.
//!
//! The filter that reads requests is an extension config, as the tcp_proxy is, so that listeners keep their bytes; a change of
//! it, of the log or of tracing, holds for the connections that come after it. What must hold for the next request of an open
//! connection is referred to from there, by names that stay: the routes of an outbound, by RDS, and the permissions of
//! an inbound, by ECDS. All of these must be there from the start: Envoy would never fetch what only an update refers to.
//!
//! Requests and responses are to pass as they are, as long as they like, as bare connections do: each default of Envoy that
//! would do otherwise is set here, with the reason.

use envoy_api::envoy::config::accesslog::v3::AccessLog as Logger;
use envoy_api::envoy::config::core::v3::{Http1ProtocolOptions, HttpProtocolOptions};
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_api::envoy::extensions::filters::http::router::v3::Router;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};
use envoy_api::{Any, Duration};

use crate::key::{AccessLog, Tracing};
use crate::{access_log, ads, names, routes, tracing};

/// No limit, where Envoy has one by default.
pub(crate) const NEVER: Duration = Duration { seconds: 0, nanos: 0 };

/// How long an inbound keeps a connection without requests: longer than the proxy at its other end, which gives up after
/// Envoy's default of an hour. Were they equal, a request would now and then meet a connection that is just being closed.
const INBOUND_IDLE: Duration = Duration { seconds: 2 * 3600, nanos: 0 };

/// How long an inbound takes further requests from one connection: proxies keep theirs to one another for as long as there are
/// requests, and a connection traces as it did when it was opened. A request that is under way is not cut.
const INBOUND_LIFE: Duration = Duration { seconds: 60, nanos: 0 };

/// What an inbound does with requests: those that are permitted go to the application.
pub(crate) fn inbound(inbound: &str, service: &str, port: u16, tracing: Option<&Tracing>) -> HttpConnectionManager {
    let cluster = names::local_cluster(port);
    HttpConnectionManager {
        stat_prefix: names::stat_prefix(&cluster),
        http_filters: vec![ads::http_filter::<Rbac>(names::http_rbac(inbound)), router()],
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: Some(INBOUND_IDLE),
            max_connection_duration: Some(INBOUND_LIFE),
            ..HttpProtocolOptions::default()
        }),
        // The last answer says that it is the last. Without this the connection would be closed under a request.
        http1_safe_max_connection_duration: true,
        ..manager(service, RouteSpecifier::RouteConfig(routes::to_application(service, cluster)), None, tracing)
    }
}

/// What an outbound does with requests: they go where the routes of the service say.
pub(crate) fn outbound(service: &str, log: Option<&AccessLog>, tracing: Option<&Tracing>) -> HttpConnectionManager {
    let routes = Rds { config_source: Some(ads::source()), route_config_name: names::outbound_routes(service) };
    HttpConnectionManager {
        stat_prefix: names::stat_prefix(service),
        http_filters: vec![router()],
        ..manager(service, RouteSpecifier::Rds(routes), log.map(access_log::of_requests), tracing)
    }
}

fn manager(
    service: &str,
    routes: RouteSpecifier,
    log: Option<Logger>,
    tracing: Option<&Tracing>,
) -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(routes),
        access_log: log.into_iter().collect(),
        tracing: tracing.map(tracing::of_requests),
        http_protocol_options: Some(http1(service)),
        // A stream that is quiet for 5 minutes would be reset.
        stream_idle_timeout: Some(NEVER),
        // It would say that it is Envoy.
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        // It would answer in the application's place.
        proxy_100_continue: true,
        // An upgrade would be refused.
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() }],
        ..HttpConnectionManager::default()
    }
}

/// A request of HTTP/1.0 would be refused, one without a host too, and trailers would be left out.
fn http1(host: &str) -> Http1ProtocolOptions {
    Http1ProtocolOptions { accept_http_10: true, default_host_for_http_10: host.to_owned(), ..trailers() }
}

/// HTTP/1 with trailers.
pub(crate) fn trailers() -> Http1ProtocolOptions {
    Http1ProtocolOptions { enable_trailers: true, ..Http1ProtocolOptions::default() }
}

/// It would tell applications and their clients of Envoy's own affairs, in headers `x-envoy-…`.
fn router() -> HttpFilter {
    let router = Router { suppress_envoy_headers: true, ..Router::default() };
    HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any::pack(&router))),
        ..HttpFilter::default()
    }
}
