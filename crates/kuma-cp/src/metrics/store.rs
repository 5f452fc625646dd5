//! A store whose calls are timed.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::BoxStream;
use kuma_model::{Document, Key};
use kuma_store::{
    Change, Committed, Contents, Head, HistoryPage, HistoryQuery, Moment, Peer, Proposal, Revision, Store, StoreError,
    StoreFuture, Stored,
};

use super::{Metrics, Operation};

/// Passes everything on and notes how long it took.
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeteredStore {
    /// Around a store.
    pub fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> MeteredStore {
        MeteredStore { inner, metrics }
    }

    async fn timed<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = call.await;
        self.metrics.store_call(operation, start, result.is_ok());
        result
    }
}

impl Store for MeteredStore {
    fn propose(&self, proposal: Proposal) -> StoreFuture<'_, Committed> {
        Box::pin(self.timed(Operation::Commit, self.inner.propose(proposal)))
    }

    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>> {
        Box::pin(self.timed(Operation::Get, self.inner.get(key)))
    }

    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>> {
        Box::pin(self.timed(Operation::List, self.inner.list(kind, mesh)))
    }

    fn read_all(&self) -> StoreFuture<'_, Contents> {
        Box::pin(self.timed(Operation::ReadAll, self.inner.read_all()))
    }

    fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        self.inner.changes(since)
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()> {
        Box::pin(self.timed(Operation::PutInsights, self.inner.put_insights(insights)))
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        Box::pin(self.timed(Operation::RemoveInsights, self.inner.remove_insights(keys)))
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        Box::pin(self.timed(Operation::History, self.inner.history(query)))
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, Contents> {
        Box::pin(self.timed(Operation::At, self.inner.at(moment)))
    }

    fn head(&self) -> Head {
        self.inner.head()
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn accept(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.inner.accept().await?;
            self.metrics.store_rewound(false);
            Ok(())
        })
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn heartbeat(&self, about: String) -> StoreFuture<'_, Vec<Peer>> {
        self.inner.heartbeat(about)
    }

    fn lease(&self, what: &'static str) -> StoreFuture<'_, bool> {
        self.inner.lease(what)
    }

    fn away(&self) -> Option<Arc<str>> {
        self.inner.away()
    }

    fn epoch(&self) -> Arc<str> {
        self.inner.epoch()
    }

    fn durable(&self) -> bool {
        self.inner.durable()
    }
}
