//! The resources that a proxy gets, as a list of keys. A key holds the inputs that a resource's bytes depend on.
//!
//! Planning is cheap and makes no protobuf message: the engine plans a proxy at every change that may concern it, and
//! encodes only the keys that it has not seen before.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_mesh::{Admitted, Destination, Inbound, KnownCallers, MeshDataplane, MeshSnapshot, Side};
use kuma_model::{HealthCheckConf, spiffe_id};

use crate::key::{
    ActiveCheck, Flow, Health, HttpCheck, PassiveCheck, Peer, Policy, ResourceKey, Tracing, WeightedCluster,
};
use crate::{log_line, names, raw, tracing, transparent};

/// All resources of a proxy. If two have the same type and name, the later one counts: a raw resource of a
/// ProxyTemplate replaces the generated one. `roots` are the PEM certificates of the mesh's CA; without them a mesh
/// with mTLS still gets its TLS listeners, which then refuse every client.
pub fn plan(snapshot: &MeshSnapshot, dataplane: &MeshDataplane, roots: Option<&Arc<str>>) -> Vec<ResourceKey> {
    let Some((_, template)) = snapshot.template(dataplane) else {
        return default_proxy(snapshot, dataplane, roots);
    };
    let mut keys = if template.default_proxy { default_proxy(snapshot, dataplane, roots) } else { Vec::new() };
    keys.extend(raw::keys(template));
    keys
}

/// The resources of a proxy without a ProxyTemplate, which are also the profile `default-proxy` of templates.
fn default_proxy(snapshot: &MeshSnapshot, dataplane: &MeshDataplane, roots: Option<&Arc<str>>) -> Vec<ResourceKey> {
    let mut plan = Plan { tracing: tracing::plan(snapshot, dataplane), ..Plan::new(snapshot, dataplane, roots) };
    if let Some(port) = dataplane.spec.redirect_port() {
        plan.keys.extend(transparent::keys(dataplane, port));
    }
    for inbound in &dataplane.inbounds {
        plan.inbound(dataplane, inbound);
    }
    for outbound in &dataplane.outbounds {
        plan.outbound(dataplane, outbound);
    }
    if let (true, Some(roots)) = (snapshot.has_any_mtls(), roots) {
        plan.keys.push(ResourceKey::MeshCa { roots: roots.clone() });
    }
    plan.keys
}

/// The part of [`plan`] that can change when only the endpoints of these services change. `None` if the proxy has a
/// template: then it has to be planned as a whole.
pub fn plan_endpoints(
    snapshot: &MeshSnapshot,
    dataplane: &MeshDataplane,
    services: &BTreeSet<Arc<str>>,
) -> Option<Vec<ResourceKey>> {
    if snapshot.template(dataplane).is_some() {
        return None;
    }
    let mut keys = Vec::new();
    for outbound in &dataplane.outbounds {
        for destination in snapshot.destinations(dataplane, &outbound.service).iter() {
            if services.contains(&destination.service) {
                keys.push(endpoints(snapshot, destination, cluster_name(destination)));
            }
        }
    }
    Some(keys)
}

/// The part of [`plan`] that says which clients the proxy's inbounds admit. Together with [`plan_flows`] it is all that
/// can change when only permissions change. `None` if the proxy has a template: then it has to be planned as a whole.
pub fn plan_admission(
    snapshot: &MeshSnapshot,
    dataplane: &MeshDataplane,
    roots: Option<&Arc<str>>,
) -> Option<Vec<ResourceKey>> {
    if snapshot.template(dataplane).is_some() {
        return None;
    }
    let mut plan = Plan::new(snapshot, dataplane, roots);
    if snapshot.has_mtls(Side::Servers) {
        for inbound in &dataplane.inbounds {
            plan.permissions(inbound, Arc::from(names::inbound_listener(inbound.address, inbound.port)));
        }
    }
    Some(plan.keys)
}

/// The part of [`plan`] that says whether the flows of the proxy's outbounds are permitted. `None` if the proxy has a
/// template: then it has to be planned as a whole. `callers` is a cache that is valid for this snapshot only.
pub fn plan_flows(
    snapshot: &MeshSnapshot,
    dataplane: &MeshDataplane,
    callers: &mut KnownCallers,
) -> Option<Vec<ResourceKey>> {
    if snapshot.template(dataplane).is_some() {
        return None;
    }
    let mut plan = Plan::new(snapshot, dataplane, None);
    plan.keys.reserve_exact(dataplane.outbounds.len());
    for outbound in &dataplane.outbounds {
        let service = &outbound.service;
        let destinations = snapshot.destinations(dataplane, service);
        let http = snapshot.are_http(service, &destinations);
        plan.outbound_listener(outbound, http, || callers.flow(snapshot, dataplane, service, &destinations));
    }
    Some(plan.keys)
}

