//! How proxies find out which endpoints of a service are healthy.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields};
use crate::duration::Duration;
use crate::omit;
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::Selector;
use crate::violations::Violations;

/// Makes each source check the endpoints of each destination.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct HealthCheck {
    /// Which proxies check.
    pub sources: Vec<Selector>,
    /// The endpoints of which services.
    pub destinations: Vec<Selector>,
    /// How. Valid documents have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf: Option<HealthCheckConf>,
}

/// How a [`HealthCheck`] checks.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckConf {
    /// By connecting to each endpoint from time to time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_checks: Option<ActiveChecks>,
    /// By watching the connections of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_checks: Option<PassiveChecks>,
}

/// Checks by connecting.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveChecks {
    /// Time between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// So many failures in a row make an endpoint unhealthy.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it healthy again.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub healthy_threshold: u32,
}

/// Checks by watching.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassiveChecks {
    /// So many failures in a row make an endpoint unhealthy.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub unhealthy_threshold: u32,
    /// Time between two looks at what failed, after which an endpoint may come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_interval: Option<Duration>,
}

impl HealthCheckConf {
    /// The active checks, unless all their settings are unset.
    pub fn active(&self) -> Option<&ActiveChecks> {
        let set = |checks: &&ActiveChecks| {
            let durations = [checks.interval, checks.timeout];
            durations
                .into_iter()
                .flatten()
                .any(|time| time != Duration::default())
                || checks.unhealthy_threshold > 0
                || checks.healthy_threshold > 0
        };
        self.active_checks.as_ref().filter(set)
    }

    /// The passive checks, unless all their settings are unset.
    pub fn passive(&self) -> Option<&PassiveChecks> {
        let set = |checks: &&PassiveChecks| {
            checks
                .penalty_interval
                .is_some_and(|time| time != Duration::default())
                || checks.unhealthy_threshold > 0
        };
        self.passive_checks.as_ref().filter(set)
    }
}

impl Resource for HealthCheck {
    const KIND: &'static str = "HealthCheck";
    const API_PATH: &'static str = "health-checks";
    const CLI_LIST: &'static str = "healthchecks";
    const CLI_ONE: &'static str = "healthcheck";

    fn decode(fields: &mut Fields<'_>) -> HealthCheck {
        HealthCheck {
            sources: fields.get("sources"),
            destinations: fields.get("destinations"),
            conf: fields.opt("conf"),
        }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_list("sources", &self.sources, Allowed::Any, violations);
        selectors::check_list(
            "destinations",
            &self.destinations,
            Allowed::Service,
            violations,
        );
        let (active, passive) = match &self.conf {
            Some(conf) => (conf.active(), conf.passive()),
            None => (None, None),
        };
        if active.is_none() && passive.is_none() {
            violations.add(
                "conf",
                "must have either active or passive checks configured",
            );
        }
        let mut positive = |field: &str, is_positive: bool| {
            if !is_positive {
                violations.add(format!("conf.{field}"), "must have a positive value");
            }
        };
        let lasts = |time: Option<Duration>| time.is_some_and(Duration::is_positive);
        if let Some(checks) = active {
            positive("activeChecks.interval", lasts(checks.interval));
            positive("activeChecks.timeout", lasts(checks.timeout));
            positive(
                "activeChecks.unhealthyThreshold",
                checks.unhealthy_threshold > 0,
            );
            positive(
                "activeChecks.healthyThreshold",
                checks.healthy_threshold > 0,
            );
        }
        if let Some(checks) = passive {
            positive(
                "passiveChecks.unhealthyThreshold",
                checks.unhealthy_threshold > 0,
            );
            positive(
                "passiveChecks.penaltyInterval",
                lasts(checks.penalty_interval),
            );
        }
    }
}

impl Decode for HealthCheckConf {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<HealthCheckConf> {
        decode::object(value, path, violations, |fields| HealthCheckConf {
            active_checks: fields.opt("activeChecks"),
            passive_checks: fields.opt("passiveChecks"),
        })
    }
}

impl Decode for ActiveChecks {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<ActiveChecks> {
        decode::object(value, path, violations, |fields| ActiveChecks {
            interval: fields.opt("interval"),
            timeout: fields.opt("timeout"),
            unhealthy_threshold: fields.get("unhealthyThreshold"),
            healthy_threshold: fields.get("healthyThreshold"),
        })
    }
}

impl Decode for PassiveChecks {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<PassiveChecks> {
        decode::object(value, path, violations, |fields| PassiveChecks {
            unhealthy_threshold: fields.get("unhealthyThreshold"),
            penalty_interval: fields.opt("penaltyInterval"),
        })
    }
}
