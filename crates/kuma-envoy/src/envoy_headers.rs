//! Headers of requests by which one Envoy tells the next one what to do. From an application's client they are
//! headers like any other: no proxy of the mesh obeys them, and the application gets them.

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

/// Those that Envoy 1.40 takes out of requests that are not of its own kind: it was sent all that it knows. Each costs
/// a proxy 0.7 µs for a request, whether that has it or not.
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

/// Before the names under which they pass through a proxy.
const ASIDE: &str = "x-kuma-aside-";

/// Puts them aside when a request comes, before Envoy looks at them: it trusts no address to be of its own kind
/// unless it is told to, and takes them out.
pub(crate) fn put_aside() -> TypedExtensionConfig {
    let mutations = NAMES.iter().map(|name| copy(name, &format!("{ASIDE}{name}"))).collect();
    extension("envoy.http.early_header_mutation.header_mutation", Any::pack(&Early { mutations }))
}

/// Puts them back when it goes on.
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
        // The last one, always.
        http_filter("envoy.filters.http.upstream_codec", Any::pack(&UpstreamCodec::default())),
    ]
}

/// Gives a header the value of another one, where that is there.
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
