//! Why a store did not do what it was asked.

use std::sync::Arc;

use kuma_model::Key;

use crate::Revision;

/// Why a store did not do what it was asked. After any of these, nothing of the commit is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An update or deletion of a document that is not there, or one that was expected to be.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// A creation of a document that is there, or one that was expected not to be.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// An update or deletion of a version that is not, or no longer, the stored one, or one that was expected to be.
    #[error("{key} has changed: version {expected} was to be replaced, but version {actual} is stored")]
    Conflict {
        /// The document.
        key: Key,
        /// The version that the writer had seen.
        expected: u64,
        /// The version that is stored.
        actual: u64,
    },
    /// A commit expected another latest revision; see [`Expect::Head`](crate::Expect::Head).
    #[error("revision {expected} was expected to be the latest, but {actual} is")]
    HeadMoved {
        /// The revision that the writer had seen.
        expected: Revision,
        /// The latest revision.
        actual: Revision,
    },
    /// A document was to be put into a mesh that does not exist.
    #[error("mesh {0:?} does not exist")]
    MeshNotFound(Arc<str>),
    /// [`put_insights`](crate::Store::put_insights) and [`remove_insights`](crate::Store::remove_insights) are only for
    /// DataplaneInsights.
    #[error("{0} is not a DataplaneInsight")]
    NotAnInsight(Key),
    /// DataplaneInsights have no part in commits.
    #[error("{0} is what a proxy has reported, and is not written as a document")]
    AnInsight(Key),
    /// The history does not reach back so far.
    #[error("revision {asked} is not kept any more: the oldest one whose state is known is {floor}")]
    Forgotten {
        /// What was asked for; for a time before the history, 0.
        asked: Revision,
        /// The oldest revision whose state is known.
        floor: Revision,
    },
    /// There is no such revision yet.
    #[error("there is no revision {asked}: the latest one is {latest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The latest revision.
        latest: Revision,
    },
    /// The store can't be reached or does not work. A later attempt may succeed.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened, for whoever asked: it holds no secrets.
        reason: String,
    },
    /// The store cannot be used as it is: it is damaged, or not one of this version. Somebody has to do something.
    #[error("the store cannot be used: {reason}")]
    Unusable {
        /// What is wrong and what to do about it, for a person.
        reason: String,
    },
}

impl StoreError {
    /// Why the store does not work, if that is the reason: what was asked of it may have been in order.
    pub fn away(&self) -> Option<&str> {
        match self {
            StoreError::Unavailable { reason } | StoreError::Unusable { reason } => Some(reason),
            _ => None,
        }
    }
}
