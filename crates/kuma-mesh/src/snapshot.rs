//! The documents of one mesh with their indexes, and what each change of them concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kuma_model::{Dataplane, HealthCheck, Mesh, Selector, TrafficLog, TrafficPermission};
use rustc_hash::FxHashMap;

use crate::policies::{exact_service, may_be_service};
use crate::proxy_template::Templates;
use crate::services::{Protocol, Refreshed, Service};
use crate::traffic_permission::Permission;
use crate::traffic_route::{Detours, Route};
use crate::traffic_trace::Traces;
use crate::{Affected, ConnectionPolicy, Inbound, MeshDataplane, Policies};

/// One mesh: its documents as of a revision, with the indexes that answer what they mean.
///
/// Every setter takes a whole document (or `None` for its deletion) and returns which proxies that concerns. Setters
/// may be called in any order: the mesh that results depends on the documents alone.
#[derive(Clone, Debug, Default)]
pub struct MeshSnapshot {
    /// Name of the mesh.
    pub name: Arc<str>,
    /// The Mesh document; `None` while there is none.
    pub mesh: Option<Arc<Mesh>>,
    /// Whether documents may still be missing, because the store forgets them at a restart and their owners write them
    /// again one by one: then a service nobody has offered yet is *unknown*, not empty.
    pub forgetful: bool,
    pub(crate) dataplanes: BTreeMap<Arc<str>, Arc<MeshDataplane>>,
    pub(crate) services: FxHashMap<Arc<str>, Service>,
    pub(crate) permissions: Policies<Permission>,
    pub(crate) routes: Policies<Route>,
    pub(crate) detours: Detours,
    pub(crate) health_checks: Policies<HealthCheck>,
    pub(crate) logs: Policies<TrafficLog>,
    pub(crate) templates: Templates,
    pub(crate) traces: Traces,
    /// How many services speak HTTP.
    pub(crate) http_services: usize,
    /// What is still as it was before mTLS was switched on or off, if that has just been.
    pub lagging: Option<Side>,
    /// Dataplanes whose proxies have said that they are leaving: they stand for no endpoint.
    departed: BTreeSet<Arc<str>>,
    /// The inbounds that proxies could not open, by Dataplane: they are no endpoints.
    unopened: FxHashMap<Arc<str>, BTreeSet<(IpAddr, u16)>>,
}

/// A side of the connections of a mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Those who connect.
    Clients,
    /// Those who are connected to.
    Servers,
}

impl MeshSnapshot {
    /// An empty mesh.
    pub fn new(name: &str, forgetful: bool) -> MeshSnapshot {
        MeshSnapshot { name: Arc::from(name), forgetful, ..MeshSnapshot::default() }
    }

