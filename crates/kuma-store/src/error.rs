//! Why a store did not do what it was asked.

use std::sync::Arc;

use kuma_model::Key;

/// Why a store did not do what it was asked. After any of these, nothing of the commit is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An update or deletion of a document that is not there.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// A creation of a document that is there.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// An update or deletion of a version that is not, or no longer, the stored one.
    #[error("{key} has changed: version {expected} was to be replaced, but version {actual} is stored")]
    Conflict {
        /// The document.
        key: Key,
        /// The version that the writer had seen.
        expected: u64,
        /// The version that is stored.
        actual: u64,
    },
    /// A document was to be put into a mesh that does not exist.
    #[error("mesh {0:?} does not exist")]
    MeshNotFound(Arc<str>),
    /// [`put_insights`](crate::Store::put_insights) is only for DataplaneInsights.
    #[error("{0} is not a DataplaneInsight")]
    NotAnInsight(Key),
    /// The store can't be reached or does not work. A later attempt may succeed.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened, for a person.
        reason: String,
    },
}