fn endpoints(snapshot: &MeshSnapshot, destination: &Destination, cluster: Arc<str>) -> ResourceKey {
    ResourceKey::Endpoints {
        cluster,
        endpoints: snapshot.endpoints(destination),
        placeholder: snapshot.is_unknown(&destination.service),
    }
}

/// The name of a destination's cluster. Most often it equals the service's name, and then shares its memory.
fn cluster_name(destination: &Destination) -> Arc<str> {
    if destination.tags.is_empty() && !names::is_reserved(&destination.service) {
        return destination.service.clone();
    }
    names::service_cluster(&destination.service, &destination.tags.0).into()
}

struct Plan<'a> {
    snapshot: &'a MeshSnapshot,
    roots: Option<&'a Arc<str>>,
    transparent: bool,
    /// How the proxy's requests are traced, if they are. Set only when the whole proxy is planned.
    tracing: Option<Arc<Tracing>>,
    keys: Vec<ResourceKey>,
    /// Names of the clusters planned so far: two outbounds to the same service share its cluster.
    clusters: BTreeSet<Arc<str>>,
}

impl<'a> Plan<'a> {
    fn new(snapshot: &'a MeshSnapshot, dataplane: &MeshDataplane, roots: Option<&'a Arc<str>>) -> Plan<'a> {
        let transparent = dataplane.spec.redirect_port().is_some();
        Plan { snapshot, roots, transparent, tracing: None, keys: Vec::new(), clusters: BTreeSet::new() }
    }

    /// How requests are traced. The first call also plans the collector's cluster.
    fn traced(&mut self) -> Option<Arc<Tracing>> {
        let tracing = self.tracing.clone()?;
        let Tracing { cluster, host, port, .. } = &*tracing;
        if self.clusters.insert(cluster.clone()) {
            self.keys.push(ResourceKey::TracingCluster { name: cluster.clone(), host: host.clone(), port: *port });
        }
        Some(tracing)
    }

    fn inbound(&mut self, dataplane: &MeshDataplane, inbound: &Inbound) {
        let tls = self.snapshot.has_mtls(Side::Servers);
        let Inbound { address, port, service_port, ref service, .. } = *inbound;
        let http = inbound.tags.speaks_http();
        if self.clusters.insert(Arc::from(names::local_cluster(service_port))) {
            let mut sharing = dataplane.inbounds.iter().filter(|other| other.service_port == service_port);
            let http = sharing.any(|other| other.tags.speaks_http());
            self.keys.push(ResourceKey::LocalCluster { port: service_port, http });
        }
        let name: Arc<str> = names::inbound_listener(address, port).into();
        self.keys.push(ResourceKey::InboundListener {
            address,
            port,
            service_port,
            tls,
            http,
            transparent: self.transparent && kuma_model::takes_over(address, port, service_port),
        });
        if http {
            let (inbound, service, tracing) = (name.clone(), service.clone(), self.traced());
            self.keys.push(ResourceKey::HttpInbound { inbound, service, port: service_port, tracing });
        }
        if tls {
            self.permissions(inbound, name);
        } else if http {
            self.keys.push(ResourceKey::HttpRbac { inbound: name, policies: None });
        }
    }

    /// The clients that an inbound admits. They are enforced by the validation of certificates, so that a client
    /// without permission fails the TLS handshake, and again by RBAC, for its statistics. With HTTP, RBAC also checks
    /// each request: its connection may be older than the latest change of permissions.
    fn permissions(&mut self, inbound: &Inbound, name: Arc<str>) {
        let policy = |Admitted { permission: name, peers }| Policy { name, peers };
        let policies: Arc<[Policy]> = self.snapshot.admitted(inbound).into_iter().map(policy).collect();
        if let Some(roots) = self.roots {
            let peers: BTreeSet<&Peer> = policies.iter().flat_map(|policy| policy.peers.iter()).collect();
            self.keys.push(ResourceKey::AllowedPeers {
                inbound: name.clone(),
                roots: roots.clone(),
                peers: peers.into_iter().cloned().collect(),
            });
        }
        if inbound.tags.speaks_http() {
            self.keys.push(ResourceKey::HttpRbac { inbound: name.clone(), policies: Some(policies.clone()) });
        }
        self.keys.push(ResourceKey::Rbac { inbound: name, policies });
    }

    fn outbound_listener(
        &mut self,
        outbound: &kuma_mesh::Outbound,
        http: bool,
        flow: impl FnOnce() -> kuma_mesh::Flow,
    ) {
        let kuma_mesh::Outbound { address, port, .. } = *outbound;
        let flow = if self.snapshot.has_mtls(Side::Clients) { enforced(flow()) } else { Flow::Open };
        // The firewall does not redirect connections to loopback addresses.
        let transparent = self.transparent && !address.is_loopback();
        self.keys.push(ResourceKey::OutboundListener { address, port, flow, http, transparent });
    }

    fn outbound(&mut self, dataplane: &MeshDataplane, outbound: &kuma_mesh::Outbound) {
        let kuma_mesh::Outbound { address, port, ref service } = *outbound;
        let destinations = self.snapshot.destinations(dataplane, service);
        let http = self.snapshot.are_http(service, &destinations);
        let snapshot = self.snapshot;
        self.outbound_listener(outbound, http, || snapshot.flow(dataplane, service, &destinations));
        let mut clusters: Vec<WeightedCluster> = Vec::new();
        for destination in destinations.iter() {
            let name = cluster_name(destination);
            // Envoy refuses a cluster that is listed twice, so entries with the same tags are merged and their weights
            // added.
            match clusters.iter_mut().find(|cluster| cluster.name == name) {
                Some(cluster) => cluster.weight = cluster.weight.saturating_add(destination.weight),
                None => clusters.push(WeightedCluster { name: name.clone(), weight: destination.weight }),
            }
            self.service_cluster(dataplane, destination, name);
        }
        let outbound = Arc::from(names::outbound_listener(address, port));
        let (service, clusters) = (service.clone(), clusters.into());
        let log = log_line::access_log(self.snapshot, dataplane, &service, http).map(Box::new);
        if http {
            let tracing = self.traced();
            self.keys.push(ResourceKey::HttpOutbound { outbound, service: service.clone(), log, tracing });
            self.keys.push(ResourceKey::Routes { service, clusters });
        } else {
            self.keys.push(ResourceKey::Split { outbound, service, clusters, log });
        }
    }

    fn service_cluster(&mut self, dataplane: &MeshDataplane, destination: &Destination, name: Arc<str>) {
        if !self.clusters.insert(name.clone()) {
            return;
        }
        let tls = self.snapshot.has_mtls(Side::Clients);
        let tls = tls.then(|| spiffe_id(&self.snapshot.name, &destination.service).into());
        let http = self.snapshot.is_http(&destination.service);
        let check = self.snapshot.health_check(dataplane, &destination.service);
        let conf = check.and_then(|check| check.conf.as_ref());
        let health = conf.and_then(|conf| health(conf, http.then_some(&destination.service))).map(Box::new);
        self.keys.push(ResourceKey::ServiceCluster { name: name.clone(), tls, health, http });
        self.keys.push(endpoints(self.snapshot, destination, name));
    }
}

