//! What a store writes to so that documents outlive the process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_model::Key;

use crate::{Commit, Head, HistoryPage, HistoryQuery, Moment, Peer, Position, Revision, StoreFuture, Stored};

/// A durable list of commits, and the documents that result from it.
///
/// It decides nothing: what a commit changes was computed by [`JournaledStore`](crate::JournaledStore), which calls
/// one of [`load`](Self::load), [`since`](Self::since) and [`append`](Self::append) at a time. All answers come within
/// a deadline; one that cannot be given is [`StoreError::Unavailable`](crate::StoreError::Unavailable). Rows of kinds
/// that this program does not know are left alone and not told.
pub trait Journal: Send + Sync + 'static {
    /// Whether other processes may append, too.
    fn is_shared(&self) -> bool;

    /// The time for the next commit, by the one clock of all who append.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// All documents at the latest commit.
    fn load(&self) -> StoreFuture<'_, Loaded>;

    /// The commits after `base`.
    fn since(&self, base: Position) -> StoreFuture<'_, Since>;

    /// Appends commits that follow each other and `base`, all or none, with what they do to documents and insights
    /// (see [`whose_insights_go`](crate::whose_insights_go)). They are durable when it returns. After an error it is
    /// not known whether they are there; [`since`](Self::since) tells.
    fn append(&self, base: Position, commits: Vec<Arc<Commit>>) -> StoreFuture<'_, Appended>;

    /// Ends when somebody else may have appended, or when it is time to look. It may be dropped and called again
    /// without missing anything.
    fn changed_by_others(&self) -> BoxFuture<'_, ()>;

    /// Commits of the past; see [`Store::history`](crate::Store::history).
    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage>;

    /// All documents but secrets as they were, ordered by key, and at which revision.
    fn at(&self, moment: Moment) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)>;

    /// Forgets what need not be kept, in steps that hold nobody up, and the texts of replaced secrets in any case
    /// [`SECRETS_KEPT`] after they were replaced. Every state from the returned floor on can still be told.
    fn prune(&self, keep: Keep) -> StoreFuture<'_, Revision>;

    /// What processes have reported of the proxies of a mesh, or of all; of one, if `name` is given. Ordered by mesh
    /// and name.
    fn insights(&self, mesh: Option<Arc<str>>, name: Option<Arc<str>>) -> StoreFuture<'_, Vec<InsightRow>>;

    /// Stores reports in place of those of the same proxies and processes. One of a mesh that does not exist is
    /// dropped. They may be lost in a crash.
    fn put_insights(&self, rows: Vec<InsightRow>) -> StoreFuture<'_, ()>;

    /// Removes what all processes have reported of these proxies.
    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()>;

    /// Says that the process `instance` is alive, with what it tells the others, and returns all that use the journal.
    /// A journal that is not shared knows nobody.
    fn heartbeat<'a>(&'a self, instance: &'a str, about: &'a str) -> StoreFuture<'a, Vec<Peer>> {
        let _ = (instance, about);
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Whether `instance` is the one that does `what` for the next 15 seconds. It saves double work and is no lock: a
    /// process that was stopped may learn late that it is not the one any more.
    fn lease<'a>(&'a self, what: &'a str, instance: &'a str) -> StoreFuture<'a, bool> {
        let _ = (what, instance);
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Leaves everything in order before the process ends.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// How long the text of a secret stays in the journal after it was replaced: until then other processes may have to
/// read it.
pub const SECRETS_KEPT: Duration = Duration::from_secs(10 * 60);

/// All that a journal holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Which journal, and its latest commit.
    pub head: Head,
    /// All documents, ordered by key.
    pub documents: Vec<Arc<Stored>>,
}

/// What follows a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// These commits follow it, or none.
    Commits(Vec<Arc<Commit>>),
    /// What follows is not kept any more.
    Behind,
    /// The commit is not in this journal.
    Rewound,
}

/// What became of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are durable.
    Done,
    /// The latest commit is another one than their base. Nothing was appended.
    Overtaken,
}

/// How much history is kept: whatever is younger than `age`, and the latest `commits` in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Of commits.
    pub age: Duration,
    /// How many.
    pub commits: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { age: Duration::from_secs(720 * 3600), commits: 1000 }
    }
}

/// What one process has reported of one proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct InsightRow {
    /// The insight's key.
    pub key: Key,
    /// Identifies the process.
    pub instance: Arc<str>,
    /// When it was written.
    pub modified: Timestamp,
    /// JSON text.
    pub spec: Box<str>,
}
