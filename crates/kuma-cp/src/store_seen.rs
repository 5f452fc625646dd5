//! What this machine remembers of the store, in the file `store-seen` of the state folder: a store that lacks a commit
//! that was seen is not the one that it was.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use kuma_engine::LONGEST_RECOVERY;
use kuma_store::{Change, Gap, Head, Position, Store};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::identity::AUTHOR;
use crate::state_folder::{StateFolder, StateFolderError};

const FILE: &str = "store-seen";

/// Shortest pause between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// A commit that was in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Which store.
    store: Uuid,
    /// The number of the commit.
    revision: u64,
    /// Its id.
    commit: Uuid,
    /// Whether documents may still be on their way into a store that was new: then what it lacks is not taken for
    /// deleted by the next process either.
    new: bool,
    /// Whether the store has turned out to be another or an older one since then, and nobody has accepted it.
    #[serde(default)]
    doubtful: bool,
}

impl Seen {
    /// That of the last process on this folder.
    ///
    /// # Errors
    /// It cannot be read. Without it a store that was replaced would be taken for whole.
    pub fn read(folder: &StateFolder) -> anyhow::Result<Option<Seen>> {
        let Some(text) = folder.read(FILE)? else { return Ok(None) };
        let seen = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged: it says which store was used here last. Remove it, if the store is the same",
                folder.path().join(FILE).display()
            )
        })?;
        Ok(Some(seen))
    }

    /// Where the store was.
    pub fn head(&self) -> Head {
        Head { store: self.store, position: Position { revision: self.revision, commit: self.commit } }
    }

    /// Whether the store was still being filled.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Whether the store was not accepted since it turned out to be another one.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    fn write(folder: &StateFolder, head: Head, trust: Trust) -> Result<(), StateFolderError> {
        let Head { store, position: Position { revision, commit } } = head;
        let seen = Seen { store, revision, commit, new: trust == Trust::New, doubtful: trust == Trust::Doubtful };
        let text = serde_json::to_vec(&seen).unwrap_or_default();
        folder.replace(FILE, &text)
    }
}

/// Why nothing is remembered of a store for now, or less than there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// It is the one that it was.
    Whole,
    /// Its first documents may still be on their way.
    New,
    /// It is another or an older one than it was, until somebody accepts it.
    Doubtful,
}

/// Keeps the file at what the store has, until cancelled, and once more then.
pub async fn keep(store: Arc<dyn Store>, folder: Arc<StateFolder>, mut trust: Trust, cancel: CancellationToken) {
    // What was seen of a store before it turned out to be another one stays.
    let mut written = (trust == Trust::Doubtful).then(|| (store.head(), trust));
    // From when on a new store counts as filled.
    let mut filled_at = None;
    let mut changes = store.changes(store.head().position.revision);
    loop {
        let stopping = cancel.is_cancelled();
        let head = store.head();
        if store.is_complete() || trust == Trust::New && filled_at.is_some_and(|at| at <= Instant::now()) {
            trust = Trust::Whole;
        } else if trust == Trust::Whole && filled_at.is_none() {
            trust = Trust::Doubtful;
        }
        let now = match written {
            Some((before, _)) if trust == Trust::Doubtful => (before, trust),
            _ => (head, trust),
        };
        if written != Some(now) {
            match Seen::write(&folder, now.0, now.1) {
                Ok(()) => written = Some(now),
                Err(error) => tracing::warn!(
                    error = crate::http::error::chain(&error),
                    "it cannot be remembered how far the store has come"
                ),
            }
        }
        if stopping {
            return;
        }
        let filled = async {
            match filled_at.filter(|_| trust == Trust::New) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => continue,
            () = filled => continue,
            change = changes.next() => match change {
                Some(Change::Commit(commit)) if trust == Trust::New && *commit.cause.author != *AUTHOR => {
                    filled_at.get_or_insert_with(|| Instant::now() + LONGEST_RECOVERY);
                }
                Some(Change::Commit(_)) => {}
                Some(Change::Gap(gap)) => {
                    if gap == Gap::Rewound {
                        (trust, filled_at) = (Trust::Doubtful, None);
                    }
                    changes = store.changes(store.head().position.revision);
                }
                None => return,
            },
        }
        tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
}
