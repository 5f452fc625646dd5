//! The monitoring assignment port of a whole control plane, in both of its protocols.

use std::time::Duration;

use envoy_api::envoy::service::discovery::v3::DiscoveryResponse;
use kuma_mads::v1alpha1::{ADDRESS, FETCH_PATH, MonitoringAssignment, STREAM_PATH, TYPE_URL};
use kuma_xds::grpc::Code;
use kuma_xds::{DiscoveryRequest, Node};
use prost::Message as _;
use reqwest::Response;
use serde_json::{Value, json};

use crate::grpc::{Call, Grpc, patiently};
use crate::running::TestControlPlane;

const V1: &str = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";

struct World {
    cp: TestControlPlane,
    http: reqwest::Client,
}

impl World {
    async fn start() -> World {
        let http = reqwest::Client::builder().no_proxy().http1_only().build().expect("a client");
        World { cp: TestControlPlane::start(&[]).await, http }
    }

    async fn put(&self, path: &str, document: Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.cp.running.addresses.api.port());
        let answer = self.http.put(url).json(&document).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    async fn metrics(&self, mesh: &str, on: bool) {
        let metrics = if on { json!({"prometheus": {}}) } else { json!({}) };
        let document = json!({"type": "Mesh", "name": mesh, "metrics": metrics});
        self.put(&format!("/meshes/{mesh}"), document).await;
    }

    async fn dataplane(&self, name: &str, port: u16) {
        let inbound =
            json!([{"interface": format!("10.0.0.1:{port}:80"), "tags": {"service": "web", "version": "v1"}}]);
        let document =
            json!({"type": "Dataplane", "mesh": "default", "name": name, "networking": {"inbound": inbound}});
        self.put(&format!("/meshes/default/dataplanes/{name}"), document).await;
    }

    async fn stream(&self) -> Call {
        self.call(STREAM_PATH).await
    }

    async fn call(&self, path: &str) -> Call {
        let mut grpc = Grpc::connect(self.cp.running.addresses.mads.port(), None).await;
        grpc.call(path, None).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.cp.running.addresses.mads.port())
    }

    async fn poll(&self, wait: &str, version: &str, nonce: &str) -> Response {
        let body = json!({"version_info": version, "node": {"id": "p"}, "type_url": V1, "response_nonce": nonce});
        let url = self.url(&format!("/v3/discovery:monitoringassignments?fetch-timeout={wait}"));
        patiently(self.http.post(url).json(&body).send()).await.expect("an answer")
    }
}

async fn list(call: &mut Call) -> (DiscoveryResponse, Vec<MonitoringAssignment>) {
    let response: DiscoveryResponse = call.receive_message().await.expect("a list");
    assert_eq!(response.type_url, TYPE_URL);
    let assignments = response.resources.iter().map(|any| {
        assert_eq!(any.type_url, TYPE_URL);
        MonitoringAssignment::decode(any.value.clone()).expect("an assignment")
    });
    let assignments = assignments.collect();
    (response, assignments)
}

async fn ask(call: &Call) {
    let node = Some(Node { id: "kuma_sd".to_owned(), ..Node::default() });
    call.send(&DiscoveryRequest { node, type_url: TYPE_URL.to_owned(), ..DiscoveryRequest::default() }).await;
}

