//! The format of kuma.observability.v1alpha1: state-of-the-world discovery over gRPC, with the messages of Envoy's
//! discovery services.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::Assignment;

/// Type of the resources.
pub const TYPE_URL: &str = "type.googleapis.com/kuma.observability.v1alpha1.MonitoringAssignment";

/// The method that sends the list again whenever it changes.
pub const STREAM_PATH: &str =
    "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/StreamMonitoringAssignments";

/// The method with a single response.
pub const FETCH_PATH: &str =
    "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/FetchMonitoringAssignments";

/// The label with the address of a target.
pub const ADDRESS: &str = "__address__";

/// The assignment of one proxy.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MonitoringAssignment {
    /// A unique name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The targets.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<Target>,
    /// Labels of all targets.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
}

/// One target.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Labels of this target, including [`ADDRESS`]. They take precedence over those of the assignment.
    #[prost(btree_map = "string, string", tag = "1")]
    pub labels: BTreeMap<String, String>,
}

impl MonitoringAssignment {
    /// The encoded message. Equal assignments give equal bytes.
    pub fn encoded(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

impl From<&Assignment> for MonitoringAssignment {
    fn from(assignment: &Assignment) -> MonitoringAssignment {
        let Assignment { mesh, dataplane, service, address, path, tags } = assignment;
        let mut labels = tags.clone();
        let own = [
            ("__scheme__", "http"),
            ("__metrics_path__", path),
            ("job", service),
            ("instance", dataplane),
            ("mesh", mesh),
            ("dataplane", dataplane),
        ];
        labels.extend(own.map(|(label, value)| (label.to_owned(), value.to_owned())));
        let target = Target { labels: BTreeMap::from([(ADDRESS.to_owned(), address.to_string())]) };
        MonitoringAssignment { name: assignment.name(), targets: vec![target], labels }
    }
}
