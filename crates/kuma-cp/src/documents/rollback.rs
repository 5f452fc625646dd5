//! Rollbacks: a new commit that restores documents of an earlier revision.
//!
//! A plan lists the documents that differ from that revision. It is executed like any other request: every document
//! passes today's checks, all are written or none, and each only if it has not changed since the plan was made.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_model::{Dataplane, DataplaneInsight, KINDS, Key, Kind, Mesh, Resource as _};
use kuma_store::{Cause, Contents, Moment, Revision, StoreError, Stored, Write};

use super::check::check;
use super::difference::{Difference, differences};
use super::prepare::Prepared;
use super::refusal::{Attempt, Problem, Reason, Refusal};
use super::{ATTEMPTS, Change, Documents, Warning};

/// The largest number of documents that one rollback changes.
pub const MAX_DOCUMENTS: usize = 10_000;

/// A request for a rollback.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// The state to restore.
    pub to: Moment,
    /// Only documents of this mesh.
    pub mesh: Option<Arc<str>>,
    /// Only documents of these kinds.
    pub kinds: Vec<&'static str>,
    /// The revision of the plan to execute: the documents that it writes must not have changed since.
    pub expected: Option<Revision>,
    /// Execute a plan that cannot be undone, too; see [`Plan::irreversible`].
    pub force: bool,
    /// Only return the plan.
    pub dry_run: bool,
}

impl Rollback {
    /// The kinds that are rolled back by default. Dataplanes are not: they say where processes run now. Restoring an
    /// old one would add an endpoint without a process, and deleting a new one would disconnect a process.
    pub fn usual_kinds() -> impl Iterator<Item = &'static Kind> {
        Rollback::possible_kinds().filter(|kind| kind.name != Dataplane::KIND)
    }

    /// The kinds that can be rolled back, which are those in the history.
    pub fn possible_kinds() -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(|kind| kind.name != DataplaneInsight::KIND)
    }
}

/// The changes of a rollback.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The revision to restore.
    pub to: Revision,
    /// The latest revision when the plan was made; after the rollback, the revision of its commit.
    pub revision: Revision,
    /// See [`Store::epoch`](kuma_store::Store::epoch).
    pub epoch: Arc<str>,
    /// The changes, ordered by key.
    pub changes: Vec<Difference>,
    /// The changes that another rollback cannot undo, in sentences.
    pub irreversible: Vec<String>,
    /// Warnings about what is written.
    pub warnings: Vec<Warning>,
}

/// Why a rollback was refused. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum RollbackRefusal {
    /// The store could not return the earlier or the present state.
    #[error(transparent)]
    State(StoreError),
    /// The mesh does not exist, and did not exist then.
    #[error("mesh of name {0} is not found, neither now nor then")]
    NoSuchMesh(Arc<str>),
    /// The plan has more than [`MAX_DOCUMENTS`] changes.
    #[error("{0} documents would change, but one rollback changes at most {MAX_DOCUMENTS}")]
    TooMany(usize),
    /// Documents of the expected plan have changed since. This is the new plan.
    #[error("documents of the plan have changed since")]
    Changed(Box<Plan>),
    /// The rollback cannot be undone, and the request is without `force`.
    #[error("the rollback cannot be undone")]
    Irreversible(Box<Plan>),
    /// A document cannot be written.
    #[error(transparent)]
    Documents(Refusal),
}

impl From<Refusal> for RollbackRefusal {
    fn from(refusal: Refusal) -> RollbackRefusal {
        RollbackRefusal::Documents(refusal)
    }
}

impl Documents {
    /// Restores the documents of a request in one commit; with `dry_run`, only returns the plan.
    ///
    /// # Errors
    /// Nothing is stored then.
    pub async fn roll_back(&self, request: &Rollback, cause: Cause) -> Result<Plan, RollbackRefusal> {
        let mut attempts = 0;
        loop {
            let mut plan = self.plan(request).await?;
            let concerns_cas = plan.changes.iter().any(|change| change.key.kind == Mesh::KIND);
            let _one_at_a_time = match concerns_cas {
                true => Some(self.cas.lock().await),
                false => None,
            };
            attempts += 1;
            let checked = check(plan.changes.iter().map(to_change).collect()).await?;
            let prepared = match self.prepare(&checked).await.map_err(overtaken) {
                Err(Refusal::Overtaken(_)) if attempts < ATTEMPTS => continue,
                prepared => prepared?,
            };
            plan.irreversible = irreversible(&prepared, &plan);
            plan.warnings.clone_from(&prepared.warnings);
            if request.dry_run {
                return Ok(plan);
            }
            if !plan.irreversible.is_empty() && !request.force {
                return Err(RollbackRefusal::Irreversible(Box::new(plan)));
            }
            let mut cause = cause.clone();
            if cause.note.is_empty() {
                cause.note = format!("rollback to revision {}", plan.to).into();
            }
            match self.commit(prepared, cause).await {
                Err(Refusal::Overtaken(_)) if attempts < ATTEMPTS => {}
                done => {
                    plan.revision = done?.revision;
                    return Ok(plan);
                }
            }
        }
    }

