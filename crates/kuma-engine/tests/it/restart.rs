//! Unknown, deleted and returning proxies, and identities over a restart. A restart does not interrupt a mesh.

use std::sync::Arc;
use std::time::Duration;

use kuma_model::{Dataplane, Key, Resource as _};
use kuma_store::Stored;
use kuma_xds::{ResourceType, Snapshot};

use crate::support::{Mesh, Stream, ca, mesh, permission, redis, web};

type Versions = Vec<(Arc<str>, Box<str>)>;

/// All resources that a client has after it was served a snapshot, by type.
fn held(snapshot: &Snapshot) -> Vec<(ResourceType, Versions)> {
    let versions = |kind: ResourceType| -> Versions {
        snapshot.list(kind).iter().map(|resource| (resource.name().clone(), Box::from(resource.version()))).collect()
    };
    ResourceType::ALL
        .into_iter()
        .map(|kind| (kind, versions(kind)))
        .filter(|(_, versions)| !versions.is_empty())
        .collect()
}

/// All resources that a client has if it had `before` and was then served a snapshot: placeholders are not sent.
fn held_after(before: &[(ResourceType, Versions)], snapshot: &Snapshot) -> Vec<(ResourceType, Versions)> {
    let mut after = held(snapshot);
    for (kind, versions) in &mut after {
        let Some((_, before)) = before.iter().find(|(other, _)| other == kind) else { continue };
        for (name, version) in versions {
            let is_placeholder = snapshot.get(*kind, name).is_some_and(|resource| resource.is_placeholder());
            if let (true, Some((_, kept))) = (is_placeholder, before.iter().find(|(other, _)| other == name)) {
                *version = kept.clone();
            }
        }
    }
    after
}

/// Opens a stream of a proxy that comes back with these resources.
fn come_back(mesh: &mut Mesh, proxy: &str, held: &[(ResourceType, Versions)]) -> Stream {
    let stream = mesh.open(proxy, true);
    for (kind, versions) in held {
        mesh.engine.reported(stream.id, *kind, versions.clone(), mesh.now);
    }
    stream
}

/// The resources of web's proxy in a mesh with mTLS in which web may call redis.
fn working_mesh(ca: &Arc<Stored>) -> Vec<(ResourceType, Versions)> {
    let mut life = Mesh::new(false);
    life.write(&[&mesh(true), ca, &redis(), &web(), &permission("p", "web", "redis")]);
    let stream = life.open("web-1", false);
    life.engine.wants_identity(stream.id, life.now);
    let snapshot = stream.served().expect("it is served");
    assert!(snapshot.get(ResourceType::Secret, "identity_cert").is_some());
    held(&snapshot)
}

#[test]
fn an_unknown_proxy_waits_for_its_dataplane_where_the_store_forgets() {
    let mut life = Mesh::new(false);
    life.write(&[&mesh(false), &ca()]);
    let stream = life.open("web-1", false);
    assert!(stream.is_held());
    life.write(&[&web()]);
    assert!(stream.served().is_some());
}

#[test]
fn an_unknown_proxy_is_a_deleted_one_where_the_store_lasts() {
    let mut life = Mesh::new(true);
    life.write(&[&mesh(false), &ca()]);
    let stream = life.open("web-1", true);
    assert_eq!(held(&stream.served().expect("an answer: nothing")), []);
}

#[test]
fn a_deleted_dataplane_is_emptied() {
    let mut life = Mesh::new(false);
    life.write(&[&mesh(false), &ca(), &web()]);
    let stream = life.open("web-1", false);
    assert_ne!(held(&stream.served().expect("served")), []);
    life.delete(&Key::new(Dataplane::KIND, "default", "web-1"));
    assert_eq!(held(&stream.served().expect("an answer: nothing")), []);
}

