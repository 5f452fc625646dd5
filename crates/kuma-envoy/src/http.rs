//! The filters that handle HTTP, for services with the tag `protocol: http`.
//!
//! The HttpConnectionManager is an extension config, as the tcp_proxy is, so that the bytes of the listener do not
//! change with it. A change of its access log or tracing holds for new connections. Routes and permissions have to hold
//! for the next request on an open connection, so the manager refers to them by fixed names: to the routes of an
//! outbound by RDS, to the permissions of an inbound by ECDS. The first version of the manager must already refer to
//! them: Envoy does not fetch what only an update of an extension config refers to.
//!
//! Requests and responses are to pass unchanged and without a limit of time. Each default of Envoy that would prevent
//! this is overridden here, with the reason.

use envoy_api::envoy::config::accesslog::v3::{
    AccessLog as Logger, AccessLogFilter, ResponseFlagFilter, access_log_filter::FilterSpecifier,
};
use envoy_api::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
};
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_api::envoy::extensions::filters::http::router::v3::Router;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, LocalReplyConfig, Rds, ResponseMapper, http_filter,
};
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use envoy_api::{Any, Duration};

use crate::key::{AccessLog, Tracing};
use crate::tcp::NEVER;
use crate::{access_log, ads, envoy_headers, names, retry, routes, tracing};

/// Limit on the size of the headers of a request or response, in KiB: the largest value that Envoy accepts. The
/// application may have a lower one.
pub(crate) const MAX_HEADERS_KB: u32 = 8192;
/// Limit on the number of headers. It is never reached: as many headers are larger than the size allows.
pub(crate) const MAX_HEADERS: u32 = 1_000_000;
/// Limit on the streams of an HTTP/2 connection: the largest value of the protocol. The application may have a lower
/// one.
const MAX_STREAMS: u32 = (1 << 31) - 1;
/// The only upgrade of HTTP/1 that is passed on.
const WEBSOCKET: &str = "websocket";

/// Idle timeout of the connections of an inbound. The proxy at the other end closes idle connections after an hour,
/// Envoy's default. This one is longer, so that no request is sent on a connection that the inbound is just closing.
const INBOUND_IDLE: Duration = Duration { seconds: 2 * 3600, nanos: 0 };

/// How long an inbound accepts further requests on one connection. Proxies keep connections to each other open as long
/// as there are requests, and a connection keeps the tracing settings that it was opened with: so a change of those
/// takes effect after this time at the latest. A request that has begun is not cut off.
const INBOUND_LIFE: Duration = Duration { seconds: 60, nanos: 0 };

/// The manager of an inbound: it passes permitted requests to the application.
pub(crate) fn inbound(inbound: &str, service: &str, port: u16, tracing: Option<&Tracing>) -> HttpConnectionManager {
    let cluster = names::local_cluster(port);
    HttpConnectionManager {
        stat_prefix: names::stat_prefix(&cluster),
        http_filters: vec![ads::http_filter::<Rbac>(names::http_rbac(inbound)), router()],
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: Some(INBOUND_IDLE),
            max_connection_duration: Some(INBOUND_LIFE),
            ..limits()
        }),
        // The last response carries `connection: close`. Without this, Envoy would close the connection although the
        // client may have sent another request.
        http1_safe_max_connection_duration: true,
        local_reply_config: Some(mark_unreached_application()),
        ..manager(service, RouteSpecifier::RouteConfig(routes::to_application(service, cluster)), None, tracing)
    }
}

/// The manager of an outbound: it passes requests on by the routes of the service.
pub(crate) fn outbound(service: &str, log: Option<&AccessLog>, tracing: Option<&Tracing>) -> HttpConnectionManager {
    let routes = Rds { config_source: Some(ads::source()), route_config_name: names::outbound_routes(service) };
    HttpConnectionManager {
        stat_prefix: names::stat_prefix(service),
        http_filters: vec![router()],
        // The application decides how long it keeps an idle connection.
        common_http_protocol_options: Some(HttpProtocolOptions { idle_timeout: Some(NEVER), ..limits() }),
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
        max_request_headers_kb: Some(MAX_HEADERS_KB),
        http_protocol_options: Some(http1(service)),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: Some(MAX_STREAMS),
            ..Http2ProtocolOptions::default()
        }),
        // By default a stream without data is reset after 5 minutes.
        stream_idle_timeout: Some(NEVER),
        // By default the header `server` of responses becomes `envoy`.
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        // By default Envoy itself answers `expect: 100-continue`, in the application's place.
        proxy_100_continue: true,
        // By default every upgrade is refused.
        upgrade_configs: vec![UpgradeConfig { upgrade_type: WEBSOCKET.into(), ..UpgradeConfig::default() }],
        // By default Envoy removes headers `x-envoy-…` from requests. They are meant for the application.
        early_header_mutation_extensions: vec![envoy_headers::put_aside()],
        ..HttpConnectionManager::default()
    }
}

/// The common options with the limit on the number of headers.
pub(crate) fn limits() -> HttpProtocolOptions {
    HttpProtocolOptions { max_headers_count: Some(MAX_HEADERS), ..HttpProtocolOptions::default() }
}

/// By default Envoy refuses requests of HTTP/1.0, requests without a host, methods that it does not know, and upgrades
/// that it does not pass on, and it drops trailers. An upgrade that is not passed on is ignored instead: a client that
/// offers one has to accept a response without it.
fn http1(host: &str) -> Http1ProtocolOptions {
    Http1ProtocolOptions {
        accept_http_10: true,
        default_host_for_http_10: host.to_owned(),
        allow_custom_methods: true,
        ignore_http_11_upgrade: vec![StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher { regex: all_but(WEBSOCKET) })),
            ..StringMatcher::default()
        }],
        ..trailers()
    }
}

/// A regular expression that matches every text but this word, ignoring case. The syntax of Envoy (RE2) has no
/// negation.
fn all_but(word: &str) -> String {
    let mut texts: Vec<String> = Vec::new();
    for (length, letter) in word.char_indices() {
        let begun = &word[..length];
        texts.push(begun.to_owned());
        texts.push(format!("{begun}[^{letter}].*"));
    }
    texts.push(format!("{word}.+"));
    format!("(?is){}", texts.join("|"))
}

/// Adds the header [`retry::NOT_REACHED`] where the inbound could not connect to its application. The client's proxy
/// then sends the request to another instance.
fn mark_unreached_application() -> LocalReplyConfig {
    LocalReplyConfig {
        mappers: vec![ResponseMapper {
            filter: Some(AccessLogFilter {
                // Upstream connection failure.
                filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
                    flags: vec!["UF".into()],
                })),
            }),
            headers_to_add: vec![HeaderValueOption {
                header: Some(HeaderValue {
                    key: retry::NOT_REACHED.into(),
                    value: "1".into(),
                    ..HeaderValue::default()
                }),
                ..HeaderValueOption::default()
            }],
            ..ResponseMapper::default()
        }],
        ..LocalReplyConfig::default()
    }
}

/// HTTP/1 with trailers.
pub(crate) fn trailers() -> Http1ProtocolOptions {
    Http1ProtocolOptions { enable_trailers: true, ..Http1ProtocolOptions::default() }
}

/// The router. By default it adds headers `x-envoy-…` to requests and responses.
fn router() -> HttpFilter {
    let router =
        Router { suppress_envoy_headers: true, upstream_http_filters: envoy_headers::put_back(), ..Router::default() };
    HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any::pack(&router))),
        ..HttpFilter::default()
    }
}