async fn acknowledge(call: &Call, response: &DiscoveryResponse) {
    call.send(&DiscoveryRequest {
        version_info: response.version_info.clone(),
        type_url: TYPE_URL.to_owned(),
        response_nonce: response.nonce.clone(),
        ..DiscoveryRequest::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_told_of_every_change() {
    let world = World::start().await;
    let mut call = world.stream().await;
    ask(&call).await;
    let (empty, none) = list(&mut call).await;
    assert!(none.is_empty());
    acknowledge(&call, &empty).await;
    world.metrics("default", true).await;
    world.dataplane("web-1", 80).await;
    let (one, assignments) = list(&mut call).await;
    let [web] = &assignments[..] else { panic!("{assignments:?}") };
    assert_eq!(web.name, "/meshes/default/dataplanes/web-1");
    assert_eq!(web.targets[0].labels[ADDRESS], "10.0.0.1:5670");
    for (label, value) in [
        ("__scheme__", "http"),
        ("__metrics_path__", "/metrics"),
        ("job", "web"),
        ("instance", "web-1"),
        ("mesh", "default"),
        ("dataplane", "web-1"),
        ("service", "web"),
        ("services", ",web,"),
        ("version", "v1"),
    ] {
        assert_eq!(web.labels[label], value, "{label}");
    }
    acknowledge(&call, &one).await;
    // What changes nothing that Prometheus is told sends nothing: the next that comes is of the deletion.
    world.dataplane("web-1", 81).await;
    world.metrics("default", false).await;
    let (again, none) = list(&mut call).await;
    assert!(none.is_empty());
    assert_eq!(again.version_info, empty.version_info, "versions are made of the content");
    world.cp.running.stop().await;
    let (code, _) = call.receive_message::<DiscoveryResponse>().await.expect_err("the end");
    assert_eq!(code, Code::Unavailable as u16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_once() {
    let world = World::start().await;
    world.metrics("default", true).await;
    world.dataplane("web-1", 80).await;
    let mut call = world.call(FETCH_PATH).await;
    ask(&call).await;
    assert_eq!(list(&mut call).await.1.len(), 1);
    let outcome = call.receive_message::<DiscoveryResponse>().await.expect_err("the end");
    assert_eq!(outcome, (Code::Ok as u16, String::new()));
    world.cp.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_refused() {
    let world = World::start().await;
    let mut call = world
        .call("/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/DeltaMonitoringAssignments")
        .await;
    let outcome = call.receive_message::<DiscoveryResponse>().await.expect_err("there is none");
    assert_eq!(outcome.0, Code::Unimplemented as u16);
    let mut call = world.stream().await;
    call.send(&DiscoveryRequest { type_url: "other".to_owned(), ..DiscoveryRequest::default() }).await;
    let outcome = call.receive_message::<DiscoveryResponse>().await.expect_err("refused");
    assert_eq!(outcome.0, Code::InvalidArgument as u16);

    let post = |path: &str, body: &str| {
        let request = world.http.post(world.url(path)).header("content-type", "application/json");
        let sent = request.body(body.to_owned()).send();
        async { patiently(sent).await.expect("an answer").status().as_u16() }
    };
    let v1 = "/v3/discovery:monitoringassignments";
    assert_eq!(post(STREAM_PATH, "").await, 415, "gRPC needs HTTP/2");
    assert_eq!(post("/v3/discovery:clusters", "{}").await, 404);
    assert_eq!(post(v1, "{\"version_info\":").await, 400);
    assert_eq!(post(v1, r#"{"type_url":"other"}"#).await, 400);
    assert_eq!(post(&format!("{v1}?fetch-timeout=soon"), "{}").await, 400);
    assert_eq!(post(v1, &format!(r#"{{"x":"{}"}}"#, "x".repeat(100_000))).await, 413);
    let got = patiently(world.http.get(world.url(v1)).send()).await.expect("an answer");
    assert_eq!((got.status().as_u16(), &got.headers()["allow"]), (405, &"POST".parse().expect("a value")));
    world.cp.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_a_change() {
    let world = World::start().await;
    world.metrics("default", true).await;
    let first: Value = world.poll("1h", "", "").await.json().await.expect("JSON");
    assert_eq!((&first["type_url"], &first["resources"]), (&json!(V1), &json!([])));
    let (version, nonce) = (first["version_info"].as_str().expect("text"), first["nonce"].as_str().expect("text"));
    for wait in ["0s", "-1s", "50ms"] {
        let unchanged = world.poll(wait, version, nonce).await;
        assert_eq!((unchanged.status().as_u16(), unchanged.text().await.expect("a body").as_str()), (304, ""));
    }
    let (second, ()) = tokio::join!(world.poll("1h", version, nonce), async {
        // It does not matter whether the poll is there first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.dataplane("web-1", 80).await;
    });
    let second: Value = second.json().await.expect("JSON");
    let expected = json!([{
        "@type": V1, "mesh": "default", "service": "web",
        "targets": [{
            "name": "web-1", "scheme": "http", "address": "10.0.0.1:5670", "metrics_path": "/metrics",
            "labels": {"service": "web", "services": ",web,", "version": "v1", "versions": ",v1,"},
        }],
    }]);
    assert_eq!(second["resources"], expected);
    // Who is behind is told at once, and the end of the control plane ends a wait.
    let behind: Value = world.poll("1h", version, nonce).await.json().await.expect("JSON");
    assert_eq!(behind, second);
    let version = second["version_info"].as_str().expect("text");
    let World { cp, http } = world;
    let url = format!(
        "http://127.0.0.1:{}/v3/discovery:monitoringassignments?fetch-timeout=1h",
        cp.running.addresses.mads.port()
    );
    let request = http.post(url).json(&json!({"version_info": version, "response_nonce": nonce}));
    let waiting = tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() });
    // Nothing tells that it has begun.
    tokio::time::sleep(Duration::from_millis(300)).await;
    cp.running.stop().await;
    assert_eq!(patiently(waiting).await.expect("no panic"), 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_earlier_life_are_not_told_that_all_is_gone() {
    let world = World::start().await;
    assert_eq!(world.poll("50ms", "from before", "another life").await.status().as_u16(), 304);
    let mut call = world.stream().await;
    let back = DiscoveryRequest { version_info: "from before".to_owned(), ..DiscoveryRequest::default() };
    call.send(&back).await;
    world.metrics("default", true).await;
    world.dataplane("web-1", 80).await;
    world.dataplane("web-2", 80).await;
    // The first list that comes is that of a pause in the writing.
    assert_eq!(list(&mut call).await.1.len(), 2);
    world.cp.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_lists_are_counted() {
    let world = World::start().await;
    let mut call = world.stream().await;
    ask(&call).await;
    let (response, _) = list(&mut call).await;
    acknowledge(&call, &response).await;
    let url = format!("http://127.0.0.1:{}/metrics", world.cp.running.addresses.diagnostics.port());
    patiently(async {
        loop {
            let text = world.http.get(&url).send().await.expect("an answer").text().await.expect("a text");
            let has = |line: &str| text.lines().any(|one| one == line);
            if has("kuma_cp_xds_acks_total{type=\"monitoring_assignment\"} 1") {
                assert!(has("kuma_cp_xds_streams{service=\"mads\"} 1"), "{text}");
                assert!(has("kuma_cp_xds_pushes_total{type=\"monitoring_assignment\"} 1"), "{text}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.cp.running.stop().await;
}
