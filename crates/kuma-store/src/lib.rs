//! Where documents are kept: the trait [`Store`], what every store promises, and the store in memory.
//!
//! A store is a map from [`Key`](kuma_model::Key) to [`Document`](kuma_model::Document) with one history: each commit
//! that changes something gets the next [`Revision`], and [`Store::changes`] hands out whole commits in that order.
//! From [`Store::read_all`] and the changes since its revision, a reader has the whole state at every moment, or is
//! told by [`Change::Gap`] that it must read all again.
//!
//! Every store is the same state machine in memory: a map of documents, from which commits are computed and reads are
//! answered (`transaction.rs`, `replica.rs`). Stores that last write each commit to a [`Journal`]
//! before they tell anybody; a journal only appends, reads and prunes.
//!
//! What every store promises is in [`Store`]; the feature `contract` has the checks for it, which each store runs
//! against itself.
//!
//! A store does not validate documents, and knows three kinds: a Mesh owns all documents with its name in `key.mesh`,
//! DataplaneInsights are outside the history, and everything else is alike.

mod changelog;
mod commit;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod follow;
mod history;
mod insights;
mod journal;
mod journaled;
mod memory;
mod peers;
mod replica;
mod store;
mod stored;
mod transaction;

pub use changelog::{ChangeLog, HISTORY_CHANGES, HISTORY_COMMITS};
pub use commit::{Cause, Commit, Committed, DocumentChange, Expect, Outcome, Position, Proposal, Revision, Write};
pub use error::StoreError;
pub use follow::{Followed, Follower, Missing, follow, load};
pub use history::{HistoryChange, HistoryEntry, HistoryPage, HistoryQuery, Moment, PAGE_LIMIT, is_kept};
pub use journal::{Appended, InsightRow, Journal, Keep, Loaded, SECRETS_KEPT, Since};
pub use journaled::{JournaledStore, Options};
pub use kuma_model::NO_MESH;
pub use memory::MemoryStore;
pub use peers::Peer;
pub use store::{Change, Contents, Gap, Head, Store, StoreFuture};
pub use stored::Stored;
pub use transaction::{Documents, InsightsOf, whose_insights_go};
