//! When the steps of a rotation are due: each step waits for every proxy.

use std::time::Duration;

use kuma_ca::MeshRoots;
use kuma_engine::{DueStep, LINGER, SETTLE};
use kuma_model::{Ca, Dataplane, Key, Resource as _};
use kuma_xds::ResourceType;

use crate::support::{Mesh, Stream, builtin, mesh, permission, redis, root, web};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// A mesh with mTLS that has been running for a while, and its CA.
struct World {
    mesh: Mesh,
    roots: Option<MeshRoots>,
}

impl World {
    fn new(durable: bool) -> World {
        let mut world = World { mesh: Mesh::new(durable), roots: Some(MeshRoots::new(root())) };
        world.store();
        world.mesh.write(&[&mesh(true), &redis(), &web(), &permission("p", "web", "redis")]);
        world.mesh.pass(SETTLE);
        world
    }

    fn roots(&self) -> &MeshRoots {
        self.roots.as_ref().expect("there are roots")
    }

    fn change(&mut self, change: impl FnOnce(MeshRoots) -> MeshRoots) {
        self.roots = self.roots.take().map(change);
        self.store();
    }

    fn store(&mut self) {
        let stored = builtin(self.roots());
        self.mesh.write(&[&stored]);
        self.look();
    }

    fn rotate(&mut self, patience: Option<Duration>) {
        let now = self.mesh.now;
        self.change(|roots| roots.introduce(root(), now, patience).expect("introduces"));
    }

    /// Takes the step that is due. There must be exactly one.
    fn advance(&mut self) {
        let step = DueStep { ca: Ca::Builtin, generation: self.roots().generation() };
        assert_eq!(std::mem::take(&mut self.mesh.steps), [step]);
        let now = self.mesh.now;
        self.change(|roots| roots.advance(now));
    }

    fn look(&mut self) {
        let step = self.mesh.engine.rotation_step(self.mesh.now);
        self.mesh.steps.extend(step);
    }

    fn nothing_is_due(&mut self) {
        self.look();
        assert_eq!(self.mesh.steps, []);
    }

    fn waiting(&self) -> (Vec<String>, Vec<String>) {
        let status = self.mesh.engine.rotation_status(Ca::Builtin);
        let names = |names: Vec<std::sync::Arc<str>>| names.iter().map(|name| name.to_string()).collect();
        (names(status.waiting), names(status.away))
    }
}

