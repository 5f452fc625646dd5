//! What a commit does to a map of documents, as a pure function.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::{Dataplane, DataplaneInsight, Document, Key, Mesh, Resource};

use crate::{DocumentChange, NO_MESH, Outcome, StoreError, Stored, Write};

/// Stored documents by key. Keys are ordered by kind, mesh and name, so that the documents of a kind, and of a mesh in
/// it, are together.
pub type Documents = BTreeMap<Key, Arc<Stored>>;

/// What commits that are not in [`Documents`] yet have changed, by key; `None` when deleted.
pub(crate) type Pending = BTreeMap<Key, Option<Arc<Stored>>>;

/// Writes on their way into [`Documents`]. Nothing is changed before [`finish`](Transaction::finish) has found
/// everything right, and then it is the caller who changes it.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    documents: &'a Documents,
    /// What commits before it will change in `documents`.
    pending: &'a Pending,
    now: Timestamp,
    /// What is different from `documents`; `None` when deleted.
    written: BTreeMap<Key, Option<Arc<Stored>>>,
    outcomes: Vec<Outcome>,
}

impl<'a> Transaction<'a> {
    /// Starts from `documents` with the changes in `pending`; what is written gets the time `now`.
    pub(crate) fn new(documents: &'a Documents, pending: &'a Pending, now: Timestamp) -> Transaction<'a> {
        Transaction { documents, pending, now, written: BTreeMap::new(), outcomes: Vec::new() }
    }

    /// Looks whether a document is stored in this version; `None`: whether it is not stored. Writes that were added
    /// count.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AlreadyExists`], [`StoreError::Conflict`].
    pub(crate) fn expect(&self, key: &Key, version: Option<u64>) -> Result<(), StoreError> {
        match version {
            Some(_) => self.find(key, version).map(drop),
            None if self.get(key).is_some() => Err(StoreError::AlreadyExists(key.clone())),
            None => Ok(()),
        }
    }

    /// Adds one write, which sees the ones before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AlreadyExists`], [`StoreError::Conflict`], [`StoreError::AnInsight`]:
    /// the transaction is then to be given up.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        if let Some(key) = write.key().filter(|key| is_insight(key)) {
            return Err(StoreError::AnInsight(key.clone()));
        }
        let outcome = match write {
            Write::Create(document) => match self.get(&document.key) {
                None => self.create(document),
                Some(_) => return Err(StoreError::AlreadyExists(document.key.clone())),
            },
            Write::Update { document, version } => {
                let stored = self.find(&document.key, Some(*version))?;
                self.replace(document, &stored)
            }
            Write::Put(document) => match self.get(&document.key).cloned() {
                None => self.create(document),
                Some(stored) => self.replace(document, &stored),
            },
            Write::Delete { key, version } => self.delete(key, *version)?,
            Write::DeleteMesh { mesh } => self.delete(&Key::mesh(mesh), None)?,
        };
        self.outcomes.push(outcome);
        Ok(())
    }

    /// What is to be changed now, ordered by key, and what each write came to. Nothing is left of documents that were
    /// written and deleted again.
    ///
    /// # Errors
    /// [`StoreError::MeshNotFound`] when a document is left in a mesh that does not exist.
    pub(crate) fn finish(self) -> Result<(Vec<DocumentChange>, Vec<Outcome>), StoreError> {
        for (key, stored) in &self.written {
            let in_a_mesh = key.kind != Mesh::KIND && *key.mesh != *NO_MESH;
            if stored.is_some() && in_a_mesh && self.get(&Key::mesh(&key.mesh)).is_none() {
                return Err(StoreError::MeshNotFound(key.mesh.clone()));
            }
        }
        let Transaction { documents, pending, written, outcomes, .. } = self;
        let was_there = |key: &Key| pending.get(key).map_or_else(|| documents.contains_key(key), Option::is_some);
        let changes = written.into_iter().filter(|(key, stored)| stored.is_some() || was_there(key));
        Ok((changes.collect(), outcomes))
    }

    fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        match self.written.get(key).or_else(|| self.pending.get(key)) {
            Some(changed) => changed.as_ref(),
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

    fn create(&mut self, document: &Document) -> Outcome {
        let spec = document.spec.to_string().into();
        self.set(Stored::restored(document.key.clone(), spec, 1, self.now, self.now));
        Outcome::Created
    }

    fn replace(&mut self, document: &Document, stored: &Stored) -> Outcome {
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

    fn delete(&mut self, key: &Key, version: Option<u64>) -> Result<Outcome, StoreError> {
        self.find(key, version)?;
        if key.kind == Mesh::KIND {
            let mesh = key.mesh.clone();
            let of_mesh = |key: &&Key| key.mesh == mesh;
            let known = self.documents.keys().chain(self.pending.keys()).chain(self.written.keys());
            let all: Vec<_> = known.filter(of_mesh).cloned().collect();
            self.written.extend(all.into_iter().map(|key| (key, None)));
        } else {
            self.written.insert(key.clone(), None);
        }
        Ok(Outcome::Deleted)
    }
}

/// Whether the document is outside the history.
pub(crate) fn is_insight(key: &Key) -> bool {
    key.kind == DataplaneInsight::KIND
}

/// Insights that go with the document that they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsightsOf {
    /// All of a mesh.
    Mesh(Arc<str>),
    /// That of one Dataplane.
    Dataplane {
        /// Its mesh.
        mesh: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
}

impl InsightsOf {
    /// Whether the insight of this key is one of them.
    pub fn includes(&self, key: &Key) -> bool {
        match self {
            InsightsOf::Mesh(mesh) => key.mesh == *mesh,
            InsightsOf::Dataplane { mesh, name } => key.mesh == *mesh && key.name == *name,
        }
    }
}

/// Which insights go with a change.
pub fn whose_insights_go((key, stored): &DocumentChange) -> Option<InsightsOf> {
    match key.kind {
        _ if stored.is_some() => None,
        Mesh::KIND => Some(InsightsOf::Mesh(key.mesh.clone())),
        Dataplane::KIND => Some(InsightsOf::Dataplane { mesh: key.mesh.clone(), name: key.name.clone() }),
        _ => None,
    }
}
