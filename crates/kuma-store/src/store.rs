//! The trait and its words.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use kuma_model::{Document, Key};
use uuid::Uuid;

use crate::{
    Commit, Committed, Expect, HistoryPage, HistoryQuery, Moment, Peer, Position, Proposal, Revision, StoreError,
    Stored, Write,
};

/// The answer of a store.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// All documents at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Where the changes after it begin.
    pub revision: Revision,
    /// All but DataplaneInsights, ordered by key.
    pub documents: Vec<Arc<Stored>>,
    /// Whether what is not here does not exist. Otherwise it may only have been forgotten: a memory store begins
    /// empty, and a database may have been replaced by another or an older one.
    pub complete: bool,
    /// See [`Store::generation`].
    pub generation: u64,
}

/// Which history a store has, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Identifies the store, from its creation on.
    pub store: Uuid,
    /// The latest commit.
    pub position: Position,
}

/// Why the next commits are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// They are not known any more, or never were.
    Behind,
    /// The store is not the one that it was: commits that were told are not in it.
    Rewound,
    /// What the store lacks is now known not to exist; see [`Store::accept`].
    Accepted,
}

/// What a reader of [`Store::changes`] gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The next commit.
    Commit(Arc<Commit>),
    /// Read all again, and ask for the changes since then. The stream ends.
    Gap(Gap),
}

/// Where documents are kept.
///
/// Every store promises:
/// - A commit is stored whole or not at all, and is stored when it returns.
/// - Documents of a mesh exist only while their Mesh does; a commit that would break this is refused.
/// - A document whose text equals the stored one is not written: no new version, no revision, no change for anyone.
/// - A commit that changes nothing uses no revision, and its answer has the latest one. Revisions have no holes.
/// - DataplaneInsights are read like documents, but have no part in commits, revisions, [`read_all`](Store::read_all)
///   and [`changes`](Store::changes): there are many of them, and no configuration depends on one.
/// - An answer is complete, or it is an error.
pub trait Store: Send + Sync + 'static {
    /// Applies `writes` one after the other, all or none. A document may go into a mesh that the same commit creates,
    /// in either order. With a Dataplane or a Mesh go its insights.
    fn commit(&self, writes: Vec<Write>) -> StoreFuture<'_, Committed> {
        self.propose(Proposal { writes, ..Proposal::default() })
    }

    /// The same, if all of `expected` is true; nobody writes in between. Without writes it only looks.
    fn commit_if(&self, expected: Vec<Expect>, writes: Vec<Write>) -> StoreFuture<'_, Committed> {
        self.propose(Proposal { expected, writes, ..Proposal::default() })
    }

    /// The same, with a cause for the history.
    fn propose(&self, proposal: Proposal) -> StoreFuture<'_, Committed>;

    /// One document, if it is there.
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>>;

    /// All documents of a kind, in one mesh or in all, ordered by mesh and name.
    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>>;

    /// All documents at the latest revision.
    fn read_all(&self) -> StoreFuture<'_, Contents>;

    /// The commits after `since`, in order and without a hole, and then those to come, for as long as the store lives.
    /// A reader that is slow costs no memory: when it is too far behind it gets [`Change::Gap`].
    fn changes(&self, since: Revision) -> BoxStream<'static, Change>;

    /// Grows whenever all readers have to read everything again, although they may have every commit: the contents
    /// were replaced, or became complete. Who has read [`Contents`] of another generation than the stream of changes
    /// began in reads again.
    fn generation(&self) -> u64;

    /// Stores what proxies have reported to this process, many at once, in place of what this process had reported of
    /// them. An insight into a mesh that does not exist is dropped: its mesh was deleted while it was on its way.
    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()>;

    /// Removes what any process has reported of these proxies; they may be gone already.
    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()>;

    /// Commits of the past, newest first.
    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage>;

    /// All documents but secrets as they were.
    ///
    /// # Errors
    /// [`StoreError::Forgotten`], [`StoreError::Future`].
    fn at(&self, moment: Moment) -> StoreFuture<'_, Contents>;

    /// Which history this is, and how far this process knows it.
    fn head(&self) -> Head;

    /// A short text that names this history: a revision means something beside it alone. A store that begins at
    /// revision 0 again has another one.
    fn epoch(&self) -> Arc<str>;

    /// See [`Contents::complete`].
    fn is_complete(&self) -> bool;

    /// From now on what the store lacks does not exist; see [`Contents::complete`].
    fn accept(&self) -> StoreFuture<'_, ()>;

    /// Whether other processes may write, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Says to all who share the store that this process is alive, with what it tells them, and returns them. It has to
    /// be called every few seconds. Where nobody shares the store, nobody is returned.
    fn heartbeat(&self, about: String) -> StoreFuture<'_, Vec<Peer>> {
        let _ = about;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Whether this process is the one that does `what` for all; see [`Journal::lease`](crate::Journal::lease).
    fn lease(&self, what: &'static str) -> StoreFuture<'_, bool> {
        let _ = what;
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Why the store cannot be reached, while it can't. Reads are answered from what is known then, and writes fail.
    fn away(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether documents, secrets included, outlive the process.
    fn durable(&self) -> bool;
}