fn versions(stream: &Stream) -> (String, String) {
    let served = stream.served().expect("it is served");
    let version = |name: &str| served.get(ResourceType::Secret, name).expect(name).version().to_owned();
    (version("mesh_ca"), version("identity_cert"))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn each_step_waits_for_every_proxy() {
    let mut world = World::new(true);
    let (web, redis) = (world.mesh.open_with_identity("web-1"), world.mesh.open_with_identity("redis-1"));
    for stream in [&web, &redis] {
        world.mesh.accept(stream);
    }
    let (trust, leaf) = versions(&web);

    world.rotate(None);
    let (both, same_leaf) = versions(&web);
    assert!(both != trust && same_leaf == leaf, "it is trusted first");
    assert_eq!(world.waiting(), (names(&["redis-1", "web-1"]), vec![]));
    world.mesh.accept(&web);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    assert_eq!(world.waiting(), (names(&["redis-1"]), vec![]));
    world.mesh.accept(&redis);
    world.mesh.pass(LINGER - Duration::from_secs(1));
    world.nothing_is_due();
    world.mesh.pass(Duration::from_secs(1));

    world.advance();
    assert_eq!(versions(&web), (both.clone(), leaf.clone()), "not all at the same moment");
    for stream in [&web, &redis] {
        world.mesh.accept(stream);
    }
    world.mesh.pass(Duration::from_secs(1));
    let (still_both, new_leaf) = versions(&web);
    assert!(still_both == both && new_leaf != leaf, "then it signs");
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.accept(&redis);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.accept(&web);
    world.mesh.pass(LINGER);

    world.advance();
    let (new_trust, same_leaf) = versions(&web);
    assert!(new_trust != both && new_trust != trust && same_leaf == new_leaf, "and the old one is trusted no more");
    world.mesh.pass(2 * DAY);
    world.nothing_is_due();
}

#[test]
fn who_is_away_is_waited_for_as_long_as_its_certificate_may_last_or_as_the_user_says() {
    for (patience, time) in [(None, DAY), (Some(Duration::from_secs(600)), Duration::from_secs(600))] {
        let mut world = World::new(true);
        let web = world.mesh.open_with_identity("web-1");
        world.rotate(patience);
        world.mesh.accept(&web);
        assert_eq!(world.waiting(), (vec![], names(&["redis-1"])));
        world.mesh.pass(time - MINUTE);
        // It may have got a new certificate in the meantime, which it accepts.
        world.mesh.accept(&web);
        world.nothing_is_due();
        world.mesh.pass(MINUTE + LINGER);
        world.advance();
        // It reconnects during the second step, and does not block it.
        let redis = world.mesh.open_with_identity("redis-1");
        world.mesh.pass(Duration::from_secs(1));
        world.mesh.accept(&web);
        world.mesh.pass(LINGER);
        world.nothing_is_due();
        world.mesh.accept(&redis);
        world.mesh.pass(LINGER);
        world.advance();
    }
}

#[test]
fn who_is_connected_is_waited_for_until_its_certificate_has_ended() {
    let mut world = World::new(true);
    let (web, redis) = (world.mesh.open_with_identity("web-1"), world.mesh.open_with_identity("redis-1"));
    // However short the time to wait for disconnected proxies is.
    world.rotate(Some(Duration::ZERO));
    world.mesh.accept(&web);
    world.mesh.pass(DAY - MINUTE);
    world.mesh.accept(&web);
    world.nothing_is_due();
    assert_eq!(world.waiting().0, names(&["redis-1"]));
    world.mesh.pass(MINUTE + LINGER);
    world.advance();
    world.mesh.pass(Duration::from_secs(1));
    assert_ne!(versions(&redis).1, versions(&web).1);
}

#[test]
fn a_proxy_that_has_not_asked_for_its_secrets_yet_holds_nothing() {
    let mut world = World::new(true);
    world.rotate(Some(Duration::ZERO));
    let web = world.mesh.open("web-1", false);
    world.mesh.accept(&web);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.engine.wants_identity(web.id, world.mesh.now);
    world.mesh.accept(&web);
    world.mesh.pass(LINGER);
    world.advance();
}

/// An Envoy that is configured by hand, with a stream for each secret.
#[test]
fn streams_for_secrets_alone_are_waited_for() {
    let mut world = World::new(true);
    world.rotate(Some(Duration::ZERO));
    let (roots, identity) = (world.mesh.open_for_secrets("web-1"), world.mesh.open_for_secrets("web-1"));
    world.mesh.engine.wants_identity(identity.id, world.mesh.now);
    world.mesh.accept(&identity);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.accept(&roots);
    world.mesh.pass(LINGER);
    world.advance();
    world.mesh.pass(Duration::from_secs(1));
    world.mesh.accept(&roots);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.accept(&identity);
    world.mesh.pass(LINGER);
    world.advance();
}

#[test]
fn who_needs_no_certificate_is_not_waited_for() {
    let mut world = World::new(true);
    world.mesh.delete(&Key::new(Dataplane::KIND, "default", "web-1"));
    world.mesh.delete(&Key::new(Dataplane::KIND, "default", "redis-1"));
    let lonely = crate::support::stored(
        "type: Dataplane\nmesh: default\nname: lonely\nnetworking:\n  gateway:\n    tags: {service: lonely}",
    );
    world.mesh.write(&[&lonely]);
    let _lonely = world.mesh.open("lonely", false);
    world.rotate(None);
    world.mesh.pass(LINGER);
    world.advance();
    world.mesh.pass(LINGER);
    world.advance();
}

#[test]
fn after_a_start_proxies_are_given_time_to_come_back() {
    for durable in [true, false] {
        let mut life = Mesh::new(durable);
        let roots = MeshRoots::new(root()).introduce(root(), life.now, Some(Duration::ZERO)).expect("introduces");
        let ca = builtin(&roots);
        life.load(&[mesh(true), ca, redis(), web()]);
        life.pass(SETTLE - Duration::from_secs(1));
        assert_eq!(life.steps, []);
        life.pass(Duration::from_secs(1) + LINGER);
        if !durable {
            // The default Mesh that the control plane creates does not tell whether proxies have certificates.
            life.pass(2 * DAY);
            assert_eq!(life.steps, []);
            assert!(life.engine.rotation_status(Ca::Builtin).waits_for_mesh);
            // The proxy has reconnected, but its Dataplane has not been written again.
            life.delete(&Key::new(Dataplane::KIND, "default", "web-1"));
            life.write(&[&mesh(true)]);
        }
        life.pass(LINGER);
        assert_eq!(life.steps, [DueStep { ca: Ca::Builtin, generation: roots.generation() }]);
    }
}

#[test]
fn who_holds_what_we_have_forgotten_is_waited_for() {
    let mut life = Mesh::new(false);
    let roots = MeshRoots::new(root()).introduce(root(), life.now, Some(Duration::ZERO)).expect("introduces");
    life.write(&[&mesh(true), &builtin(&roots)]);
    let web = life.open("web-1", true);
    life.engine.wants_identity(web.id, life.now);
    life.pass(SETTLE + MINUTE);
    assert!(web.is_held() && life.steps.is_empty());
    assert_eq!(life.engine.rotation_status(Ca::Builtin).waiting, [std::sync::Arc::from("web-1")]);
    life.write(&[&crate::support::web()]);
    life.pass(MINUTE);
    life.accept(&web);
    life.pass(LINGER);
    assert_eq!(life.steps.len(), 1);
}

#[test]
fn without_mtls_nobody_is_waited_for() {
    let mut world = World::new(true);
    let _web = world.mesh.open("web-1", false);
    world.mesh.write(&[&mesh(false)]);
    world.rotate(None);
    world.advance();
    world.advance();
    world.nothing_is_due();
}

/// Answers from an aborted rotation do not count in the next one, even if that has the same root.
#[test]
fn what_was_accepted_before_a_rotation_was_given_up_does_not_count() {
    let mut world = World::new(true);
    let (web, redis) = (world.mesh.open_with_identity("web-1"), world.mesh.open_with_identity("redis-1"));
    let (next, now) = (root(), world.mesh.now);
    let copy = || kuma_ca::Root::from_pem(next.cert_pem(), next.key_pem()).expect("reads");
    let begin = |roots: MeshRoots| roots.introduce(copy(), now, None).expect("introduces");
    world.change(begin);
    for stream in [&web, &redis] {
        world.mesh.accept(stream);
    }
    world.change(|roots| roots.without(&next.id()).expect("gives up"));
    world.mesh.accept(&web);
    world.change(begin);
    assert_eq!(world.waiting().0, names(&["redis-1", "web-1"]));
    world.mesh.accept(&web);
    world.mesh.pass(MINUTE);
    world.nothing_is_due();
    world.mesh.accept(&redis);
    world.nothing_is_due();
    world.mesh.pass(LINGER);
    world.advance();
}

/// A rotation that was aborted and started again with the same root: the step is due again.
#[test]
fn a_rotation_that_was_given_up_can_be_repeated() {
    let mut world = World::new(true);
    world.mesh.write(&[&mesh(false)]);
    let (next, now) = (root(), world.mesh.now);
    let copy = || kuma_ca::Root::from_pem(next.cert_pem(), next.key_pem()).expect("reads");
    for _ in 0..2 {
        world.change(|roots| roots.introduce(copy(), now, None).expect("introduces"));
        assert_eq!(std::mem::take(&mut world.mesh.steps).len(), 1);
        world.nothing_is_due();
        world.change(|roots| roots.without(&next.id()).expect("gives up"));
        world.nothing_is_due();
    }
}
