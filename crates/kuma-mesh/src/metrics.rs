//! Where a proxy offers its metrics to Prometheus, and whether that port is free.

use std::net::{IpAddr, Ipv4Addr};

use kuma_model::{DEFAULT_METRICS_PATH, DEFAULT_METRICS_PORT, Dataplane, Mesh};

use crate::{MeshDataplane, MeshSnapshot};

/// Where Prometheus finds the metrics of a proxy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MetricsEndpoint {
    /// Port, on every address of the proxy.
    pub port: u16,
    /// Path; it begins with a slash.
    pub path: String,
}

impl MetricsEndpoint {
    /// Where a proxy offers its metrics: as its mesh says, where the Dataplane says nothing else. Nowhere if the mesh
    /// does not ask for it.
    pub fn new(mesh: &Mesh, dataplane: &Dataplane) -> Option<MetricsEndpoint> {
        let of_mesh = mesh.metrics.as_ref()?.prometheus.as_ref()?;
        let own = dataplane.metrics.as_ref().and_then(|metrics| metrics.prometheus.as_ref());
        let ports = [own.map_or(0, |own| own.port), of_mesh.port, DEFAULT_METRICS_PORT];
        let paths = [own.map_or("", |own| &own.path), &of_mesh.path, DEFAULT_METRICS_PATH];
        let path = paths.into_iter().find(|path| !path.is_empty())?;
        Some(MetricsEndpoint {
            port: u16::try_from(ports.into_iter().find(|&port| port != 0)?).ok()?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        })
    }
}

impl MeshSnapshot {
    /// Where a proxy of the mesh offers its metrics; see [`MetricsEndpoint::new`].
    pub fn metrics_endpoint(&self, dataplane: &MeshDataplane) -> Option<MetricsEndpoint> {
        MetricsEndpoint::new(self.mesh.as_ref()?, &dataplane.spec)
    }
}

impl MeshDataplane {
    /// Who listens on a port already, so that nobody can listen there on every address: an inbound, an outbound or an
    /// application.
    pub fn user_of_port(&self, port: u16) -> Option<String> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let inbounds = self.inbounds.iter().flat_map(|inbound| {
            [
                (inbound.port, "the inbound", inbound.address, inbound.port),
                (inbound.service_port, "the application", loopback, inbound.service_port),
            ]
        });
        let outbounds = self.outbounds.iter().map(|out| (out.port, "the outbound", out.address, out.port));
        let user = inbounds.chain(outbounds).find(|(used, ..)| *used == port);
        user.map(|(_, what, address, port)| format!("{what} {}", std::net::SocketAddr::new(address, port)))
    }
}
