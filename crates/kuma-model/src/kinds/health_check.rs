//! How proxies find out which endpoints of a service are healthy.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields, element};
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
    /// By a request instead of a connection, where a service speaks HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpChecks>,
}

/// What is asked of an endpoint that speaks HTTP, and which answers are good ones.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpChecks {
    /// What is asked for: a path, with a query if it likes.
    pub path: String,
    /// The status codes of good answers; 200 alone if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<u32>,
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
            durations.into_iter().flatten().any(|time| time != Duration::default())
                || checks.unhealthy_threshold > 0
                || checks.healthy_threshold > 0
                || checks.http.is_some()
        };
        self.active_checks.as_ref().filter(set)
    }

    /// The passive checks, unless all their settings are unset.
    pub fn passive(&self) -> Option<&PassiveChecks> {
        let set = |checks: &&PassiveChecks| {
            checks.penalty_interval.is_some_and(|time| time != Duration::default()) || checks.unhealthy_threshold > 0
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
        selectors::check_list("destinations", &self.destinations, Allowed::Service, violations);
        let (active, passive) = match &self.conf {
            Some(conf) => (conf.active(), conf.passive()),
            None => (None, None),
        };
        if active.is_none() && passive.is_none() {
            violations.add("conf", "must have either active or passive checks configured");
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
            positive("activeChecks.unhealthyThreshold", checks.unhealthy_threshold > 0);
            positive("activeChecks.healthyThreshold", checks.healthy_threshold > 0);
        }
        if let Some(checks) = passive {
            positive("passiveChecks.unhealthyThreshold", checks.unhealthy_threshold > 0);
            positive("passiveChecks.penaltyInterval", lasts(checks.penalty_interval));
        }
        if let Some(http) = active.and_then(|checks| checks.http.as_ref()) {
            http.validate("conf.activeChecks.http", violations);
        }
    }
}

impl HttpChecks {
    fn validate(&self, path: &str, violations: &mut Violations) {
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            violations.add(format!("{path}.path"), "has to be a path that begins with a slash");
        }
        for (index, status) in self.expected_statuses.iter().enumerate() {
            if !(100..=599).contains(status) {
                violations.add(element(&format!("{path}.expectedStatuses"), index), "has to be in [100, 599] range");
            }
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
            http: fields.opt("http"),
        })
    }
}

