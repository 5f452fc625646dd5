//! The format of kuma.observability.v1, JSON over HTTP, which Prometheus itself supports (`kuma_sd_configs`).
//!
//! Prometheus makes these labels from it: `instance`, `__meta_kuma_mesh`, `__meta_kuma_service`,
//! `__meta_kuma_dataplane`, and `__meta_kuma_label_<tag>` for each tag.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Assignment;

/// Type of the resources.
pub const TYPE_URL: &str = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";

/// The path that clients poll.
pub const PATH: &str = "/v3/discovery:monitoringassignments";

/// A response.
#[derive(Serialize)]
pub struct DiscoveryResponse<'a> {
    /// The version of the list.
    pub version_info: &'a str,
    /// The list.
    pub resources: Vec<MonitoringAssignment<'a>>,
    /// [`TYPE_URL`].
    pub type_url: &'static str,
    /// Returned by the client in its next request.
    pub nonce: &'a str,
}

/// The assignment of one proxy.
#[derive(Serialize)]
pub struct MonitoringAssignment<'a> {
    #[serde(rename = "@type")]
    type_url: &'static str,
    mesh: &'a str,
    service: &'a str,
    targets: [Target<'a>; 1],
}

#[derive(Serialize)]
struct Target<'a> {
    name: &'a str,
    scheme: &'static str,
    address: String,
    metrics_path: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Assignment> for MonitoringAssignment<'a> {
    fn from(assignment: &'a Assignment) -> MonitoringAssignment<'a> {
        let Assignment { mesh, dataplane, service, address, path, tags } = assignment;
        let (scheme, address) = ("http", address.to_string());
        let target = Target { name: dataplane, scheme, address, metrics_path: path, labels: tags };
        MonitoringAssignment { type_url: TYPE_URL, mesh, service, targets: [target] }
    }
}
