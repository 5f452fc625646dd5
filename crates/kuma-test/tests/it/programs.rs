//! Messages of kuma-dp and kuma-cp when the operator has to do something.

use std::path::PathBuf;

use kuma_test::apps::{Client, Greeter};
use kuma_test::dataplane::Start;
use kuma_test::documents::{dataplane, mesh};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::Scene;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A control plane and a proxy without a token.
async fn without_a_token() -> (ControlPlane, Dataplane) {
    let cp = ControlPlane::start().await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[])).await;
    let proxy = Dataplane::start_with(&cp, "default", "web-1", &[]);
    proxy.live().await;
    (cp, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_somebody_else_ends_makes_kuma_dp_fail() {
    let (_cp, mut proxy) = without_a_token().await;
    let envoy = Pid::from_raw(i32::try_from(proxy.envoy().await).expect("a pid")).expect("a pid");
    kill_process(envoy, Signal::TERM).expect("Envoy runs");
    assert_eq!(proxy.process().wait(LIMIT).code(), Some(1), "{}", proxy.process().output());
    assert!(proxy.process().output().contains("Envoy has ended: it exited with code 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mtls_that_is_switched_on_is_told_to_a_proxy_without_a_token() {
    let (cp, mut proxy) = without_a_token().await;
    let said = "the control plane refuses Dataplane \"web-1\" of mesh \"default\": mesh \"default\" has mTLS: \
                a dataplane token is required";
    assert!(!proxy.process().output().contains("the control plane refuses"), "{}", proxy.process().output());
    cp.apply(&mesh("default", true)).await;
    proxy.process().prints(said).await;
    // The message comes once, however often kuma-dp tries again.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(proxy.process().output().matches(said).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_state_folder_is_explained_on_both_sides() {
    let mut scene = Scene::start().await;
    scene.cp.kill();
    let state: PathBuf = scene.cp.folder().join("state");
    std::fs::rename(&state, scene.cp.folder().join("old-state")).expect("the state folder is there");
    scene.cp.restart().await;
    scene.web_proxy.process().prints("has a certificate of another CA than when this proxy was started").await;
    scene.web_proxy.process().prints("start kuma-dp again").await;
    eventually("kuma-cp says it", async || {
        scene.cp.output().contains("a proxy does not trust this control plane's certificate").then_some(())
    })
    .await;
    assert!(Client::connect(scene.outbound).await.is_some(), "traffic goes on");

    // The first advice in the message helps.
    scene.cp.kill();
    std::fs::remove_dir_all(&state).expect("the new state folder is there");
    std::fs::rename(scene.cp.folder().join("old-state"), &state).expect("the old one is there");
    scene.cp.restart().await;
    for document in scene.documents() {
        scene.cp.apply(&document).await;
    }
    eventually("web is online again", async || {
        let insights = scene.cp.get("/meshes/default/dataplanes+insights/web-1").await;
        let subscriptions = insights["dataplaneInsight"]["subscriptions"].as_array()?.clone();
        subscriptions.last()?.get("disconnectTime").is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_this_dataplanes_ends_kuma_dp_at_once() {
    let cp = ControlPlane::start().await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[])).await;
    let good = std::fs::read_to_string(cp.token_file("default", "web-1")).expect("a token");
    let other = std::fs::read_to_string(cp.token_file("default", "web-2")).expect("a token");
    let file = cp.folder().join("token");
    for (content, says) in [
        (format!("\u{feff}{good}"), "begins with a byte order mark"),
        (format!("{good}\u{200b}"), "holds the character U+200B"),
        (format!("\"{good}\""), "is in quotes"),
        ("hello".to_owned(), "is not a JSON Web Token"),
        (other, "is of Dataplane \"web-2\" of mesh \"default\", and this is Dataplane \"web-1\""),
    ] {
        std::fs::write(&file, &content).expect("a file");
        let mut proxy =
            Dataplane::start_with(&cp, "default", "web-1", &["--dataplane-token-file", file.to_str().expect("UTF-8")]);
        assert_eq!(proxy.process().wait(LIMIT).code(), Some(1), "{content}");
        let output = proxy.process().output();
        assert!(output.contains(says) && output.contains("kumactl generate dataplane-token"), "{output}");
        std::fs::remove_file(cp.folder().join("default.web-1.log")).expect("a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_files_make_few_connections_and_end_none() {
    let cp = ControlPlane::start().await;
    let redis = Greeter::start().await;
    let outbound = free_port();
    cp.apply(&dataplane("default", "redis-1", "redis", (redis.port, free_port()), &[])).await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), redis.port), &[(outbound, "redis")])).await;
    let start = Start { open_files: Some(256), ..Start::default() };
    let mut web = Dataplane::start_as(&cp, "default", "web-1", &start);
    web.process().prints("the limit of open files is 256, so Envoy takes at most").await;
    web.live().await;
    eventually("web reaches redis", || Client::connect(outbound)).await;
    // Of 200 connections some are accepted and the others refused. Without a limit Envoy crashed at the 113th.
    let mut held = Vec::new();
    for _ in 0..200 {
        held.extend(Client::connect(outbound).await);
    }
    assert!((50..113).contains(&held.len()), "{} connections are carried", held.len());
    let refused = web.stats("downstream_global_cx_overflow").await;
    assert!(refused.values().any(|count| *count > 0), "{refused:?}");
    for client in &mut held {
        assert!(client.echoes().await, "a connection that was held is lost");
    }
    let carried = held.len();
    held.clear();
    for _ in 0..carried {
        held.push(eventually("there is room again", || Client::connect(outbound)).await);
    }
    assert!(web.process().is_running());
}
