//! What is known of proxies goes with their Dataplanes, whoever deletes them.

use std::sync::Arc;

use kuma_cp::forgetting::Forgetting;
use kuma_model::{Dataplane, Document, Key, Resource as _};
use kuma_store::{Follower as _, MemoryStore, Store, Write};
use serde_json::json;

use crate::test_api::Live;

fn dataplane(name: &str) -> Key {
    Key::new(Dataplane::KIND, "demo", name)
}

/// The names of those that something is known of.
fn known(live: &Live) -> Vec<String> {
    let mut names: Vec<String> = live.0.lock().expect("no panic").keys().map(|(_, name)| name.clone()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_known_of_a_proxy_goes_with_its_dataplane() {
    let live = Arc::new(Live::default());
    let store = MemoryStore::new();
    let document = |key: Key| Document { key, spec: json!({}) };
    let mut writes = vec![Write::Create(document(Key::mesh("demo")))];
    writes.extend(["a", "b", "c", "d"].map(|name| Write::Create(document(dataplane(name)))));
    store.commit(writes).await.expect("it is stored");
    for name in ["a", "b", "c", "d"] {
        live.0.lock().expect("no panic").insert(("demo".into(), name.into()), Default::default());
    }
    let forgetting = Forgetting::new(live.clone());
    let from = kuma_store::load(&store, &[&forgetting]).await.expect("it is read");
    assert_eq!(known(&live), ["a", "b", "c", "d"]);

    // By the feed of commits.
    store.commit(vec![Write::Delete { key: dataplane("a"), version: None }]).await.expect("it is deleted");
    let followers: [&dyn kuma_store::Follower; 1] = [&forgetting];
    let following = kuma_store::follow(&store, from, &followers);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(100), following).await;
    assert!(waited.is_err(), "it follows without end");
    assert_eq!(known(&live), ["b", "c", "d"]);

    // By what is missing when everything is read again.
    store.commit(vec![Write::Delete { key: dataplane("b"), version: None }]).await.expect("it is deleted");
    forgetting.load(&store.read_all().await.expect("it is read"));
    assert_eq!(known(&live), ["c", "d"]);

    // What another store lacks may only have been lost, until that is known.
    let mut other = store.read_all().await.expect("it is read");
    other.documents.clear();
    other.generation += 1;
    forgetting.load(&other);
    assert_eq!(known(&live), ["c", "d"]);
    (other.complete, other.generation) = (true, other.generation + 1);
    forgetting.load(&other);
    assert_eq!(known(&live), [] as [&str; 0]);
}
