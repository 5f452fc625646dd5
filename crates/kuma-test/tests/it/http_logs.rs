//! TrafficLog where a service speaks HTTP: each request gives one record, with what HTTP knows of it.

use kuma_test::{HttpClient, eventually};
use serde_json::{Value, json};

use crate::access_logs::Collector;
use crate::http::Scene;

/// Logs what web asks of api to a backend of these settings, and waits until Envoy has it.
async fn log_to(scene: &Scene, backend: &Value, sign: &str) {
    let mut backend = backend.clone();
    backend["name"] = json!("it");
    let logging = json!({"defaultBackend": "it", "backends": [backend]});
    scene.cp.apply(&json!({"type": "Mesh", "name": "default", "logging": logging})).await;
    scene
        .cp
        .apply(&json!({
            "type": "TrafficLog", "mesh": "default", "name": "all",
            "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "api"}}],
        }))
        .await;
    eventually("the log has arrived", || async { scene.web.config_dump().await.contains(sign).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gives_a_record_in_a_file() {
    let scene = Scene::start(false).await;
    let mut open = scene.open().await;
    let path = scene.cp.folder().join("access.log");
    let path = path.to_str().expect("UTF-8");
    log_to(&scene, &json!({"file": {"path": path}}), path).await;
    let mut client = HttpClient::connect(scene.outbound).await.expect("a connection");
    for round in 0..3 {
        let path = format!("/path/{round}?x=1");
        let headers = [("x-request-id", "an-id")];
        assert_eq!(client.send("DELETE", &path, &headers).await.expect("an answer").status, 200);
    }
    for round in 0..3 {
        eventually("a line for the request", || async {
            let text = std::fs::read_to_string(path).ok()?;
            let request = format!("\"DELETE /path/{round}?x=1 HTTP/1.1\" 200 - took ");
            let line = text.lines().find(|line| line.contains(&request))?.to_owned();
            assert!(line.contains("127.0.0.1(web)->127.0.0.1:") && line.contains("(api) "), "{line}");
            assert!(line.ends_with("host \"the.host\", id \"an-id\""), "{line}");
            Some(())
        })
        .await;
    }
    assert_eq!(open.get("/").await.expect("the connection lives").status, 200, "an edit of the log cut a connection");
    assert_eq!(scene.web.stat("listener_manager.listener_modified").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gives_a_record_at_a_collector() {
    let scene = Scene::start(false).await;
    let mut collector = Collector::new();
    collector.listen().await;
    let address = format!("127.0.0.1:{}", collector.port);
    let format = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESP(SERVER)% %REQ(X-OWN?X-OTHER)% %UPSTREAM_CLUSTER% %KUMA_SOURCE_SERVICE%->%KUMA_DESTINATION_SERVICE%";
    log_to(&scene, &json!({"format": format, "tcp": {"address": address}}), &address).await;
    for _ in 0..4 {
        let mut client = HttpClient::connect(scene.outbound).await.expect("a connection");
        for _ in 0..50 {
            client.send("GET", "/a", &[("x-other", "mine")]).await.expect("an answer");
        }
    }
    collector.has(200).await;
    let expected = "GET /a HTTP/1.1 200 the application mine api web->api\n";
    assert!(collector.lines().iter().all(|line| line == expected), "{:?}", collector.lines().first());

    // What reached no instance is noted too.
    scene
        .cp
        .apply(&json!({
            "type": "TrafficRoute", "mesh": "default", "name": "stopped",
            "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "api"}}],
            "conf": [{"weight": 0, "destination": {"service": "api"}}],
        }))
        .await;
    let stopped = |line: &String| line.starts_with("GET / HTTP/1.1 503 ");
    eventually("a request that was answered in the application's place is noted", || async {
        HttpClient::connect(scene.outbound).await?.get("/").await.ok()?;
        collector.lines().iter().any(stopped).then_some(())
    })
    .await;
    let line = collector.lines().into_iter().find(stopped);
    // In a file there would be a `-` for each that is missing.
    assert_eq!(line.as_deref(), Some("GET / HTTP/1.1 503    web->api\n"));
}
