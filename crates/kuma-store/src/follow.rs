//! Following a store: all that it holds, and then each commit, without a gap.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_model::Key;

use crate::{Change, Commit, Contents, Revision, Store, StoreError};

/// Pause before a store is read again after it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Somebody who keeps up with what a store holds.
pub trait Follower: Send + Sync {
    /// All that the store holds, in place of what was known: at the start, and after a gap.
    fn load(&self, contents: &Contents);

    /// The next commit.
    fn commit(&self, commit: &Commit);
}

/// Where a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    revision: Revision,
    generation: u64,
}

/// Which documents a follower gives up when it has read everything again.
///
/// What is missing has been deleted, unless the store is another one than it was and does not say that it is complete:
/// then it may only have been lost, and stays until somebody writes or deletes it, or the store is complete.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    generation: Option<u64>,
    /// What stays although the store has lost it.
    lost: BTreeSet<Key>,
}

impl Missing {
    /// Which of the `known` documents are gone, by the new `contents`.
    pub fn gone<'a>(&mut self, known: impl IntoIterator<Item = &'a Key>, contents: &Contents) -> Vec<Key> {
        let present: BTreeSet<&Key> = contents.documents.iter().map(|stored| &stored.key).collect();
        let mut gone: Vec<Key> = known.into_iter().filter(|key| !present.contains(key)).cloned().collect();
        let same_store = self.generation.is_none_or(|generation| generation == contents.generation);
        self.generation = Some(contents.generation);
        let is_lost = |key: &mut Key| !contents.complete && (!same_store || self.lost.contains(key));
        self.lost = gone.extract_if(.., is_lost).collect();
        gone
    }

    /// Whether this is not the store that was read before.
    pub fn is_another(&self, contents: &Contents) -> bool {
        self.generation.is_some_and(|generation| generation != contents.generation)
    }

    /// Counts a document as lost that the store has in another text.
    pub fn keep(&mut self, key: Key) {
        self.lost.insert(key);
    }

    /// What stays although the store has lost it.
    pub fn lost(&self) -> impl Iterator<Item = &Key> {
        self.lost.iter()
    }

    /// Somebody has written or deleted the document.
    pub fn settled(&mut self, key: &Key) {
        self.lost.remove(key);
    }
}

/// Reads the whole store once, for all followers. Returns from where to [`follow`].
///
/// # Errors
/// It cannot be read; the followers have been told nothing then.
pub async fn load(store: &dyn Store, followers: &[&dyn Follower]) -> Result<Followed, StoreError> {
    let contents = store.read_all().await?;
    for follower in followers {
        follower.load(&contents);
    }
    Ok(Followed { revision: contents.revision, generation: contents.generation })
}

/// Hands each commit after `from` to all followers, for as long as it is polled. After a gap everything is read again;
/// while that fails they keep what they know.
pub async fn follow(store: &dyn Store, mut from: Followed, followers: &[&dyn Follower]) {
    loop {
        let mut changes = store.changes(from.revision);
        // The stream tells of a new generation only if it begins after the stream.
        let is_current = store.generation() == from.generation;
        while is_current && let Some(Change::Commit(commit)) = changes.next().await {
            for follower in followers {
                follower.commit(&commit);
            }
        }
        from = loop {
            match load(store, followers).await {
                Ok(from) => break from,
                Err(error) => tracing::warn!(%error, "the store cannot be read; everything stays as it is known"),
            }
            tokio::time::sleep(RETRY).await;
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use kuma_model::Document;
    use serde_json::json;

    use super::*;
    use crate::Stored;

    fn key(name: &str) -> Key {
        Key::new("Dataplane", "default", name)
    }

    /// What is gone of `a`, `b` and `c` when the store holds these.
    fn gone(missing: &mut Missing, generation: u64, complete: bool, present: &[&str]) -> Vec<String> {
        let stored = |name: &&str| Stored::new(Document { key: key(name), spec: json!({}) }, Timestamp::UNIX_EPOCH);
        let documents = present.iter().map(|name| Arc::new(stored(name))).collect();
        let contents = Contents { revision: 1, documents, complete, generation };
        let known = ["a", "b", "c"].map(key);
        missing.gone(&known, &contents).iter().map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn what_is_missing_in_the_same_store_was_deleted() {
        for complete in [true, false] {
            let mut missing = Missing::default();
            assert_eq!(gone(&mut missing, 0, complete, &["a", "b"]), ["c"]);
            assert_eq!(gone(&mut missing, 0, complete, &["a"]), ["b", "c"]);
        }
    }

    #[test]
    fn what_another_store_lacks_stays_until_it_is_settled() {
        let mut missing = Missing::default();
        assert_eq!(gone(&mut missing, 0, true, &["a", "b", "c"]), [] as [&str; 0]);
        assert_eq!(gone(&mut missing, 1, false, &["a"]), [] as [&str; 0]);
        // Read again, of the same store: what was there is deleted, what was lost is lost.
        assert_eq!(gone(&mut missing, 1, false, &[]), ["a"]);
        missing.settled(&key("b"));
        assert_eq!(gone(&mut missing, 1, false, &["a"]), ["b"]);
        assert_eq!(gone(&mut missing, 2, true, &["a"]), ["b", "c"]);
    }
}
