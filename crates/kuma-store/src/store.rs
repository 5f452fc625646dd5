//! The trait and its words.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use kuma_model::text::parse_json;
use kuma_model::{Document, Key, Resource, Violations, decode_spec};
use serde_json::Value;

use crate::StoreError;
use crate::transaction::is_insight;

/// Numbers commits: 0 is the empty store, and every commit that changes something has a greater one than the commit
/// before.
pub type Revision = u64;

/// The answer of a store.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A document and what it is now; `None` when it is gone.
pub type DocumentChange = (Key, Option<Arc<Stored>>);

/// A document as it is stored. Its spec is kept as JSON text: as a tree of values it takes five times the memory, and
/// most documents are seldom looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What it is.
    pub key: Key,
    spec: Box<str>,
    /// 1 when created, and one more with each change.
    pub version: u64,
    /// When it was created.
    pub created: Timestamp,
    /// When this version was written.
    pub modified: Timestamp,
}

impl Stored {
    /// A document in its first version.
    pub fn new(document: Document, now: Timestamp) -> Stored {
        let Document { key, spec } = document;
        Stored { key, spec: spec.to_string().into(), version: 1, created: now, modified: now }
    }

    /// What it becomes with another spec, or `None` if it says that already, in whatever order. The fields of an
    /// insight have one order, since it is we who write it.
    pub fn replaced(&self, spec: &Value, now: Timestamp) -> Option<Stored> {
        let text = spec.to_string();
        let is_equal = || *text == *self.spec || !is_insight(&self.key) && self.spec() == *spec;
        // Texts of equal specs differ in their order at most.
        (text.len() != self.spec.len() || !is_equal()).then(|| Stored {
            key: self.key.clone(),
            spec: text.into(),
            version: self.version + 1,
            created: self.created,
            modified: now,
        })
    }

    /// The part that depends on the kind, read anew each time.
    pub fn spec(&self) -> Value {
        // It was written by `to_string`. A null is no spec of any kind, and is reported as that. Not by serde_json's
        // own reader, which takes a map that begins with a certain private key for something else.
        parse_json(self.spec.as_bytes()).unwrap_or_default()
    }

    /// The document, read anew each time.
    pub fn document(&self) -> Document {
        Document { key: self.key.clone(), spec: self.spec() }
    }

    /// The spec as its type; see [`decode_spec`].
    ///
    /// # Errors
    /// It is not one of that type.
    pub fn decode<R: Resource>(&self) -> Result<R, Violations> {
        decode_spec(&self.spec())
    }
}

/// One step of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A document that must not be there yet.
    Create(Document),
    /// A new text for a document that must be there, in this version.
    Update {
        /// The document.
        document: Document,
        /// The version that it replaces.
        version: u64,
    },
    /// A document, there or not.
    Put(Document),
    /// A document goes, which must be there, and in this version if one is given. If it is a Mesh, all that is in it
    /// goes too.
    Delete {
        /// The document.
        key: Key,
        /// The version that goes; `None` for any.
        version: Option<u64>,
    },
    /// The Mesh of this name goes, which must be there, and with it every document of that mesh, secrets and insights
    /// included.
    DeleteMesh {
        /// The mesh's name.
        mesh: Arc<str>,
    },
}

/// What has to be true for a commit to be made, told before its first write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The latest revision is this one: nothing has changed since it was read.
    Head(Revision),
    /// A document is stored in this version; `None`: it is not stored. For what a commit rests on and does not write.
    Version {
        /// The document.
        key: Key,
        /// Its version.
        version: Option<u64>,
    },
}

/// What a [`Write`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The document is new, in version 1.
    Created,
    /// The document is now in this version.
    Updated {
        /// The new version.
        version: u64,
    },
    /// The document already said that, and still is in this version.
    Unchanged {
        /// The version it had before.
        version: u64,
    },
    /// The document is gone.
    Deleted,
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The commit's revision, or the latest one when nothing changed.
    pub revision: Revision,
    /// One for each write, in their order.
    pub outcomes: Vec<Outcome>,
}

/// What changed at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its number.
    pub revision: Revision,
    /// Every document that is different after it, once each and ordered by key. Never a DataplaneInsight.
    pub changes: Vec<DocumentChange>,
}

/// What a reader of [`Store::changes`] gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The next commit.
    Commit(Arc<Commit>),
    /// The next commits are not known any more, or never were: read all again, and ask for the changes since then. The
    /// stream ends.
    Gap,
}

/// Where documents are kept.
///
/// Every store promises:
/// - A commit is stored whole or not at all, and is stored when it returns.
/// - Documents of a mesh exist only while their Mesh does; a commit that would break this is refused.
/// - A document whose text equals the stored one is not written: no new version, no revision, no change for anyone.
/// - DataplaneInsights are read and deleted like other documents, but have no part in revisions,
///   [`read_all`](Store::read_all) and [`changes`](Store::changes): there are many of them, and no configuration
///   depends on one.
/// - A commit that changes nothing uses no revision, and its answer has the latest one.
/// - An answer is complete, or it is an error.
pub trait Store: Send + Sync + 'static {
    /// Applies `writes` one after the other, all or none. A document may go into a mesh that the same commit creates,
    /// in either order.
    fn commit(&self, writes: Vec<Write>) -> StoreFuture<'_, Committed> {
        self.commit_if(Vec::new(), writes)
    }

    /// The same, if all of `expected` is true; nobody writes in between. Without writes it only looks.
    fn commit_if(&self, expected: Vec<Expect>, writes: Vec<Write>) -> StoreFuture<'_, Committed>;

    /// One document, if it is there.
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>>;

    /// All documents of a kind, in one mesh or in all, ordered by mesh and name.
    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>>;

    /// All documents but DataplaneInsights, ordered by key, and the revision at which this is the whole state.
    fn read_all(&self) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)>;

    /// The commits after `since`, in order and without a hole, and then those to come, for as long as the store lives.
    /// A reader that is slow costs no memory: when it is too far behind it gets [`Change::Gap`].
    fn changes(&self, since: Revision) -> BoxStream<'static, Change>;

    /// Stores what proxies have reported, many at once. An insight into a mesh that does not exist is dropped: its mesh
    /// was deleted while it was on its way.
    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()>;

    /// A short text that names this history: a revision means something beside it alone. A store that begins at
    /// revision 0 again has another one.
    fn epoch(&self) -> Arc<str>;

    /// Whether documents outlive the process.
    fn durable(&self) -> bool;
}
