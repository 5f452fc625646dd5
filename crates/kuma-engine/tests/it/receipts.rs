//! The receipt of a commit agrees with the answers of its proxies.

use std::time::Duration;

use kuma_engine::{Counts, ExceptionState, Progress, Receipt, Settled};
use kuma_model::Key;
use kuma_xds::{Refusal, ResourceType, Unanswered};

use crate::support::{Mesh, Stream, ca, mesh, permission, redis, stored, web};

/// A mesh with mTLS, redis-1 and web-1 connected and up to date.
fn connected() -> (Mesh, Stream, Stream) {
    let mut life = Mesh::new(true);
    life.load(&[mesh(true), ca(), redis(), web()]);
    let (web, redis) = (life.open_with_identity("web-1"), life.open_with_identity("redis-1"));
    life.accept(&web);
    life.accept(&redis);
    (life, web, redis)
}

fn receipt(life: &Mesh, revision: u64) -> Receipt {
    life.engine.receipt(revision).expect("it is remembered")
}

fn settled(life: &Mesh) -> Settled {
    Settled { revision: life.revision, ..Settled::default() }
}

fn refusal(name: &str, revision: u64) -> Refusal {
    let (resource_type, message) = (ResourceType::Listener, "cannot bind".into());
    Refusal { resource_type, name: name.into(), revision, message, has_older: false }
}

#[test]
fn a_commit_is_live_when_all_that_it_concerns_have_accepted_it() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let at = life.revision;
    let first = receipt(&life, at);
    assert_eq!((first.progress, first.counts.concerned, first.counts.waiting), (Progress::Spreading, 2, 2));
    life.now += Duration::from_millis(5);
    life.accept(&web);
    assert_eq!(receipt(&life, at).progress, Progress::Spreading);
    life.now += Duration::from_millis(5);
    life.accept(&redis);
    let last = receipt(&life, at);
    assert_eq!(last.progress, Progress::Live);
    assert_eq!(last.counts, Counts { concerned: 2, accepted: 2, ..Counts::default() });
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(last.accepted_after, [ms(5), ms(5), ms(10), ms(10)]);
    assert_eq!(life.engine.take_news().accepted_after.len(), 2);
}

#[test]
fn a_commit_that_changes_nothing_for_any_proxy_is_live_at_once() {
    let (mut life, _web, _redis) = connected();
    life.write(&[&permission("p", "nobody", "nothing")]);
    let receipt = receipt(&life, life.revision);
    assert_eq!((receipt.progress, receipt.counts), (Progress::Live, Counts::default()));
}

#[test]
fn an_answer_for_an_earlier_revision_proves_nothing() {
    let (mut life, web, redis) = connected();
    let before = settled(&life);
    life.write(&[&permission("p", "web", "redis")]);
    life.settle(&web, before.clone());
    life.settle(&redis, before);
    assert_eq!(receipt(&life, life.revision).counts.waiting, 2);
}

#[test]
fn a_later_answer_counts_for_all_commits_before() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let first = life.revision;
    life.write(&[&permission("q", "*", "redis")]);
    life.accept(&web);
    life.accept(&redis);
    assert_eq!(receipt(&life, first).progress, Progress::Live);
    assert_eq!(receipt(&life, life.revision).progress, Progress::Live);
}

#[test]
fn a_commit_whose_documents_were_written_again_is_superseded() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let first = life.revision;
    life.accept(&redis);
    life.delete(&Key::new("TrafficPermission", "default", "p"));
    life.accept(&web);
    life.accept(&redis);
    let first = receipt(&life, first);
    assert_eq!(first.progress, Progress::Superseded);
    assert_eq!((first.counts.accepted, first.counts.superseded), (1, 1));
    assert_eq!(receipt(&life, life.revision).progress, Progress::Live);
}

