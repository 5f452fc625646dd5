//! TrafficPermission: who is admitted where. Every permission that matches counts; without one, nobody is admitted.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_model::{ANY, SERVICE_TAG, Selector, TrafficPermission, spiffe_id, spiffe_prefix};
use rustc_hash::FxHashMap;

use crate::policies::service_or_any;
use crate::{ConnectionPolicy, Destination, Inbound, MeshDataplane, MeshSnapshot};

/// A peer that is permitted, by its SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The one with this id: `spiffe://<mesh>/<service>`.
    Service(Arc<str>),
    /// Each whose id starts with this: `spiffe://<mesh>/`. The last slash is what keeps out the mesh `<mesh>-2`.
    Mesh(Arc<str>),
}

/// A TrafficPermission, and whom it admits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Permission {
    spec: Arc<TrafficPermission>,
    /// Sorted and distinct.
    peers: Arc<[Peer]>,
}

impl Permission {
    /// Reads a permission of a mesh.
    pub(crate) fn new(mesh: &str, spec: Arc<TrafficPermission>) -> Permission {
        let peer = |service: &str| match service {
            ANY => Peer::Mesh(spiffe_prefix(mesh).into()),
            service => Peer::Service(spiffe_id(mesh, service).into()),
        };
        let peers: BTreeSet<Peer> = sources(&spec).map(peer).collect();
        Permission { spec, peers: peers.into_iter().collect() }
    }
}

impl ConnectionPolicy for Permission {
    fn sources(&self) -> &[Selector] {
        &self.spec.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.spec.destinations
    }
}

/// The services that a permission admits, `*` for any. A source that asks for another tag too admits nobody: identities
/// tell services alone.
fn sources(permission: &TrafficPermission) -> impl Iterator<Item = &str> {
    let of_service = |selector: &&Selector| selector.tags.len() == 1 && selector.tags.contains_key(SERVICE_TAG);
    permission.sources.iter().filter(of_service).map(service_or_any)
}

/// What one permission admits at an inbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Name of the permission.
    pub permission: Arc<str>,
    /// Sorted and distinct.
    pub peers: Arc<[Peer]>,
}

/// How much of what an outbound carries is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// All of it.
    Permitted,
    /// What goes to these destinations, and not what goes to the others.
    Partly(Vec<Destination>),
    /// Nothing.
    Denied,
}

/// Who may call which destination, found out once for all proxies that do. It is about one state of a mesh, and no use
/// for the next.
#[derive(Default)]
pub struct KnownCallers(FxHashMap<Destination, Callers>);

/// Whose connections to a destination are permitted.
enum Callers {
    Any,
    Services(BTreeSet<Arc<str>>),
}

impl KnownCallers {
    /// See [`MeshSnapshot::flow`].
    pub fn flow(
        &mut self,
        snapshot: &MeshSnapshot,
        source: &MeshDataplane,
        service: &str,
        destinations: &[Destination],
    ) -> Flow {
        snapshot.flow_by(source, service, destinations, |to| self.is_permitted(snapshot, source, to))
    }

    fn is_permitted(&mut self, snapshot: &MeshSnapshot, source: &MeshDataplane, to: &Destination) -> bool {
        let callers = match self.0.get(to) {
            Some(callers) => callers,
            None => self.0.entry(to.clone()).or_insert(snapshot.callers(to)),
        };
        match callers {
            Callers::Any => true,
            Callers::Services(services) => source.services.iter().any(|service| services.contains(service)),
        }
    }
}

impl MeshSnapshot {
    /// What each permission admits at an inbound, by the permission's name. Permissions without sources are left out.
    pub fn admitted(&self, inbound: &Inbound) -> Vec<Admitted> {
        self.permissions
            .for_destination(&inbound.service)
            .filter(|(_, policy)| !policy.peers.is_empty())
            .filter(|(_, policy)| policy.destinations().iter().any(|selector| selector.matches(&inbound.tags)))
            .map(|(name, policy)| Admitted { permission: name.clone(), peers: policy.peers.clone() })
            .collect()
    }

    /// How much of what a proxy sends to a service is permitted. `destinations` are those of the connections
    /// ([`MeshSnapshot::destinations`]): what counts is who is admitted where a route leads, not at the service that is
    /// dialled.
    ///
    /// Where a route stops the traffic those count to which it gives weight 0, so that stopping it decides nothing
    /// else.
    pub fn flow(&self, source: &MeshDataplane, service: &str, destinations: &[Destination]) -> Flow {
        self.flow_by(source, service, destinations, |to| self.is_permitted(source, to))
    }

    fn flow_by(
        &self,
        source: &MeshDataplane,
        service: &str,
        destinations: &[Destination],
        mut is_permitted: impl FnMut(&Destination) -> bool,
    ) -> Flow {
        let destinations = match destinations {
            [] => self.idle_destinations(source, service),
            [only] => return if is_permitted(only) { Flow::Permitted } else { Flow::Denied },
            several => several,
        };
        let permitted: Vec<&Destination> = destinations.iter().filter(|to| is_permitted(to)).collect();
        match permitted.len() {
            0 => Flow::Denied,
            all if all == destinations.len() => Flow::Permitted,
            _ => Flow::Partly(permitted.into_iter().cloned().collect()),
        }
    }

    /// Whether a proxy is admitted by at least one instance of a destination.
    ///
    /// A destination without instances is judged by its tags alone, so that the answer does not flip while it starts.
    pub fn is_permitted(&self, source: &MeshDataplane, to: &Destination) -> bool {
        self.admitting(to).flat_map(sources).any(|name| name == ANY || source.services.contains(name))
    }

    fn callers(&self, to: &Destination) -> Callers {
        let mut services = BTreeSet::new();
        for name in self.admitting(to).flat_map(sources) {
            if name == ANY {
                return Callers::Any;
            }
            services.insert(Arc::from(name));
        }
        Callers::Services(services)
    }

    /// The permissions with a destination that at least one instance of a route's destination is.
    fn admitting(&self, to: &Destination) -> impl Iterator<Item = &TrafficPermission> {
        let mut instances =
            Cow::Borrowed(self.services.get(&to.service).map(|service| service.tag_sets()).unwrap_or_default());
        if !to.tags.is_empty() {
            let selector = Selector { tags: to.tags.clone() };
            instances = Cow::Owned(instances.iter().filter(|tags| selector.matches(tags)).cloned().collect());
        }
        if instances.is_empty() {
            let mut tags = to.tags.clone();
            tags.insert(SERVICE_TAG.to_owned(), to.service.to_string());
            instances = Cow::Owned(vec![Arc::new(tags)]);
        }
        let is_instance = move |selector: &Selector| instances.iter().any(|tags| selector.matches(tags));
        let permissions = self.permissions.for_destination(&to.service).map(|(_, permission)| &*permission.spec);
        permissions.filter(move |permission| permission.destinations.iter().any(&is_instance))
    }
}
