//! What a document means to the mesh: each kind has its place in the snapshot. One that does not parse is reported and left
//! out; where it guards access that denies.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_ca::MeshRoots;
use kuma_mesh::{Affected, MeshSnapshot};
use kuma_model::{
    Ca, Dataplane, HealthCheck, Key, Mesh, ProxyTemplate, Resource as _, TrafficLog, TrafficPermission, TrafficRoute,
    TrafficTrace,
};
use kuma_store::Stored;

use crate::http::error::chain;
use crate::mesh_ca;

/// The documents of one mesh, as far as they bear on its proxies.
pub(super) struct Documents {
    pub(super) snapshot: MeshSnapshot,
    /// The CAs that the mesh may have.
    builtin: Kept,
    provided: Kept,
    /// The certificates, PEM, that are trusted now.
    pub(super) roots: Option<Arc<str>>,
    /// Whether the Mesh was written since the start, not just made by default.
    pub(super) mesh_written: bool,
    /// All that there are.
    keys: BTreeSet<Key>,
    /// Dataplanes that were deleted since the start: that they are gone is known, not just not heard of.
    deleted: BTreeSet<Arc<str>>,
}

/// A CA, and the generation of its roots.
#[derive(Default)]
struct Kept {
    roots: Option<MeshRoots>,
    generation: u64,
}

