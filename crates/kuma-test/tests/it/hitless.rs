//! A change closes no connection that it does not concern. Connections of a revoked flow end, and no others.

use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{Dataplane, eventually};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_permissions_leave_permitted_connections_alone() {
    let scene = Scene::start().await;
    let cp = &scene.cp;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;

    let mut connections = Vec::new();
    for _ in 0..50 {
        connections.push(scene.open().await);
    }
    let before = scene.redis_proxy.stat("listener_manager.lds.update_success").await;
    for round in 0..100 {
        let source = format!("other-{round}");
        cp.apply(&permission("default", "another", &source, "redis")).await;
        cp.apply(&permission("default", "web-too", if round % 2 == 0 { "web" } else { "*" }, "redis")).await;
    }
    // Longer than the drain time of these proxies, which is 2 s.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (index, connection) in connections.iter_mut().enumerate() {
        assert!(connection.echoes().await, "connection {index} was reset by edits that keep it permitted");
    }
    let after = scene.redis_proxy.stat("listener_manager.lds.update_success").await;
    assert_eq!(before, after, "an edit of a permission touched a listener");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_flow_ends_and_its_neighbours_do_not() {
    let scene = Scene::start().await;
    let cp = &scene.cp;
    // A second client of redis, on the same host, with a proxy of its own; and a second service for web.
    let (billing_inbound, billing_outbound) = (free_port(), free_port());
    let billing = dataplane(
        "default",
        "billing-1",
        "billing",
        (billing_inbound, scene.redis.port),
        &[(billing_outbound, "redis")],
    );
    cp.apply(&billing).await;
    let billing_proxy = Dataplane::start(cp, "default", "billing-1");
    billing_proxy.live().await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    cp.apply(&permission("default", "billing-to-redis", "billing", "redis")).await;
    scene.closed_to_plain_text().await;

    let mut revoked = scene.open().await;
    let mut neighbour = eventually("billing reaches redis", || Client::connect(billing_outbound)).await;
    cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;

    let mut alive = true;
    for _ in 0..200 {
        alive = revoked.echoes().await;
        if !alive {
            break;
        }
        assert!(neighbour.echoes().await, "the neighbour's connection was cut");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!alive, "the revoked connection is alive long after the drain time");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(neighbour.echoes().await, "the neighbour's connection was cut");
    scene.closed().await;
}
