//! HealthCheck: how a proxy finds out which endpoints of a service are healthy.

use std::sync::Arc;

use kuma_model::HealthCheck;

use crate::{MeshDataplane, MeshSnapshot, best_policy};

impl MeshSnapshot {
    /// How a proxy checks the endpoints of a service that its connections are routed to, if it does.
    ///
    /// The service is that of the endpoints, not that of the outbound: where a route leads elsewhere, the checks for
    /// elsewhere apply.
    pub fn health_check(&self, dataplane: &MeshDataplane, service: &str) -> Option<&Arc<HealthCheck>> {
        best_policy(&self.health_checks, dataplane, service).map(|(_, policy)| policy)
    }
}
