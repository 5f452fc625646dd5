//! TrafficLog: where the connections of a proxy to a service are logged.

use kuma_model::{LoggingBackend, TrafficLog};

use crate::{MeshDataplane, MeshSnapshot, best_policy};

impl MeshSnapshot {
    /// The backend that gets a record of each connection of a proxy to a service, if one does: the one that the best
    /// TrafficLog names, else the mesh's default. A name that no backend of the mesh has logs nothing.
    ///
    /// The service is that of the outbound, wherever a route leads.
    pub fn log_backend(&self, dataplane: &MeshDataplane, service: &str) -> Option<&LoggingBackend> {
        let (_, log) = best_policy(&self.logs, dataplane, service)?;
        self.backend_of(log)
    }

    /// The backend that a log goes to, whomever it is about; `None` if the mesh has no such backend.
    pub fn backend_of(&self, log: &TrafficLog) -> Option<&LoggingBackend> {
        self.mesh.as_ref()?.log_backend(log)
    }
}
