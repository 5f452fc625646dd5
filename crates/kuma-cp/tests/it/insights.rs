//! The writer of insights.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kuma_cp::insights::Insights;
use kuma_model::{Dataplane, DataplaneInsight, Document, Key, Resource as _};
use kuma_store::{MemoryStore, Store as _, Write};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::test_api::Away;

/// More than are written at a time.
const MANY: u64 = 300;

/// A store with many Dataplanes, and the insights of their proxies, which are connected.
async fn connected() -> (MemoryStore, Arc<Insights>, Vec<kuma_cp::insights::SubscriptionHandle>) {
    let (store, insights) = (MemoryStore::new(), Arc::new(Insights::new("test".to_owned())));
    let spec = json!({"networking": {"gateway": {"tags": {"service": "web"}}}});
    let mut writes = vec![Write::Create(Document { key: Key::mesh("default"), spec: json!({}) })];
    let mut handles = Vec::new();
    for number in 0..MANY {
        let name: Arc<str> = format!("web-{number}").into();
        let key = Key::new(Dataplane::KIND, "default", &name);
        writes.push(Write::Create(Document { key, spec: spec.clone() }));
        handles.push(insights.connected(&"default".into(), &name, number, "X25519", Timestamp::now()));
    }
    store.commit(writes).await.expect("a commit that is in order");
    (store, insights, handles)
}

async fn stored(store: &MemoryStore) -> u64 {
    store.list(DataplaneInsight::KIND, None).await.expect("a list").len() as u64
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let (store, insights, _handles) = connected().await;
    insights.write(&Away).await;
    assert_eq!(stored(&store).await, 0);
    insights.write(&store).await;
    assert_eq!(stored(&store).await, MANY);
}

#[tokio::test]
async fn all_are_written_when_the_process_ends_amid_them() {
    let (store, insights, _handles) = connected().await;
    let (store, cancel) = (Arc::new(store), CancellationToken::new());
    let writer = tokio::spawn(insights.clone().flush(store.clone(), Duration::ZERO, cancel.clone()));
    while stored(&store).await == 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    writer.await.expect("no panic");
    assert_eq!(stored(&store).await, MANY);
}