impl Decode for HttpChecks {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<HttpChecks> {
        decode::object(value, path, violations, |fields| HttpChecks {
            path: fields.get("path"),
            expected_statuses: fields.get("expectedStatuses"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    fn with_conf(conf: &str) -> String {
        format!("sources: [{{match: {{service: web}}}}]\ndestinations: [{{match: {{service: '*'}}}}]\nconf: {conf}")
    }

    #[test]
    fn durations_are_stored_in_seconds() {
        let conf = "{activeChecks: {interval: 1m30s, timeout: 500ms, unhealthyThreshold: 3, healthyThreshold: 1},
            passive_checks: {unhealthy_threshold: 2, penaltyInterval: 5s}}";
        let stored = stored::<HealthCheck>(&with_conf(conf));
        let expected = r#""conf":{"activeChecks":{"interval":"90s","timeout":"0.500s","unhealthyThreshold":3,"#
            .to_owned()
            + r#""healthyThreshold":1},"passiveChecks":{"unhealthyThreshold":2,"penaltyInterval":"5s"}}}"#;
        assert!(stored.ends_with(&expected), "{stored}");
    }

    #[test]
    fn checks_without_any_setting_are_no_checks() {
        let passive = "passiveChecks: {unhealthyThreshold: 1, penaltyInterval: 1s}";
        let stored = stored::<HealthCheck>(&with_conf(&format!("{{activeChecks: {{}}, {passive}}}")));
        assert!(stored.contains(r#""activeChecks":{}"#), "{stored}");
        for conf in ["null", "{}", "{activeChecks: {}}", "{activeChecks: {interval: 0s}, passiveChecks: {}}"] {
            refused::<HealthCheck>(&with_conf(conf), "conf: must have either active or passive checks configured");
        }
    }

    #[test]
    fn every_setting_must_be_positive() {
        refused::<HealthCheck>(
            &with_conf("{activeChecks: {interval: -1s}, passiveChecks: {penaltyInterval: -1ns}}"),
            "
            conf.activeChecks.interval: must have a positive value
            conf.activeChecks.timeout: must have a positive value
            conf.activeChecks.unhealthyThreshold: must have a positive value
            conf.activeChecks.healthyThreshold: must have a positive value
            conf.passiveChecks.unhealthyThreshold: must have a positive value
            conf.passiveChecks.penaltyInterval: must have a positive value",
        );
        refused::<HealthCheck>(
            &with_conf("{activeChecks: {unhealthyThreshold: 4294967295, healthyThreshold: 4294967295}}"),
            "
            conf.activeChecks.interval: must have a positive value
            conf.activeChecks.timeout: must have a positive value",
        );
    }

    #[test]
    fn durations_must_be_durations() {
        refused::<HealthCheck>(
            &with_conf(
                "{activeChecks: {interval: 10, timeout: soon, unhealthyThreshold: 1, healthyThreshold: 1, interval_: \
                 1}}",
            ),
            r#"
            conf.activeChecks.interval: must be a duration such as "10s", not a number
            conf.activeChecks.timeout: must be a duration such as "10s", "500ms" or "1m30s"
            conf.activeChecks.interval_: unknown field; did you mean "interval"?"#,
        );
        refused::<HealthCheck>(
            &with_conf(
                "{activeChecks: {interval: 99999999999h, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1}}",
            ),
            "conf.activeChecks.interval: must have a valid value",
        );
    }

    #[test]
    fn destinations_are_one_service() {
        refused::<HealthCheck>(
            "
            sources: [{match: {service: web, region: eu}}]
            destinations: [{match: {service: web, region: eu}}]
            conf: {passiveChecks: {unhealthyThreshold: 1, penaltyInterval: 1s}}",
            r#"
            destinations[0].match: must consist of exactly one tag "service"
            destinations[0].match["region"]: tag "region" is not allowed"#,
        );
    }

    #[test]
    fn a_check_by_request_names_a_path_and_good_answers() {
        let with = |http: &str| {
            format!(
                "sources: [{{match: {{service: '*'}}}}]\ndestinations: [{{match: {{service: '*'}}}}]\n\
                 conf: {{activeChecks: {{interval: 1s, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1, http: \
                 {http}}}}}"
            )
        };
        for (http, kept) in [
            ("{path: /}", r#"{"path":"/"}"#),
            ("{path: '/a?b=c', expectedStatuses: [200, 204]}", r#"{"path":"/a?b=c","expectedStatuses":[200,204]}"#),
        ] {
            let stored = stored::<HealthCheck>(&with(http));
            assert!(stored.ends_with(&format!(r#""http":{kept}}}}}}}"#)), "{stored}");
        }
        let path = "conf.activeChecks.http.path: has to be a path that begins with a slash";
        for http in ["{}", "{path: health}", "{path: '/a b'}", "{path: '/a#b'}", "{path: /ä}"] {
            refused::<HealthCheck>(&with(http), path);
        }
        refused::<HealthCheck>(
            &with("{path: /, expectedStatuses: [200, 99, 600]}"),
            "
            conf.activeChecks.http.expectedStatuses[1]: has to be in [100, 599] range
            conf.activeChecks.http.expectedStatuses[2]: has to be in [100, 599] range",
        );
        refused::<HealthCheck>(
            "sources: [{match: {service: '*'}}]\ndestinations: [{match: {service: '*'}}]\nconf: {activeChecks: {http: \
             {path: /}}}",
            "
            conf.activeChecks.interval: must have a positive value
            conf.activeChecks.timeout: must have a positive value
            conf.activeChecks.unhealthyThreshold: must have a positive value
            conf.activeChecks.healthyThreshold: must have a positive value",
        );
    }
}
