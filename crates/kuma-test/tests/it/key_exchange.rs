//! Keys are exchanged with X25519MLKEM768, and with X25519 or P-256 where the peer has nothing better.

use kuma_test::documents::{mesh, permission};
use kuma_test::eventually;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

use crate::scene::{Scene, certificate_for};

#[tokio::test(flavor = "multi_thread")]
async fn proxies_and_the_control_plane_exchange_keys_with_a_post_quantum_group() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    scene.open().await;

    // Envoy's own counts, of servers and of clients; all handshakes had this group.
    for (proxy, subject) in [
        (&scene.redis_proxy, "listener"),
        (&scene.web_proxy, "cluster.redis"),
        (&scene.web_proxy, "cluster.ads_cluster"),
    ] {
        let groups = eventually(subject, async || {
            let stats = proxy.stats("ssl\\.curves\\.").await;
            let of_subject = stats.iter().filter(|(name, count)| name.starts_with(subject) && **count > 0);
            let groups: Vec<_> =
                of_subject.filter_map(|(name, _)| Some(name.rsplit_once(".curves.")?.1.to_owned())).collect();
            (!groups.is_empty()).then_some(groups)
        })
        .await;
        assert!(groups.iter().all(|group| group == "X25519MLKEM768"), "{subject}: {groups:?}");
    }

    let overview = scene.cp.get("/meshes/default/dataplanes+insights/redis-1").await;
    assert_eq!(overview["dataplaneInsight"]["subscriptions"][0]["keyExchange"], "X25519MLKEM768");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_without_post_quantum_groups_are_served() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.closed_to_plain_text().await;
    // A certificate is encrypted with the exchanged keys, so whoever sees one has exchanged them.
    for (group, is_served) in [(X25519MLKEM768, true), (X25519, true), (SECP256R1, true), (SECP384R1, false)] {
        let shown = certificate_for(scene.inbound, only(group)).await;
        assert_eq!(shown.is_some(), is_served, "the proxy with {:?}", group.name());
    }
    for group in [X25519MLKEM768, X25519, SECP256R1] {
        let shown = certificate_for(scene.cp.xds_port(), only(group)).await;
        assert!(shown.is_some(), "the control plane with {:?}", group.name());
    }
}

fn only(group: &'static dyn SupportedKxGroup) -> CryptoProvider {
    CryptoProvider { kx_groups: vec![group], ..rustls::crypto::aws_lc_rs::default_provider() }
}