#[test]
fn a_proxy_with_secrets_waits_for_its_mesh() {
    let ca = ca();
    let before = working_mesh(&ca);
    let mut life = Mesh::new(false);
    // The default Mesh that the control plane creates has no mTLS, and does not count as written.
    life.load(&[mesh(false), ca.clone()]);
    let stream = come_back(&mut life, "web-1", &before);
    life.write(&[&web()]);
    life.write(&[&redis()]);
    life.pass(Duration::from_secs(3600));
    assert!(stream.is_held(), "its inbound would turn to plain text");
    life.engine.touch_mesh(life.now);
    life.pass(Duration::from_secs(60));
    let served = stream.served().expect("the Mesh was confirmed as it is: without mTLS");
    assert_eq!(served.list(ResourceType::Secret).len(), 0);
}

/// Such a proxy has listeners that require TLS, without their secrets. It must not get plain-text listeners instead.
#[test]
fn a_proxy_that_waits_for_a_certificate_waits_for_its_mesh_too() {
    let mut life = Mesh::new(false);
    let stream = life.open("web-1", true);
    life.engine.wants_identity(stream.id, life.now);
    life.write(&[&web()]);
    life.pass(Duration::from_secs(120));
    assert!(stream.is_held());
    life.write(&[&mesh(true)]);
    life.pass(Duration::from_secs(10));
    assert!(stream.served().is_some());
}

#[test]
fn documents_may_come_back_in_any_order_and_nothing_differs() {
    let ca = ca();
    let before = working_mesh(&ca);
    let documents = [mesh(true), redis(), web(), permission("p", "web", "redis")];
    for first in 0..documents.len() {
        let mut life = Mesh::new(false);
        life.load(&[mesh(false), ca.clone()]);
        let stream = come_back(&mut life, "web-1", &before);
        for step in 0..documents.len() {
            if let Some(served) = stream.served() {
                assert_eq!(held_after(&before, &served), before, "served something else while documents came back");
            }
            life.pass(Duration::from_millis(700));
            life.write(&[&documents[(first + step) % documents.len()]]);
        }
        life.pass(Duration::from_secs(1));
        assert_eq!(held(&stream.served().expect("all is as it was, so it is served")), before);
    }
}

#[test]
fn what_does_not_come_back_is_gone_once_writing_pauses() {
    let ca = ca();
    let before = working_mesh(&ca);
    let mut life = Mesh::new(false);
    life.load(&[mesh(false), ca.clone()]);
    let stream = come_back(&mut life, "web-1", &before);
    life.write(&[&mesh(true), &web(), &redis()]);
    life.pass(Duration::from_secs(1));
    assert!(stream.is_held(), "the permission may still come");
    life.pass(Duration::from_secs(10));
    let served = stream.served().expect("nobody has written for long");
    assert_ne!(held(&served), before, "without the permission the flow is denied");
}

#[test]
fn a_service_nobody_has_offered_yet_is_not_sent_as_empty() {
    let mut life = Mesh::new(false);
    life.write(&[&mesh(false), &ca(), &web()]);
    let stream = life.open("web-1", true);
    life.pass(Duration::from_secs(10));
    let endpoints = stream.served().expect("served");
    let endpoints = endpoints.get(ResourceType::Endpoint, "redis").expect("an answer for a client that holds none");
    assert!(endpoints.is_placeholder());
    life.write(&[&redis()]);
    let endpoints = stream.served().expect("served");
    assert!(!endpoints.get(ResourceType::Endpoint, "redis").expect("endpoints").is_placeholder());
    life.delete(&redis().key);
    let endpoints = stream.served().expect("served");
    let empty = endpoints.get(ResourceType::Endpoint, "redis").expect("endpoints");
    assert!(!empty.is_placeholder(), "that it is empty is known now");
}

#[test]
fn a_good_certificate_is_kept_over_a_restart_and_renewed_in_time() {
    let ca = ca();
    let before = working_mesh(&ca);
    let identity = |stream: &Stream| {
        let served = stream.served().expect("served");
        served.get(ResourceType::Secret, "identity_cert").expect("an identity").clone()
    };
    let mut life = Mesh::new(true);
    life.load(&[mesh(true), ca.clone(), redis(), web(), permission("p", "web", "redis")]);
    let stream = come_back(&mut life, "web-1", &before);
    let kept = identity(&stream);
    assert!(!kept.has_body(), "nothing was issued");
    let reported = before.iter().find(|(kind, _)| *kind == ResourceType::Secret).expect("secrets");
    let reported = reported.1.iter().find(|(name, _)| &**name == "identity_cert").expect("an identity");
    assert_eq!(kept.version(), &*reported.1);

    life.pass(Duration::from_secs(11 * 3600));
    assert!(!identity(&stream).has_body(), "renewed before half of its life");
    life.pass(Duration::from_secs(5 * 3600 + 600));
    let renewed = identity(&stream);
    assert!(renewed.has_body(), "not renewed at two thirds of its life");
    assert_ne!(renewed.version(), kept.version());
    life.pass(Duration::from_secs(24 * 3600));
    assert_ne!(identity(&stream).version(), renewed.version(), "renewed once and never again");
}

