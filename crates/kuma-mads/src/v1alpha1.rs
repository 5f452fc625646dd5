//! The form of kuma.observability.v1alpha1: state-of-the-world discovery over gRPC, with the request and response
//! messages of Envoy's own discovery services.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::Assignment;

/// What the resources are.
pub const TYPE_URL: &str = "type.googleapis.com/kuma.observability.v1alpha1.MonitoringAssignment";

/// The method that sends every list anew when it changes.
pub const STREAM_PATH: &str =
    "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/StreamMonitoringAssignments";

/// The method that answers once.
pub const FETCH_PATH: &str =
    "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/FetchMonitoringAssignments";

/// The label of a target that says where it is.
pub const ADDRESS: &str = "__address__";

/// What one proxy is scraped by.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MonitoringAssignment {
    /// Unique among all.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where to scrape.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<Target>,
    /// Labels of all targets.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
}

/// One place to scrape.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Labels of this target, [`ADDRESS`] among them; they win over those of the assignment.
    #[prost(btree_map = "string, string", tag = "1")]
    pub labels: BTreeMap<String, String>,
}

impl MonitoringAssignment {
    /// Its bytes. The same assignment always gives the same.
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
