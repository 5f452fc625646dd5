//! Where connections to a service go.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields, element};
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
    /// Share of the connections, relative to the sum of the weights; 0 sends none this way. Has to be written, and is
    /// always shown: who forgets it would stop the traffic without meaning to.
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
        selectors::check_list("destinations", &self.destinations, Allowed::Service, violations);
        if self.conf.is_empty() {
            violations.add("conf", "must have at least one element");
        }
        // Envoy refuses clusters whose weights add up to more than its field can hold.
        let total: u64 = self.conf.iter().map(|way| u64::from(way.weight)).sum();
        if total > u64::from(u32::MAX) {
            violations.add("conf", format!("weights cannot add up to more than {}", u32::MAX));
        }
        for (index, way) in self.conf.iter().enumerate() {
            let path = format!("{}.destination", element("conf", index));
            selectors::check_destination(&path, &way.destination, violations);
        }
    }
}

impl Decode for WeightedDestination {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<WeightedDestination> {
        decode::object(value, path, violations, |fields| WeightedDestination {
            weight: fields.required("weight", "has to be set; 0 sends nothing this way"),
            destination: fields.get("destination"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    const SELECTORS: &str = "
sources: [{match: {service: web}}]
destinations: [{match: {service: backend}}]
";

    #[test]
    fn a_weight_of_zero_is_kept() {
        let yaml = format!(
            "{SELECTORS}
conf:
- {{weight: 90, destination: {{service: backend, version: '*'}}}}
- {{weight: '10', destination: {{service: other}}}}
- {{weight: 0, destination: {{service: backend, version: v3}}}}"
        );
        let stored = stored::<TrafficRoute>(&yaml);
        let conf = r#""conf":[{"weight":90,"destination":{"service":"backend","version":"*"}},"#.to_owned()
            + r#"{"weight":10,"destination":{"service":"other"}},"#
            + r#"{"weight":0,"destination":{"service":"backend","version":"v3"}}]}"#;
        assert!(stored.ends_with(&conf), "{stored}");
    }

    #[test]
    fn a_weight_is_never_guessed_but_read_as_zero_where_one_is_stored_without() {
        for conf in ["{destination: {service: a}}", "{weight: null, destination: {service: a}}"] {
            let yaml = format!("{SELECTORS}\nconf: [{{weight: 1, destination: {{service: a}}}}, {conf}]");
            refused::<TrafficRoute>(&yaml, "conf[1].weight: has to be set; 0 sends nothing this way");
        }
        let stored = serde_json::json!({"conf": [{"destination": {"service": "a"}}]});
        let route: TrafficRoute = crate::decode_spec(&stored).expect("it is read");
        assert_eq!(route.conf[0].weight, 0);
    }

    #[test]
    fn destinations_are_services() {
        let expected = "conf: must have at least one element";
        refused::<TrafficRoute>(SELECTORS, expected);
        refused::<TrafficRoute>(
            &format!(
                "{SELECTORS}
conf:
- weight: 1
- destination: {{'': a, region: ''}}
- {{destination: {{service: '*'}}, weight: -1}}
- {{destination: {{service: a}}, weight: 1.5, wieght: 1}}"
            ),
            "
            conf[2].weight: must be a whole number from 0 to 4294967295
            conf[3].weight: must be a whole number from 0 to 4294967295
            conf[1].weight: has to be set; 0 sends nothing this way
            conf[3].wieght: unknown field; did you mean \"weight\"?
            conf[0].destination: must have at least one tag
            conf[0].destination: mandatory tag \"service\" is missing
            conf[1].destination: tag key must be non-empty
            conf[1].destination[\"region\"]: tag value must be non-empty
            conf[1].destination: mandatory tag \"service\" is missing
            conf[2].destination[\"service\"]: service name can only consist of latin letters, digits and '.', '_', \
            ':', '-' symbols",
        );
    }

    #[test]
    fn weights_must_fit_into_envoys_sum() {
        let conf = |last: u32| {
            let service = "destination: {service: a}";
            format!("{SELECTORS}\nconf: [{{weight: 4294967290, {service}}}, {{weight: {last}, {service}}}]")
        };
        stored::<TrafficRoute>(&conf(5));
        refused::<TrafficRoute>(&conf(6), "conf: weights cannot add up to more than 4294967295");
    }
}