impl Documents {
    /// None yet.
    pub(super) fn new(mesh: &str, forgetful: bool) -> Documents {
        Documents {
            snapshot: MeshSnapshot::new(mesh, forgetful),
            builtin: Kept::default(),
            provided: Kept::default(),
            roots: None,
            mesh_written: false,
            keys: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The CA that issues certificates: the one that the Mesh names. Without it nothing is issued.
    pub(super) fn ca(&self) -> Option<&MeshRoots> {
        self.roots_of(self.kind())
    }

    /// Which of its CAs the Mesh names.
    pub(super) fn kind(&self) -> Ca {
        self.snapshot.mesh.as_ref().map(|mesh| mesh.ca()).unwrap_or_default()
    }

    /// The roots of a CA, whether the Mesh names it or not.
    pub(super) fn roots_of(&self, ca: Ca) -> Option<&MeshRoots> {
        self.kept(ca).roots.as_ref()
    }

    /// Their [`MeshRoots::generation`]; 0 without any.
    pub(super) fn generation_of(&self, ca: Ca) -> u64 {
        self.kept(ca).generation
    }

    fn kept(&self, ca: Ca) -> &Kept {
        match ca {
            Ca::Builtin => &self.builtin,
            Ca::Provided => &self.provided,
        }
    }

    fn set_ca(&mut self, ca: Ca, spec: Option<&serde_json::Value>) -> Affected {
        let roots = spec.and_then(|spec| match mesh_ca::read(ca, spec) {
            Ok(roots) => roots,
            Err(error) => {
                let (mesh, error) = (&self.snapshot.name, chain(&error));
                tracing::error!(%mesh, ca = ca.name(), error, "the CA of the mesh cannot be read: no certificate is issued");
                None
            }
        });
        let kept = Kept { generation: roots.as_ref().map_or(0, MeshRoots::generation), roots };
        match ca {
            Ca::Builtin => self.builtin = kept,
            Ca::Provided => self.provided = kept,
        }
        self.trust();
        Affected::All
    }

    /// Trusts the roots of the CA that the Mesh names, and no others.
    fn trust(&mut self) {
        let bundle = self.ca().map(MeshRoots::bundle_pem);
        if bundle.as_deref() != self.roots.as_deref() {
            self.roots = bundle.map(Arc::from);
        }
    }

    /// Whether a Dataplane was deleted since the start.
    pub(super) fn was_deleted(&self, dataplane: &str) -> bool {
        self.deleted.contains(dataplane)
    }

    /// Takes the place of all that were there before.
    pub(super) fn load(&mut self, documents: &[Arc<Stored>]) -> Affected {
        let present: BTreeSet<&Key> = documents.iter().map(|stored| &stored.key).collect();
        let vanished: Vec<Key> = self.keys.iter().filter(|key| !present.contains(key)).cloned().collect();
        let mut affected = Affected::none();
        for key in vanished {
            affected.merge(self.apply(&key, None));
        }
        for stored in documents {
            affected.merge(self.apply(&stored.key, Some(stored)));
        }
        affected
    }

    /// Applies what somebody has written.
    pub(super) fn commit(&mut self, changes: &[(Key, Option<Arc<Stored>>)]) -> Affected {
        let mut affected = Affected::none();
        for (key, stored) in changes {
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
        if stored.is_some() {
            self.keys.insert(key.clone());
        } else {
            self.keys.remove(key);
        }
        match key.kind {
            Mesh::KIND => {
                if stored.is_none() {
                    self.mesh_written = false;
                }
                let affected = self.snapshot.set_mesh(stored.and_then(|stored| decoded::<Mesh>(stored)).map(Arc::new));
                self.trust();
                affected
            }
            Dataplane::KIND => {
                if stored.is_none() {
                    self.deleted.insert(key.name.clone());
                } else {
                    self.deleted.remove(&key.name);
                }
                let dataplane = stored.and_then(|stored| decoded::<Dataplane>(stored));
                self.snapshot.set_dataplane(&key.name, dataplane)
            }
            TrafficPermission::KIND => {
                let policy = stored.and_then(|stored| decoded::<TrafficPermission>(stored));
                self.snapshot.set_permission(&key.name, policy.map(Arc::new))
            }
            TrafficRoute::KIND => {
                let policy = stored.and_then(|stored| decoded::<TrafficRoute>(stored));
                self.snapshot.set_route(&key.name, policy.map(Arc::new))
            }
            HealthCheck::KIND => {
                let policy = stored.and_then(|stored| decoded::<HealthCheck>(stored));
                self.snapshot.set_health_check(&key.name, policy.map(Arc::new))
            }
            TrafficLog::KIND => {
                let policy = stored.and_then(|stored| decoded::<TrafficLog>(stored));
                if let Some(log) = policy.as_ref().filter(|log| self.snapshot.backend_of(log).is_none()) {
                    let backend = log.conf.as_ref().map(|conf| conf.backend.as_str()).unwrap_or_default();
                    tracing::warn!(%key, backend, "the mesh has no such log backend, or no default one: nothing is logged");
                }
                self.snapshot.set_log(&key.name, policy.map(Arc::new))
            }
            TrafficTrace::KIND => {
                let policy = stored.and_then(|stored| decoded::<TrafficTrace>(stored));
                if let Some(trace) = policy.as_ref().filter(|trace| self.snapshot.trace_backend_of(trace).is_none()) {
                    let backend = trace.conf.as_ref().map(|conf| conf.backend.as_str()).unwrap_or_default();
                    tracing::warn!(%key, backend, "the mesh has no such trace backend, or no default one: nothing is traced");
                }
                self.snapshot.set_trace(&key.name, policy.map(Arc::new))
            }
            ProxyTemplate::KIND => {
                let template = stored.and_then(|stored| decoded::<ProxyTemplate>(stored));
                let template = template.map(|spec| {
                    let (template, violations) = kuma_envoy::raw::template(&spec);
                    if !violations.is_empty() {
                        tracing::error!(%key, %violations, "resources of a stored template cannot be read and are left out");
                    }
                    Arc::new(template)
                });
                self.snapshot.set_template(&key.name, template)
            }
            kuma_model::SECRET_KIND => match mesh_ca::kind(key) {
                Some(ca) => self.set_ca(ca, stored.map(|stored| stored.spec()).as_ref()),
                None => Affected::none(),
            },
            _ => Affected::none(),
        }
    }
}

fn decoded<R: kuma_model::Resource>(stored: &Stored) -> Option<R> {
    match stored.decode() {
        Ok(value) => Some(value),
        Err(violations) => {
            tracing::error!(key = %stored.key, %violations, "a stored document cannot be read and is left out");
            None
        }
    }
}