#[test]
fn a_refusal_counts_against_the_commit_that_it_is_of_until_it_ends() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let first = life.revision;
    life.accept(&redis);
    life.settle(&web, Settled { refused: vec![refusal("outbound:127.0.0.1:9000", first)], ..settled(&life) });
    let refused = receipt(&life, first);
    assert_eq!((refused.progress, refused.counts.refused), (Progress::Refused, 1));
    let [exception] = &refused.exceptions[..] else { panic!("{refused:?}") };
    assert_eq!((&*exception.dataplane, exception.state), ("web-1", ExceptionState::Refused));
    assert_eq!(exception.since_revision, first);

    // The refusal does not count against the next commit, whose resources are accepted.
    life.write(&[&permission("q", "*", "redis")]);
    let second = life.revision;
    life.accept(&redis);
    life.settle(&web, Settled { refused: vec![refusal("outbound:127.0.0.1:9000", first)], ..settled(&life) });
    assert_eq!(receipt(&life, second).progress, Progress::Live, "an older refusal is not of this commit");
    assert_eq!(receipt(&life, first).progress, Progress::Refused);

    life.settle(&web, settled(&life));
    assert_eq!(receipt(&life, first).progress, Progress::Live, "it has ended");
}

#[test]
fn a_name_without_an_answer_holds_a_commit_up() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let at = life.revision;
    life.accept(&redis);
    let question =
        |revision| Unanswered { resource_type: ResourceType::Secret, name: "nobody-has-it".into(), revision };
    life.settle(&web, Settled { unanswered: vec![question(at)], ..settled(&life) });
    let waiting = receipt(&life, at);
    assert_eq!((waiting.progress, waiting.counts.waiting), (Progress::Spreading, 1));
    assert_eq!(waiting.exceptions[0].state, ExceptionState::Unanswered);
    life.settle(&web, Settled { unanswered: vec![question(at - 1)], ..settled(&life) });
    assert_eq!(receipt(&life, at).progress, Progress::Live, "it asked before the commit");
}

#[test]
fn who_falls_silent_is_waited_for_and_who_was_silent_is_named() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let first = life.revision;
    life.accept(&redis);
    life.close(&web, false);
    let silent = receipt(&life, first);
    assert_eq!((silent.progress, silent.counts.silent), (Progress::Spreading, 1), "it may serve the old permission");
    assert_eq!(silent.exceptions[0].state, ExceptionState::Silent);

    life.delete(&Key::new("TrafficPermission", "default", "p"));
    let second = life.revision;
    life.accept(&redis);
    let reached = receipt(&life, second);
    assert_eq!((reached.progress, reached.counts.concerned), (Progress::Reached, 1));
    assert!(!reached.progress.is_final(true) && reached.progress.is_final(false));

    // It has reconnected but not answered yet: it may still run with its old configuration.
    let web = life.open_with_identity("web-1");
    assert_eq!(receipt(&life, second).progress, Progress::Reached);
    life.accept(&web);
    assert_eq!(receipt(&life, second).progress, Progress::Live);
    assert_eq!(receipt(&life, first).progress, Progress::Superseded);
}

#[test]
fn who_closes_its_connection_is_away_and_not_waited_for() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    life.accept(&redis);
    life.close(&web, true);
    let receipt = receipt(&life, life.revision);
    assert_eq!((receipt.progress, receipt.counts.away, receipt.counts.concerned), (Progress::Live, 1, 1));
}

#[test]
fn who_comes_after_the_commit_is_counted_and_not_waited_for() {
    let mut life = Mesh::new(true);
    life.load(&[mesh(true), ca(), redis(), web()]);
    let redis = life.open_with_identity("redis-1");
    life.accept(&redis);
    life.write(&[&permission("p", "web", "redis")]);
    let web = life.open_with_identity("web-1");
    let receipt_now = receipt(&life, life.revision);
    assert_eq!((receipt_now.counts.joined, receipt_now.counts.away, receipt_now.counts.concerned), (1, 1, 1));
    life.accept(&redis);
    assert_eq!(receipt(&life, life.revision).progress, Progress::Live, "without web-1, which got it at once");
    life.accept(&web);
}

