//! The documents of one mesh as they are in the store: those that determine the configuration of proxies
//! ([`MeshView`]), the CAs, and which Dataplanes were deleted. A document that does not parse is reported and left out;
//! a permission that does not parse permits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kuma_ca::{MeshRoots, mesh_secret};
use kuma_mesh::{Affected, MeshSnapshot, Side};
use kuma_model::{Ca, DEPARTURE_KIND, Dataplane, Key, Mesh, Resource as _, SECRET_KIND, is_public};
use kuma_store::{Contents, DocumentChange, Missing, Revision, Stored};

use crate::MeshView;

/// The documents of one mesh that concern its proxies.
pub(crate) struct Documents {
    /// What each proxy should get.
    pub(crate) view: MeshView,
    /// The CAs that the mesh may have.
    builtin: StoredCa,
    provided: StoredCa,
    /// Whether a user has written the Mesh since the start. The default mesh that the control plane creates does not
    /// count.
    pub(crate) mesh_written: bool,
    /// The keys of all documents.
    keys: BTreeSet<Key>,
    /// What the store may have lost.
    missing: Missing,
    /// The Mesh and its CAs, as they were applied.
    vital: BTreeMap<Key, Arc<Stored>>,
    /// Dataplanes that were deleted since the start. After a restart, others that are missing may not have been written
    /// again yet.
    deleted: BTreeSet<Arc<str>>,
}

/// A CA, and the generation of its roots.
#[derive(Default)]
struct StoredCa {
    roots: Option<MeshRoots>,
    generation: u64,
}

