//! The write path up to what the store is to write: pure of effects, so that it can be asked what a change would do.

use std::collections::HashMap;
use std::sync::Arc;

use kuma_model::{Ca, Dataplane, DataplaneInsight, Document, Key, Mesh, Resource as _, decode_spec};
use kuma_store::{StoreError, Stored, Write};
use serde_json::Value;

use super::Documents;
use super::check::{Checked, Wanted};
use super::mesh_rules::{self, CaPlan, KeptCas};
use super::refusal::{Attempt, Problem, Reason, Refusal};
use crate::mesh_ca;

/// What the store is to write, and what follows from it.
#[derive(Default)]
pub(super) struct Prepared {
    /// In the order of the changes; deletions of Meshes come last in the commit.
    pub(super) steps: Vec<Step>,
    /// Writes that go with those of the steps.
    pub(super) further: Vec<Write>,
    /// Meshes that get a builtin CA in the same commit.
    pub(super) new_cas: Vec<NewCa>,
    /// Dataplanes that are gone afterwards, by mesh and name.
    pub(super) gone: Vec<(Arc<str>, Arc<str>)>,
}

/// What one change comes to.
pub(super) struct Step {
    pub(super) key: Key,
    pub(super) attempt: Attempt,
    pub(super) write: Write,
}

/// A CA to be made for the Mesh of a change.
pub(super) struct NewCa {
    pub(super) change: usize,
    pub(super) attempt: Attempt,
    pub(super) mesh: Arc<str>,
}

impl Documents {
    /// What `changes` would have the store write. All that is wrong with any of them is told at once.
    pub(super) async fn prepare(&self, changes: &[Checked]) -> Result<Prepared, Refusal> {
        let mut preparation = Preparation::new(self, changes);
        for (index, change) in changes.iter().enumerate() {
            preparation.add(index, change).await.map_err(|error| {
                let attempt = match (&change.wanted, changes.len()) {
                    (Wanted::Spec(_), 1) => Attempt::Find,
                    (Wanted::Absent, 1) => Attempt::Delete,
                    _ => Attempt::Several,
                };
                Refusal::Store { attempt, error }
            })?;
        }
        let Preparation { prepared, problems, .. } = preparation;
        if problems.is_empty() { Ok(prepared) } else { Err(Refusal::Changes(problems)) }
    }
}

/// A request on its way to what is to be written.
struct Preparation<'a> {
    documents: &'a Documents,
    /// Whether a mesh exists after the request, as far as it is known.
    meshes: HashMap<Arc<str>, bool>,
    /// Every document that the request names.
    named: Vec<&'a Key>,
    prepared: Prepared,
    problems: Vec<Problem>,
}

