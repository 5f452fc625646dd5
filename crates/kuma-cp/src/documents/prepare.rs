//! The write path up to what the store is to write: pure of effects, so that it can be asked what a change would do.

use std::collections::HashMap;
use std::sync::Arc;

use kuma_model::{Ca, DataplaneInsight, Document, Key, Mesh, Resource as _, Violation, Violations, decode_spec};
use kuma_store::{Expect, Outcome, StoreError, Stored, Write};
use serde_json::Value;

use super::Documents;
use super::check::{Checked, Wanted};
use super::mesh_rules::{self, CaPlan, KeptCas};
use super::refusal::{Attempt, Problem, Reason, Refusal};
use super::warnings::{Warning, warnings};
use crate::mesh_ca;

/// What the store is to write, and what follows from it.
#[derive(Default)]
pub(super) struct Prepared {
    /// In the order of the changes; deletions of Meshes come last in the commit.
    pub(super) steps: Vec<Step>,
    /// What has to be true of documents that are not written.
    pub(super) expected: Vec<Expect>,
    /// Writes that go with those of the steps.
    pub(super) further: Vec<Write>,
    /// Meshes that get a builtin CA in the same commit.
    pub(super) new_cas: Vec<NewCa>,
    /// Insights that are gone afterwards, by mesh and name.
    pub(super) gone: Vec<(Arc<str>, Arc<str>)>,
    /// What the writer should know of what is written.
    pub(super) warnings: Vec<Warning>,
}

/// What one change comes to.
pub(super) struct Step {
    pub(super) key: Key,
    pub(super) attempt: Attempt,
    pub(super) write: Write,
    before: Option<Arc<Stored>>,
}

/// A CA to be made for the Mesh of a change.
pub(super) struct NewCa {
    pub(super) change: usize,
    pub(super) attempt: Attempt,
    pub(super) mesh: Key,
}

impl Step {
    /// What the write comes to, as long as nobody else writes.
    pub(super) fn outcome(&self) -> Outcome {
        match (&self.write, &self.before) {
            (Write::Delete { .. } | Write::DeleteMesh { .. }, _) => Outcome::Deleted,
            (Write::Update { document, version }, Some(before)) if before.spec() == document.spec => {
                Outcome::Unchanged { version: *version }
            }
            (_, Some(before)) => Outcome::Updated { version: before.version + 1 },
            (_, None) => Outcome::Created,
        }
    }
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
        let Preparation { mut prepared, problems, .. } = preparation;
        if !problems.is_empty() {
            return Err(Refusal::Changes(problems));
        }
        // A store that does not answer any more will say so to the commit.
        prepared.warnings = warnings(self.store.as_ref(), &prepared.steps).await.unwrap_or_default();
        Ok(prepared)
    }
}

/// A request on its way to what is to be written.
struct Preparation<'a> {
    documents: &'a Documents,
    /// The first change of each document that the request names.
    named: HashMap<&'a Key, usize>,
    /// Whether a mesh exists after the request, as far as it is known.
    meshes: HashMap<Arc<str>, Presence>,
    prepared: Prepared,
    problems: Vec<Problem>,
}

/// Whether a mesh exists after a request.
#[derive(Clone, Copy)]
enum Presence {
    Exists,
    Missing,
    DeletedHere,
}

/// A change that is being looked at.
#[derive(Clone, Copy)]
struct Subject<'a> {
    change: usize,
    key: &'a Key,
    attempt: Attempt,
    before: Option<&'a Stored>,
}

