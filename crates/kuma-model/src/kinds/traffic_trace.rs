//! Which proxies trace requests, and where to.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields};
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::Selector;
use crate::violations::Violations;

/// Traces the HTTP requests of the proxies that it selects: those that they take and those that they make.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficTrace {
    /// Which proxies trace.
    pub selectors: Vec<Selector>,
    /// Where to; the default backend of the mesh if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf: Option<TrafficTraceConf>,
}

/// Where a [`TrafficTrace`] sends spans to.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficTraceConf {
    /// Name of a backend of the mesh's `tracing`; its default if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend: String,
}

impl Resource for TrafficTrace {
    const KIND: &'static str = "TrafficTrace";
    const API_PATH: &'static str = "traffic-traces";
    const CLI_LIST: &'static str = "traffic-traces";
    const CLI_ONE: &'static str = "traffic-trace";

    fn decode(fields: &mut Fields<'_>) -> TrafficTrace {
        TrafficTrace { selectors: fields.get("selectors"), conf: fields.opt("conf") }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_list("selectors", &self.selectors, Allowed::Tags, violations);
    }
}

impl Decode for TrafficTraceConf {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<TrafficTraceConf> {
        decode::object(value, path, violations, |fields| TrafficTraceConf { backend: fields.get("backend") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    #[test]
    fn selectors_take_any_tags_and_conf_is_optional() {
        for (conf, kept) in [
            ("", ""),
            ("conf: {}", r#","conf":{}"#),
            ("conf: {backend: ''}", r#","conf":{}"#),
            ("conf: {backend: zipkin}", r#","conf":{"backend":"zipkin"}"#),
        ] {
            let yaml = format!("selectors: [{{match: {{region: eu}}}}, {{match: {{service: '*'}}}}]\n{conf}");
            let selectors = r#""selectors":[{"match":{"region":"eu"}},{"match":{"service":"*"}}]"#;
            assert_eq!(stored::<TrafficTrace>(&yaml), format!("{{{selectors}{kept}}}"));
        }
    }

    #[test]
    fn there_is_a_selector_and_a_tag_in_each() {
        refused::<TrafficTrace>("{}", "selectors: must have at least one element");
        refused::<TrafficTrace>(
            "
            selectors:
            - match: {}
            - match: {'': x, zone: ''}
            - {match: {service: a/b}}
            conf: {backends: zipkin}",
            "
            conf.backends: unknown field; did you mean \"backend\"?
            selectors[0].match: must have at least one tag
            selectors[1].match: tag key must be non-empty
            selectors[1].match[\"zone\"]: tag value must be non-empty
            selectors[2].match[\"service\"]: service name can only consist of latin letters, digits and '.', '_', \
            ':', '-' symbols",
        );
    }
}
