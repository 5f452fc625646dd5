//! TrafficRoute: where the connections to a service go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use kuma_model::{SERVICE_TAG, Selector, Tags, TrafficRoute};
use rustc_hash::FxHashMap;

use crate::policies::destination_services;
use crate::{Affected, ConnectionPolicy, Endpoints, MeshDataplane, MeshSnapshot, best_policy};

/// One destination of an outbound, with its share of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The service that is dialled; not always the outbound's.
    pub service: Arc<str>,
    /// Further tags that its endpoints must carry, `service` left out.
    pub tags: Tags,
    /// Share, relative to the sum of all.
    pub weight: u32,
}

/// The destinations of an outbound, which are looked up for every outbound at every change: nothing is copied for that.
#[derive(Clone, Debug)]
pub enum Destinations<'a> {
    /// No route applies: the service that is dialled.
    Direct(Destination),
    /// Those of a route.
    Routed(&'a [Destination]),
}

impl Deref for Destinations<'_> {
    type Target = [Destination];

    fn deref(&self) -> &[Destination] {
        match self {
            Destinations::Direct(destination) => std::slice::from_ref(destination),
            Destinations::Routed(destinations) => destinations,
        }
    }
}

/// A TrafficRoute, and where it leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    spec: Arc<TrafficRoute>,
    /// Its destinations with a weight, in its order.
    active: Box<[Destination]>,
    /// Its destinations of weight 0.
    idle: Box<[Destination]>,
}

impl Route {
    fn new(spec: Arc<TrafficRoute>) -> Route {
        let destinations = spec.conf.iter().filter_map(|entry| {
            let mut tags = entry.destination.clone();
            let service = tags.remove(SERVICE_TAG)?;
            Some(Destination { service: Arc::from(service), tags, weight: entry.weight })
        });
        let (active, idle): (Vec<_>, Vec<_>) = destinations.partition(|destination| destination.weight > 0);
        Route { active: active.into(), idle: idle.into(), spec }
    }

    /// The services of all destinations, those of weight 0 too.
    fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.active.iter().chain(&self.idle).map(|destination| &destination.service)
    }
}

impl ConnectionPolicy for Route {
    fn sources(&self) -> &[Selector] {
        &self.spec.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.spec.destinations
    }
}

/// The outbounds that routes lead to another service than their own: an index in both directions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detours {
    /// Names of the routes that lead to another service than one that they are about. Without any there is nothing to
    /// look up.
    routes: BTreeSet<Arc<str>>,
    /// The services to which a Dataplane's outbounds of other services lead.
    services: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The Dataplanes, by such a service.
    dataplanes: FxHashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Detours {
    /// The Dataplanes with an outbound of another service that a route leads to this one, also with weight 0.
    pub(crate) fn to(&self, service: &str) -> Option<&BTreeSet<Arc<str>>> {
        self.dataplanes.get(service)
    }

    /// Whether any route leads to another service.
    fn has_routes(&self) -> bool {
        !self.routes.is_empty()
    }

    fn set_route(&mut self, name: &Arc<str>, route: Option<&Route>) {
        let leads_elsewhere =
            |route: &Route| destination_services(route).any(|service| route.services().any(|to| **to != *service));
        if route.is_some_and(leads_elsewhere) {
            self.routes.insert(name.clone());
        } else {
            self.routes.remove(name);
        }
    }

    pub(crate) fn set_dataplane(&mut self, dataplane: &Arc<str>, services: BTreeSet<Arc<str>>) {
        for service in self.services.remove(dataplane).unwrap_or_default() {
            if let Some(dataplanes) = self.dataplanes.get_mut(&service) {
                dataplanes.remove(dataplane);
                if dataplanes.is_empty() {
                    self.dataplanes.remove(&service);
                }
            }
        }
        for service in &services {
            self.dataplanes.entry(service.clone()).or_default().insert(dataplane.clone());
        }
        if !services.is_empty() {
            self.services.insert(dataplane.clone(), services);
        }
    }
}

impl MeshSnapshot {
    /// Where the connections of a proxy to a service go: by the route that matches best, else to the service itself.
    /// Destinations of weight 0 are left out; an empty list means that the route stops the traffic.
    pub fn destinations(&self, dataplane: &MeshDataplane, service: &Arc<str>) -> Destinations<'_> {
        match best_policy(&self.routes, dataplane, service) {
            Some((_, route)) => Destinations::Routed(&route.active),
            None => Destinations::Direct(Destination { service: service.clone(), tags: Tags::default(), weight: 1 }),
        }
    }

    /// The destinations of weight 0 of the route that applies to the connections of a proxy to a service.
    pub(crate) fn idle_destinations(&self, dataplane: &MeshDataplane, service: &str) -> &[Destination] {
        best_policy(&self.routes, dataplane, service).map_or(&[], |(_, route)| &route.idle)
    }

    /// Puts or deletes a TrafficRoute.
    pub fn set_route(&mut self, name: &Arc<str>, route: Option<Arc<TrafficRoute>>) -> Affected {
        let route = route.map(|route| Arc::new(Route::new(route)));
        let before = self.routes.get(name).cloned();
        if before == route {
            return Affected::none();
        }
        let mut affected = BTreeSet::new();
        for route in before.iter().chain(&route) {
            self.add_sources(route.as_ref(), &mut affected);
        }
        let led_elsewhere = self.detours.has_routes();
        self.detours.set_route(name, route.as_deref());
        self.routes.set(name, route);
        if led_elsewhere || self.detours.has_routes() {
            let dataplanes = affected.iter().filter_map(|name| self.dataplanes.get(name).cloned());
            for dataplane in dataplanes.collect::<Vec<_>>() {
                self.follow_routes(&dataplane);
            }
        }
        Affected::proxies(affected)
    }

    /// Notes where routes lead the outbounds of a Dataplane.
    pub(crate) fn follow_routes(&mut self, dataplane: &MeshDataplane) {
        let mut services = BTreeSet::new();
        if self.detours.has_routes() {
            for outbound in dataplane.consumed_services() {
                if let Some((_, route)) = best_policy(&self.routes, dataplane, outbound) {
                    services.extend(route.services().filter(|to| *to != outbound).cloned());
                }
            }
        }
        self.detours.set_dataplane(&dataplane.name, services);
    }

    /// The endpoints of a destination, sorted and distinct.
    pub fn endpoints(&self, destination: &Destination) -> Arc<Endpoints> {
        match self.services.get(&destination.service) {
            None => Arc::default(),
            Some(service) if destination.tags.is_empty() => service.endpoints().clone(),
            Some(service) => service.endpoints_with(&destination.tags),
        }
    }
}
