//! The request headers `x-envoy-…`, by which one Envoy gives instructions to the next. In a request of an application's
//! client they are ordinary headers: no proxy of the mesh obeys them, and the application receives them.

use envoy_api::Any;
use envoy_api::envoy::config::common::mutation_rules::v3::{
    HeaderMutation,
    header_mutation::{Action, RemoveOnMatch},
};
use envoy_api::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, TypedExtensionConfig, header_value_option::HeaderAppendAction,
};
use envoy_api::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as HeaderMutationFilter, Mutations,
};
use envoy_api::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use envoy_api::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as Early;
use envoy_api::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

/// The headers that Envoy 1.40 removes from requests of clients that it does not trust, found by sending it all that it
/// knows. Each of them costs a proxy 0.7 µs per request, whether the request has it or not.
const NAMES: [&str; 16] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Prefix of the names under which these headers pass through a proxy.
const ASIDE: &str = "x-kuma-aside-";

/// Renames the headers when a request arrives, before Envoy removes them.
pub(crate) fn put_aside() -> TypedExtensionConfig {
    let mutations = NAMES.iter().map(|name| copy(name, &format!("{ASIDE}{name}"))).collect();
    extension("envoy.http.early_header_mutation.header_mutation", Any::pack(&Early { mutations }))
}

/// Gives the headers their own names again when the request is sent on.
pub(crate) fn put_back() -> Vec<HttpFilter> {
    let mut request_mutations: Vec<_> = NAMES.iter().map(|name| copy(&format!("{ASIDE}{name}"), name)).collect();
    request_mutations.push(HeaderMutation {
        action: Some(Action::RemoveOnMatch(RemoveOnMatch {
            key_matcher: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(ASIDE.to_owned())),
                ..StringMatcher::default()
            }),
        })),
    });
    let filter = HeaderMutationFilter {
        mutations: Some(Mutations { request_mutations, ..Mutations::default() }),
        ..HeaderMutationFilter::default()
    };
    vec![
        http_filter("envoy.filters.http.header_mutation", Any::pack(&filter)),
        // Envoy requires this filter at the end.
        http_filter("envoy.filters.http.upstream_codec", Any::pack(&UpstreamCodec::default())),
    ]
}

/// Copies the value of one header into another one, if the first exists.
fn copy(from: &str, to: &str) -> HeaderMutation {
    HeaderMutation {
        action: Some(Action::Append(HeaderValueOption {
            header: Some(HeaderValue { key: to.to_owned(), value: format!("%REQ({from})%"), ..HeaderValue::default() }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
            ..HeaderValueOption::default()
        })),
    }
}

fn extension(name: &str, config: Any) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}