impl<'a> Preparation<'a> {
    fn new(documents: &'a Documents, changes: &'a [Checked]) -> Preparation<'a> {
        let (mut named, mut meshes) = (HashMap::new(), HashMap::new());
        for (index, change) in changes.iter().enumerate() {
            let Some(key) = &change.key else { continue };
            named.entry(key).or_insert(index);
            if key.kind == Mesh::KIND {
                // A Mesh that is refused is there all the same, for what is said about the documents in it.
                let presence = match change.wanted {
                    Wanted::Spec(_) => Presence::Exists,
                    Wanted::Absent => Presence::DeletedHere,
                };
                meshes.entry(key.name.clone()).or_insert(presence);
            }
        }
        Preparation { documents, named, meshes, prepared: Prepared::default(), problems: Vec::new() }
    }

    async fn add(&mut self, index: usize, change: &Checked) -> Result<(), StoreError> {
        let Some(key) = &change.key else {
            if let Wanted::Spec(Err(reason)) = &change.wanted {
                let (key, attempt, reason) = (None, Attempt::Create, reason.clone());
                self.problems.push(Problem { change: index, key, attempt, reason });
            }
            return Ok(());
        };
        let before = self.documents.store.get(key).await?;
        let attempt = match (&change.wanted, &before) {
            (Wanted::Absent, _) => Attempt::Delete,
            (Wanted::Spec(_), None) => Attempt::Create,
            (Wanted::Spec(_), Some(_)) => Attempt::Update,
        };
        let subject = Subject { change: index, key, attempt, before: before.as_deref() };
        if let Some(first) = self.named.get(key).copied().filter(|first| *first != index) {
            self.refuse(subject, Reason::Twice { first });
            return Ok(());
        }
        if change.condition.as_ref().is_some_and(|is_met| !is_met(subject.before)) {
            self.refuse(subject, Reason::Precondition);
            return Ok(());
        }
        let write = match &change.wanted {
            Wanted::Spec(spec) => self.put(subject, spec).await?,
            Wanted::Absent => self.delete(subject, change.condition.is_some()).await?,
        };
        if let Some(write) = write {
            self.prepared.steps.push(Step { key: key.clone(), attempt, write, before });
        }
        Ok(())
    }

    /// The write of a document; `None` if it is refused.
    async fn put(&mut self, subject: Subject<'_>, spec: &Result<Value, Reason>) -> Result<Option<Write>, StoreError> {
        let spec = match spec {
            Ok(spec) => Some(spec),
            Err(reason) => {
                self.refuse(subject, reason.clone());
                None
            }
        };
        self.check_against_others(subject, spec).await?;
        let Some(spec) = spec else { return Ok(None) };
        let document = Document { key: subject.key.clone(), spec: spec.clone() };
        Ok(Some(match subject.before {
            Some(before) => Write::Update { document, version: before.version },
            None => Write::Create(document),
        }))
    }

    /// The rules that a document's own text cannot decide, all of them: what must be true of the other documents that
    /// are stored, or written by the same request. `spec` is `None` if it breaks rules of its own.
    async fn check_against_others(&mut self, subject: Subject<'_>, spec: Option<&Value>) -> Result<(), StoreError> {
        let key = subject.key;
        if key.kind == Mesh::KIND {
            let Some(spec) = spec else { return Ok(()) };
            match decode_spec(spec) {
                Ok(mesh) => self.check_ca(subject, &mesh).await?,
                Err(violations) => self.refuse(subject, Reason::Internal(violations.to_string())),
            }
            return Ok(());
        }
        match self.presence(&key.mesh).await? {
            Presence::Exists => {}
            Presence::Missing => self.refuse(subject, Reason::MeshMissing(key.mesh.clone())),
            Presence::DeletedHere => self.refuse(subject, Reason::MeshDeleted(key.mesh.clone())),
        }
        Ok(())
    }

    /// A Mesh and its builtin CA are one commit: neither exists without the other. A provided CA may be there before
    /// its Mesh.
    async fn check_ca(&mut self, subject: Subject<'_>, new: &Mesh) -> Result<(), StoreError> {
        let mesh = &subject.key.name;
        // A stored Mesh that cannot be read says nothing about its CA: it counts as builtin, so that no key is made
        // anew.
        let old = subject.before.map(|before| before.decode::<Mesh>().unwrap_or_default());
        let provided_key = mesh_ca::key(Ca::Provided, mesh);
        let provided = self.documents.store.get(&provided_key).await?;
        let kept = KeptCas {
            builtin: self.documents.store.get(&mesh_ca::key(Ca::Builtin, mesh)).await?.is_some(),
            provided: provided.as_ref().is_some_and(|ca| has_certificate(&ca.spec())),
        };
        if new.ca() == Ca::Provided {
            // Another control plane must not take its certificate away meanwhile.
            let version = provided.map(|ca| ca.version);
            self.prepared.expected.push(Expect::Version { key: provided_key, version });
        }
        match mesh_rules::plan(old.as_ref(), new, kept) {
            CaPlan::Keep => {}
            CaPlan::Create => {
                let Subject { change, key, attempt, .. } = subject;
                self.prepared.new_cas.push(NewCa { change, mesh: key.clone(), attempt });
            }
            CaPlan::Refuse(Violation { field, message }) => {
                let mut violations = Violations::default();
                violations.add(field, message);
                self.refuse(subject, Reason::Invalid(violations));
            }
            CaPlan::Lost => {
                tracing::error!(%mesh, "the builtin CA of the mesh is gone from the store; it is not made anew");
                self.refuse(subject, Reason::CaLost(mesh.clone()));
            }
        }
        Ok(())
    }

    /// The deletion of a document, and of what goes with it; `None` if it is refused. A conditional one is of the
    /// version that met the condition.
    async fn delete(&mut self, subject: Subject<'_>, conditional: bool) -> Result<Option<Write>, StoreError> {
        let Subject { key, before: Some(before), .. } = subject else {
            self.refuse(subject, Reason::NotFound);
            return Ok(None);
        };
        let store = &self.documents.store;
        let version = conditional.then_some(before.version);
        if key.kind == Mesh::KIND {
            let provided = mesh_ca::key(Ca::Provided, &key.name);
            if store.get(&provided).await?.is_some() {
                self.prepared.further.push(Write::Delete { key: provided, version: None });
            }
            if version.is_some() {
                self.prepared.expected.push(Expect::Version { key: key.clone(), version });
            }
            return Ok(Some(Write::DeleteMesh { mesh: key.name.clone() }));
        }
        if key.kind == DataplaneInsight::KIND {
            self.prepared.gone.push((key.mesh.clone(), key.name.clone()));
        }
        Ok(Some(Write::Delete { key: key.clone(), version }))
    }

    async fn presence(&mut self, mesh: &Arc<str>) -> Result<Presence, StoreError> {
        if let Some(presence) = self.meshes.get(mesh) {
            return Ok(*presence);
        }
        let presence = match self.documents.store.get(&Key::mesh(mesh)).await? {
            Some(_) => Presence::Exists,
            None => Presence::Missing,
        };
        self.meshes.insert(mesh.clone(), presence);
        Ok(presence)
    }

    fn refuse(&mut self, subject: Subject<'_>, reason: Reason) {
        let Subject { change, key, attempt, .. } = subject;
        self.problems.push(Problem { change, key: Some(key.clone()), attempt, reason });
    }
}

fn has_certificate(spec: &Value) -> bool {
    mesh_ca::read(Ca::Provided, spec).is_ok_and(|roots| roots.is_some())
}