    /// The plan at the latest revision, which must have the same changes as the expected one.
    async fn plan(&self, request: &Rollback) -> Result<Plan, RollbackRefusal> {
        let then = self.store.at(request.to).await.map_err(RollbackRefusal::State)?;
        let now = self.store.read_all().await.map_err(RollbackRefusal::State)?;
        if let Some(mesh) = &request.mesh {
            let has = |state: &Contents| state.documents.iter().any(|stored| stored.key.mesh == *mesh);
            if !has(&then) && !has(&now) {
                return Err(RollbackRefusal::NoSuchMesh(mesh.clone()));
            }
        }
        let changes = to_be_changed(request, &now.documents, &then.documents);
        if changes.len() > MAX_DOCUMENTS {
            return Err(RollbackRefusal::TooMany(changes.len()));
        }
        let plan = Plan {
            to: then.revision,
            revision: now.revision,
            epoch: self.store.epoch(),
            changes,
            irreversible: Vec::new(),
            warnings: Vec::new(),
        };
        match request.expected {
            Some(expected) if expected != now.revision => {
                let is_same = match self.store.at(Moment::Revision(expected)).await {
                    Ok(seen) => to_be_changed(request, &seen.documents, &then.documents) == plan.changes,
                    // The plan cannot be compared.
                    Err(StoreError::Future { .. } | StoreError::Forgotten { .. }) => false,
                    Err(error) => return Err(RollbackRefusal::State(error)),
                };
                if is_same { Ok(plan) } else { Err(RollbackRefusal::Changed(Box::new(plan))) }
            }
            _ => Ok(plan),
        }
    }
}

/// The changes from `now` to `then` that a request covers, with everything in a Mesh that is deleted.
fn to_be_changed(request: &Rollback, now: &[Arc<Stored>], then: &[Arc<Stored>]) -> Vec<Difference> {
    let is_known = |key: &Key| Rollback::possible_kinds().any(|kind| kind.name == key.kind);
    let is_covered =
        |key: &Key| request.mesh.as_ref().is_none_or(|mesh| *mesh == key.mesh) && request.kinds.contains(&key.kind);
    let mut changes = differences(now, then);
    let is_deleted =
        |change: &&Difference| change.key.kind == Mesh::KIND && change.after.is_none() && is_covered(&change.key);
    let deleted: BTreeSet<Arc<str>> = changes.iter().filter(is_deleted).map(|change| change.key.mesh.clone()).collect();
    changes.retain(|change| is_known(&change.key) && (is_covered(&change.key) || deleted.contains(&change.key.mesh)));
    changes
}

/// The change of one document, on the condition that it is as in the plan.
fn to_change(Difference { key, before, after }: &Difference) -> Change {
    let seen = before.clone();
    let change = match after {
        Some(after) => Change::put(after.document().to_json()),
        None => Change::delete(key.clone()),
    };
    change.only_if(move |stored| stored == seen.as_deref())
}

/// Turns a failed condition into [`Refusal::Overtaken`].
fn overtaken(refusal: Refusal) -> Refusal {
    let changed = |problem: &Problem| match problem.reason {
        Reason::Precondition => problem.key.clone(),
        _ => None,
    };
    match &refusal {
        Refusal::Changes(problems) => problems.iter().find_map(changed).map_or(refusal, Refusal::Overtaken),
        _ => refusal,
    }
}

/// The changes that another rollback cannot undo, because the history does not contain CAs.
fn irreversible(prepared: &Prepared, plan: &Plan) -> Vec<String> {
    let made = prepared.new_cas.iter().map(|new| {
        let was_there = new.attempt == Attempt::Update;
        let why = if was_there {
            "its builtin CA does not exist any more"
        } else {
            "it was deleted since, together with its CA"
        };
        format!(
            "mesh {:?} gets a new CA ({why}): under mTLS, proxies that trust the old one must be restarted",
            &*new.mesh.name
        )
    });
    let gone = prepared.steps.iter().filter_map(|step| match &step.write {
        Write::DeleteMesh { mesh } => {
            let is_dataplane = |change: &&Difference| change.key.kind == Dataplane::KIND && change.key.mesh == *mesh;
            let and_dataplanes = match plan.changes.iter().filter(is_dataplane).count() {
                0 => String::new(),
                1 => " and a Dataplane".to_owned(),
                many => format!(" and {many} Dataplanes"),
            };
            Some(format!("mesh {:?}, which was created since, is deleted with its CA{and_dataplanes}", &**mesh))
        }
        _ => None,
    });
    made.chain(gone).collect()
}
