//! The documents from which the list of assignments is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuma_engine::{LONGEST_RECOVERY, QUIET};
use kuma_mads::{Absent, Assignment};
use kuma_model::{Dataplane, Key, Mesh, Resource};
use kuma_store::{Contents, Missing, Stored};
use tokio::time::Instant;

use super::list::{Assigned, Hold, List};

/// Meshes and Dataplanes, by mesh.
#[derive(Default)]
pub struct Documents {
    meshes: BTreeMap<Arc<str>, MeshDocuments>,
    /// Of a store that may lack documents: how far it has heard them again.
    recovery: Option<Recovery>,
    missing: Missing,
}

#[derive(Default)]
struct MeshDocuments {
    mesh: Option<Mesh>,
    dataplanes: BTreeMap<Arc<str>, Arc<Stored>>,
    assigned: BTreeMap<Arc<str>, Arc<Assigned>>,
}

#[derive(Default)]
struct Recovery {
    /// Meshes that a user has written since the start. The default mesh that the control plane creates does not count.
    written: BTreeSet<Arc<str>>,
    /// When the first assignment was known.
    begun: Option<Instant>,
    last_write: Option<Instant>,
}

impl Documents {
    /// Takes the place of all that were there before, but for what the store may have lost.
    pub fn load(&mut self, contents: &Contents) {
        match contents.complete {
            true => self.recovery = None,
            false => drop(self.recovery.get_or_insert_default()),
        }
        for key in self.missing.gone(&self.keys(), contents) {
            self.apply(&key, None);
        }
        for stored in &contents.documents {
            self.apply(&stored.key, Some(stored));
        }
    }

    fn keys(&self) -> Vec<Key> {
        let of_mesh = |(name, mesh): (&Arc<str>, &MeshDocuments)| {
            let key = mesh.mesh.as_ref().map(|_| Key::mesh(name));
            let dataplanes = mesh.dataplanes.values().map(|stored| stored.key.clone());
            key.into_iter().chain(dataplanes).collect::<Vec<_>>()
        };
        self.meshes.iter().flat_map(of_mesh).collect()
    }

    /// Applies a commit. Returns whether it concerns the list.
    pub fn commit(&mut self, changes: &[(Key, Option<Arc<Stored>>)], now: Instant) -> bool {
        let mut concerned = false;
        for (key, stored) in changes {
            self.missing.settled(key);
            if self.apply(key, stored.as_ref()) {
                concerned = true;
                if key.kind == Mesh::KIND {
                    self.mesh_written(&key.mesh);
                }
            }
        }
        if concerned {
            self.note_write(now);
        }
        concerned
    }

    /// Records that a Mesh was written again without a change.
    pub fn touch_mesh(&mut self, mesh: &Arc<str>, now: Instant) {
        self.mesh_written(mesh);
        self.note_write(now);
    }

    /// The list.
    pub fn list(&self) -> List {
        let all = self.meshes.values().flat_map(|mesh| mesh.assigned.values().cloned());
        List::new(all.collect(), self.hold())
    }

    fn hold(&self) -> Hold {
        match &self.recovery {
            None => Hold::No,
            Some(Recovery { begun: Some(begun), last_write: Some(last), .. }) => {
                Hold::Until((*last + QUIET).min(*begun + LONGEST_RECOVERY))
            }
            Some(_) => Hold::Unwritten,
        }
    }

    fn mesh_written(&mut self, mesh: &Arc<str>) {
        if let Some(recovery) = &mut self.recovery {
            recovery.written.insert(mesh.clone());
        }
    }

    /// Records the time of a write. The default mesh that the control plane creates counts only if it has metrics.
    fn note_write(&mut self, now: Instant) {
        let Some(recovery) = &mut self.recovery else { return };
        recovery.last_write = Some(now);
        let is_known = |(name, mesh): (&Arc<str>, &MeshDocuments)| {
            !mesh.assigned.is_empty() || !mesh.dataplanes.is_empty() && recovery.written.contains(name)
        };
        if recovery.begun.is_none() && self.meshes.iter().any(is_known) {
            recovery.begun = Some(now);
        }
    }

    /// Applies one document, or its deletion. Returns whether its kind concerns the list.
    fn apply(&mut self, key: &Key, stored: Option<&Arc<Stored>>) -> bool {
        if key.kind != Mesh::KIND && key.kind != Dataplane::KIND {
            return false;
        }
        let documents = self.meshes.entry(key.mesh.clone()).or_default();
        if key.kind == Mesh::KIND {
            documents.mesh = stored.and_then(|stored| decoded::<Mesh>(stored));
            documents.assigned.clear();
            let names: Vec<Arc<str>> = documents.dataplanes.keys().cloned().collect();
            names.iter().for_each(|name| documents.assign(&key.mesh, name));
        } else {
            match stored {
                Some(stored) => documents.dataplanes.insert(key.name.clone(), stored.clone()),
                None => documents.dataplanes.remove(&key.name),
            };
            documents.assign(&key.mesh, &key.name);
        }
        if documents.mesh.is_none() && documents.dataplanes.is_empty() {
            self.meshes.remove(&key.mesh);
        }
        true
    }
}

impl MeshDocuments {
    /// Updates the assignment of one Dataplane.
    fn assign(&mut self, mesh_name: &str, name: &Arc<str>) {
        self.assigned.remove(name);
        // The Dataplane is decoded again for each change of the Mesh, which is rare, instead of keeping it in memory
        // twice.
        let (Some(mesh), Some(stored)) = (&self.mesh, self.dataplanes.get(name)) else { return };
        let asked = mesh.metrics.as_ref().is_some_and(|metrics| metrics.prometheus.is_some());
        let Some(dataplane) = asked.then(|| decoded::<Dataplane>(stored)).flatten() else { return };
        match Assignment::new(mesh_name, mesh, name, &dataplane) {
            Ok(assignment) => drop(self.assigned.insert(name.clone(), Arc::new(Assigned::new(assignment)))),
            Err(Absent::NotAsked) => {}
            Err(Absent::NoAddress) => tracing::warn!(mesh = %mesh_name, dataplane = %name,
                "Prometheus is not told of the gateway: its Dataplane has no networking.address"),
        }
    }
}

/// A document that cannot be decoded is left out; the engine has logged that.
fn decoded<R: Resource>(stored: &Stored) -> Option<R> {
    stored.decode().ok()
}
