//! What connections carry: HTTP where everybody who offers a service says so, by the tag `protocol`; else just bytes.

use std::sync::Arc;

use crate::services::Protocol;
use crate::{Destination, MeshDataplane, MeshSnapshot};

impl MeshSnapshot {
    /// Whether every inbound of a service speaks HTTP, and there is one.
    pub fn is_http(&self, service: &str) -> bool {
        self.http_services > 0 && self.protocol(service) == Protocol::Http
    }

    /// Whether the connections of a proxy to a service carry HTTP, wherever a route leads them.
    pub fn is_http_outbound(&self, dataplane: &MeshDataplane, service: &Arc<str>) -> bool {
        self.http_services > 0 && self.are_http(service, &self.destinations(dataplane, service))
    }

    /// The same for destinations that are known: none of them speaks anything else. Those that nobody offers do not
    /// count; where a route stops the traffic, the service itself does.
    pub fn are_http(&self, service: &str, destinations: &[Destination]) -> bool {
        // Most meshes have none: nothing is looked up for them.
        if self.http_services == 0 {
            return false;
        }
        if destinations.is_empty() {
            return self.is_http(service);
        }
        let protocols = || destinations.iter().map(|to| self.protocol(&to.service));
        protocols().all(|protocol| protocol != Protocol::Tcp) && protocols().any(|protocol| protocol == Protocol::Http)
    }

    fn protocol(&self, service: &str) -> Protocol {
        self.services.get(service).map(|service| service.protocol()).unwrap_or_default()
    }
}
