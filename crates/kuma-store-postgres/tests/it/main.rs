//! The journal against real servers.

mod contract;
mod schema;
mod several;

use std::sync::Arc;

use kuma_store::{JournaledStore, Options, Store};
use kuma_store_postgres::{PostgresConfig, PostgresJournal};

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
