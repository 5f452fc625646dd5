//! What is committed: writes, what they rest on, who asked for them, and what they came to.

use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::{Document, Key};
use uuid::Uuid;

use crate::Stored;

/// Numbers commits: 0 is the empty store, and every commit that changes something has the next number.
pub type Revision = u64;

/// A document and what it is now; `None` when it is gone.
pub type DocumentChange = (Key, Option<Arc<Stored>>);

/// Who asked for a commit, with what, and why; each may be empty. It is for people who read the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The subject of a client certificate, an address, or a part of the control plane itself.
    pub author: Arc<str>,
    /// The program that was used.
    pub via: Arc<str>,
    /// What the author says about it.
    pub note: Arc<str>,
}

/// A commit that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// What has to be true for it to be made.
    pub expected: Vec<Expect>,
    /// Made one after the other, all or none.
    pub writes: Vec<Write>,
    /// Who asks for it.
    pub cause: Cause,
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

impl Write {
    /// The document that it names.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Write::Create(document) | Write::Put(document) | Write::Update { document, .. } => Some(&document.key),
            Write::Delete { key, .. } => Some(key),
            Write::DeleteMesh { .. } => None,
        }
    }
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
    /// Identifies it beyond its number: another history, such as a restored backup with new writes, has another commit
    /// of the same number.
    pub id: Uuid,
    /// When it was made, by the clock of the store, in microseconds.
    pub at: Timestamp,
    /// Who asked for it.
    pub cause: Cause,
    /// Every document that is different after it, once each and ordered by key. Never a DataplaneInsight.
    pub changes: Vec<DocumentChange>,
}

impl Commit {
    /// Where a store is after it.
    pub fn position(&self) -> Position {
        Position { revision: self.revision, commit: self.id }
    }
}

/// A point in a history: the latest commit, by number and id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the commit; 0 before the first.
    pub revision: Revision,
    /// Its id; nil before the first.
    pub commit: Uuid,
}
