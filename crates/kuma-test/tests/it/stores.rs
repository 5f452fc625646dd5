//! Stores that last: a restart, a move from memory and a store that was replaced change nothing for proxies.

use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::documents::{mesh, permission};

use crate::restart::{assert_not_plain, connected, updates};
use crate::scene::Scene;

const FILE: (&str, &str) = ("KUMA_STORE_TYPE", "file");

/// A mesh with mTLS in which web may call redis.
pub(crate) async fn secured(env: &[(&str, &str)]) -> Scene {
    let scene = Scene::start_with(env).await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    scene
}

async fn reachable(scene: &Scene, when: &str) {
    for request in 0..100 {
        assert!(Client::connect(scene.outbound).await.is_some(), "request {request} failed {when}");
    }
    assert_not_plain(scene).await;
}

/// What both proxies have been sent so far.
async fn sent(scene: &Scene) -> impl PartialEq + std::fmt::Debug + use<> {
    (updates(&scene.redis_proxy).await, updates(&scene.web_proxy).await)
}

async fn come_back(scene: &mut Scene) {
    scene.cp.restart().await;
    connected(&scene.redis_proxy).await;
    connected(&scene.web_proxy).await;
    // Time for updates to arrive, if any are sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_on_a_file_comes_back_with_everything() {
    let mut scene = secured(&[FILE]).await;
    let before = sent(&scene).await;
    let (documents, store) = (scene.cp.get("/meshes/default/dataplanes").await, scene.cp.get("/store").await);
    // Time for it to be remembered.
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.cp.kill();
    come_back(&mut scene).await;
    reachable(&scene, "after the restart").await;
    assert_eq!(sent(&scene).await, before);
    assert_eq!(scene.cp.get("/meshes/default/dataplanes").await, documents);
    let again = scene.cp.get("/store").await;
    assert_eq!((&again["store"], &again["revision"]), (&store["store"], &store["revision"]));
    // Changes take effect without anything being written again.
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_from_memory_to_a_file_costs_proxies_nothing() {
    let mut scene = secured(&[]).await;
    let before = sent(&scene).await;
    let mut long_lived = scene.open().await;
    scene.cp.kill();
    scene.cp.set(FILE.0, FILE.1);
    come_back(&mut scene).await;
    reachable(&scene, "after the move").await;
    // Again, before anything was written.
    scene.cp.kill();
    come_back(&mut scene).await;
    reachable(&scene, "after another restart").await;
    let [redis, web] = scene.documents();
    for document in [web, redis, mesh("default", true), permission("default", "web-to-redis", "web", "redis")] {
        scene.cp.apply(&document).await;
        assert_not_plain(&scene).await;
    }
    reachable(&scene, "after documents came back").await;
    assert!(long_lived.echoes().await, "a connection from before did not survive");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sent(&scene).await, before);
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_takes_nothing_from_proxies_until_it_is_accepted() {
    let mut scene = secured(&[FILE]).await;
    let before = sent(&scene).await;
    scene.cp.kill();
    let state = scene.cp.folder().join("state");
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        match std::fs::remove_file(state.join(name)) {
            Ok(()) => {}
            Err(error) => assert_ne!(name, "store.db", "{error}"),
        }
    }
    come_back(&mut scene).await;
    reachable(&scene, "with an empty store").await;
    assert_eq!(sent(&scene).await, before);
    let store = scene.cp.get("/store").await;
    assert_eq!((&store["complete"], &store["missing"]["proxyCount"]), (&false.into(), &2.into()), "{store}");

    let unasked = scene.cp.kumactl(&["store", "accept"], "");
    assert_eq!(unasked.status.code(), Some(1));
    reachable(&scene, "after nothing was accepted").await;
    let accepted = scene.cp.kumactl(&["store", "accept", "--yes"], "");
    let said = String::from_utf8_lossy(&accepted.stdout).into_owned();
    assert!(accepted.status.success() && said.contains("redis-1") && said.contains("web-1"), "{said}");
    scene.closed().await;
}
