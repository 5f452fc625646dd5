//! Which requests are retried, on another instance or another connection: those that no application has received, and,
//! if a connection ends before the response, those with an idempotent method (RFC 9110, section 9.2.2).

use envoy_api::envoy::config::route::v3::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate};
use envoy_api::envoy::config::route::v3::{HeaderMatcher, RetryPolicy, header_matcher::HeaderMatchSpecifier};
use envoy_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use envoy_api::{Any, Duration};

/// The methods whose requests may be repeated though the application may have received them.
const IDEMPOTENT: &str = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE|QUERY";

/// Header of an inbound's response if it could not connect to its application: another instance may serve the request.
pub(crate) const NOT_REACHED: &str = "x-kuma-not-reached";

/// How often a request is sent again to another instance.
const OTHER_INSTANCES: u32 = 9;
/// How often a request is sent again to the application over another connection, which may have been closed as well.
const OTHER_CONNECTIONS: u32 = 2;
/// How often the load balancer is asked for an instance that has not been tried yet.
const SELECTIONS: i64 = 20;

const SHORTEST_PAUSE: Duration = Duration { seconds: 0, nanos: 5_000_000 };
const LONGEST_PAUSE: Duration = Duration { seconds: 0, nanos: 250_000_000 };

/// Whether a request may be repeated although an application may have received it.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    /// It may be repeated: its method is idempotent.
    Idempotent,
    /// Any other request.
    Any,
}

/// Matches the requests that are [`Request::Idempotent`].
pub(crate) fn is_idempotent() -> HeaderMatcher {
    let methods = RegexMatcher { regex: IDEMPOTENT.to_owned() };
    HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(methods)),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

/// Retries of an outbound, on other instances.
pub(crate) fn to_instances(request: Request) -> RetryPolicy {
    let others = PreviousHostsPredicate::default();
    RetryPolicy {
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".into(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(Any::pack(&others))),
        }],
        host_selection_retry_max_attempts: SELECTIONS,
        retriable_headers: vec![HeaderMatcher {
            name: NOT_REACHED.to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..HeaderMatcher::default()
        }],
        ..policy(request, "connect-failure,retriable-headers", OTHER_INSTANCES)
    }
}

/// Retries of an inbound, on other connections to its application: it may close an idle connection in the moment in
/// which a request is sent on it.
pub(crate) fn to_application(request: Request) -> RetryPolicy {
    policy(request, "connect-failure", OTHER_CONNECTIONS)
}

/// A request was not received if its stream was refused, or if the connection ended before the request was sent.
fn policy(request: Request, further: &str, times: u32) -> RetryPolicy {
    let received = match request {
        Request::Idempotent => ",reset",
        Request::Any => "",
    };
    RetryPolicy {
        retry_on: format!("refused-stream,reset-before-request,{further}{received}"),
        num_retries: Some(times),
        retry_back_off: Some(RetryBackOff { base_interval: Some(SHORTEST_PAUSE), max_interval: Some(LONGEST_PAUSE) }),
        ..RetryPolicy::default()
    }
}
