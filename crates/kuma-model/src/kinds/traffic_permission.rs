//! Which services may connect to which, where the mesh has mTLS.

use serde::Serialize;

use crate::decode::Fields;
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::Selector;
use crate::violations::Violations;

/// Lets each source connect to each destination. Without any, nobody connects to anybody.
///
/// A source is one `service`, because that is what the certificate of a client tells. A destination may ask for more
/// tags: its own proxy knows them.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TrafficPermission {
    /// Who may connect.
    pub sources: Vec<Selector>,
    /// To which inbounds.
    pub destinations: Vec<Selector>,
}

impl Resource for TrafficPermission {
    const KIND: &'static str = "TrafficPermission";
    const API_PATH: &'static str = "traffic-permissions";
    const CLI_LIST: &'static str = "traffic-permissions";
    const CLI_ONE: &'static str = "traffic-permission";

    fn decode(fields: &mut Fields<'_>) -> TrafficPermission {
        TrafficPermission { sources: fields.get("sources"), destinations: fields.get("destinations") }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_list("sources", &self.sources, Allowed::Certified, violations);
        selectors::check_list("destinations", &self.destinations, Allowed::Any, violations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    #[test]
    fn destinations_may_ask_for_more_than_the_service() {
        let yaml = "
            sources: [{match: {service: '*'}}, {match: {service: web}}]
            destinations: [{match: {service: backend, version: '5.0'}}]";
        assert_eq!(
            stored::<TrafficPermission>(yaml),
            r#"{"sources":[{"match":{"service":"*"}},{"match":{"service":"web"}}],"#.to_owned()
                + r#""destinations":[{"match":{"service":"backend","version":"5.0"}}]}"#
        );
    }

    #[test]
    fn sources_are_one_service() {
        refused::<TrafficPermission>(
            "
            sources:
            - match: {}
            - match: {service: web, region: eu}
            - match: {region: ''}
            - {}
            destinations:
            - match: {version: v1}
            - match: {}",
            "
            sources[0].match: must consist of exactly one tag \"service\"
            sources[0].match: mandatory tag \"service\" is missing
            sources[1].match: must consist of exactly one tag \"service\"
            sources[1].match[\"region\"]: tag \"region\" is not allowed: sources are told apart by their \
            certificates, which carry the service alone
            sources[2].match[\"region\"]: tag \"region\" is not allowed: sources are told apart by their \
            certificates, which carry the service alone
            sources[2].match[\"region\"]: tag value must be non-empty
            sources[2].match: mandatory tag \"service\" is missing
            sources[3].match: must consist of exactly one tag \"service\"
            sources[3].match: mandatory tag \"service\" is missing
            destinations[0].match: mandatory tag \"service\" is missing
            destinations[1].match: must have at least one tag
            destinations[1].match: mandatory tag \"service\" is missing",
        );
    }

    #[test]
    fn both_lists_must_have_elements() {
        let expected = "sources: must have at least one element\ndestinations: must have at least one element";
        refused::<TrafficPermission>("", expected);
        refused::<TrafficPermission>("{sources: [], destinations: null}", expected);
    }

    #[test]
    fn fields_of_other_policies_are_refused() {
        refused::<TrafficPermission>(
            "
            source: [{match: {service: web}}]
            sources: [{match: {service: web}}]
            destinations: [{match: {service: web}, mach: {}}]
            conf: {}",
            r#"
            destinations[0].mach: unknown field; did you mean "match"?
            source: unknown field; did you mean "sources"?
            conf: unknown field"#,
        );
    }
}
