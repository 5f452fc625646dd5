//! Which connections are logged, and where to.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields};
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::Selector;
use crate::violations::Violations;

/// Logs the connections from each source to each destination.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficLog {
    /// Which proxies log.
    pub sources: Vec<Selector>,
    /// Connections to which services.
    pub destinations: Vec<Selector>,
    /// Where to; the default backend of the mesh if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf: Option<TrafficLogConf>,
}

/// Where a [`TrafficLog`] logs to.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficLogConf {
    /// Name of a backend of the mesh's `logging`; its default if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend: String,
}

impl Resource for TrafficLog {
    const KIND: &'static str = "TrafficLog";
    const API_PATH: &'static str = "traffic-logs";
    const CLI_LIST: &'static str = "traffic-logs";
    const CLI_ONE: &'static str = "traffic-log";

    fn decode(fields: &mut Fields<'_>) -> TrafficLog {
        TrafficLog {
            sources: fields.get("sources"),
            destinations: fields.get("destinations"),
            conf: fields.opt("conf"),
        }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_list("sources", &self.sources, Allowed::Any, violations);
        selectors::check_list("destinations", &self.destinations, Allowed::Service, violations);
    }
}

impl Decode for TrafficLogConf {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<TrafficLogConf> {
        decode::object(value, path, violations, |fields| TrafficLogConf { backend: fields.get("backend") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    const SELECTORS: &str = "
sources: [{match: {service: web, version: '1.0'}}]
destinations: [{match: {service: backend}}]
";

    #[test]
    fn conf_may_be_absent_empty_or_name_a_backend() {
        for (conf, kept) in [
            ("", ""),
            ("conf: null", ""),
            ("conf: {}", r#","conf":{}"#),
            ("conf: {backend: ''}", r#","conf":{}"#),
            ("conf: {backend: file}", r#","conf":{"backend":"file"}"#),
        ] {
            let selectors = r#""sources":[{"match":{"service":"web","version":"1.0"}}],"#.to_owned()
                + r#""destinations":[{"match":{"service":"backend"}}]"#;
            assert_eq!(stored::<TrafficLog>(&format!("{SELECTORS}{conf}")), format!("{{{selectors}{kept}}}"));
        }
    }

    #[test]
    fn sources_take_any_tags_and_destinations_the_service_alone() {
        refused::<TrafficLog>(
            "
            sources:
            - match: {region: eu, '': x, zone: ''}
            - match: {}
            destinations:
            - match: {service: backend, version: v1}
            - match: {'': ''}
            conf: {backend: [file]}",
            r#"
            conf.backend: must be a string, not a list
            sources[0].match: tag key must be non-empty
            sources[0].match["zone"]: tag value must be non-empty
            sources[0].match: mandatory tag "service" is missing
            sources[1].match: must have at least one tag
            sources[1].match: mandatory tag "service" is missing
            destinations[0].match: must consist of exactly one tag "service"
            destinations[0].match["version"]: tag "version" is not allowed
            destinations[1].match: tag key must be non-empty
            destinations[1].match[""]: tag value must be non-empty
            destinations[1].match: mandatory tag "service" is missing"#,
        );
    }

    #[test]
    fn services_fit_into_an_identity() {
        refused::<TrafficLog>(
            r#"
            sources:
            - match: {service: a/b}
            - match: {service: '..', "a\tb": "c\nd"}
            destinations:
            - match: {service: '* '}"#,
            "
            sources[0].match[\"service\"]: service name can only consist of latin letters, digits and '.', '_', ':', \
            '-' symbols
            sources[1].match[\"a\\tb\"]: tag key cannot contain control characters
            sources[1].match[\"a\\tb\"]: tag value cannot contain control characters
            sources[1].match[\"service\"]: service name cannot be '.' or '..'
            destinations[0].match[\"service\"]: service name can only consist of latin letters, digits and '.', '_', \
            ':', '-' symbols",
        );
    }

    #[test]
    fn tags_must_be_written_as_strings() {
        refused::<TrafficLog>(
            "
            sources: [{match: {service: web, version: 1.0}}, {match: {service: 5}}, 7]
            destinations: {}",
            r#"
            sources[0].match["version"]: must be a string, not a number: put it in quotes
            sources[1].match["service"]: must be a string, not a number: put it in quotes
            sources[2]: must be an object, not a number
            destinations: must be a list, not an object"#,
        );
    }
}