    /// Whether proxies of the mesh talk mutual TLS.
    pub fn mtls_enabled(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.mtls_enabled())
    }

    /// Whether one side talks mutual TLS.
    pub fn has_mtls(&self, side: Side) -> bool {
        self.mtls_enabled() != (self.lagging == Some(side))
    }

    /// Whether any does: proxies need certificates.
    pub fn has_any_mtls(&self) -> bool {
        self.has_mtls(Side::Clients) || self.has_mtls(Side::Servers)
    }

    /// A Dataplane by its name.
    pub fn dataplane(&self, name: &str) -> Option<&Arc<MeshDataplane>> {
        self.dataplanes.get(name)
    }

    /// All Dataplanes, by name.
    pub fn dataplanes(&self) -> impl Iterator<Item = &Arc<MeshDataplane>> {
        self.dataplanes.values()
    }

    /// Whether the mesh may have endpoints for this service that it has not heard of yet ([`MeshSnapshot::forgetful`]).
    pub fn is_unknown(&self, service: &str) -> bool {
        self.forgetful && !self.services.get(service).is_some_and(|service| service.seen)
    }

    /// Puts or deletes a Dataplane.
    pub fn set_dataplane(&mut self, name: &Arc<str>, spec: Option<Dataplane>) -> Affected {
        if spec.is_none() {
            self.departed.remove(name);
            self.unopened.remove(name);
        }
        let after = spec.map(|spec| {
            let mut dataplane = MeshDataplane::new(name.clone(), spec);
            dataplane.share(&self.services);
            Arc::new(dataplane)
        });
        let mut affected = self.replace(name, after);
        affected.merge(Affected::proxies(BTreeSet::from([name.clone()])));
        affected
    }

    /// Notes that a proxy is leaving, so that its clients stop dialling it, or that it is back.
    pub fn set_departed(&mut self, name: &Arc<str>, departed: bool) -> Affected {
        let changed = if departed { self.departed.insert(name.clone()) } else { self.departed.remove(name) };
        match self.dataplanes.get(name).cloned() {
            Some(dataplane) if changed => self.replace(name, Some(dataplane)),
            _ => Affected::none(),
        }
    }

    /// Notes which inbounds of a proxy are not open, by address and port: its clients do not dial them.
    pub fn set_unopened(&mut self, name: &Arc<str>, unopened: BTreeSet<(IpAddr, u16)>) -> Affected {
        let before = match unopened.is_empty() {
            true => self.unopened.remove(name).unwrap_or_default(),
            false => self.unopened.insert(name.clone(), unopened.clone()).unwrap_or_default(),
        };
        match self.dataplanes.get(name).cloned() {
            Some(dataplane) if before != unopened => self.replace(name, Some(dataplane)),
            _ => Affected::none(),
        }
    }

    /// Whether a proxy has inbounds that are not open.
    pub fn has_unopened(&self, name: &str) -> bool {
        self.unopened.contains_key(name)
    }

    /// Puts or deletes a TrafficPermission.
    pub fn set_permission(&mut self, name: &Arc<str>, policy: Option<Arc<TrafficPermission>>) -> Affected {
        let policy = policy.map(|policy| Arc::new(Permission::new(&self.name, policy)));
        let before = self.permissions.set(name, policy.clone());
        if before == policy || !self.mtls_enabled() {
            return Affected::none();
        }
        let (mut admission, mut flows) = (BTreeSet::new(), BTreeSet::new());
        for policy in before.iter().chain(&policy) {
            // A flow is permitted by what admits it where its route leads.
            self.add_callers(policy.as_ref(), &mut flows);
            self.add_destinations(policy.as_ref(), &mut admission);
        }
        Affected::Proxies {
            whole: BTreeSet::new(),
            admission,
            flows,
            endpoints: BTreeSet::new(),
            services: BTreeSet::new(),
        }
    }

    /// Puts or deletes a HealthCheck.
    pub fn set_health_check(&mut self, name: &Arc<str>, policy: Option<Arc<HealthCheck>>) -> Affected {
        let before = self.health_checks.set(name, policy.clone());
        if before == policy {
            return Affected::none();
        }
        let mut affected = BTreeSet::new();
        for policy in before.iter().chain(&policy) {
            // It is about the services that connections are routed to.
            self.add_callers(policy.as_ref(), &mut affected);
        }
        Affected::proxies(affected)
    }

    /// Puts or deletes a TrafficLog.
    pub fn set_log(&mut self, name: &Arc<str>, policy: Option<Arc<TrafficLog>>) -> Affected {
        let before = self.logs.set(name, policy.clone());
        if before == policy {
            return Affected::none();
        }
        let mut affected = BTreeSet::new();
        for policy in before.iter().chain(&policy) {
            self.add_sources(policy.as_ref(), &mut affected);
        }
        Affected::proxies(affected)
    }

    /// Puts a Dataplane in the place of the one of this name, and says whose endpoints that changed.
    fn replace(&mut self, name: &Arc<str>, after: Option<Arc<MeshDataplane>>) -> Affected {
        let before = match &after {
            Some(after) => self.dataplanes.insert(name.clone(), after.clone()),
            None => self.dataplanes.remove(name),
        };
        let mut touched: BTreeSet<Arc<str>> = BTreeSet::new();
        if let Some(before) = &before {
            for service in &before.services {
                touched.insert(service.clone());
                self.services.entry(service.clone()).or_default().leave(service, before);
            }
            for service in before.consumed_services() {
                touched.insert(service.clone());
                self.services.entry(service.clone()).or_default().consumers.remove(name);
            }
        }
        if let Some(after) = &after {
            let (departed, unopened) = (self.departed.contains(name), self.unopened.get(name));
            let is_open = |inbound: &Inbound| {
                unopened.is_none_or(|unopened| !unopened.contains(&(inbound.address, inbound.port)))
            };
            for service in after.consumed_services() {
                self.services.entry(service.clone()).or_default().consumers.insert(name.clone());
            }
            for service in &after.services {
                touched.insert(service.clone());
                self.services
                    .entry(service.clone())
                    .or_default()
                    .enter(service, after, |inbound| !departed && is_open(inbound));
            }
            self.follow_routes(after);
        } else {
            self.detours.set_dataplane(name, BTreeSet::new());
        }
        let (mut whole, mut endpoints, mut services) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for service in touched {
            let Some(entry) = self.services.get_mut(&service) else {
                continue;
            };
            let spoke_http = entry.protocol() == Protocol::Http;
            let refreshed = entry.refresh();
            self.http_services += usize::from(entry.protocol() == Protocol::Http);
            self.http_services -= usize::from(spoke_http);
            match refreshed {
                Refreshed::Nothing => {}
                Refreshed::Endpoints => {
                    endpoints.extend(self.callers_of(&service).cloned());
                    services.insert(service.clone());
                }
                Refreshed::Nature => whole.extend(self.callers_of(&service).cloned()),
            }
            // That a service is empty is knowledge where documents may be missing, so there it stays.
            if !self.forgetful && self.services.get(&service).is_some_and(Service::is_unused) {
                self.services.remove(&service);
            }
        }
        Affected::Proxies { whole, admission: BTreeSet::new(), flows: BTreeSet::new(), endpoints, services }
    }

    /// The Dataplanes that call a service: by an outbound of it, or of another one that a route leads there. One whose
    /// route leads its outbound away from the service may be among them.
    fn callers_of(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        let outbounds = self.services.get(service).map(|entry| &entry.consumers);
        outbounds.into_iter().chain(self.detours.to(service)).flatten()
    }

    /// Whether a Dataplane is one of [`MeshSnapshot::callers_of`] a service.
    fn calls(&self, dataplane: &str, service: &str) -> bool {
        let outbounds = self.services.get(service).map(|entry| &entry.consumers);
        outbounds.into_iter().chain(self.detours.to(service)).any(|names| names.contains(dataplane))
    }

    /// The proxies that match a source of a policy and have an outbound of a destination.
    pub(crate) fn add_sources<P: ConnectionPolicy>(&self, policy: &P, affected: &mut BTreeSet<Arc<str>>) {
        self.add_matching(policy, affected, |dataplane| {
            dataplane.outbounds.iter().any(|outbound| is_about(policy, &outbound.service))
        });
    }

    /// The proxies that match a source of a policy and call a destination, wherever routes lead.
    fn add_callers<P: ConnectionPolicy>(&self, policy: &P, affected: &mut BTreeSet<Arc<str>>) {
        self.add_matching(policy, affected, |dataplane| {
            policy.destinations().iter().any(|selector| match exact_service(selector) {
                Some(service) => self.calls(&dataplane.name, service),
                None => !dataplane.outbounds.is_empty(),
            })
        });
    }

    /// The proxies that match a source of a policy and of which this holds, which does only of those that call a
    /// destination.
    fn add_matching<P: ConnectionPolicy>(
        &self,
        policy: &P,
        affected: &mut BTreeSet<Arc<str>>,
        holds: impl Fn(&MeshDataplane) -> bool,
    ) {
        for selector in policy.sources() {
            for dataplane in self.candidates(policy, selector) {
                if dataplane.matches(selector) && holds(dataplane) {
                    affected.insert(dataplane.name.clone());
                }
            }
        }
    }

    /// The Dataplanes among which are all that match a source of a policy and call a destination of it: where the
    /// source may be any service, those that call the destinations, unless these may be any, too.
    fn candidates<'a, P: ConnectionPolicy>(
        &'a self,
        policy: &'a P,
        source: &'a Selector,
    ) -> Box<dyn Iterator<Item = &'a Arc<MeshDataplane>> + 'a> {
        let destinations: Option<BTreeSet<&str>> = policy.destinations().iter().map(exact_service).collect();
        match (exact_service(source), destinations) {
            (None, Some(services)) => {
                let names = services.into_iter().flat_map(|service| self.callers_of(service));
                Box::new(names.filter_map(|name| self.dataplanes.get(name)))
            }
            (service, _) => self.providers(service),
        }
    }

    /// The proxies with an inbound that matches a destination of a policy.
    fn add_destinations<P: ConnectionPolicy>(&self, policy: &P, affected: &mut BTreeSet<Arc<str>>) {
        for selector in policy.destinations() {
            for dataplane in self.providers(exact_service(selector)) {
                if dataplane.inbounds.iter().any(|inbound| selector.matches(&inbound.tags)) {
                    affected.insert(dataplane.name.clone());
                }
            }
        }
    }

    /// The Dataplanes that stand for a service, or all of them.
    pub(crate) fn providers(&self, service: Option<&str>) -> Box<dyn Iterator<Item = &Arc<MeshDataplane>> + '_> {
        match service {
            None => Box::new(self.dataplanes.values()),
            Some(service) => {
                let names = self.services.get(service).map(|entry| &entry.providers);
                Box::new(names.into_iter().flatten().filter_map(|name| self.dataplanes.get(name)))
            }
        }
    }
}

/// Whether a destination of a policy may be this service.
fn is_about<P: ConnectionPolicy>(policy: &P, service: &str) -> bool {
    policy.destinations().iter().any(|selector| may_be_service(selector, service))
}
