//! A table of encoded resources: each distinct resource is encoded once and shared by all proxies that get it.

use std::sync::Arc;

use kuma_envoy::ResourceKey;
use kuma_xds::{Resource, ResourceType, Snapshot};
use rustc_hash::FxHashMap;

/// Resources by their keys. Equal keys give the same resource, so that proxies share their resources, and a resource
/// that a change does not concern keeps its pointer.
#[derive(Default)]
pub(crate) struct Content {
    resources: FxHashMap<ResourceKey, Arc<Resource>>,
    /// An upper bound of the number of unused resources: each one added since the last sweep may have replaced another.
    released: usize,
}

/// The smallest number of unused resources for which a sweep is made.
const SWEEP_FROM: usize = 256;

/// A sweep is made when one of this many resources is unused: it looks at the whole table, so at eight resources for
/// each one that it removes.
const SWEEP_PART: usize = 8;

impl Content {
    /// The resource of a key, encoded if it is new.
    pub(crate) fn resource(&mut self, key: ResourceKey) -> Arc<Resource> {
        if let Some(resource) = self.resources.get(&key) {
            return resource.clone();
        }
        let resource = Arc::new(encode(&key));
        self.resources.insert(key, resource.clone());
        self.released += 1;
        resource
    }

    /// Records that a proxy with this configuration has disconnected.
    pub(crate) fn release(&mut self, config: &Snapshot) {
        self.released += ResourceType::ALL.iter().map(|&kind| config.list(kind).len()).sum::<usize>();
    }

    /// Whether there are enough unused resources for a sweep.
    pub(crate) fn is_worth_a_sweep(&self) -> bool {
        self.released >= SWEEP_FROM.max(self.resources.len() / SWEEP_PART)
    }

    /// Removes the resources that no proxy uses any more.
    pub(crate) fn sweep(&mut self) {
        self.resources.retain(|_, resource| Arc::strong_count(resource) > 1);
        if self.resources.len() < self.resources.capacity() / 4 {
            self.resources.shrink_to_fit();
        }
        self.released = 0;
    }
}

/// Encodes a resource. Its version is the hash of its bytes, so that it is the same in other control planes and after a
/// restart.
pub(crate) fn encode(key: &ResourceKey) -> Resource {
    let encoded = kuma_envoy::encode(key);
    let requires: Vec<_> = encoded.requires.into_iter().collect();
    let resource = Resource::new(encoded.resource_type, encoded.name, &encoded.value).requiring(requires);
    if encoded.placeholder { resource.placeholder() } else { resource }
}

/// Whether two snapshots share all their lists, as they do if one was built from the other without a change.
pub(crate) fn same_lists(a: &Snapshot, b: &Snapshot) -> bool {
    ResourceType::ALL.iter().all(|&kind| Arc::ptr_eq(a.list(kind), b.list(kind)))
}

/// Whether two snapshots have the same names in the same versions.
pub(crate) fn same_versions(a: &Snapshot, b: &Snapshot) -> bool {
    ResourceType::ALL.iter().all(|&kind| {
        let versions = |snapshot: &Snapshot| -> Vec<(Arc<str>, String)> {
            let list = snapshot.list(kind).iter();
            list.map(|resource| (resource.name().clone(), resource.version().to_owned())).collect()
        };
        versions(a) == versions(b)
    })
}