#[test]
fn another_service_is_another_certificate() {
    let ca = ca();
    let mut life = Mesh::new(true);
    life.write(&[&mesh(true), &ca, &web()]);
    let stream = life.open("web-1", false);
    life.engine.wants_identity(stream.id, life.now);
    let version = |stream: &Stream| {
        let served = stream.served().expect("served");
        served.get(ResourceType::Secret, "identity_cert").expect("an identity").version().to_owned()
    };
    let first = version(&stream);
    life.write(&[&permission("p", "web", "redis")]);
    assert_eq!(version(&stream), first);
    let other = crate::support::stored(
        "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  inbound:\n  - interface: 10.0.0.1:8000:80\n    \
         tags: {service: frontend}",
    );
    life.write(&[&other]);
    assert_ne!(version(&stream), first);
}

#[test]
fn without_a_ca_nothing_is_issued_and_without_a_token_nothing_secret_is_sent() {
    let mut life = Mesh::new(true);
    life.write(&[&mesh(true), &web()]);
    let stream = life.open("web-1", false);
    life.engine.wants_identity(stream.id, life.now);
    assert_eq!(stream.served().expect("served").list(ResourceType::Secret).len(), 0);
    // Without a certificate its listeners would wait for one, and Envoy would keep serving plain text.
    let inbound = |stream: &Stream| {
        stream.served().expect("served").get(ResourceType::Listener, "inbound:10.0.0.1:8000").is_some()
    };
    assert!(
        !inbound(&stream) && life.warnings(&stream)[0].contains("CA of the mesh cannot be used"),
        "{:?}",
        life.warnings(&stream)
    );
    life.write(&[&ca()]);
    assert!(inbound(&stream) && life.warnings(&stream).is_empty(), "{:?}", life.warnings(&stream));
    life.delete(&ca().key);
    assert!(inbound(&stream), "it has a certificate");
    let returning = life.open("web-1", true);
    assert!(inbound(&returning), "it may have one");
    life.write(&[&mesh(false)]);
    life.write(&[&mesh(true)]);
    assert!(!inbound(&stream) && !inbound(&returning), "plain text would go on");

    let refused = life.open_as("web-1", false, false);
    assert!(refused.closed().expect("refused").contains("token"));
    assert!(life.warnings(&refused).is_empty(), "whoever it is, it does not speak for web-1");

    let mut life = Mesh::new(true);
    life.write(&[&mesh(false), &ca(), &web()]);
    let stranger = life.open_as("web-1", false, false);
    life.write(&[&mesh(true)]);
    life.engine.wants_identity(stranger.id, life.now);
    let served = stranger.served().expect("it stays connected");
    assert_eq!(served.list(ResourceType::Secret).len(), 0, "a secret for a stream without a token");
    assert!(served.get(ResourceType::Listener, "inbound:10.0.0.1:8000").is_none(), "it would go on in plain text");
    assert!(served.get(ResourceType::Listener, "outbound:127.0.0.1:9000").is_some());
    assert!(life.warnings(&stranger)[0].contains("no dataplane token"), "{:?}", life.warnings(&stranger));
    life.write(&[&mesh(false)]);
    life.pass(Duration::from_secs(1));
    assert_eq!(life.warnings(&stranger), Vec::<String>::new(), "what was said holds no more");
    let served = stranger.served().expect("it stays connected");
    assert!(served.get(ResourceType::Listener, "inbound:10.0.0.1:8000").is_some(), "it is open again");
}
