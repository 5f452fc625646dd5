//! No kind of document can be forgotten: each one changes the resources of some proxy, or is listed as having no
//! effect.

use std::sync::Arc;

use jiff::Timestamp;
use kuma_engine::MeshView;
use kuma_mesh::{EFFECTS, Effect};
use kuma_model::{DEPARTURE_KIND, Document, KINDS, Key};
use kuma_store::Stored;
use kuma_xds::ResourceType;
use serde_json::json;

use crate::support::{Mesh, ca, mesh, permission, redis, stored, web};

/// A document of each kind that changes the resources of web-1 or redis-1 in the mesh of [`base`].
fn example(kind: &str) -> Arc<Stored> {
    let connection = |kind: &str, conf: &str| {
        stored(&format!(
            "type: {kind}\nmesh: default\nname: example\nsources: [{{match: {{service: web}}}}]\n\
             destinations: [{{match: {{service: redis}}}}]\n{conf}"
        ))
    };
    match kind {
        "Mesh" => mesh(false),
        "Dataplane" => stored(
            "type: Dataplane\nmesh: default\nname: redis-2\nnetworking:\n  inbound:\n  - interface: \
             10.0.0.3:9000:6379\n    tags: {service: redis}",
        ),
        "TrafficPermission" => permission("example", "web", "redis"),
        "TrafficRoute" => connection(kind, "conf: [{weight: 1, destination: {service: redis, version: v2}}]"),
        "HealthCheck" => connection(kind, "conf: {passiveChecks: {unhealthyThreshold: 3, penaltyInterval: 5s}}"),
        "TrafficLog" => connection(kind, "conf: {backend: file}"),
        "TrafficTrace" => stored(
            "type: TrafficTrace\nmesh: default\nname: example\nselectors: [{match: {service: '*'}}]\n\
             conf: {backend: zipkin}",
        ),
        "ProxyTemplate" => stored(
            "type: ProxyTemplate\nmesh: default\nname: example\nselectors: [{match: {service: web}}]\n\
             conf: {imports: []}",
        ),
        other => panic!("the kind {other} needs an example here that alters what a proxy gets"),
    }
}

fn base() -> Vec<Arc<Stored>> {
    let mesh = stored(
        "type: Mesh\nname: default\nmtls: {enabled: true, ca: {builtin: {}}}\n\
         logging: {backends: [{name: file, file: {path: /tmp/access.log}}]}\n\
         tracing: {backends: [{name: zipkin, zipkin: {url: 'http://127.0.0.1:9411/api/v2/spans'}}]}",
    );
    let api = stored(
        "type: Dataplane\nmesh: default\nname: api-1\nnetworking:\n  inbound:\n  - interface: 10.0.0.4:80:8080\n    \
         tags: {service: api, protocol: http}",
    );
    vec![mesh, ca(), web(), redis(), api]
}

/// Names and versions of all resources of the proxies.
fn resources(view: &MeshView) -> Vec<String> {
    let mut all = Vec::new();
    for proxy in ["web-1", "redis-1", "api-1"] {
        let snapshot = view.generate(proxy, None).expect("a Dataplane");
        for list in ResourceType::ALL.map(|kind| snapshot.list(kind).clone()) {
            all.extend(list.iter().map(|one| format!("{proxy} {} {}", one.name(), one.version())));
        }
    }
    all
}

#[test]
fn a_document_of_every_kind_has_an_effect_or_the_word_that_it_has_none() {
    for kind in KINDS {
        let (_, effect) = EFFECTS.iter().find(|(name, _)| *name == kind.name).expect("every kind is in the table");
        if let Effect::None(reason) = effect {
            assert!(!reason.is_empty(), "{}", kind.name);
            continue;
        }
        let example = example(kind.name);
        let before = resources(&MeshView::of_documents("default", &base(), 1));
        let mut documents = base();
        documents.retain(|stored| stored.key != example.key);
        documents.push(example);
        let after = resources(&MeshView::of_documents("default", &documents, 2));
        assert_ne!(before, after, "a document of kind {} alters nothing", kind.name);
    }
}

/// The same through the incremental path, with connected proxies: the document has its effect, and its deletion reverts
/// it.
#[test]
fn writing_and_deleting_a_document_of_every_kind_reaches_connected_proxies() {
    for kind in KINDS.iter().filter(|kind| kind.name != "DataplaneInsight" && kind.name != "Mesh") {
        let mut life = Mesh::new(true);
        life.load(&base());
        let streams = ["web-1", "redis-1", "api-1"].map(|proxy| life.open(proxy, false));
        let held = |streams: &[crate::support::Stream; 3]| -> Vec<String> {
            let served = streams.iter().map(|stream| stream.served().expect("it is served"));
            served
                .flat_map(|snapshot| ResourceType::ALL.map(|kind| snapshot.list(kind).clone()))
                .flat_map(|list| list.iter().map(|one| format!("{} {}", one.name(), one.version())).collect::<Vec<_>>())
                .collect()
        };
        let before = held(&streams);
        let example = example(kind.name);
        life.write(&[&example]);
        assert_ne!(held(&streams), before, "{}", kind.name);
        let Key { kind, ref name, .. } = example.key;
        life.delete(&Key::new(kind, "default", name));
        assert_eq!(held(&streams), before, "{kind}");
    }
}

/// That a proxy has left is a document, where several control planes have to know it.
#[test]
fn the_proxy_of_a_departure_is_no_endpoint() {
    let with = |documents: &[Arc<Stored>]| resources(&MeshView::of_documents("default", documents, 1));
    let departure = |name: &str| {
        let document =
            Document { key: Key::new(DEPARTURE_KIND, "default", name), spec: json!({"reason": "it drains"}) };
        Arc::new(Stored::new(document, Timestamp::UNIX_EPOCH))
    };
    let base = base();
    let without_redis: Vec<_> = base.iter().filter(|stored| &*stored.key.name != "redis-1").cloned().collect();
    let endpoints = |documents: &[Arc<Stored>]| endpoints(&MeshView::of_documents("default", documents, 1));
    let mut documents = base.clone();
    documents.push(departure("redis-1"));
    assert_ne!(endpoints(&documents), endpoints(&base));
    assert_eq!(endpoints(&documents), endpoints(&without_redis));
    // One of a Dataplane that is not there means nothing.
    *documents.last_mut().expect("one") = departure("redis-2");
    assert_eq!(with(&documents), with(&base));

    // The incremental path, and a Dataplane that is written again while its proxy is away.
    let mut life = Mesh::new(true);
    life.load(&base);
    let now = |life: &Mesh| self::endpoints(&life.engine.view());
    let before = now(&life);
    life.write(&[&departure("redis-1")]);
    let departed = now(&life);
    assert_ne!(departed, before);
    life.write(&[&redis()]);
    assert_eq!(now(&life), departed);
    life.delete(&departure("redis-1").key);
    assert_eq!(now(&life), before);
}

/// Names and versions of the endpoints of web-1's destinations.
fn endpoints(view: &MeshView) -> Vec<String> {
    let snapshot = view.generate("web-1", None).expect("a Dataplane");
    snapshot.list(ResourceType::Endpoint).iter().map(|one| format!("{} {}", one.name(), one.version())).collect()
}