impl Documents {
    /// An empty set of documents.
    pub(crate) fn new(mesh: &str, forgetful: bool) -> Documents {
        let snapshot = Arc::new(MeshSnapshot::new(mesh, forgetful));
        Documents {
            view: MeshView { snapshot, roots: None, revision: 0 },
            builtin: StoredCa::default(),
            provided: StoredCa::default(),
            mesh_written: false,
            keys: BTreeSet::new(),
            missing: Missing::default(),
            vital: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// The documents with their indexes.
    pub(crate) fn snapshot(&self) -> &MeshSnapshot {
        &self.view.snapshot
    }

    /// Whether there are no documents.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The CA that issues certificates, which the Mesh names. Without it no certificate is issued.
    pub(crate) fn ca(&self) -> Option<&MeshRoots> {
        self.roots_of(self.kind())
    }

    /// Which of its CAs the Mesh names.
    pub(crate) fn kind(&self) -> Ca {
        self.snapshot().mesh.as_ref().map(|mesh| mesh.ca()).unwrap_or_default()
    }

    /// The roots of a CA, whether the Mesh names it or not.
    pub(crate) fn roots_of(&self, ca: Ca) -> Option<&MeshRoots> {
        self.stored_ca(ca).roots.as_ref()
    }

    /// Their [`MeshRoots::generation`]; 0 without any.
    pub(crate) fn generation_of(&self, ca: Ca) -> u64 {
        self.stored_ca(ca).generation
    }

    fn stored_ca(&self, ca: Ca) -> &StoredCa {
        match ca {
            Ca::Builtin => &self.builtin,
            Ca::Provided => &self.provided,
        }
    }

    fn set_ca(&mut self, ca: Ca, spec: Option<&serde_json::Value>) -> Affected {
        let roots = spec.and_then(|spec| match mesh_secret::read(ca, spec) {
            Ok(roots) => roots,
            Err(error) => {
                let (mesh, error) = (&self.snapshot().name, format!("{:#}", anyhow::Error::new(error)));
                tracing::error!(%mesh, ca = ca.name(), error,
                    "the CA of the mesh cannot be read: no certificate is issued");
                None
            }
        });
        let stored = StoredCa { generation: roots.as_ref().map_or(0, MeshRoots::generation), roots };
        match ca {
            Ca::Builtin => self.builtin = stored,
            Ca::Provided => self.provided = stored,
        }
        self.trust();
        Affected::All
    }

    /// Sets the trusted roots to those of the CA that the Mesh names.
    fn trust(&mut self) {
        let bundle = self.ca().map(MeshRoots::bundle_pem);
        if bundle.as_deref() != self.view.roots.as_deref() {
            self.view.roots = bundle.map(Arc::from);
        }
    }

    /// What stays although the store has lost it, but for what no API serves.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &Key> {
        self.missing.lost().filter(|key| is_public(key.kind))
    }

    /// Whether the store has lost a Dataplane, or has never had it since the start.
    pub(crate) fn lacks(&self, dataplane: &str) -> bool {
        !self.was_deleted(dataplane)
            && (self.snapshot().dataplane(dataplane).is_none()
                || self.missing.lost().any(|key| key.kind == Dataplane::KIND && *key.name == *dataplane))
    }

    /// Whether a Dataplane was deleted since the start.
    pub(crate) fn was_deleted(&self, dataplane: &str) -> bool {
        self.deleted.contains(dataplane)
    }

    /// Records that a proxy is leaving, so that it is no endpoint any more, or that it is back.
    pub(crate) fn set_departed(&mut self, proxy: &Arc<str>, departed: bool) -> Affected {
        Arc::make_mut(&mut self.view.snapshot).set_departed(proxy, departed)
    }

    /// Records which inbounds of a proxy could not be opened.
    pub(crate) fn set_unopened(&mut self, proxy: &Arc<str>, unopened: BTreeSet<(IpAddr, u16)>) -> Affected {
        Arc::make_mut(&mut self.view.snapshot).set_unopened(proxy, unopened)
    }

    /// Replaces all documents but those that the store may have lost. A Mesh and its CAs that another store has in
    /// another text count as lost: they would turn a running mesh to plain text, or divide it.
    pub(crate) fn load(&mut self, contents: &Contents) -> Affected {
        self.view.revision = self.view.revision.max(contents.revision);
        let mut affected = Affected::none();
        if self.snapshot().forgetful == contents.complete {
            Arc::make_mut(&mut self.view.snapshot).forgetful = !contents.complete;
            affected = Affected::All;
        }
        let is_another = self.missing.is_another(contents);
        let kept: BTreeSet<Key> = self.missing.lost().filter(|key| self.vital.contains_key(key)).cloned().collect();
        for key in self.missing.gone(&self.keys, contents) {
            affected.merge(self.apply(&key, None));
        }
        for stored in &contents.documents {
            let is_kept = !contents.complete && (is_another || kept.contains(&stored.key));
            if is_kept && self.vital.get(&stored.key).is_some_and(|known| known.spec_text() != stored.spec_text()) {
                self.missing.keep(stored.key.clone());
                continue;
            }
            affected.merge(self.apply(&stored.key, Some(stored)));
        }
        affected
    }

    /// Begins a switch of mTLS: at first only one side of connections gets the change. `before` is the last revision
    /// that both sides have.
    pub(crate) fn begin_switch(&mut self, before: Revision) {
        let snapshot = Arc::make_mut(&mut self.view.snapshot);
        snapshot.lagging = Some(if snapshot.mtls_enabled() { Side::Servers } else { Side::Clients });
        self.view.revision = before;
    }

    /// Ends the switch: the other side gets the change too.
    pub(crate) fn end_switch(&mut self, revision: Revision) {
        Arc::make_mut(&mut self.view.snapshot).lagging = None;
        self.view.revision = self.view.revision.max(revision);
    }

    /// Applies a commit.
    pub(crate) fn commit(&mut self, changes: &[DocumentChange], revision: Revision) -> Affected {
        self.view.revision = self.view.revision.max(revision);
        let mut affected = Affected::none();
        for (key, stored) in changes {
            self.missing.settled(key);
            affected.merge(self.apply(key, stored.as_ref()));
            if key.kind == Mesh::KIND && stored.is_some() && !self.mesh_written {
                self.mesh_written = true;
                affected = Affected::All;
            }
        }
        affected
    }

    /// Applies one document, or its deletion.
    fn apply(&mut self, key: &Key, stored: Option<&Arc<Stored>>) -> Affected {
        match stored {
            Some(_) => self.keys.insert(key.clone()),
            None => self.keys.remove(key),
        };
        if matches!(key.kind, Mesh::KIND | SECRET_KIND) {
            match stored {
                Some(stored) => self.vital.insert(key.clone(), stored.clone()),
                None => self.vital.remove(key),
            };
        }
        let spec = stored.map(|stored| stored.spec());
        if key.kind == SECRET_KIND {
            return mesh_secret::kind(key).map_or(Affected::none(), |ca| self.set_ca(ca, spec.as_ref()));
        }
        let snapshot = Arc::make_mut(&mut self.view.snapshot);
        if key.kind == DEPARTURE_KIND {
            return snapshot.set_departed(&key.name, stored.is_some());
        }
        let applied = snapshot.apply(key, spec.as_ref(), kuma_envoy::raw::template);
        if let Some(problem) = applied.problem {
            tracing::warn!(%key, problem, "a document does not take effect as it says");
        }
        match (key.kind, stored.is_some()) {
            (Mesh::KIND, is_there) => {
                self.mesh_written &= is_there;
                self.trust();
            }
            (Dataplane::KIND, true) => drop(self.deleted.remove(&key.name)),
            (Dataplane::KIND, false) => drop(self.deleted.insert(key.name.clone())),
            _ => {}
        }
        applied.affected
    }
}
