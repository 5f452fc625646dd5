//! `metrics`: how a proxy offers its statistics. A Mesh sets them for all, a Dataplane overrides them for itself.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode};
use crate::omit;
use crate::violations::Violations;

/// Metrics of the proxies of a mesh, or of one.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Metrics {
    /// Offered to Prometheus, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetrics>,
}

/// Where Prometheus finds the metrics of a proxy.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct PrometheusMetrics {
    /// Port on which the proxy answers; 0 if unset.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub port: u32,
    /// HTTP path at which it answers; empty if unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl Metrics {
    pub(super) fn validate(&self, violations: &mut Violations) {
        if let Some(prometheus) = &self.prometheus
            && prometheus.port > u32::from(u16::MAX)
        {
            violations.add("metrics.prometheus.port", "port has to be in range of [0, 65535]");
        }
    }
}

impl Decode for Metrics {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Metrics> {
        decode::object(value, path, violations, |fields| Metrics { prometheus: fields.opt("prometheus") })
    }
}

impl Decode for PrometheusMetrics {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<PrometheusMetrics> {
        decode::object(value, path, violations, |fields| PrometheusMetrics {
            port: fields.get("port"),
            path: fields.get("path"),
        })
    }
}