/// A flow in a mesh with mTLS, where permissions are enforced, with destinations given as names of clusters.
fn enforced(flow: kuma_mesh::Flow) -> Flow {
    match flow {
        kuma_mesh::Flow::Permitted => Flow::Permitted,
        kuma_mesh::Flow::Partly(permitted) => {
            let clusters: BTreeSet<Arc<str>> = permitted.iter().map(cluster_name).collect();
            Flow::Partly(clusters.into_iter().collect())
        }
        kuma_mesh::Flow::Denied => Flow::Denied,
    }
}

/// The checks of a HealthCheck. `http` is the service if it speaks HTTP: then an active check may send requests. A
/// check that lacks a setting is left out, which cannot happen for a document that passed validation.
fn health(conf: &HealthCheckConf, http: Option<&Arc<str>>) -> Option<Health> {
    let active = conf.active().and_then(|checks| {
        Some(ActiveCheck {
            interval: checks.interval?.to_std()?,
            timeout: checks.timeout?.to_std()?,
            unhealthy_threshold: checks.unhealthy_threshold,
            healthy_threshold: checks.healthy_threshold,
            http: http.zip(checks.http.as_ref()).map(|(service, http)| HttpCheck {
                host: service.clone(),
                path: http.path.as_str().into(),
                statuses: http.expected_statuses.iter().filter_map(|&status| u16::try_from(status).ok()).collect(),
            }),
        })
    });
    let passive = conf.passive().and_then(|checks| {
        Some(PassiveCheck { failures: checks.unhealthy_threshold, penalty: checks.penalty_interval?.to_std()? })
    });
    (active.is_some() || passive.is_some()).then_some(Health { active, passive })
}
