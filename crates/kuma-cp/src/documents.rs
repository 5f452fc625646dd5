//! The service of documents: whatever changes documents goes through it, whoever asks for it.
//!
//! It knows nothing of HTTP. A change is checked (its text, the rules of its kind, what must be true of other
//! documents), becomes what the store is to write, and is committed with all that goes with it: the CA of a Mesh, the
//! insight of a Dataplane. What cannot be done is a [`Refusal`]. What a request would do can be asked without doing
//! it.

mod check;
mod difference;
pub mod mesh_rules;
mod prepare;
mod refusal;
mod rollback;
mod warnings;

use std::sync::Arc;

pub use check::Change;
use check::check;
pub use difference::{Difference, differences};
use kuma_model::{DataplaneInsight, Document, Key, Mesh, Resource as _};
use kuma_store::{Cause, Expect, Outcome, Proposal, Revision, Store, StoreError, Write};
use prepare::{NewCa, Prepared, Step};
pub use refusal::{Attempt, Problem, Reason, Refusal};
pub use rollback::{MAX_DOCUMENTS, Plan, Rollback, RollbackRefusal};
pub use warnings::Warning;

use crate::http::error::chain;
use crate::identity::AUTHOR;
use crate::mesh_ca::{MeshAuthority, MeshCas};

/// How often changes are tried when others write the same documents at the same time.
const ATTEMPTS: usize = 5;

/// Is called with the mesh and the name of a Dataplane.
type OnDataplane = Box<dyn Fn(&str, &str) + Send + Sync>;

/// Changes documents in a store.
pub struct Documents {
    store: Arc<dyn Store>,
    cas: Arc<MeshCas>,
    insight_deleted: OnDataplane,
    mesh_rewritten: Box<dyn Fn(&str) + Send + Sync>,
}

/// What changes have come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The revision of the commit, or the latest one if nothing has changed.
    pub revision: Revision,
    /// See [`Store::epoch`].
    pub epoch: Arc<str>,
    /// One for each change, in their order.
    pub outcomes: Vec<(Key, Outcome)>,
    /// What the writer should know although it is allowed, such as policies that have no effect.
    pub warnings: Vec<Warning>,
}

impl Documents {
    /// Documents in `store`. `authority` makes and keeps the CAs of meshes.
    pub fn new(store: Arc<dyn Store>, authority: Arc<dyn MeshAuthority>) -> Documents {
        Documents {
            cas: Arc::new(MeshCas::new(store.clone(), authority)),
            store,
            insight_deleted: Box::new(|_, _| {}),
            mesh_rewritten: Box::new(|_| {}),
        }
    }

    /// Has `notify` called with the mesh and the name of each insight that is deleted: what this process knows about
    /// the proxy goes too. Deletions of Dataplanes are in the feed of commits; see [`crate::forgetting`].
    #[must_use]
    pub fn on_insight_deleted(mut self, notify: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        self.insight_deleted = Box::new(notify);
        self
    }

    /// Has `notify` called with the name of a Mesh that is written just as it is: the store has no news then, but a
    /// control plane that has forgotten its documents waits for somebody to confirm them.
    #[must_use]
    pub fn on_mesh_rewritten(mut self, notify: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.mesh_rewritten = Box::new(notify);
        self
    }

    /// The CAs of meshes, which change one at a time and not while a Mesh does.
    pub fn cas(&self) -> Arc<MeshCas> {
        self.cas.clone()
    }

    /// Makes changes, all or none, in one commit: only if `expected` is the latest revision, where one is given. When
    /// others write the same documents at the same time, it tries again. `cause` is for the history.
    ///
    /// # Errors
    /// Nothing is stored then.
    pub async fn change(
        &self,
        changes: Vec<Change>,
        expected: Option<Revision>,
        cause: Cause,
    ) -> Result<Done, Refusal> {
        let changes = check(changes).await?;
        let concerns_cas = changes.iter().any(|change| change.key.as_ref().is_some_and(|key| key.kind == Mesh::KIND));
        let mut attempts = 0;
        loop {
            let _one_at_a_time = match concerns_cas {
                true => Some(self.cas.lock().await),
                false => None,
            };
            if expected.is_some() {
                // What is said about documents that are not what the writer has seen would mislead.
                self.head(expected).await?;
            }
            let mut prepared = self.prepare(&changes).await?;
            prepared.expected.extend(expected.map(Expect::Head));
            attempts += 1;
            match self.commit(prepared, cause.clone()).await {
                Err(Refusal::Overtaken(_)) if attempts < ATTEMPTS => {}
                done => return done,
            }
        }
    }

    /// What [`change`](Self::change) would do at this moment. Nothing is stored, and no CA is made.
    ///
    /// # Errors
    /// It would be refused.
    pub async fn dry_run(&self, changes: Vec<Change>, expected: Option<Revision>) -> Result<Done, Refusal> {
        let changes = check(changes).await?;
        let revision = self.head(expected).await?;
        let Prepared { steps, warnings, .. } = self.prepare(&changes).await?;
        let outcomes = steps.into_iter().map(|step| (step.key.clone(), step.outcome())).collect();
        Ok(Done { revision, epoch: self.store.epoch(), outcomes, warnings })
    }

    /// The latest revision, which has to be the expected one.
    async fn head(&self, expected: Option<Revision>) -> Result<Revision, Refusal> {
        let expected = expected.map(Expect::Head).into_iter().collect();
        let looked = self.store.commit_if(expected, Vec::new()).await;
        Ok(looked.map_err(|error| store_refusal(Attempt::Several, error))?.revision)
    }

