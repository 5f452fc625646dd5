//! Metrics for Prometheus: Envoy's statistics on one path of one port, and nothing else of its admin server.

use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use serde_json::{Value, json};

fn mesh(prometheus: &Value) -> Value {
    json!({
        "type": "Mesh", "name": "default", "mtls": {"enabled": false, "ca": {"builtin": {}}},
        "metrics": {"prometheus": prometheus},
    })
}

/// Status and body of a request.
async fn ask(method: reqwest::Method, port: u16, path: &str) -> Option<(u16, String)> {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.request(method, format!("http://127.0.0.1:{port}{path}")).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}

async fn metrics(port: u16, path: &str) -> String {
    eventually("the metrics are offered", || async {
        let (status, body) = ask(reqwest::Method::GET, port, path).await?;
        (status == 200).then_some(body)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_on_their_path_and_nothing_else_is() {
    let cp = ControlPlane::start().await;
    let (port, other, inbound, app) = (free_port(), free_port(), free_port(), free_port());
    let mut web = dataplane("default", "web-1", "web", (inbound, app), &[]);
    cp.apply(&web).await;
    let proxy = Dataplane::start(&cp, "default", "web-1");
    proxy.live().await;
    assert!(ask(reqwest::Method::GET, port, "/metrics").await.is_none());

    cp.apply(&mesh(&json!({"port": port}))).await;
    let text = metrics(port, "/metrics").await;
    assert!(text.contains("# TYPE envoy_cluster_membership_total gauge"), "{text}");
    assert!(metrics(port, "/metrics?usedonly").await.len() < text.len(), "parameters pass");
    for path in
        ["/", "/stats", "/stats/prometheus", "/metricsX", "/metrics/", "/metrics/../config_dump", "/config_dump"]
    {
        let (status, body) = ask(reqwest::Method::GET, port, path).await.expect("an answer");
        assert_eq!((status, body.as_str()), (404, ""), "{path}");
    }
    for method in [reqwest::Method::POST, reqwest::Method::PUT, reqwest::Method::DELETE] {
        let (status, _) = ask(method, port, "/metrics").await.expect("an answer");
        assert_eq!(status, 404);
    }

    // The Dataplane overrides port and path.
    web["metrics"] = json!({"prometheus": {"port": other, "path": "/own"}});
    cp.apply(&web).await;
    metrics(other, "/own").await;
    eventually("the old port is closed", || async {
        ask(reqwest::Method::GET, port, "/metrics").await.is_none().then_some(())
    })
    .await;
    // Without metrics in the Mesh there are none.
    cp.apply(&kuma_test::documents::mesh("default", false)).await;
    eventually("no metrics are offered", || async {
        ask(reqwest::Method::GET, other, "/own").await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_said_and_hurts_nothing() {
    let mut cp = ControlPlane::start().await;
    let app = kuma_test::apps::Greeter::start().await;
    let inbound = free_port();
    cp.apply(&mesh(&json!({"port": inbound}))).await;
    cp.apply(&dataplane("default", "web-1", "web", (inbound, app.port), &[])).await;
    let mut proxy = Dataplane::start(&cp, "default", "web-1");
    proxy.live().await;
    eventually("the inbound works", || kuma_test::apps::Client::connect(inbound)).await;
    let clash = format!("port {inbound} is in use by the inbound 127.0.0.1:{inbound}");
    assert!(cp.process().output().contains(&clash), "{}", cp.process().output());
    assert!(proxy.process().is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_program_has_is_said_as_envoy_says_it() {
    let cp = ControlPlane::start().await;
    let app = kuma_test::apps::Greeter::start().await;
    let (inbound, port) = (free_port(), free_port());
    let other = std::net::TcpListener::bind(("0.0.0.0", port)).expect("a port");
    cp.apply(&mesh(&json!({"port": port}))).await;
    cp.apply(&dataplane("default", "web-1", "web", (inbound, app.port), &[])).await;
    let _proxy = Dataplane::start(&cp, "default", "web-1");
    eventually("the insight says what is wrong", async || {
        let overview = cp.get("/meshes/default/dataplanes+insights/web-1").await.to_string();
        (overview.contains("kuma:metrics:prometheus") && overview.contains("Address already in use")).then_some(())
    })
    .await;
    eventually("the inbound works", || kuma_test::apps::Client::connect(inbound)).await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_offered_wherever_the_admin_server_is() {
    for address in ["::1", "127.0.0.2", "0.0.0.0"] {
        let cp = ControlPlane::start_with(&[("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ADDRESS", address)]).await;
        let port = free_port();
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[])).await;
        cp.apply(&mesh(&json!({"port": port}))).await;
        let _proxy = Dataplane::start(&cp, "default", "web-1");
        let text = metrics(port, "/metrics").await;
        assert!(text.contains("# TYPE envoy_cluster_membership_total gauge"), "{address}: {text}");
    }
}
