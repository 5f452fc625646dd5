//! Each distinct resource encoded once, and shared by every proxy that gets it.

use std::sync::Arc;

use kuma_envoy::ResourceKey;
use kuma_xds::{Resource, ResourceType, Snapshot};
use rustc_hash::FxHashMap;

/// Resources by everything that their bytes depend on: equal keys give one resource, so proxies that differ in nothing
/// share everything, and what a change leaves alone keeps its pointer.
#[derive(Default)]
pub(crate) struct Content {
    resources: FxHashMap<ResourceKey, Arc<Resource>>,
    /// How many, at most, are held by no proxy any more: each that came since the last sweep may have replaced one.
    released: usize,
}

/// Fewer than this many resources that nobody holds are not worth a sweep.
const SWEEP_FROM: usize = 256;

/// The part of the table that must have been released: a sweep looks at all of it, so at eight for each that is
/// released.
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

    /// Notes that a proxy has gone which had this.
    pub(crate) fn release(&mut self, config: &Snapshot) {
        self.released += ResourceType::ALL.iter().map(|&kind| config.list(kind).len()).sum::<usize>();
    }

    /// Whether enough has been released for a sweep.
    pub(crate) fn is_worth_a_sweep(&self) -> bool {
        self.released >= SWEEP_FROM.max(self.resources.len() / SWEEP_PART)
    }

    /// Drops what no proxy holds any more.
    pub(crate) fn sweep(&mut self) {
        self.resources.retain(|_, resource| Arc::strong_count(resource) > 1);
        if self.resources.len() < self.resources.capacity() / 4 {
            self.resources.shrink_to_fit();
        }
        self.released = 0;
    }
}

/// One resource as it goes on the wire. Its version is the hash of its bytes: two control planes, or one restarted,
/// agree.
pub(crate) fn encode(key: &ResourceKey) -> Resource {
    let encoded = kuma_envoy::encode(key);
    let requires: Vec<_> = encoded.requires.into_iter().collect();
    let resource = Resource::new(encoded.resource_type, encoded.name, &encoded.value).requiring(requires);
    if encoded.placeholder { resource.placeholder() } else { resource }
}

/// Whether two snapshots hold the very same lists, which is so whenever one was built after the other without a change.
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