    /// Creates the Mesh of `document`, with its CA, unless there is one of that name. Says whether it was created.
    ///
    /// # Errors
    /// Nothing is stored then.
    pub async fn create_mesh_if_missing(&self, document: Document) -> Result<bool, Refusal> {
        let create = Change::put(document.to_json()).only_if(|stored| stored.is_none());
        let cause = Cause { author: AUTHOR.into(), note: "the default mesh".into(), ..Cause::default() };
        match self.change(vec![create], None, cause).await {
            Ok(_) => Ok(true),
            Err(Refusal::Changes(problems))
                if problems.iter().all(|problem| matches!(problem.reason, Reason::Precondition)) =>
            {
                Ok(false)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Stores what is prepared, unless somebody else was faster.
    async fn commit(&self, prepared: Prepared, cause: Cause) -> Result<Done, Refusal> {
        let Prepared { steps, expected, further, new_cas, gone, warnings } = prepared;
        let attempt = match steps.as_slice() {
            [step] => step.attempt,
            _ => Attempt::Several,
        };
        let mut writes = further;
        for NewCa { change, attempt, mesh } in new_cas {
            let name = mesh.name.clone();
            let created = self.cas.blocking(move |authority| authority.create_ca(&name)).await;
            let failed =
                |error| Problem { change, key: Some(mesh), attempt, reason: Reason::Internal(chain(&error)) }.alone();
            writes.push(Write::Create(created.map_err(failed)?));
        }
        // Insights have no part in commits.
        let is_insight = |(_, step): &(usize, Step)| step.key.kind == DataplaneInsight::KIND;
        let (insights, steps): (Vec<_>, Vec<_>) = (0..).zip(steps).partition(is_insight);
        // What is in a mesh that goes, and is deleted for its own part as well, goes before it.
        let (meshes, others): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|(_, step)| matches!(step.write, Write::DeleteMesh { .. }));
        let before = writes.len();
        let mut keys = Vec::new();
        for (index, Step { key, write, .. }) in others.into_iter().chain(meshes) {
            keys.push((index, key));
            writes.push(write);
        }
        let proposal = Proposal { expected, writes, cause };
        let committed = self.store.propose(proposal).await.map_err(|error| match overtaken(&error) {
            Some(by) => {
                tracing::debug!(%error, "a write was overtaken");
                let named = keys.iter().map(|(_, key)| key).find(|key| **key == by);
                Refusal::Overtaken(named.or(keys.first().map(|(_, key)| key)).cloned().unwrap_or(by))
            }
            None => store_refusal(attempt, error),
        })?;
        let mut outcomes: Vec<_> = keys.into_iter().zip(committed.outcomes.into_iter().skip(before)).collect();
        outcomes.extend(insights.iter().map(|(index, step)| ((*index, step.key.clone()), step.outcome())));
        self.write_insights(insights.into_iter().map(|(_, step)| step))
            .await
            .map_err(|error| store_refusal(attempt, error))?;
        outcomes.sort_by_key(|((index, _), _)| *index);
        let outcomes: Vec<_> = outcomes.into_iter().map(|((_, key), outcome)| (key, outcome)).collect();
        for (mesh, name) in gone {
            (self.insight_deleted)(&mesh, &name);
        }
        for (key, outcome) in &outcomes {
            self.tell(key, *outcome, committed.revision).await;
        }
        for Warning { mesh, text } in &warnings {
            tracing::warn!(revision = committed.revision, %mesh, "{text}");
        }
        Ok(Done { revision: committed.revision, epoch: self.store.epoch(), outcomes, warnings })
    }

    async fn write_insights(&self, steps: impl Iterator<Item = Step>) -> Result<(), StoreError> {
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        for step in steps {
            match step.write {
                Write::Create(document) | Write::Put(document) | Write::Update { document, .. } => {
                    written.push(document)
                }
                Write::Delete { .. } | Write::DeleteMesh { .. } => removed.push(step.key),
            }
        }
        if !written.is_empty() {
            self.store.put_insights(written).await?;
        }
        if !removed.is_empty() {
            self.store.remove_insights(removed).await?;
        }
        Ok(())
    }

    /// What a change means beyond the store.
    async fn tell(&self, key: &Key, outcome: Outcome, revision: Revision) {
        let is_mesh = key.kind == Mesh::KIND;
        match outcome {
            Outcome::Created => tracing::info!(revision, "created {key}"),
            Outcome::Updated { .. } | Outcome::Unchanged { .. } => tracing::info!(revision, "updated {key}"),
            Outcome::Deleted if is_mesh => tracing::info!(revision, "deleted {key} and everything in it"),
            Outcome::Deleted => tracing::info!(revision, "deleted {key}"),
        }
        match outcome {
            Outcome::Unchanged { .. } if is_mesh => (self.mesh_rewritten)(&key.name),
            Outcome::Deleted if is_mesh => {
                let mesh = key.name.clone();
                if let Err(error) = self.cas.blocking(move |authority| authority.forget(&mesh)).await {
                    // The Mesh is gone all the same. A new one of this name would get the old CA.
                    let error = chain(&error);
                    tracing::error!(mesh = %key.name, error, "the CA of a deleted mesh could not be removed");
                }
            }
            _ => {}
        }
    }
}

/// The document that somebody else was faster with, if that is why a commit was refused.
fn overtaken(error: &StoreError) -> Option<Key> {
    match error {
        StoreError::NotFound(key) | StoreError::AlreadyExists(key) | StoreError::Conflict { key, .. } => {
            Some(key.clone())
        }
        StoreError::MeshNotFound(mesh) => Some(Key::mesh(mesh)),
        _ => None,
    }
}

fn store_refusal(attempt: Attempt, error: StoreError) -> Refusal {
    match error {
        StoreError::HeadMoved { expected, actual } => Refusal::HeadMoved { expected, head: actual },
        error => Refusal::Store { attempt, error },
    }
}
