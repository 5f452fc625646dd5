use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kuma_model::{Document, Key};
use kuma_store::{Change, Gap, MemoryStore, Moment, Store, StoreError, Write, contract};
use serde_json::json;

fn put(name: &str, text: usize) -> Write {
    Write::Put(Document { key: Key::new("Dataplane", "default", name), spec: json!({"text": text}) })
}

async fn with_mesh(store: MemoryStore) -> MemoryStore {
    store.commit(vec![Write::Put(Document { key: Key::mesh("default"), spec: json!({}) })]).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    contract::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

#[tokio::test]
async fn keeps_the_contract_on_one_thread() {
    contract::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

#[test]
fn every_store_has_an_epoch_of_its_own() {
    assert_ne!(MemoryStore::new().epoch(), MemoryStore::new().epoch());
}

#[test]
fn contract_checks_have_names_of_their_own() {
    let mut names: Vec<_> = contract::checks().map(|check| check.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[tokio::test]
async fn revisions_are_numbered_without_a_hole() {
    let store = with_mesh(MemoryStore::new()).await;
    for n in 0..10 {
        let committed = store.commit(vec![put("web", n)]).await.unwrap();
        assert_eq!(committed.revision, n as u64 + 2);
    }
    assert!(!store.durable());
}

#[tokio::test]
async fn a_reader_that_fell_behind_gets_a_gap_and_can_go_on() {
    let store = with_mesh(MemoryStore::with_history(10)).await;
    let mut changes = store.changes(1);
    for n in 0..11 {
        store.commit(vec![put("web", n)]).await.unwrap();
    }
    assert_eq!(changes.next().await, Some(Change::Gap(Gap::Behind)));
    assert_eq!(changes.next().await, None);

    // Just within the history is enough.
    assert!(matches!(store.changes(2).next().await, Some(Change::Commit(commit)) if commit.revision == 3));

    let revision = store.read_all().await.unwrap().revision;
    let mut changes = store.changes(revision);
    store.commit(vec![put("web", 99)]).await.unwrap();
    assert!(matches!(changes.next().await, Some(Change::Commit(commit)) if commit.revision == revision + 1));
}

#[tokio::test]
async fn a_reader_can_fall_behind_in_the_middle() {
    let store = with_mesh(MemoryStore::with_history(10)).await;
    let mut changes = store.changes(1);
    for n in 0..5 {
        store.commit(vec![put("web", n)]).await.unwrap();
    }
    for revision in 2..=4 {
        assert!(matches!(changes.next().await, Some(Change::Commit(commit)) if commit.revision == revision));
    }
    for n in 5..50 {
        store.commit(vec![put("web", n)]).await.unwrap();
    }
    assert_eq!(changes.next().await, Some(Change::Gap(Gap::Behind)));
}

#[tokio::test]
async fn what_a_slow_reader_does_not_read_is_not_kept() {
    let store = with_mesh(MemoryStore::with_history(10)).await;
    let _slow: Vec<_> = (0..100).map(|_| store.changes(1)).collect();
    store.commit(vec![put("web", 0)]).await.unwrap();
    let first = Arc::downgrade(&store.get(&Key::new("Dataplane", "default", "web")).await.unwrap().unwrap());
    for n in 1..=11 {
        store.commit(vec![put("web", n)]).await.unwrap();
    }
    assert!(first.upgrade().is_none(), "an old version is freed though nobody has read past it");
}

#[tokio::test]
async fn streams_end_with_the_store() {
    let store = with_mesh(MemoryStore::new()).await;
    let mut changes = store.changes(1);
    drop(store);
    let end = tokio::time::timeout(Duration::from_secs(30), changes.next()).await;
    assert_eq!(end.expect("an end in time"), None);
}

/// Specs are kept as text: what is read is what was written, to the order of the fields.
#[test]
fn a_spec_comes_back_as_it_was() {
    let numbers = json!([1, -2, 0.1, 1e-7, 33.333333333333336, u64::MAX, null, true]);
    // A key by which serde_json's own reader would take the map for JSON text.
    let tags = json!({"$serde_json::private::RawValue": "x", "service": "web"});
    let spec = json!({"b": numbers, "a": {"text": "\u{0}\"ü\u{2028}"}, "tags": tags, "": {}});
    let now = jiff::Timestamp::UNIX_EPOCH;
    let stored = kuma_store::Stored::new(Document { key: Key::mesh("default"), spec: spec.clone() }, now);
    assert_eq!((stored.spec(), stored.spec().to_string()), (spec.clone(), spec.to_string()));
    assert_eq!(stored.replaced(&spec, now), None);
}

#[tokio::test]
async fn the_past_is_told_as_far_as_it_is_kept() {
    let store = with_mesh(MemoryStore::with_history(10)).await;
    for n in 0..20 {
        store.commit(vec![put("web", n)]).await.unwrap();
    }
    let web = Key::new("Dataplane", "default", "web");
    for revision in 11..=21 {
        let then = store.at(Moment::Revision(revision)).await.unwrap();
        let text = then.documents.iter().find(|stored| stored.key == web).unwrap().spec();
        assert_eq!((then.revision, text), (revision, json!({"text": revision - 2})));
    }
    let forgotten = StoreError::Forgotten { asked: 10, floor: 11 };
    assert_eq!(store.at(Moment::Revision(10)).await, Err(forgotten));
    let long_ago = Moment::Time(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(store.at(long_ago).await, Err(StoreError::Forgotten { asked: 0, floor: 11 }));
}

#[tokio::test]
async fn what_is_missing_may_have_been_forgotten_until_somebody_says_otherwise() {
    let store = with_mesh(MemoryStore::new()).await;
    let contents = store.read_all().await.unwrap();
    assert!(!contents.complete);
    let mut changes = store.changes(contents.revision);
    store.accept().await.unwrap();
    assert_eq!(changes.next().await, Some(Change::Gap(Gap::Accepted)));
    let after = store.read_all().await.unwrap();
    assert!(after.complete);
    assert_eq!((after.revision, &after.documents), (contents.revision, &contents.documents));
    assert_ne!(after.generation, contents.generation);
    // A second time is no news.
    let mut changes = store.changes(after.revision);
    store.accept().await.unwrap();
    store.commit(vec![put("web", 1)]).await.unwrap();
    assert!(matches!(changes.next().await, Some(Change::Commit(_))));
}
