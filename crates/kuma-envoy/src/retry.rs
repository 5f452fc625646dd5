//! Which requests are sent again, to another instance or over another connection: those that nobody has received,
//! and, where a connection has ended before any answer, those of which it does not matter (RFC 9110, section 9.2.2).

use envoy_api::envoy::config::route::v3::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate};
use envoy_api::envoy::config::route::v3::{HeaderMatcher, RetryPolicy, header_matcher::HeaderMatchSpecifier};
use envoy_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use envoy_api::{Any, Duration};

/// The methods whose requests may be repeated though the application may have received them.
const IDEMPOTENT: &str = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE|QUERY";

/// An inbound's answer where its application could not be connected to: another instance may serve the request.
pub(crate) const NOT_REACHED: &str = "x-kuma-not-reached";

/// How often a request is sent again to another instance.
const OTHER_INSTANCES: u32 = 9;
/// How often to the application over another connection: the next one may have been closed as well.
const OTHER_CONNECTIONS: u32 = 2;
/// How many instances the load balancer is asked for until it gives one that has not been tried.
const SELECTIONS: i64 = 20;

const SHORTEST_PAUSE: Duration = Duration { seconds: 0, nanos: 5_000_000 };
const LONGEST_PAUSE: Duration = Duration { seconds: 0, nanos: 250_000_000 };

/// Whether a request may be repeated though it may have been received.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    /// It may: its method is idempotent.
    Idempotent,
    /// It may not, or nobody knows.
    Any,
}

/// The requests that are [`Request::Idempotent`].
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

/// From an outbound to another instance.
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

/// From an inbound to its application, which may close a connection that it keeps just when a request comes.
pub(crate) fn to_application(request: Request) -> RetryPolicy {
    policy(request, "connect-failure", OTHER_CONNECTIONS)
}

/// A stream that is refused, and one whose request has not been sent when its connection ends, was received by nobody.
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
