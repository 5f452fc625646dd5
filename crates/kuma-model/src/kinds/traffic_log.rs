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
        selectors::check_list(
            "destinations",
            &self.destinations,
            Allowed::Service,
            violations,
        );
    }
}

impl Decode for TrafficLogConf {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<TrafficLogConf> {
        decode::object(value, path, violations, |fields| TrafficLogConf {
            backend: fields.get("backend"),
        })
    }
}
