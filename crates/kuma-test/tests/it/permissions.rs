//! TrafficPermission decides which clients get through; a denied client gets no data.

use kuma_test::apps::bytes_from;
use kuma_test::documents::{mesh, permission};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_opens_and_closes_what_it_names() {
    let scene = Scene::start().await;
    let cp = &scene.cp;

    cp.apply(&mesh("default", true)).await;
    scene.closed().await;

    cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.open().await;

    cp.apply(&permission("default", "web-to-redis", "backend", "redis")).await;
    scene.closed().await;

    cp.apply(&permission("default", "everything", "*", "*")).await;
    scene.open().await;

    cp.delete("/meshes/default/traffic-permissions/everything").await;
    scene.closed().await;

    cp.apply(&mesh("default", false)).await;
    scene.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_peer_reads_not_a_byte_of_a_server_that_speaks_first() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.closed().await;
    // The first refusal may only mean that one of the proxies has switched to mTLS before the other.
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.open().await;
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;

    let dialled = scene.redis.accepted();
    assert_eq!(bytes_from(scene.outbound).await, b"", "through web's proxy, which has a certificate of the mesh");
    assert_eq!(scene.redis.accepted(), dialled, "the application was dialled for a peer that is denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_is_refused_and_the_certificate_names_the_service() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "everything", "*", "*")).await;
    scene.closed_to_plain_text().await;

    let names = scene.certificate_uris().await;
    assert_eq!(names, ["spiffe://default/redis"]);
}
