//! The journal against real servers.

mod contract;
mod failover;
mod faults;
mod pooler;
mod pruning;
mod scans;
mod schema;
mod several;
mod tls;

use std::sync::Arc;

use kuma_model::{Document, Key};
use kuma_store::{JournaledStore, Options, Store};
use kuma_store_postgres::{PostgresConfig, PostgresJournal};
use serde_json::json;

/// A handle on the store in that database.
async fn open(config: &PostgresConfig) -> Arc<JournaledStore<PostgresJournal>> {
    open_with(config, Options::default()).await
}

async fn open_with(config: &PostgresConfig, options: Options) -> Arc<JournaledStore<PostgresJournal>> {
    let journal = PostgresJournal::connect(config.clone()).await.expect("a connection");
    Arc::new(JournaledStore::open(journal, options).await.expect("a store"))
}

fn dynamic(store: &Arc<JournaledStore<PostgresJournal>>) -> Arc<dyn Store> {
    store.clone()
}

fn mesh() -> Document {
    Document { key: Key::mesh("default"), spec: json!({}) }
}

fn document(name: &str, text: &str) -> Document {
    Document { key: Key::new("Dataplane", "default", name), spec: json!({"networking": {"address": text}}) }
}

/// How often something is tried: seldom in the suite, and as often as `KUMA_TEST_ROUNDS` says in a soak.
fn rounds(few: usize) -> usize {
    std::env::var("KUMA_TEST_ROUNDS").map_or(few, |rounds| rounds.parse().expect("KUMA_TEST_ROUNDS is a number"))
}
