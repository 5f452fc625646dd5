//! TrafficPermission: who is admitted where. Every permission that matches counts; without one, nobody is admitted.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_model::{SERVICE_TAG, Tags};

use crate::policies::service_or_any;
use crate::{Inbound, MeshDataplane, MeshSnapshot};

/// A peer that a permission admits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The proxies of one service.
    Service(Arc<str>),
    /// Every proxy of the mesh.
    Any,
}

/// What one permission admits at an inbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Name of the permission.
    pub permission: Arc<str>,
    /// Sorted and distinct.
    pub peers: Vec<Peer>,
}

impl MeshSnapshot {
    /// What each permission admits at an inbound, by the permission's name. Permissions without sources are left out.
    pub fn admitted(&self, inbound: &Inbound) -> Vec<Admitted> {
        self.permissions
            .for_destination(&inbound.service)
            .filter(|(_, policy)| policy.destinations.iter().any(|selector| selector.matches(&inbound.tags)))
            .map(|(name, policy)| {
                let peers: BTreeSet<Peer> = policy
                    .sources
                    .iter()
                    .filter(|selector| selector.tags.len() == 1 && selector.tags.contains_key(SERVICE_TAG))
                    .map(|selector| match service_or_any(selector) {
                        "*" => Peer::Any,
                        service => Peer::Service(Arc::from(service)),
                    })
                    .collect();
                Admitted { permission: name.clone(), peers: peers.into_iter().collect() }
            })
            .filter(|admitted| !admitted.peers.is_empty())
            .collect()
    }

    /// Whether a proxy is admitted by at least one instance of a service.
    ///
    /// A service without instances is judged by its name alone, so that the answer does not flip while it starts.
    pub fn is_flow_permitted(&self, source: &MeshDataplane, service: &str) -> bool {
        let targets = self.services.get(service).map(|service| service.tag_sets()).unwrap_or_default();
        let by_name = targets.is_empty().then(|| [Arc::new(Tags::from([(SERVICE_TAG, service)]))]);
        let targets = by_name.as_ref().map_or(targets, |by_name| by_name.as_slice());
        self.permissions.for_destination(service).any(|(_, policy)| {
            let admits_source = policy.sources.iter().any(|selector| {
                selector.tags.len() == 1
                    && match service_or_any(selector) {
                        "*" => selector.tags.contains_key(SERVICE_TAG),
                        name => source.services.contains(name),
                    }
            });
            admits_source
                && policy.destinations.iter().any(|selector| targets.iter().any(|tags| selector.matches(tags)))
        })
    }
}
