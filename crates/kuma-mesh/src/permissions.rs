//! TrafficPermission: who is admitted where. Every permission that matches counts; without one, nobody is admitted.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_model::{ANY, SERVICE_TAG, Selector, Tags, TrafficPermission, spiffe_id, spiffe_prefix};
use rustc_hash::FxHashMap;

use crate::policies::service_or_any;
use crate::{ConnectionPolicy, Inbound, MeshDataplane, MeshSnapshot};

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

/// The services that a permission admits, `*` for any. A source that asks for another tag too admits nobody: identities tell
/// services alone.
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

/// Who may call which service, found out once for all proxies that dial it. It is about one state of a mesh, and no use for the
/// next.
#[derive(Default)]
pub struct KnownCallers(FxHashMap<Arc<str>, Callers>);

/// Whose connections to a service are permitted.
enum Callers {
    Any,
    Services(BTreeSet<Arc<str>>),
}

impl KnownCallers {
    /// See [`MeshSnapshot::is_flow_permitted`].
    pub fn is_flow_permitted(&mut self, snapshot: &MeshSnapshot, source: &MeshDataplane, service: &Arc<str>) -> bool {
        let callers = match self.0.get(service) {
            Some(callers) => callers,
            None => self.0.entry(service.clone()).or_insert(snapshot.callers(service)),
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

    /// Whether a proxy is admitted by at least one instance of a service.
    ///
    /// A service without instances is judged by its name alone, so that the answer does not flip while it starts.
    pub fn is_flow_permitted(&self, source: &MeshDataplane, service: &str) -> bool {
        self.admitting(service).flat_map(sources).any(|name| name == ANY || source.services.contains(name))
    }

    fn callers(&self, service: &str) -> Callers {
        let mut services = BTreeSet::new();
        for name in self.admitting(service).flat_map(sources) {
            if name == ANY {
                return Callers::Any;
            }
            services.insert(Arc::from(name));
        }
        Callers::Services(services)
    }

    /// The permissions with a destination that at least one instance of a service is.
    fn admitting(&self, service: &str) -> impl Iterator<Item = &TrafficPermission> {
        let mut targets =
            Cow::Borrowed(self.services.get(service).map(|service| service.tag_sets()).unwrap_or_default());
        if targets.is_empty() {
            targets = Cow::Owned(vec![Arc::new(Tags::from([(SERVICE_TAG, service)]))]);
        }
        let is_target = move |selector: &Selector| targets.iter().any(|tags| selector.matches(tags));
        let permissions = self.permissions.for_destination(service).map(|(_, permission)| &*permission.spec);
        permissions.filter(move |permission| permission.destinations.iter().any(&is_target))
    }
}
