//! A proxy that is stopped waits for all its connections: those of clients, and those of its own application.

use std::time::{Duration, Instant};

use kuma_test::apps::Client;
use kuma_test::dataplane::Start;
use kuma_test::ports::free_port;
use kuma_test::{Dataplane, HttpClient, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::http;
use crate::scene::Scene;

/// Far longer than the drains below take.
const DRAIN: Start<'_> = Start { drain_time: "30s", admin: true, open_files: None, others: &[] };

/// How long to wait for a process to end.
const END: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_cuts_no_request() {
    let scene = http::Scene::start(true).await;
    let outbound = free_port();
    let gateway = json!({
        "type": "Dataplane", "mesh": "default", "name": "edge-1",
        "networking": {
            "gateway": {"tags": {"service": "web"}},
            "outbound": [{"interface": format!(":{outbound}"), "service": "api"}],
        },
    });
    scene.cp.apply(&gateway).await;
    let mut edge = Dataplane::start_as(&scene.cp, "default", "edge-1", &DRAIN);
    edge.live().await;
    eventually("it reaches api", async || {
        let mut client = HttpClient::connect(outbound).await?;
        (client.get("/").await.ok()?.status == 200).then_some(())
    })
    .await;
    let held = tokio::spawn(async move {
        let mut client = HttpClient::connect(outbound).await.expect("a connection");
        client.get("/held").await
    });
    eventually("the request is under way", async || {
        (edge.stat("http.api.downstream_rq_active").await == 1).then_some(())
    })
    .await;
    edge.process().signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.one.release();
    scene.two.release();
    let answer = held.await.expect("no panic");
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
    // The response said that it was the last one of its connection.
    let status = edge.process().wait(END);
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_stopped_keeps_its_connections_for_the_drain_time() {
    let mut scene = Scene::start().await;
    scene.web_proxy.process().kill();
    scene.web_proxy = Dataplane::start_as(&scene.cp, "default", "web-1", &DRAIN);
    scene.web_proxy.live().await;
    let mut connection = scene.open().await;
    scene.web_proxy.process().signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(connection.echoes().await, "an outgoing connection was cut");
    assert!(scene.web_proxy.process().is_running());
    let ended = Instant::now();
    drop(connection);
    let status = scene.web_proxy.process().wait(END);
    assert!(status.success(), "{status}");
    println!("it ended {:?} after its last connection", ended.elapsed());
}

/// Without an admin server the open connections cannot be counted, and the whole drain time is waited out.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_admin_server_the_drain_time_is_waited_out() {
    let mut scene = Scene::start().await;
    scene.web_proxy.process().kill();
    let drain = Duration::from_secs(6);
    scene.web_proxy = Dataplane::start_as(
        &scene.cp,
        "default",
        "web-1",
        &Start { drain_time: "6s", admin: false, open_files: None, others: &[] },
    );
    let mut connection = scene.open().await;
    let asked = Instant::now();
    scene.web_proxy.process().signal(Signal::TERM);
    tokio::time::sleep(drain / 2).await;
    assert!(connection.echoes().await, "an outgoing connection was cut");
    assert!(Client::connect(scene.outbound).await.is_some(), "a new connection was refused");
    let status = scene.web_proxy.process().wait(END);
    assert!(status.success() && asked.elapsed() >= drain, "{status} after {:?}", asked.elapsed());
    // A second signal ends the drain.
    scene.web_proxy = Dataplane::start_as(
        &scene.cp,
        "default",
        "web-1",
        &Start { drain_time: "600s", admin: false, open_files: None, others: &[] },
    );
    scene.open().await;
    for _ in 0..2 {
        scene.web_proxy.process().signal(Signal::TERM);
        scene.web_proxy.process().prints("").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = scene.web_proxy.process().wait(END);
    assert_eq!(status.code(), Some(1));
}
