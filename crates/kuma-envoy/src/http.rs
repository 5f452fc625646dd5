//! HTTP instead of bare connections: what the proxies of services do that say `protocol: http`.
//!
//! The filter that reads requests is an extension config, as the tcp_proxy is, so that listeners keep their bytes; a
//! change of it, of the log or of tracing, holds for the connections that come after it. What must hold for the next
//! request of an open connection is referred to from there, by names that stay: the routes of an outbound, by RDS, and
//! the permissions of an inbound, by ECDS. All of these must be there from the start: Envoy would never fetch what only
//! an update refers to.
//!
//! Requests and responses are to pass as they are, as long as they like, as bare connections do: each default of Envoy
//! that would do otherwise is set here, with the reason.

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

/// As large as Envoy lets the headers of a request, and those of an answer, be, in KiB. What is too large is for the
/// application to say.
pub(crate) const MAX_HEADERS_KB: u32 = 8192;
/// And so many of them: none is so small that more would fit.
pub(crate) const MAX_HEADERS: u32 = 1_000_000;
/// As many streams on a connection of HTTP/2 as its numbers allow; an application says by itself how many it takes.
const MAX_STREAMS: u32 = (1 << 31) - 1;
/// The upgrade of HTTP/1 that is passed on.
const WEBSOCKET: &str = "websocket";

/// How long an inbound keeps a connection without requests: longer than the proxy at its other end, which gives up
/// after Envoy's default of an hour. Were they equal, a request would now and then meet a connection that is just being
/// closed.
const INBOUND_IDLE: Duration = Duration { seconds: 2 * 3600, nanos: 0 };

/// How long an inbound takes further requests from one connection: proxies keep theirs to one another for as long as
/// there are requests, and a connection traces as it did when it was opened. A request that is under way is not cut.
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
            ..limits()
        }),
        // The last answer says that it is the last. Without this the connection would be closed under a request.
        http1_safe_max_connection_duration: true,
        local_reply_config: Some(says_that_nobody_was_reached()),
        ..manager(service, RouteSpecifier::RouteConfig(routes::to_application(service, cluster)), None, tracing)
    }
}

/// What an outbound does with requests: they go where the routes of the service say.
pub(crate) fn outbound(service: &str, log: Option<&AccessLog>, tracing: Option<&Tracing>) -> HttpConnectionManager {
    let routes = Rds { config_source: Some(ads::source()), route_config_name: names::outbound_routes(service) };
    HttpConnectionManager {
        stat_prefix: names::stat_prefix(service),
        http_filters: vec![router()],
        // An application may keep a connection without requests for as long as it likes.
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
        // A stream that is quiet for 5 minutes would be reset.
        stream_idle_timeout: Some(NEVER),
        // It would say that it is Envoy.
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        // It would answer in the application's place.
        proxy_100_continue: true,
        // An upgrade would be refused.
        upgrade_configs: vec![UpgradeConfig { upgrade_type: WEBSOCKET.into(), ..UpgradeConfig::default() }],
        // Headers `x-envoy-…` of requests are for the application.
        early_header_mutation_extensions: vec![envoy_headers::put_aside()],
        ..HttpConnectionManager::default()
    }
}

/// The limits on headers that have their place here.
pub(crate) fn limits() -> HttpProtocolOptions {
    HttpProtocolOptions { max_headers_count: Some(MAX_HEADERS), ..HttpProtocolOptions::default() }
}

/// A request of HTTP/1.0 would be refused, one without a host or with a method that Envoy does not know too, and
/// trailers would be left out. An upgrade that is offered and not passed on would be refused; whoever offers one
/// takes an answer without.
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

/// A regular expression for every text but this word, in whatever case: Envoy's has no other way to say so.
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

/// Tells the client's proxy that the application has not had the request, so that it may send it elsewhere.
fn says_that_nobody_was_reached() -> LocalReplyConfig {
    LocalReplyConfig {
        mappers: vec![ResponseMapper {
            filter: Some(AccessLogFilter {
                // The connection could not be made.
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

/// It would tell applications and their clients of Envoy's own affairs, in headers `x-envoy-…`.
fn router() -> HttpFilter {
    let router =
        Router { suppress_envoy_headers: true, upstream_http_filters: envoy_headers::put_back(), ..Router::default() };
    HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any::pack(&router))),
        ..HttpFilter::default()
    }
}