impl<'a> Preparation<'a> {
    fn new(documents: &'a Documents, changes: &'a [Checked]) -> Preparation<'a> {
        let keys = || changes.iter().filter_map(|change| Some((change.key.as_ref()?, &change.wanted)));
        let meshes = keys().filter(|(key, _)| key.kind == Mesh::KIND);
        Preparation {
            documents,
            // A Mesh that is refused is there all the same, for what is said about the documents in it.
            meshes: meshes.map(|(key, wanted)| (key.name.clone(), matches!(wanted, Wanted::Spec(_)))).collect(),
            named: keys().map(|(key, _)| key).collect(),
            prepared: Prepared::default(),
            problems: Vec::new(),
        }
    }

    async fn add(&mut self, index: usize, change: &Checked) -> Result<(), StoreError> {
        let Some(key) = &change.key else {
            if let Wanted::Spec(Err(reason)) = &change.wanted {
                self.refuse(index, Attempt::Create, reason.clone());
            }
            return Ok(());
        };
        let before = self.documents.store.get(key).await?;
        let attempt = match (&change.wanted, &before) {
            (Wanted::Absent, _) => Attempt::Delete,
            (Wanted::Spec(_), None) => Attempt::Create,
            (Wanted::Spec(_), Some(_)) => Attempt::Update,
        };
        if change.condition.as_ref().is_some_and(|is_met| !is_met(before.as_deref())) {
            self.refuse(index, attempt, Reason::Precondition);
            return Ok(());
        }
        let write = match (&change.wanted, &before) {
            (Wanted::Absent, None) => {
                self.refuse(index, attempt, Reason::NotFound);
                return Ok(());
            }
            (Wanted::Absent, Some(before)) => {
                let version = change.condition.is_some().then_some(before.version);
                self.delete(key, version).await?
            }
            (Wanted::Spec(spec), before) => {
                let spec = match spec {
                    Ok(spec) => Some(spec),
                    Err(reason) => {
                        self.refuse(index, attempt, reason.clone());
                        None
                    }
                };
                self.check_against_others(index, attempt, key, spec, before.as_deref()).await?;
                let Some(spec) = spec else { return Ok(()) };
                let document = Document { key: key.clone(), spec: spec.clone() };
                match before {
                    Some(before) => Write::Update { document, version: before.version },
                    None => Write::Create(document),
                }
            }
        };
        self.prepared.steps.push(Step { key: key.clone(), attempt, write });
        Ok(())
    }

    /// The rules that a document's own text cannot decide, all of them: what must be true of the other documents that are
    /// stored, or written by the same request. `spec` is `None` if it breaks rules of its own.
    async fn check_against_others(
        &mut self,
        index: usize,
        attempt: Attempt,
        key: &Key,
        spec: Option<&Value>,
        before: Option<&Stored>,
    ) -> Result<(), StoreError> {
        if key.kind == Mesh::KIND {
            let Some(spec) = spec else { return Ok(()) };
            match decode_spec(spec) {
                Ok(mesh) => self.check_ca(index, attempt, &key.name, &mesh, before).await?,
                Err(violations) => self.refuse(index, attempt, Reason::Internal(violations.to_string())),
            }
        } else if !self.mesh_exists(&key.mesh).await? {
            self.refuse(index, attempt, Reason::MeshMissing(key.mesh.clone()));
        }
        Ok(())
    }

    /// A Mesh and its builtin CA are one commit: neither exists without the other. A provided CA may be there before its
    /// Mesh.
    async fn check_ca(
        &mut self,
        index: usize,
        attempt: Attempt,
        mesh: &Arc<str>,
        new: &Mesh,
        before: Option<&Stored>,
    ) -> Result<(), StoreError> {
        // A stored Mesh that cannot be read says nothing about its CA: it counts as builtin, so that no key is made anew.
        let old = before.map(|before| before.decode::<Mesh>().unwrap_or_default());
        let provided = self.documents.store.get(&mesh_ca::key(Ca::Provided, mesh)).await?;
        let kept = KeptCas {
            builtin: self.documents.store.get(&mesh_ca::key(Ca::Builtin, mesh)).await?.is_some(),
            provided: provided.is_some_and(|ca| has_certificate(&ca.spec())),
        };
        match mesh_rules::plan(old.as_ref(), new, kept) {
            CaPlan::Keep => {}
            CaPlan::Create => self.prepared.new_cas.push(NewCa { change: index, attempt, mesh: mesh.clone() }),
            CaPlan::Refuse(violation) => self.refuse(index, attempt, Reason::Invalid(vec![violation])),
            CaPlan::Lost => {
                tracing::error!(%mesh, "the builtin CA of the mesh is gone from the store; it is not made anew");
                self.refuse(index, attempt, Reason::CaLost(mesh.clone()));
            }
        }
        Ok(())
    }

    /// The deletion of a document that is there, and of what goes with it.
    async fn delete(&mut self, key: &Key, version: Option<u64>) -> Result<Write, StoreError> {
        if key.kind == Mesh::KIND {
            let provided = mesh_ca::key(Ca::Provided, &key.name);
            if self.documents.store.get(&provided).await?.is_some() {
                self.prepared.further.push(Write::Delete { key: provided, version: None });
            }
            let dataplanes = self.documents.store.list(Dataplane::KIND, Some(&key.name)).await?;
            let gone = dataplanes.iter().map(|stored| (key.name.clone(), stored.key.name.clone()));
            self.prepared.gone.extend(gone);
            return Ok(Write::DeleteMesh { mesh: key.name.clone() });
        }
        if key.kind == Dataplane::KIND {
            let insight = Key::new(DataplaneInsight::KIND, &key.mesh, &key.name);
            if !self.named.contains(&&insight) && self.documents.store.get(&insight).await?.is_some() {
                self.prepared.further.push(Write::Delete { key: insight, version: None });
            }
        }
        if matches!(key.kind, Dataplane::KIND | DataplaneInsight::KIND) {
            self.prepared.gone.push((key.mesh.clone(), key.name.clone()));
        }
        Ok(Write::Delete { key: key.clone(), version })
    }

    /// Whether a mesh exists after the request.
    async fn mesh_exists(&mut self, mesh: &Arc<str>) -> Result<bool, StoreError> {
        if let Some(exists) = self.meshes.get(mesh) {
            return Ok(*exists);
        }
        let exists = self.documents.store.get(&Key::mesh(mesh)).await?.is_some();
        self.meshes.insert(mesh.clone(), exists);
        Ok(exists)
    }

    fn refuse(&mut self, change: usize, attempt: Attempt, reason: Reason) {
        self.problems.push(Problem { change, attempt, reason });
    }
}

fn has_certificate(spec: &Value) -> bool {
    mesh_ca::read(Ca::Provided, spec).is_ok_and(|roots| roots.is_some())
}
