//! Where documents are kept: the trait [`Store`], what every store promises, and the store in memory.
//!
//! A store is a map from [`Key`](kuma_model::Key) to [`Document`](kuma_model::Document) with one history: each commit
//! that changes something gets the next [`Revision`], and [`Store::changes`] hands out whole commits in that order.
//! From [`Store::read_all`] and the changes since its revision, a reader has the whole state at every moment, or is
//! told by [`Change::Gap`] that it must read all again.
//!
//! What every store promises is in [`Store`]; the feature `contract` has the checks for it, which each store runs
//! against itself.
//!
//! A store does not validate documents, and knows three kinds: a Mesh owns all documents with its name in `key.mesh`,
//! DataplaneInsights are outside the history, and everything else is alike.

mod changelog;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod follow;
mod memory;
mod store;
mod transaction;

pub use changelog::{ChangeLog, HISTORY_CHANGES, HISTORY_COMMITS};
pub use error::StoreError;
pub use follow::{Follower, follow, load};
pub use kuma_model::NO_MESH;
pub use memory::MemoryStore;
pub use store::{
    Change, Commit, Committed, DocumentChange, Expect, Outcome, Revision, Store, StoreFuture, Stored, Write,
};
pub use transaction::{Documents, Transaction};
