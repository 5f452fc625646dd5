//! Where connections to a service go.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields, element};
use crate::omit;
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::{Selector, Tags};
use crate::violations::Violations;

/// Splits the connections from each source to each destination.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficRoute {
    /// Connections of which proxies.
    pub sources: Vec<Selector>,
    /// To which services.
    pub destinations: Vec<Selector>,
    /// Where they go instead.
    pub conf: Vec<WeightedDestination>,
}

/// One way that connections of a [`TrafficRoute`] take.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct WeightedDestination {
    /// Share of the connections, relative to the sum of the weights; 0 sends none this way.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub weight: u32,
    /// Tags of the inbounds to connect to, `service` among them.
    pub destination: Tags,
}

impl Resource for TrafficRoute {
    const KIND: &'static str = "TrafficRoute";
    const API_PATH: &'static str = "traffic-routes";
    const CLI_LIST: &'static str = "traffic-routes";
    const CLI_ONE: &'static str = "traffic-route";

    fn decode(fields: &mut Fields<'_>) -> TrafficRoute {
        TrafficRoute {
            sources: fields.get("sources"),
            destinations: fields.get("destinations"),
            conf: fields.get("conf"),
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
        if self.conf.is_empty() {
            violations.add("conf", "must have at least one element");
        }
        // Envoy refuses clusters whose weights add up to more than its field can hold.
        let total: u64 = self.conf.iter().map(|way| u64::from(way.weight)).sum();
        if total > u64::from(u32::MAX) {
            violations.add(
                "conf",
                format!("weights cannot add up to more than {}", u32::MAX),
            );
        }
        for (index, way) in self.conf.iter().enumerate() {
            let path = format!("{}.destination", element("conf", index));
            selectors::check_destination(&path, &way.destination, violations);
        }
    }
}

impl Decode for WeightedDestination {
    fn decode(
        value: &Value,
        path: &str,
        violations: &mut Violations,
    ) -> Option<WeightedDestination> {
        decode::object(value, path, violations, |fields| WeightedDestination {
            weight: fields.get("weight"),
            destination: fields.get("destination"),
        })
    }
}
