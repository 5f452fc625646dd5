//! Instances that move or restart and control planes that come back, and how long that interrupts clients. The tests
//! print the figures of docs/traffic.md.

use std::time::{Duration, Instant};

use kuma_test::apps::Client;
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{Dataplane, Load, eventually};

use crate::restart::connected;
use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn the_only_instance_moves_to_another_port_under_load() {
    const MOVES: usize = 5;
    let scene = Scene::start().await;
    let load = Load::start(scene.outbound);
    for _ in 0..MOVES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let moved = dataplane("default", "redis-1", "redis", (free_port(), scene.redis.port), &[]);
        scene.cp.apply(&moved).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (done, failures) = load.end_with_failures().await;
    println!("{done} connections, {} lost", failures.len());
    // Envoy closes the old port at once. A connection that has reached it in that millisecond and is not accepted yet
    // is reset.
    assert!(failures.len() <= MOVES, "{failures:?}");
    assert!(done > 1000, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_instance_is_back_when_its_proxy_is() {
    let mut scene = Scene::start().await;
    scene.redis_proxy.process().kill();
    let killed = Instant::now();
    scene.redis_proxy = Dataplane::start(&scene.cp, "default", "redis-1");
    let is_back = async || Client::connect(scene.outbound).await.map(drop);
    eventually("it serves again", is_back).await;
    println!("a proxy that was killed and started again at once took {:?}", killed.elapsed());
}

/// Proxies reconnect soon after the control plane is back, however long it was away.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_back_soon_after_their_control_plane() {
    let mut scene = Scene::start().await;
    let mut longest = Duration::ZERO;
    for _ in 0..2 {
        scene.cp.kill();
        tokio::time::sleep(Duration::from_secs(15)).await;
        scene.cp.restart().await;
        let restarted = Instant::now();
        for proxy in [&scene.redis_proxy, &scene.web_proxy] {
            connected(proxy).await;
        }
        longest = longest.max(restarted.elapsed());
        println!("after a control plane was away for 15 s its proxies took {:?}", restarted.elapsed());
    }
    // Far less than the half minute of Envoy's default back-off.
    assert!(longest < Duration::from_secs(8), "{longest:?}");
}
