//! Proxies that vanish without a report: a dead one is removed from the endpoints, and none is removed because of a
//! fault of the network or of the control plane.

use std::time::{Duration, Instant};

use kuma_test::apps::Client;
use kuma_test::wire::Wire;
use kuma_test::{Load, eventually};

use crate::fleet::Fleet;
use crate::scene::Scene;

/// How long both streams of a proxy have to stay away before it is removed.
const ABSENCE: Duration = Duration::from_secs(5);

/// Long enough for a wrong removal to show.
const OUTAGE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_that_is_killed_leaves_after_five_seconds_and_comes_back() {
    let mut fleet = Fleet::start(3).await;
    let killed = Instant::now();
    // Its Envoy ends with it.
    fleet.others[0].proxy.process().kill();
    fleet.instances(2).await;
    let took = killed.elapsed();
    assert!(took >= ABSENCE, "it was given up after {took:?}");
    println!("its clients were told after {took:?}");
    for _ in 0..20 {
        assert!(Client::connect(fleet.scene.outbound).await.is_some());
    }
    let why = fleet.departure("redis-2").await.expect("the overview says why");
    assert!(why.starts_with("it has vanished"), "{why}");
    let metrics = metrics(&fleet.scene).await;
    assert!(metrics.contains("kuma_cp_proxies_gone{why=\"vanished\"} 1"), "{metrics}");

    let served = fleet.others[0].app.accepted();
    fleet.others[0].restart(&fleet.scene);
    fleet.instances(3).await;
    eventually("it has its share", async || {
        Client::connect(fleet.scene.outbound).await;
        (fleet.others[0].app.accepted() > served).then_some(())
    })
    .await;
    assert_eq!(fleet.departure("redis-2").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_back_within_five_seconds_never_left() {
    let mut fleet = Fleet::start(3).await;
    let before = fleet.changes().await;
    // On a busy machine a start may take longer than that; then the proxy is rightly removed.
    for attempt in 1.. {
        assert!(attempt < 8, "this machine never starts a proxy within {ABSENCE:?}");
        let connections = connections(&fleet.scene);
        fleet.others[0].proxy.process().kill();
        let killed = Instant::now();
        fleet.others[0].restart(&fleet.scene);
        eventually("it is back", async || (connections_of(&fleet.scene, connections)).then_some(())).await;
        if killed.elapsed() < ABSENCE - Duration::from_millis(500) {
            break;
        }
        fleet.others[0].proxy.live().await;
        fleet.instances(3).await;
    }
    let changes = fleet.changes().await;
    fleet.others[0].proxy.live().await;
    tokio::time::sleep(ABSENCE * 2).await;
    assert_eq!(fleet.changes().await, changes, "its clients were told of something (before: {before})");
    fleet.instances(3).await;
}

/// How often the second instance has connected to the control plane.
fn connections(scene: &Scene) -> usize {
    scene.cp.output().matches("proxy connected mesh=default dataplane=redis-2").count()
}

fn connections_of(scene: &Scene, before: usize) -> bool {
    connections(scene) > before
}

/// A fleet that reaches the control plane over a wire.
async fn wired() -> (Fleet, Wire) {
    let (scene, wire) = Scene::start_wired().await;
    (Fleet::start_in(scene, 3).await, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_of_the_control_plane_removes_nobody() {
    for silent in [false, true] {
        let (fleet, wire) = wired().await;
        let before = fleet.changes().await;
        let load = Load::start(fleet.scene.outbound);
        if silent {
            wire.silence()
        } else {
            wire.cut()
        }
        tokio::time::sleep(OUTAGE).await;
        wire.mend();
        eventually("all are connected again", async || {
            let all = [&fleet.scene.web_proxy, &fleet.scene.redis_proxy];
            for proxy in all.into_iter().chain(fleet.others.iter().map(|instance| &instance.proxy)) {
                if proxy.stat("control_plane.connected_state").await != 1 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        tokio::time::sleep(ABSENCE * 2).await;
        assert_eq!(fleet.changes().await, before, "an instance left or came, silent: {silent}");
        load.end().await;
        for name in ["redis-1", "redis-2", "redis-3"] {
            assert_eq!(fleet.departure(name).await, None, "{name}, silent: {silent}");
        }
        // The control plane logs that it keeps them, if it has noticed that they are away.
        let log = fleet.scene.cp.output();
        assert_eq!(
            log.contains("Their endpoints stay until the proxies reconnect"),
            !silent,
            "silent: {silent}\n{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_removes_nobody() {
    let mut fleet = Fleet::start(3).await;
    let before = fleet.changes().await;
    let load = Load::start(fleet.scene.outbound);
    fleet.scene.cp.kill();
    tokio::time::sleep(ABSENCE).await;
    fleet.scene.cp.restart().await;
    // The documents are lost, and are written again. web's comes first, when no instance of redis is known.
    let [redis, web] = fleet.scene.documents();
    let others = fleet.others.iter().map(|one| (one.name.as_str(), one.inbound, one.app.port));
    let others: Vec<_> = others
        .map(|(name, inbound, app)| kuma_test::documents::dataplane("default", name, "redis", (inbound, app), &[]))
        .collect();
    for document in [web, redis].iter().chain(&others) {
        fleet.scene.cp.apply(document).await;
    }
    tokio::time::sleep(ABSENCE * 2).await;
    assert_eq!(fleet.changes().await, before);
    load.end().await;
}

async fn metrics(scene: &Scene) -> String {
    let url = format!("{}/metrics", scene.cp.diagnostics_url());
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    client.get(url).send().await.expect("an answer").text().await.expect("text")
}
