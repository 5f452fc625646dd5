//! Which endpoints of a cluster are healthy. Several of Envoy's defaults would make checks mean little with few
//! endpoints; each that is set here says which.

use std::time::Duration;

use envoy_api::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_api::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_api::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck};
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, HealthCheck};
use envoy_api::envoy::r#type::v3::{Int64Range, Percent};

use crate::key::{ActiveCheck, Health, HttpCheck, PassiveCheck};

/// The shortest time that Envoy counts with; it would take a shorter one for none at all and never rest.
const SHORTEST: Duration = Duration::from_millis(1);

/// In percent: what is not healthy gets nothing, even if nothing is healthy.
const NOBODY: f64 = 0.0;
/// With fewer healthy, all are used: those that a passive check has taken out serve where no other is left, and
/// errors of the application stay what they are.
const LAST: f64 = 1.0;

/// How many of the endpoints a passive check may take out, in percent: of up to a hundred, all but one.
const ALL_BUT_ONE: u32 = 99;

/// The cluster with these checks.
pub(crate) fn checked(cluster: Cluster, checks: &Health) -> Cluster {
    Cluster {
        health_checks: checks.active.iter().map(active).collect(),
        outlier_detection: checks.passive.as_ref().map(passive),
        common_lb_config: Some(CommonLbConfig {
            // With fewer than half of the endpoints healthy, Envoy would use the others again.
            healthy_panic_threshold: Some(Percent { value: if checks.active.is_some() { NOBODY } else { LAST } }),
            // Envoy would wait for up to a second before it acts on what it has found out.
            update_merge_window: Some(envoy_api::Duration { seconds: 0, nanos: 0 }),
            ..CommonLbConfig::default()
        }),
        // An endpoint that is no endpoint any more would stay one for as long as its checks succeed.
        ignore_health_on_host_removal: true,
        ..cluster
    }
}

fn active(check: &ActiveCheck) -> HealthCheck {
    let interval = Some(duration(check.interval));
    HealthCheck {
        interval,
        // A cluster that has had no traffic would be checked once a minute.
        no_traffic_interval: interval,
        timeout: Some(duration(check.timeout)),
        unhealthy_threshold: Some(check.unhealthy_threshold),
        healthy_threshold: Some(check.healthy_threshold),
        health_checker: Some(match &check.http {
            Some(http) => HealthChecker::HttpHealthCheck(request(http)),
            // It connects, no more: what the application speaks is not known.
            None => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        }),
        ..HealthCheck::default()
    }
}

fn request(check: &HttpCheck) -> HttpHealthCheck {
    let statuses = check.statuses.iter().map(|&status| i64::from(status));
    HttpHealthCheck {
        // It would be the name of the cluster, which is that of no host where it has tags.
        host: check.host.to_string(),
        path: check.path.to_string(),
        expected_statuses: statuses.map(|status| Int64Range { start: status, end: status + 1 }).collect(),
        // Nobody wants to see checks among the traces.
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
        // Envoy counts a connection that cannot be made as one.
        consecutive_5xx: Some(check.failures),
        base_ejection_time: penalty,
        // The penalty would grow with each ejection, up to 5 min.
        max_ejection_time: penalty,
        interval: Some(duration(look(check.penalty))),
        // At most a tenth would be ejected: none of fewer than ten.
        max_ejection_percent: Some(ALL_BUT_ONE),
        // And the only one would be.
        always_eject_one_host: Some(false),
        // An active check ends at the peer's proxy and succeeds where the application behind it fails: it would cancel
        // the penalty.
        successful_active_health_check_uneject_host: Some(false),
        // Nobody asked for statistical outliers to be ejected.
        enforcing_success_rate: Some(0),
        ..OutlierDetection::default()
    }
}

/// How often Envoy looks whose penalty is over: seldom enough to cost nothing, and often enough that no penalty lasts
/// more than a twentieth longer than asked for, or half a second.
fn look(penalty: Duration) -> Duration {
    (penalty / 20).clamp(Duration::from_millis(50), Duration::from_millis(500)).min(penalty)
}

/// A length of time in protobuf.
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
            assert_eq!(look(Duration::from_millis(penalty)), Duration::from_millis(expected), "{penalty} ms");
        }
    }
}
