//! What the tests are made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kuma_model::{Document, Key, SECRET_KIND};
use kuma_store::{Head, JournaledStore, Options, Store, StoreError, Write};
use kuma_store_sqlite::SqliteJournal;
use serde_json::json;
use tempfile::TempDir;

pub(crate) type FileStore = JournaledStore<SqliteJournal>;

/// A folder for a database, which goes with it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join("store.db")
    }

    pub(crate) async fn open(&self) -> FileStore {
        try_open(&self.database(), None).await.expect("the store opens")
    }
}

/// Opens the store as a control plane does that has last seen `seen`.
pub(crate) async fn try_open(path: &Path, seen: Option<Head>) -> Result<FileStore, StoreError> {
    JournaledStore::open(SqliteJournal::open(path)?, Options { seen, ..Options::default() }).await
}

/// A handle that knows that there are others.
pub(crate) async fn open_shared(path: &Path) -> Arc<dyn Store> {
    let journal = SqliteJournal::open_shared(path).expect("opens");
    Arc::new(JournaledStore::open(journal, Options::default()).await.expect("opens"))
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("Dataplane", "default", name)
}

pub(crate) fn put(name: &str, text: impl Into<serde_json::Value>) -> Write {
    Write::Put(Document { key: key(name), spec: json!({"text": text.into()}) })
}

pub(crate) fn put_mesh() -> Write {
    Write::Put(Document { key: Key::mesh("default"), spec: json!({}) })
}

pub(crate) fn secret_key() -> Key {
    Key::new(SECRET_KIND, "default", "ca")
}

pub(crate) fn put_secret(text: &str) -> Write {
    Write::Put(Document { key: secret_key(), spec: json!(text) })
}

pub(crate) async fn commit(store: &impl Store, writes: impl IntoIterator<Item = Write>) -> u64 {
    store.commit(writes.into_iter().collect()).await.expect("a commit that is in order").revision
}

/// Some commits of every kind; of this many documents.
pub(crate) async fn fill(store: &impl Store, count: usize) {
    commit(store, [put_mesh(), put_secret("b25l")]).await;
    for n in 0..count {
        commit(store, [put(&format!("web-{n}"), n), put("latest", n)]).await;
    }
    commit(store, [put_secret("dHdv")]).await;
    commit(store, [Write::Delete { key: key("web-0"), version: None }]).await;
}

/// A statement of another program.
pub(crate) fn by_hand(path: &Path, sql: &str) -> usize {
    rusqlite::Connection::open(path).expect("opens").execute(sql, []).expect("a statement that is in order")
}

/// What another program finds.
pub(crate) fn count(path: &Path, sql: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Numbers without a pattern, the same in every run (Marsaglia's xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Waits for what must come.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
