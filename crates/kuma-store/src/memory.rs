//! The store in memory.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::BoxStream;
use jiff::Timestamp;
use kuma_model::{Document, Key};

use crate::changelog::{ChangeLog, HISTORY_CHANGES, HISTORY_COMMITS};
use crate::transaction::{Documents, Transaction, is_insight};
use crate::{Change, Commit, Committed, Expect, Revision, Store, StoreError, StoreFuture, Stored, Write};

/// Keeps documents in memory, for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    log: ChangeLog,
    epoch: Arc<str>,
}

#[derive(Debug, Default)]
struct State {
    documents: Documents,
    revision: Revision,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::with_history(HISTORY_COMMITS)
    }

    /// An empty store that remembers this many commits for readers that are behind.
    pub fn with_history(commits: usize) -> MemoryStore {
        MemoryStore {
            state: Mutex::default(),
            log: ChangeLog::new(0, commits, HISTORY_CHANGES),
            epoch: format!("{:016x}", rand::random::<u64>()).into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Transactions work on the side; a panic in one leaves the state as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, expected: &[Expect], writes: Vec<Write>) -> Result<Committed, StoreError> {
        // Held until the commit is in the log, so that the log has the order of the commits.
        let mut state = self.lock();
        let mut transaction = Transaction::new(&state.documents, Timestamp::now());
        for expected in expected {
            match expected {
                Expect::Head(expected) if *expected != state.revision => {
                    return Err(StoreError::HeadMoved { expected: *expected, actual: state.revision });
                }
                Expect::Head(_) => {}
                Expect::Version { key, version } => transaction.expect(key, *version)?,
            }
        }
        writes.into_iter().try_for_each(|write| transaction.write(write))?;
        let (changes, outcomes) = transaction.finish()?;

        for (key, stored) in &changes {
            match stored {
                Some(stored) => state.documents.insert(key.clone(), stored.clone()),
                None => state.documents.remove(key),
            };
        }
        let changes: Vec<_> = changes.into_iter().filter(|(key, _)| !is_insight(key)).collect();
        if !changes.is_empty() {
            state.revision += 1;
            self.log.append(Arc::new(Commit { revision: state.revision, changes }));
        }
        Ok(Committed { revision: state.revision, outcomes })
    }

    fn put_insights_now(&self, insights: Vec<Document>) -> Result<(), StoreError> {
        if let Some(other) = insights.iter().find(|document| !is_insight(&document.key)) {
            return Err(StoreError::NotAnInsight(other.key.clone()));
        }
        let mut state = self.lock();
        let mut transaction = Transaction::new(&state.documents, Timestamp::now());
        let of_known_mesh =
            insights.into_iter().filter(|insight| state.documents.contains_key(&Key::mesh(&insight.key.mesh)));
        of_known_mesh.map(Write::Put).try_for_each(|write| transaction.write(write))?;
        let (changes, _) = transaction.finish()?;
        state.documents.extend(changes.into_iter().filter_map(|(key, stored)| Some((key, stored?))));
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Store for MemoryStore {
    fn commit_if(&self, expected: Vec<Expect>, writes: Vec<Write>) -> StoreFuture<'_, Committed> {
        Box::pin(async move { self.commit_now(&expected, writes) })
    }

    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>> {
        Box::pin(ready(Ok(self.lock().documents.get(key).cloned())))
    }

    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>> {
        let first = Key::new(kind, mesh.unwrap_or_default(), "");
        let state = self.lock();
        let found = state.documents.range(first..);
        let found = found.take_while(|(key, _)| key.kind == kind && mesh.is_none_or(|mesh| *key.mesh == *mesh));
        Box::pin(ready(Ok(found.map(|(_, stored)| stored.clone()).collect())))
    }

    fn read_all(&self) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)> {
        let state = self.lock();
        let all = state.documents.iter().filter(|(key, _)| !is_insight(key)).map(|(_, stored)| stored.clone());
        Box::pin(ready(Ok((state.revision, all.collect()))))
    }

    fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        self.log.changes(since)
    }

    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()> {
        Box::pin(async { self.put_insights_now(insights) })
    }

    fn epoch(&self) -> Arc<str> {
        self.epoch.clone()
    }

    fn durable(&self) -> bool {
        false
    }
}
