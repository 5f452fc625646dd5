//! Identities of proxies: certificates that are renewed without an interruption, and tokens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kuma_test::apps::{Client, Greeter, bytes_from};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_over_the_open_stream_and_no_connection_fails() {
    let scene = Scene::start_with(&[("KUMA_SDS_SERVER_DATAPLANE_CERT_VALIDITY", "10s")]).await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    let mut long_lived = scene.open().await;
    let listeners = scene.redis_proxy.stat("listener_manager.lds.update_success").await;

    let load = Load::start(scene.outbound);
    let mut serials = BTreeSet::new();
    let mut last_end = i64::MIN;
    // When the fifth certificate is shown, the first one has expired, on both sides.
    let renewals = async {
        while serials.len() < 5 {
            let der = scene.certificate().await;
            let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
            serials.insert(certificate.raw_serial().to_vec());
            let end = certificate.validity().not_after.timestamp();
            assert!(end >= last_end, "an older certificate came back");
            last_end = end;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), renewals).await.expect("redis's proxy shows five certificates");
    assert!(long_lived.echoes().await, "a connection from before the first renewal was cut");
    let requests = load.end().await;
    assert!(requests > 100, "{requests} requests are too few to see anything");
    assert_eq!(scene.redis_proxy.stat("listener_manager.lds.update_success").await, listeners);
    assert_eq!(scene.web_proxy.stat("control_plane.connected_state").await, 1);
    let streams = scene.cp.get("/meshes/default/dataplanes+insights/redis-1").await;
    let subscriptions = streams["dataplaneInsight"]["subscriptions"].as_array().map(Vec::len);
    assert_eq!(subscriptions, Some(1), "it took another stream: {streams}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_with_the_wrong_token_is_refused_and_told_why() {
    let cp = ControlPlane::start().await;
    let stranger = ControlPlane::start().await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&mesh("open", false)).await;
    for mesh in ["default", "open"] {
        cp.apply(&dataplane(mesh, "redis-1", "redis", (free_port(), free_port()), &[])).await;
    }
    let garbage = cp.folder().join("garbage.token");
    std::fs::write(&garbage, "eyJub3QiOiJhIHRva2VuIn0.e30.c2ln\n").expect("a file");
    let forged = cp.folder().join("forged.token");
    std::fs::write(&forged, tampered(&cp.token_file("default", "redis-1"))).expect("a file");
    let cases: &[(&str, PathBuf, &str)] = &[
        ("default", garbage.clone(), "the dataplane token is not valid"),
        ("default", forged, "wrong signature"),
        ("default", stranger.token_file("default", "redis-1"), "signing key changed: ask for a new token"),
        // A token that is presented has to be valid, even if none is needed.
        ("open", garbage, "the dataplane token is not valid"),
    ];
    for (mesh, token, reason) in cases {
        let token = token.to_str().expect("UTF-8");
        let mut proxy = Dataplane::start_with(&cp, mesh, "redis-1", &["--dataplane-token-file", token]);
        // Both Envoy and kuma-dp report it, each for its own stream.
        proxy.process().prints("gRPC config stream to ads_cluster closed").await;
        proxy.process().prints("the control plane refuses Dataplane \"redis-1\"").await;
        assert!(proxy.process().output().contains(reason), "{mesh} {token}: {}", proxy.process().output());
        nothing_served(&proxy, mesh).await;
        assert!(!is_online(&cp, mesh, "redis-1").await, "{mesh} {token}");
        // All cases write to the same log file.
        std::fs::remove_file(cp.folder().join(format!("{mesh}.redis-1.log"))).expect("a log");
    }
    // With valid tokens both are served, so the tokens were the only reason for the refusals.
    for mesh in ["default", "open"] {
        let proxy = Dataplane::start(&cp, mesh, "redis-1");
        proxy.live().await;
        eventually("it is served", async || proxy.config_dump().await.contains("inbound:").then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_its_streams_and_a_new_one_opens_them() {
    let cp = ControlPlane::start().await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), free_port()), &[])).await;
    let token = |flags: &[&str]| {
        let command = ["generate", "dataplane-token", "--dataplane=redis-1"];
        let output = cp.kumactl(&[&command, flags].concat(), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let file = cp.folder().join("redis-1.token");
    std::fs::write(&file, token(&["--valid-for=20s"])).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let mut proxy = Dataplane::start_with(&cp, "default", "redis-1", &["--dataplane-token-file", path]);
    proxy.live().await;
    eventually("it is online", async || is_online(&cp, "default", "redis-1").await.then_some(())).await;

    proxy.process().prints("the dataplane token is not valid: the token has expired").await;
    eventually("it is offline", async || (!is_online(&cp, "default", "redis-1").await).then_some(())).await;
    assert!(proxy.config_dump().await.contains("inbound:"), "it keeps what it has");

    std::fs::write(&file, token(&[])).expect("a file");
    // Envoy goes on with the token that it was started with.
    drop(proxy);
    let _proxy = Dataplane::start_with(&cp, "default", "redis-1", &["--dataplane-token-file", path]);
    eventually("it is online again", async || is_online(&cp, "default", "redis-1").await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_there_is_nothing_where_the_mesh_has_mtls_and_a_warning_elsewhere() {
    let cp = ControlPlane::start().await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&mesh("open", false)).await;
    let (app, inbound) = (Greeter::start().await, free_port());
    cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), app.port), &[])).await;
    cp.apply(&dataplane("open", "redis-1", "redis", (inbound, app.port), &[])).await;

    let mut refused = Dataplane::start_with(&cp, "default", "redis-1", &[]);
    refused.process().prints("no dataplane token was given").await;
    refused.process().prints("kumactl generate dataplane-token --dataplane=redis-1 --mesh=default").await;
    refused.process().prints("a dataplane token is required").await;
    nothing_served(&refused, "default").await;
    // It may be anybody: what is shown of redis-1 is not his.
    let overview = cp.get("/meshes/default/dataplanes+insights/redis-1").await;
    assert_eq!(overview["dataplaneInsight"], serde_json::json!({}));

    let mut open = Dataplane::start_with(&cp, "open", "redis-1", &[]);
    open.process().prints("no dataplane token was given").await;
    open.live().await;
    eventually("redis answers", || Client::connect(inbound)).await;
    assert_eq!(self::warnings(&cp, "open", "redis-1").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mtls_switched_on_closes_a_proxy_without_a_token_and_says_so() {
    let mut cp = ControlPlane::start().await;
    let (app, inbound) = (Greeter::start().await, free_port());
    let (web_inbound, outbound) = (free_port(), free_port());
    cp.apply(&dataplane("default", "redis-1", "redis", (inbound, app.port), &[])).await;
    cp.apply(&dataplane("default", "web-1", "web", (web_inbound, app.port), &[(outbound, "redis")])).await;
    cp.apply(&permission("default", "everything", "*", "*")).await;
    let redis = Dataplane::start_with(&cp, "default", "redis-1", &[]);
    let web = Dataplane::start(&cp, "default", "web-1");
    redis.live().await;
    web.live().await;
    eventually("web reaches redis", || Client::connect(outbound)).await;

    cp.apply(&mesh("default", true)).await;
    let refused = async {
        while Client::connect(inbound).await.is_some() || Client::connect(outbound).await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Envoy waits 15 s for missing secrets, and could serve plain text in the meantime.
    tokio::time::timeout(Duration::from_secs(8), refused).await.expect("it is closed, not after a while but at once");
    let dialled = app.accepted();
    for _ in 0..20 {
        assert!(Client::connect(outbound).await.is_none());
        assert_eq!(bytes_from(inbound).await, b"");
    }
    assert_eq!(app.accepted(), dialled, "the application was dialled for somebody");
    assert!(is_online(&cp, "default", "redis-1").await, "its stream stays");
    let warnings = eventually("the overview says why", async || {
        let warnings = self::warnings(&cp, "default", "redis-1").await;
        (!warnings.is_empty()).then_some(warnings)
    })
    .await;
    assert!(warnings[0].contains("no dataplane token"), "{warnings:?}");
    cp.process().prints("mTLS is on and the proxy has no dataplane token").await;
    assert_eq!(self::warnings(&cp, "default", "web-1").await, Vec::<String>::new());

    // With a token it works again.
    drop(redis);
    let redis = Dataplane::start(&cp, "default", "redis-1");
    redis.live().await;
    eventually("web reaches redis over TLS", || Client::connect(outbound)).await;
    assert_eq!(self::warnings(&cp, "default", "redis-1").await, Vec::<String>::new());
}

/// A token with the same claims and an invalid signature.
fn tampered(path: &Path) -> String {
    let token = std::fs::read_to_string(path).expect("a token");
    let (signed, signature) = token.trim().rsplit_once('.').expect("three parts");
    let signature: String = signature.chars().rev().filter(|c| c.is_ascii_alphanumeric()).collect();
    // Base64url has groups of four characters.
    format!("{signed}.{}", &signature[..signature.len() / 4 * 4])
}

/// Checks that Envoy runs and has no configuration of the mesh.
async fn nothing_served(proxy: &Dataplane, mesh: &str) {
    proxy.admin_answers().await;
    let dump = proxy.config_dump().await;
    for sign in ["inbound:", "identity_cert", &format!("spiffe://{mesh}")] {
        assert!(!dump.contains(sign), "{sign} was served: {dump}");
    }
}

async fn subscription(cp: &ControlPlane, mesh: &str, name: &str) -> Value {
    let overview = cp.get(&format!("/meshes/{mesh}/dataplanes+insights/{name}")).await;
    let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array();
    subscriptions.and_then(|list| list.last()).cloned().unwrap_or_default()
}

async fn warnings(cp: &ControlPlane, mesh: &str, name: &str) -> Vec<String> {
    let subscription = subscription(cp, mesh, name).await;
    let warnings = subscription["status"]["warnings"].as_array().into_iter().flatten();
    warnings.filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

async fn is_online(cp: &ControlPlane, mesh: &str, name: &str) -> bool {
    let subscription = subscription(cp, mesh, name).await;
    subscription.get("connectTime").is_some() && subscription.get("disconnectTime").is_none()
}
