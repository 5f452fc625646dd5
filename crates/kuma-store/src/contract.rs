//! What every store promises, as checks that a store's tests run against it.
//!
//! Checks use documents that no kind would accept: a store does not look into them. Each check gets an empty store of
//! its own. Whoever writes a store adds no check here that only one store passes, and takes none away.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use kuma_model::{DataplaneInsight, Document, Key, Mesh, Resource, SECRET_KIND};
use serde_json::{Value, json};

use crate::{
    Cause, Change, Commit, Committed, Contents, Expect, Gap, HistoryPage, HistoryQuery, Moment, NO_MESH, Outcome,
    Proposal, Revision, Store, StoreError, Stored, Write,
};

mod changes;
mod expecting;
mod insights;
mod meshes;
mod past;
pub mod shared;
mod writing;

/// One promise of a store.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

impl Check {
    const fn new(name: &'static str, run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>) -> Check {
        Check { name, run }
    }

    /// Checks an empty store.
    ///
    /// # Panics
    /// When the store breaks the promise.
    pub async fn run(&self, store: Arc<dyn Store>) {
        (self.run)(store).await;
    }
}

/// All promises.
pub fn checks() -> impl Iterator<Item = Check> {
    [writing::CHECKS, expecting::CHECKS, meshes::CHECKS, insights::CHECKS, changes::CHECKS, past::CHECKS]
        .into_iter()
        .flatten()
        .copied()
}

/// Runs every check on a store of its own, and reports all that fail.
///
/// # Panics
/// When a promise is broken, after all have been tried. What was wrong is on standard error.
pub async fn run<F>(make: impl Fn() -> F)
where
    F: Future<Output = Arc<dyn Store>>,
{
    let mut failed = Vec::new();
    for check in checks() {
        let outcome = AssertUnwindSafe(async { check.run(make().await).await }).catch_unwind().await;
        if outcome.is_err() {
            failed.push(check.name);
        }
    }
    assert!(failed.is_empty(), "the store breaks {} promises: {failed:#?}", failed.len());
}

// === what checks are made of ===

/// The kind of most documents here.
const KIND: &str = "Dataplane";

/// How long a check waits for what must come. Only a broken store takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

fn document(mesh: &str, name: &str, text: &str) -> Document {
    Document { key: key(mesh, name), spec: json!({"networking": {"address": text}}) }
}

fn key(mesh: &str, name: &str) -> Key {
    Key::new(KIND, mesh, name)
}

fn mesh(name: &str) -> Document {
    Document { key: Key::mesh(name), spec: json!({}) }
}

fn secret(mesh: &str, name: &str) -> Document {
    Document { key: Key::new(SECRET_KIND, mesh, name), spec: json!("c2VjcmV0") }
}

fn insight(mesh: &str, name: &str, text: &str) -> Document {
    Document { key: insight_key(mesh, name), spec: json!({"subscriptions": [{"id": text}]}) }
}

fn insight_key(mesh: &str, name: &str) -> Key {
    Key::new(DataplaneInsight::KIND, mesh, name)
}

/// Commits what must succeed.
async fn commit(store: &dyn Store, writes: impl IntoIterator<Item = Write>) -> Committed {
    store.commit(writes.into_iter().collect()).await.expect("a commit that is in order")
}

/// Commits what must fail.
async fn refused(store: &dyn Store, writes: impl IntoIterator<Item = Write>) -> StoreError {
    store.commit(writes.into_iter().collect()).await.expect_err("a commit that is not in order")
}

async fn get(store: &dyn Store, key: &Key) -> Option<Arc<Stored>> {
    store.get(key).await.expect("an answer")
}

async fn names(store: &dyn Store, kind: &'static str, mesh: Option<&str>) -> Vec<String> {
    let found = store.list(kind, mesh).await.expect("an answer");
    found.iter().map(|stored| format!("{}/{}", stored.key.mesh, stored.key.name)).collect()
}

async fn read_all(store: &dyn Store) -> (Revision, State) {
    state(store.read_all().await.expect("an answer"))
}

fn state(contents: Contents) -> (Revision, State) {
    let Contents { revision, documents, .. } = contents;
    let keys: Vec<_> = documents.iter().map(|stored| stored.key.clone()).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "documents are ordered by key: {keys:?}");
    (revision, documents.into_iter().map(|stored| (stored.key.clone(), stored)).collect())
}

/// What a reader knows.
type State = BTreeMap<Key, Arc<Stored>>;

fn apply(state: &mut State, commit: &Commit) {
    for (key, stored) in &commit.changes {
        match stored {
            Some(stored) => state.insert(key.clone(), stored.clone()),
            None => state.remove(key),
        };
    }
}

/// The next change, which must come.
async fn next(changes: &mut BoxStream<'static, Change>) -> Change {
    let next = tokio::time::timeout(PATIENCE, changes.next()).await;
    next.expect("a change in time").expect("a stream that goes on")
}

/// The next commit, which must come.
async fn next_commit(changes: &mut BoxStream<'static, Change>) -> Arc<Commit> {
    match next(changes).await {
        Change::Commit(commit) => commit,
        Change::Gap(gap) => panic!("a gap where there is none: {gap:?}"),
    }
}

/// Keys and texts of a commit; a document that is gone has no text.
fn texts(commit: &Commit) -> Vec<(Key, Option<Value>)> {
    commit.changes.iter().map(|(key, stored)| (key.clone(), stored.as_ref().map(|stored| stored.spec()))).collect()
}
