//! Following a store: all that it holds, and then each commit, without a gap.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::{Change, Commit, Revision, Store, StoreError, Stored};

/// Pause before a store is read again after it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Somebody who keeps up with what a store holds.
pub trait Follower: Send + Sync {
    /// All that the store holds at this revision, in place of what was known: at the start, and after a gap.
    fn load(&self, revision: Revision, documents: &[Arc<Stored>]);

    /// The next commit.
    fn commit(&self, commit: &Commit);
}

/// Reads the whole store once, for all followers. Returns the revision from which to [`follow`].
///
/// # Errors
/// It cannot be read; the followers have been told nothing then.
pub async fn load(store: &dyn Store, followers: &[&dyn Follower]) -> Result<Revision, StoreError> {
    let (revision, documents) = store.read_all().await?;
    for follower in followers {
        follower.load(revision, &documents);
    }
    Ok(revision)
}

/// Hands each commit after `revision` to all followers, for as long as it is polled. After a gap everything is read
/// again; while that fails they keep what they know.
pub async fn follow(store: &dyn Store, mut revision: Revision, followers: &[&dyn Follower]) {
    loop {
        let mut changes = store.changes(revision);
        while let Some(Change::Commit(commit)) = changes.next().await {
            for follower in followers {
                follower.commit(&commit);
            }
        }
        revision = loop {
            match load(store, followers).await {
                Ok(revision) => break revision,
                Err(error) => tracing::warn!(%error, "the store cannot be read; everything stays as it is known"),
            }
            tokio::time::sleep(RETRY).await;
        };
    }
}
