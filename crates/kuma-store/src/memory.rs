//! The store in memory.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::BoxStream;
use jiff::Timestamp;
use kuma_model::{DataplaneInsight, Document, Key, Resource as _};
use uuid::Uuid;

use crate::changelog::{ChangeLog, HISTORY_CHANGES, HISTORY_COMMITS};
use crate::replica::{Replica, in_microseconds, list};
use crate::transaction::{Documents, is_insight, whose_insights_go};
use crate::{
    Change, Committed, Contents, Head, HistoryPage, HistoryQuery, Moment, Position, Proposal, Revision, Store,
    StoreError, StoreFuture, Stored,
};

/// Keeps documents in memory, for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    replica: Replica,
    insights: Documents,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::with_history(HISTORY_COMMITS)
    }

    /// An empty store that remembers this many commits, for readers that are behind and for questions about the past.
    pub fn with_history(commits: usize) -> MemoryStore {
        let head = Head { store: Uuid::new_v4(), position: Position::default() };
        let log = ChangeLog::new(0, commits, HISTORY_CHANGES);
        let replica = Replica::new(head, Documents::new(), false, log);
        MemoryStore { state: Mutex::new(State { replica, insights: Documents::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Commits are evaluated on the side; a panic in one leaves the state as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn propose(&mut self, proposal: &Proposal) -> Result<Committed, StoreError> {
        let mut evaluation = self.replica.evaluate([proposal], Timestamp::now());
        for commit in evaluation.commits {
            for gone in commit.changes.iter().filter_map(whose_insights_go) {
                self.insights.retain(|key, _| !gone.includes(key));
            }
            self.replica.apply(commit);
        }
        evaluation.answers.pop().unwrap_or_else(|| Ok(Committed { revision: 0, outcomes: Vec::new() }))
    }

    fn put_insights(&mut self, insights: Vec<Document>) -> Result<(), StoreError> {
        if let Some(other) = insights.iter().find(|document| !is_insight(&document.key)) {
            return Err(StoreError::NotAnInsight(other.key.clone()));
        }
        let now = in_microseconds(Timestamp::now());
        for insight in insights.into_iter().filter(|insight| self.replica.has_mesh(&insight.key.mesh)) {
            let stored = match self.insights.get(&insight.key) {
                Some(before) => before.replaced(&insight.spec, now),
                None => Some(Stored::new(insight, now)),
            };
            if let Some(stored) = stored {
                self.insights.insert(stored.key.clone(), Arc::new(stored));
            }
        }
        Ok(())
    }

    fn remove_insights(&mut self, keys: &[Key]) -> Result<(), StoreError> {
        if let Some(other) = keys.iter().find(|key| !is_insight(key)) {
            return Err(StoreError::NotAnInsight(other.clone()));
        }
        for key in keys {
            self.insights.remove(key);
        }
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Store for MemoryStore {
    fn propose(&self, proposal: Proposal) -> StoreFuture<'_, Committed> {
        Box::pin(async move { self.lock().propose(&proposal) })
    }

    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>> {
        let state = self.lock();
        Box::pin(ready(Ok(match is_insight(key) {
            true => state.insights.get(key).cloned(),
            false => state.replica.get(key),
        })))
    }

    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>> {
        let state = self.lock();
        Box::pin(ready(Ok(match kind == DataplaneInsight::KIND {
            true => list(&state.insights, kind, mesh),
            false => state.replica.list(kind, mesh),
        })))
    }

    fn read_all(&self) -> StoreFuture<'_, Contents> {
        Box::pin(ready(Ok(self.lock().replica.contents())))
    }

    fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        self.lock().replica.log().changes(since)
    }

    fn generation(&self) -> u64 {
        self.lock().replica.log().generation()
    }

    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()> {
        Box::pin(async { self.lock().put_insights(insights) })
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.lock().remove_insights(&keys) })
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        Box::pin(ready(Ok(self.lock().replica.history(&query))))
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, Contents> {
        Box::pin(ready(self.lock().replica.at(moment)))
    }

    fn head(&self) -> Head {
        self.lock().replica.head()
    }

    fn epoch(&self) -> Arc<str> {
        self.lock().replica.epoch()
    }

    fn is_complete(&self) -> bool {
        self.lock().replica.is_complete()
    }

    fn accept(&self) -> StoreFuture<'_, ()> {
        self.lock().replica.accept();
        Box::pin(ready(Ok(())))
    }

    fn durable(&self) -> bool {
        false
    }
}
