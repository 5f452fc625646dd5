//! TrafficLog for HTTP services: each request gives one record, with the fields of HTTP.

use kuma_test::{HttpClient, eventually};
use serde_json::{Value, json};

use crate::access_logs::Collector;
use crate::http::Scene;

/// Logs web's requests to api, to a backend with these settings, and waits until Envoy has the configuration.
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
    let format = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESP(SERVER)% %REQ(X-OWN?X-OTHER)% \
        %UPSTREAM_CLUSTER% %KUMA_SOURCE_SERVICE%->%KUMA_DESTINATION_SERVICE%";
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

    // A request that reached no instance is logged too.
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
    // In a file there would be a `-` for each missing value.
    assert_eq!(line.as_deref(), Some("GET / HTTP/1.1 503    web->api\n"));
}

/// Sends a request of these bytes on a new connection, and waits for the response.
async fn send_raw(port: u16, request: &[u8]) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// A request whose header `x-own` has this value.
fn request_with(value: &[u8]) -> Vec<u8> {
    [b"GET /a HTTP/1.1\r\nhost: the.host\r\nconnection: close\r\nx-own: ", value, b"\r\n\r\n"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_not_utf_8_loses_no_record() {
    let scene = Scene::start(false).await;
    let mut collector = Collector::new();
    collector.listen().await;
    let address = format!("127.0.0.1:{}", collector.port);
    log_to(&scene, &json!({"format": "%REQ(:PATH)% %REQ(X-OWN)%", "tcp": {"address": address}}), &address).await;
    let mut requests = tokio::task::JoinSet::new();
    for round in 0..50 {
        let value: &[u8] = if round % 10 == 0 { b"\xff\xfe" } else { b"good" };
        requests.spawn(async move { send_raw(scene.outbound, &request_with(value)).await });
    }
    while let Some(done) = requests.join_next().await {
        done.expect("every request is answered");
    }
    collector.has(50).await;
    let lines = collector.lines();
    assert_eq!(lines.iter().filter(|line| *line == "/a good\n").count(), 45);
    assert_eq!(lines.iter().filter(|line| *line == "/a \u{fffd}\u{fffd}\n").count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_in_json_is_json_whatever_clients_send() {
    let scene = Scene::start(false).await;
    let path = scene.cp.folder().join("access.json");
    let path = path.to_str().expect("UTF-8");
    let mut collector = Collector::new();
    collector.listen().await;
    let address = format!("127.0.0.1:{}", collector.port);
    // Every operator, so that both backends agree on which values are numbers.
    let mut fields: serde_json::Map<String, Value> =
        kuma_model::log_format::examples().map(|example| (example.clone(), json!(example))).collect();
    fields.insert(
        "own".into(),
        json!({"header": "%REQ(X-OWN)%", "text": "<%REQ(X-OWN)%> 100%%", "flow": "%KUMA_SOURCE_SERVICE%"}),
    );

    let nasty = b"a \"quote\", a \\ and \xff\x80";
    log_to(&scene, &json!({"json": fields, "file": {"path": path}}), path).await;
    send_raw(scene.outbound, &request_with(nasty)).await;
    let in_file = eventually("a record is in the file", || async {
        let text = std::fs::read_to_string(path).ok()?;
        Some(serde_json::from_str::<Value>(text.lines().next()?).expect("JSON"))
    })
    .await;
    log_to(&scene, &json!({"json": fields, "tcp": {"address": address}}), &address).await;
    send_raw(scene.outbound, &request_with(nasty)).await;
    collector.has(1).await;
    let sent: Value = serde_json::from_str(&collector.lines()[0]).expect("JSON");

    assert_eq!(sent["own"]["header"], "a \"quote\", a \\ and \u{fffd}\u{fffd}");
    assert_eq!(sent["own"]["text"], "<a \"quote\", a \\ and \u{fffd}\u{fffd}> 100%");
    assert_eq!(sent["own"]["flow"], "web");
    assert!(in_file["own"]["header"].as_str().is_some_and(|text| text.starts_with("a \"quote\", a \\ and ")));
    assert_eq!((&sent["%RESPONSE_CODE%"], &in_file["%RESPONSE_CODE%"]), (&json!(200), &json!(200)));
    let kind = |value: &Value| match value {
        // kuma-dp cannot distinguish an empty value from a missing one.
        Value::String(text) if text.is_empty() => "null",
        Value::Null => "null",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        _ => "another",
    };
    for (name, value) in in_file.as_object().expect("an object").iter().filter(|(name, _)| *name != "own") {
        assert_eq!(kind(&sent[name]), kind(value), "{name}: {} and {value}", sent[name]);
    }
    let numbers = sent.as_object().expect("an object").values().filter(|value| value.is_number()).count();
    assert!(numbers > 20, "only {numbers} operators gave a number");
}
