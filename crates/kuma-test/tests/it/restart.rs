//! A restart of a control plane with the memory store interrupts no traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use kuma_test::apps::{Client, GREETING, bytes_from};
use kuma_test::documents::{mesh, permission};
use kuma_test::{Dataplane, eventually};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn traffic_outlives_the_control_plane_and_nothing_is_sent_again() {
    let mut scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    let mut long_lived = scene.open().await;
    let redis_before = updates(&scene.redis_proxy).await;
    let web_before = updates(&scene.web_proxy).await;

    scene.cp.kill();
    for request in 0..500 {
        assert!(Client::connect(scene.outbound).await.is_some(), "request {request} failed without a control plane");
    }
    scene.cp.restart().await;
    connected(&scene.redis_proxy).await;
    connected(&scene.web_proxy).await;
    // The proxies have reconnected with their old tokens, and no document has been written: they keep their
    // configuration.
    for request in 0..250 {
        assert!(Client::connect(scene.outbound).await.is_some(), "request {request} failed after the restart");
    }
    assert_not_plain(&scene).await;

    // The same documents in an unfavourable order: Dataplanes before the Mesh, the permission last.
    let [redis, web] = scene.documents();
    for document in [web, redis, mesh("default", true), permission("default", "web-to-redis", "web", "redis")] {
        scene.cp.apply(&document).await;
        assert_not_plain(&scene).await;
    }
    for request in 0..250 {
        assert!(Client::connect(scene.outbound).await.is_some(), "request {request} failed after documents came back");
    }
    assert!(long_lived.echoes().await, "a connection from before did not survive");
    // Time for updates to arrive, if any are sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(updates(&scene.redis_proxy).await, redis_before, "redis's proxy was sent what it had");
    assert_eq!(updates(&scene.web_proxy).await, web_before, "web's proxy was sent what it had");

    // Changes take effect again.
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;
}

/// How often Envoy has applied new configuration, by type, and how often it was sent any.
pub(crate) async fn updates(proxy: &Dataplane) -> BTreeMap<String, u64> {
    let pattern = concat!(
        r"^cluster_manager\.cluster_(added|modified|removed)$",
        r"|^listener_manager\.listener_(added|modified|in_place_updated|removed)$",
        r"|\.(update_success|update_rejected|config_reload|key_rotation_failed)$",
    );
    let mut counters = proxy.stats(pattern).await;
    // Envoy counts DNS updates of the control plane's name in the same way.
    counters.retain(|name, _| !name.starts_with("cluster.ads_cluster."));
    assert!(counters.len() >= 10, "too few counters to see anything: {counters:?}");
    counters
}

pub(crate) async fn connected(proxy: &Dataplane) {
    eventually("Envoy is connected to the control plane", || async {
        (proxy.stat("control_plane.connected_state").await == 1).then_some(())
    })
    .await;
}

pub(crate) async fn assert_not_plain(scene: &Scene) {
    let bytes = bytes_from(scene.inbound).await;
    assert!(!bytes.windows(GREETING.len()).any(|window| window == GREETING), "redis's inbound served plain text");
}
