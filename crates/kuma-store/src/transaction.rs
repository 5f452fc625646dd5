//! What a commit does to a map of documents, as a pure function: for stores that keep their documents in memory, on
//! disk too or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::{DataplaneInsight, Document, Key, Mesh, Resource};

use crate::{DocumentChange, NO_MESH, Outcome, StoreError, Stored, Write};

/// Stored documents by key. Keys are ordered by kind, mesh and name, so that the documents of a kind, and of a mesh in
/// it, are together.
pub type Documents = BTreeMap<Key, Arc<Stored>>;

/// Writes on their way into [`Documents`]. Nothing is changed before [`finish`](Transaction::finish) has found
/// everything right, and then it is the caller who changes it.
#[derive(Debug)]
pub struct Transaction<'a> {
    documents: &'a Documents,
    now: Timestamp,
    /// What is different from `documents`; `None` when deleted.
    written: BTreeMap<Key, Option<Arc<Stored>>>,
    outcomes: Vec<Outcome>,
}

impl<'a> Transaction<'a> {
    /// Starts from `documents`; what is written gets the time `now`.
    pub fn new(documents: &'a Documents, now: Timestamp) -> Transaction<'a> {
        Transaction { documents, now, written: BTreeMap::new(), outcomes: Vec::new() }
    }

    /// Looks whether a document is stored in this version; `None`: whether it is not stored. Writes that were added
    /// count.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AlreadyExists`], [`StoreError::Conflict`].
    pub fn expect(&self, key: &Key, version: Option<u64>) -> Result<(), StoreError> {
        match version {
            Some(_) => self.find(key, version).map(drop),
            None if self.get(key).is_some() => Err(StoreError::AlreadyExists(key.clone())),
            None => Ok(()),
        }
    }

    /// Adds one write, which sees the ones before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AlreadyExists`], [`StoreError::Conflict`]: the transaction is then to be
    /// given up.
    pub fn write(&mut self, write: Write) -> Result<(), StoreError> {
        let outcome = match write {
            Write::Create(document) => match self.get(&document.key) {
                None => self.create(document),
                Some(_) => return Err(StoreError::AlreadyExists(document.key)),
            },
            Write::Update { document, version } => {
                let stored = self.find(&document.key, Some(version))?;
                self.replace(document, &stored)
            }
            Write::Put(document) => match self.get(&document.key).cloned() {
                None => self.create(document),
                Some(stored) => self.replace(document, &stored),
            },
            Write::Delete { key, version } => self.delete(key, version)?,
            Write::DeleteMesh { mesh } => self.delete(Key::mesh(&mesh), None)?,
        };
        self.outcomes.push(outcome);
        Ok(())
    }

    /// What is to be changed now, ordered by key, and what each write came to. Nothing is left of documents that were
    /// written and deleted again.
    ///
    /// # Errors
    /// [`StoreError::MeshNotFound`] when a document is left in a mesh that does not exist.
    pub fn finish(self) -> Result<(Vec<DocumentChange>, Vec<Outcome>), StoreError> {
        for (key, stored) in &self.written {
            let in_a_mesh = key.kind != Mesh::KIND && *key.mesh != *NO_MESH;
            if stored.is_some() && in_a_mesh && self.get(&Key::mesh(&key.mesh)).is_none() {
                return Err(StoreError::MeshNotFound(key.mesh.clone()));
            }
        }
        let Transaction { documents, written, outcomes, .. } = self;
        let changes = written.into_iter().filter(|(key, stored)| stored.is_some() || documents.contains_key(key));
        Ok((changes.collect(), outcomes))
    }

    fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        match self.written.get(key) {
            Some(written) => written.as_ref(),
            None => self.documents.get(key),
        }
    }

    /// What is stored, in this version if one is given.
    fn find(&self, key: &Key, version: Option<u64>) -> Result<Arc<Stored>, StoreError> {
        let stored = self.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        match version {
            Some(expected) if expected != stored.version => {
                Err(StoreError::Conflict { key: key.clone(), expected, actual: stored.version })
            }
            _ => Ok(stored.clone()),
        }
    }

    fn create(&mut self, document: Document) -> Outcome {
        self.set(Stored::new(document, self.now));
        Outcome::Created
    }

    fn replace(&mut self, document: Document, stored: &Stored) -> Outcome {
        let Some(replaced) = stored.replaced(&document.spec, self.now) else {
            return Outcome::Unchanged { version: stored.version };
        };
        let version = replaced.version;
        self.set(replaced);
        Outcome::Updated { version }
    }

    fn set(&mut self, stored: Stored) {
        self.written.insert(stored.key.clone(), Some(Arc::new(stored)));
    }

    fn delete(&mut self, key: Key, version: Option<u64>) -> Result<Outcome, StoreError> {
        self.find(&key, version)?;
        if key.kind == Mesh::KIND {
            let mesh = key.mesh.clone();
            let of_mesh = |key: &&Key| key.mesh == mesh;
            let all: Vec<_> = self.documents.keys().chain(self.written.keys()).filter(of_mesh).cloned().collect();
            self.written.extend(all.into_iter().map(|key| (key, None)));
        } else {
            self.written.insert(key, None);
        }
        Ok(Outcome::Deleted)
    }
}

/// Whether the document is outside the history.
pub(crate) fn is_insight(key: &Key) -> bool {
    key.kind == DataplaneInsight::KIND
}