#[test]
fn a_deleted_dataplane_is_not_waited_for() {
    let (mut life, web, redis) = connected();
    life.write(&[&permission("p", "web", "redis")]);
    let first = life.revision;
    life.accept(&redis);
    life.close(&web, false);
    life.delete(&Key::new("Dataplane", "default", "web-1"));
    life.accept(&redis);
    assert_eq!(receipt(&life, first).progress, Progress::Live);
}

#[test]
fn a_changed_certificate_is_a_change() {
    let (mut life, web, redis) = connected();
    let renamed = "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  gateway: {tags: {service: other}}\n  \
        outbound:\n  - {interface: ':9000', service: redis}";
    life.write(&[&stored(renamed)]);
    assert_eq!(receipt(&life, life.revision).counts.concerned, 1);
    life.accept(&redis);
    assert_eq!(receipt(&life, life.revision).progress, Progress::Spreading);
    life.accept(&web);
    assert_eq!(receipt(&life, life.revision).progress, Progress::Live);
}

#[test]
fn a_thousand_commits_are_remembered_and_older_ones_are_not() {
    let (mut life, _web, _redis) = connected();
    for turn in 0..1500 {
        let source = if turn % 2 == 0 { "web" } else { "other" };
        life.write(&[&permission("p", source, "redis")]);
    }
    assert!(life.engine.receipt(life.revision - 1023).is_some());
    assert!(life.engine.receipt(life.revision - 1024).is_none(), "forgotten");
    assert_eq!(receipt(&life, life.revision).counts.waiting, 2);
}

/// With the memory store, a proxy that comes back keeps its configuration until its documents are written again.
#[test]
fn a_held_proxy_is_named() {
    let (_life, web, _redis) = connected();
    let served = web.served().expect("served");
    let versions = |kind: ResourceType| {
        served.list(kind).iter().map(|one| (one.name().clone(), one.version().into())).collect::<Vec<_>>()
    };
    let mut next = Mesh::new(false);
    next.load(&[mesh(false), ca()]);
    let back = next.open("web-1", true);
    for kind in ResourceType::ALL {
        next.engine.reported(back.id, kind, versions(kind), next.now);
    }
    next.write(&[&redis(), &crate::support::web()]);
    let held = receipt(&next, next.revision);
    assert_eq!((held.progress, held.counts.held), (Progress::Reached, 1));
    assert_eq!(held.exceptions[0].state, ExceptionState::Held);
    next.write(&[&mesh(true)]);
    next.pass(Duration::from_secs(61));
    next.accept(&back);
    assert_eq!(receipt(&next, next.revision).progress, Progress::Live);
}

/// An inbound that its proxy cannot open is no endpoint; it becomes one when it is open.
#[test]
fn an_inbound_that_cannot_be_opened_is_no_endpoint() {
    let endpoints = |stream: &Stream| {
        let served = stream.served().expect("served");
        served.get(ResourceType::Endpoint, "redis").expect("an assignment").delta_entry().len()
    };
    for (authenticated, has_older, is_withdrawn) in [(true, false, true), (true, true, false), (false, false, false)] {
        let mut life = Mesh::new(true);
        life.load(&[mesh(false), redis(), web()]);
        let (web, redis) = (life.open("web-1", false), life.open_as("redis-1", false, authenticated));
        let before = endpoints(&web);
        let inbound = Refusal { has_older, ..refusal("inbound:10.0.0.2:9000", life.revision) };
        life.settle(&redis, Settled { refused: vec![inbound], ..settled(&life) });
        assert_eq!(endpoints(&web) < before, is_withdrawn, "authenticated: {authenticated}, has_older: {has_older}");
        life.settle(&redis, settled(&life));
        assert_eq!(endpoints(&web), before, "it is open");
    }
}
