//! Which list the documents make, and when clients from an earlier life may be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kuma_cp::mads::{Documents, Hold, List};
use kuma_model::{Document, Key, text};
use kuma_store::{Contents, Stored};
use proptest::prelude::*;
use tokio::time::Instant;

/// A document from YAML, as a store has it.
fn stored(yaml: &str) -> Arc<Stored> {
    let documents = text::parse_documents(yaml).expect("YAML");
    let document = Document::parse(&documents[0]).unwrap_or_else(|violations| panic!("{violations}: {yaml}"));
    Arc::new(Stored::new(document, Timestamp::UNIX_EPOCH))
}

fn redis() -> Arc<Stored> {
    dataplane("default", "redis-1", "redis")
}

fn web() -> Arc<Stored> {
    dataplane("default", "web-1", "web")
}

fn permission(name: &str, source: &str, destination: &str) -> Arc<Stored> {
    stored(&format!(
        "type: TrafficPermission\nmesh: default\nname: {name}\nsources: [{{match: {{service: '{source}'}}}}]\n\
         destinations: [{{match: {{service: '{destination}'}}}}]"
    ))
}

fn mesh(name: &str, metrics: bool) -> Arc<Stored> {
    let metrics = if metrics { "{prometheus: {}}" } else { "{}" };
    stored(&format!("type: Mesh\nname: {name}\nmetrics: {metrics}"))
}

fn dataplane(mesh: &str, name: &str, service: &str) -> Arc<Stored> {
    stored(&format!(
        "type: Dataplane\nmesh: {mesh}\nname: {name}\nnetworking: {{inbound: [{{interface: '10.0.0.1:1:2', tags: \
         {{service: {service}}}}}]}}"
    ))
}

fn write(documents: &mut Documents, stored: &Arc<Stored>, now: Instant) -> bool {
    documents.commit(&[(stored.key.clone(), Some(stored.clone()))], now)
}

fn load(documents: &mut Documents, complete: bool, stored: &[Arc<Stored>]) {
    documents.load(&Contents { revision: 1, documents: stored.to_vec(), complete, generation: 0 });
}

fn delete(documents: &mut Documents, stored: &Arc<Stored>, now: Instant) -> bool {
    documents.commit(&[(stored.key.clone(), None)], now)
}

#[test]
fn meshes_without_metrics_are_not_listed() {
    let now = Instant::now();
    let mut documents = Documents::default();
    load(&mut documents, true, &[mesh("default", false), web(), redis()]);
    assert!(documents.list().is_empty());
    assert!(write(&mut documents, &mesh("default", true), now));
    assert_eq!(documents.list().len(), 2);
    let version = documents.list().version;
    assert!(!write(&mut documents, &permission("p", "web", "redis"), now), "that is no matter of metrics");
    assert!(write(&mut documents, &dataplane("other", "web-1", "web"), now));
    assert_eq!(documents.list().version, version, "of its mesh nothing is known");
    assert!(write(&mut documents, &mesh("other", true), now));
    assert_eq!(documents.list().len(), 3);
    assert!(delete(&mut documents, &web(), now));
    assert!(delete(&mut documents, &mesh("other", true), now));
    assert_eq!(documents.list().len(), 1);
    assert_eq!(documents.list().hold, Hold::No);
}

#[test]
fn a_store_that_forgets_waits_for_its_documents() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let mut documents = Documents::default();
    // The Mesh that is made by default says nothing.
    load(&mut documents, false, &[mesh("default", false)]);
    assert_eq!(documents.list().hold, Hold::Unwritten);
    write(&mut documents, &permission("p", "web", "redis"), after(0));
    write(&mut documents, &web(), after(100));
    assert_eq!(documents.list().hold, Hold::Unwritten, "its Mesh may have metrics, or not");
    write(&mut documents, &mesh("default", true), after(200));
    assert_eq!(documents.list().hold, Hold::Until(after(205)));
    write(&mut documents, &redis(), after(203));
    assert_eq!(documents.list().hold, Hold::Until(after(208)));
    write(&mut documents, &redis(), after(259));
    assert_eq!(documents.list().hold, Hold::Until(after(260)), "a minute is the most");
}

#[test]
fn a_mesh_without_metrics_is_believed_when_somebody_has_written_it() {
    let start = Instant::now();
    let mut documents = Documents::default();
    load(&mut documents, false, &[mesh("default", false)]);
    write(&mut documents, &web(), start);
    documents.touch_mesh(&Arc::from("default"), start);
    assert_eq!(documents.list().hold, Hold::Until(start + Duration::from_secs(5)));
    // And one that was made by default with metrics, as soon as it has a Dataplane.
    let mut documents = Documents::default();
    load(&mut documents, false, &[mesh("default", true)]);
    assert_eq!(documents.list().hold, Hold::Unwritten);
    write(&mut documents, &web(), start);
    assert_eq!(documents.list().hold, Hold::Until(start + Duration::from_secs(5)));
}

/// A write or a deletion of one of a few documents.
fn step() -> impl Strategy<Value = (Arc<Stored>, bool)> {
    let name = prop::sample::select(&["default", "other"][..]);
    let one = prop_oneof![
        (name.clone(), any::<bool>()).prop_map(|(name, metrics)| mesh(name, metrics)),
        (name, prop::sample::select(&["a", "b", "c"][..]), prop::sample::select(&["web", "api"][..]))
            .prop_map(|(mesh, name, service)| dataplane(mesh, name, service)),
    ];
    (one, any::<bool>())
}

proptest! {
    #[test]
    fn whatever_is_written_in_whatever_order_the_list_is_that_of_the_documents(steps in prop::collection::vec(step(),
        0..30)) {
        let mut documents = Documents::default();
        let mut all: BTreeMap<Key, Arc<Stored>> = BTreeMap::new();
        for (stored, there) in steps {
            if there {
                all.insert(stored.key.clone(), stored.clone());
                write(&mut documents, &stored, Instant::now());
            } else {
                all.remove(&stored.key);
                delete(&mut documents, &stored, Instant::now());
            }
            let mut whole = Documents::default();
            load(&mut whole, true, &all.values().cloned().collect::<Vec<_>>());
            let (List { version, .. }, expected) = (documents.list(), whole.list());
            prop_assert_eq!(version, expected.version);
        }
    }
}
