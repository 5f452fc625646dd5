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
        TrafficPermission {
            sources: fields.get("sources"),
            destinations: fields.get("destinations"),
        }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_list("sources", &self.sources, Allowed::Certified, violations);
        selectors::check_list("destinations", &self.destinations, Allowed::Any, violations);
    }
}
