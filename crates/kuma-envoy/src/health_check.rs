//! Health checks of a cluster's endpoints. Several of Envoy's defaults are made for clusters with many endpoints; each
//! one that is overridden here is described.

use std::time::Duration;

use envoy_api::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_api::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_api::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck};
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, HealthCheck};
use envoy_api::envoy::r#type::v3::{Int64Range, Percent};

use crate::key::{ActiveCheck, Health, HttpCheck, PassiveCheck};

/// The shortest time that Envoy can represent. It rounds a shorter one to zero, and would check without a pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// Panic threshold in percent: unhealthy endpoints get no traffic, even if no endpoint is healthy.
const NO_PANIC: f64 = 0.0;
/// Panic threshold in percent: if no endpoint is healthy, all are used. So if a passive check has ejected all endpoints
/// that are left, clients still see the application's own errors.
const PANIC_WITHOUT_HEALTHY: f64 = 1.0;

/// Share of the endpoints that a passive check may eject, in percent: of up to a hundred endpoints, all but one.
const ALL_BUT_ONE: u32 = 99;

/// The cluster with these checks.
pub(crate) fn checked(cluster: Cluster, checks: &Health) -> Cluster {
    Cluster {
        health_checks: checks.active.iter().map(active).collect(),
        outlier_detection: checks.passive.as_ref().map(passive),
        common_lb_config: Some(CommonLbConfig {
            // By default Envoy uses the unhealthy endpoints again when fewer than half are healthy.
            healthy_panic_threshold: Some(Percent {
                value: if checks.active.is_some() { NO_PANIC } else { PANIC_WITHOUT_HEALTHY },
            }),
            // By default Envoy waits up to a second before it acts on a change of health.
            update_merge_window: Some(envoy_api::Duration { seconds: 0, nanos: 0 }),
            ..CommonLbConfig::default()
        }),
        // By default an endpoint that EDS has removed stays in use as long as its checks succeed.
        ignore_health_on_host_removal: true,
        ..cluster
    }
}

fn active(check: &ActiveCheck) -> HealthCheck {
    let interval = Some(duration(check.interval));
    HealthCheck {
        interval,
        // By default a cluster that has had no traffic yet is checked once a minute.
        no_traffic_interval: interval,
        timeout: Some(duration(check.timeout)),
        unhealthy_threshold: Some(check.unhealthy_threshold),
        healthy_threshold: Some(check.healthy_threshold),
        health_checker: Some(match &check.http {
            Some(http) => HealthChecker::HttpHealthCheck(request(http)),
            // It only connects: the application's protocol is not known.
            None => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        }),
        ..HealthCheck::default()
    }
}

fn request(check: &HttpCheck) -> HttpHealthCheck {
    let statuses = check.statuses.iter().map(|&status| i64::from(status));
    HttpHealthCheck {
        // The default is the name of the cluster, which with tags is not a valid host.
        host: check.host.to_string(),
        path: check.path.to_string(),
        expected_statuses: statuses.map(|status| Int64Range { start: status, end: status + 1 }).collect(),
        // Checks are not traced.
        request_headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue { key: "x-b3-sampled".into(), value: "0".into(), ..HeaderValue::default() }),
            ..HeaderValueOption::default()
        }],
        ..HttpHealthCheck::default()
    }
}

fn passive(check: &PassiveCheck) -> OutlierDetection {
    let penalty = Some(duration(check.penalty));
    OutlierDetection {
        // Envoy counts a connection that fails to open as one.
        consecutive_5xx: Some(check.failures),
        base_ejection_time: penalty,
        // By default the penalty grows with each ejection, up to 5 minutes.
        max_ejection_time: penalty,
        interval: Some(duration(release_interval(check.penalty))),
        // By default at most a tenth of the endpoints are ejected.
        max_ejection_percent: Some(ALL_BUT_ONE),
        // By default one endpoint may be ejected whatever the percentage, also if it is the only one.
        always_eject_one_host: Some(false),
        // An active check that connects reaches the endpoint's proxy only, and succeeds although the application
        // fails: by default it would end the penalty.
        successful_active_health_check_uneject_host: Some(false),
        // By default endpoints with a success rate far below the average are ejected too.
        enforcing_success_rate: Some(0),
        ..OutlierDetection::default()
    }
}

/// How often Envoy checks which penalties are over. A penalty lasts longer than configured by at most this: a twentieth
/// of it, or half a second.
fn release_interval(penalty: Duration) -> Duration {
    (penalty / 20).clamp(Duration::from_millis(50), Duration::from_millis(500)).min(penalty)
}

/// A duration in protobuf.
fn duration(time: Duration) -> envoy_api::Duration {
    let time = time.max(SHORTEST);
    envoy_api::Duration {
        // Documents hold at most 292 years.
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_ends_soon_after_it_is_over() {
        for (penalty, expected) in [(1, 1), (200, 50), (2_000, 100), (10_000, 500), (3_600_000, 500)] {
            assert_eq!(
                release_interval(Duration::from_millis(penalty)),
                Duration::from_millis(expected),
                "{penalty} ms"
            );
        }
    }
}
