//! Why the service of documents did not do what it was asked. Nothing is stored then.

use std::sync::Arc;

use kuma_model::{Key, Violations};
use kuma_store::{Revision, StoreError};

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// These changes cannot be made, in the order of the request; there is at least one. A change that is wrong in
    /// several ways may be in here several times.
    #[error("{}", in_one_line(.0))]
    Changes(Vec<Problem>),
    /// Others write the same documents at the same time, again and again; this is one of the documents.
    #[error("others write the same documents at the same time")]
    Overtaken(Key),
    /// The request was made for another revision than the latest.
    #[error("revision {expected} was expected to be the latest, but {head} is")]
    HeadMoved {
        /// What the request was made for.
        expected: Revision,
        /// The latest revision.
        head: Revision,
    },
    /// The store did not answer, or does not work.
    #[error("the store did not do it")]
    Store {
        /// What it was asked for.
        attempt: Attempt,
        /// What it said.
        #[source]
        error: StoreError,
    },
}

/// What is wrong with one change.
#[derive(Debug)]
pub struct Problem {
    /// Which change it is, from 0.
    pub change: usize,
    /// Its document, if that says what it is.
    pub key: Option<Key>,
    /// What was attempted.
    pub attempt: Attempt,
    /// Why it cannot be done.
    pub reason: Reason,
}

/// What was attempted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// To see whether the document is there.
    Find,
    /// To create a document.
    Create,
    /// To replace a document.
    Update,
    /// To delete a document.
    Delete,
    /// Several changes at once.
    Several,
}

/// Why a change cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Reason {
    /// The document breaks rules.
    #[error("{0}")]
    Invalid(Violations),
    /// The request has another change of the same document.
    #[error("the document is there twice")]
    Twice {
        /// Which change that is, from 0.
        first: usize,
    },
    /// The same request deletes the mesh that the document is in.
    #[error("mesh of name {0} is deleted by the same request")]
    MeshDeleted(Arc<str>),
    /// Its mesh does not exist.
    #[error("mesh of name {0} is not found")]
    MeshMissing(Arc<str>),
    /// There is no such document to delete.
    #[error("not found")]
    NotFound,
    /// The stored document is not what the writer made a condition.
    #[error("what is stored is not as it has to be")]
    Precondition,
    /// The builtin CA of the Mesh is gone from the store. It is never silently made anew.
    #[error(
        "The builtin CA of mesh {0} is missing in the store, and a new one would not be trusted by running proxies. \
         Restore it from a backup, or delete the mesh and create it again"
    )]
    CaLost(Arc<str>),
    /// Our fault, or that of the machine. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

fn in_one_line(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(|problem| problem.reason.to_string().replace('\n', "; ")).collect();
    texts.join("; ")
}

impl Problem {
    /// As a refusal of the whole request.
    pub(super) fn alone(self) -> Refusal {
        Refusal::Changes(vec![self])
    }
}
