//! The HTTP API over a store in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use kuma_cp::api::overview::LiveInsights;
use kuma_cp::api::{self, Api};
use kuma_cp::config::{self, Config};
use kuma_cp::documents::Documents;
use kuma_cp::mesh_ca::{FreshRoots, MeshAuthority};
use kuma_engine::{Engine, Settings, is_of_this_machine};
use kuma_model::{DataplaneInsight, Document, Key};
use kuma_store::{
    Change, Committed, Contents, Head, HistoryPage, HistoryQuery, MemoryStore, Moment, Position, Proposal, Revision,
    Store, StoreError, Stored,
};

use tokio_util::sync::CancellationToken;

use crate::client;

/// Insights that a test sets.
#[derive(Default)]
pub(crate) struct Live(pub(crate) Mutex<HashMap<(String, String), DataplaneInsight>>);

impl LiveInsights for Live {
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight> {
        self.0.lock().expect("no panic").get(&(mesh.into(), name.into())).cloned()
    }

    fn forget(&self, mesh: &str, name: &str) {
        self.0.lock().expect("no panic").remove(&(mesh.into(), name.into()));
    }
}

pub(crate) struct TestApi {
    pub(crate) router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) live: Arc<Live>,
}

impl TestApi {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With these environment variables.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        Self::over(Arc::new(MemoryStore::new()), &config(variables))
    }

    pub(crate) fn over(store: Arc<dyn Store>, config: &Config) -> Self {
        Self::build(store, Arc::new(FreshRoots), config)
    }

    /// Where CAs are kept by this.
    pub(crate) fn with_authority(authority: Arc<dyn MeshAuthority>) -> Self {
        Self::build(Arc::new(MemoryStore::new()), authority, &config(&[]))
    }

    fn build(store: Arc<dyn Store>, authority: Arc<dyn MeshAuthority>, config: &Config) -> Self {
        let live = Arc::new(Live::default());
        let known = live.clone();
        let documents = Documents::new(store.clone(), authority);
        let documents = documents.on_dataplane_gone(move |mesh, name| known.forget(mesh, name));
        let api =
            Api::new(store.clone(), live.clone(), Arc::new(documents), engine(), config).expect("a configuration");
        Self { router: api::router(Arc::new(api)), store, live }
    }

    /// With an empty mesh of this name.
    pub(crate) async fn with_mesh(name: &str) -> Self {
        let api = Self::new();
        let body = format!(r#"{{"type": "Mesh", "name": "{name}"}}"#);
        let answer = client::put(&api.router, &format!("/meshes/{name}"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        api
    }
}

/// An engine that nobody tells of commits.
pub(crate) fn engine() -> Arc<Engine> {
    let leaf_validity = Duration::from_secs(24 * 3600);
    let settings = Settings { complete: false, leaf_validity, started: SystemTime::UNIX_EPOCH, is_of_this_machine };
    Engine::new(settings, Arc::new(()), CancellationToken::new())
}

pub(crate) fn config(variables: &[(&str, &str)]) -> Config {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let mut config = config::build(None, variables).expect("a configuration").config;
    config.complete();
    config
}

/// A store that is away.
pub(crate) struct Away;

impl Away {
    fn error<T>() -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
    {
        Box::pin(async { Err(StoreError::Unavailable { reason: "connection refused".into() }) })
    }
}

impl Store for Away {
    fn propose(&self, _: Proposal) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Self::error()
    }

    fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Arc<Stored>>, StoreError>> {
        Self::error()
    }

    fn list<'a>(&'a self, _: &'static str, _: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Arc<Stored>>, StoreError>> {
        Self::error()
    }

    fn read_all(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Self::error()
    }

    fn changes(&self, _: Revision) -> BoxStream<'static, Change> {
        Box::pin(futures_util::stream::pending())
    }

    fn put_insights(&self, _: Vec<Document>) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::error()
    }

    fn generation(&self) -> u64 {
        0
    }

    fn remove_insights(&self, _: Vec<Key>) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::error()
    }

    fn history(&self, _: HistoryQuery) -> BoxFuture<'_, Result<HistoryPage, StoreError>> {
        Self::error()
    }

    fn at(&self, _: Moment) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Self::error()
    }

    fn head(&self) -> Head {
        Head { store: uuid::Uuid::nil(), position: Position::default() }
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn accept(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::error()
    }

    fn away(&self) -> Option<Arc<str>> {
        Some("connection refused".into())
    }

    fn epoch(&self) -> Arc<str> {
        "away".into()
    }

    fn durable(&self) -> bool {
        true
    }
}
