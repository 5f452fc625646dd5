//! The bootstrap port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kuma_cp::bootstrap::{BootstrapContext, BootstrapServer, router};
use serde_json::Value;

use crate::client::{get, post, put};
use crate::test_api::TestApi;

async fn server() -> Router {
    let api = TestApi::with_mesh("demo").await;
    let dataplane = concat!(
        r#"{"type":"Dataplane","mesh":"demo","name":"dp-1","#,
        r#""networking":{"inbound":[{"interface":"127.0.0.1:1:2","tags":{"service":"web"}}]}}"#,
    );
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp-1", dataplane).await.status, 201);
    let context = BootstrapContext {
        xds_host: "kuma.internal".into(),
        xds_port: 5678,
        xds_connect_timeout: Duration::from_secs(1),
        xds_ca_pem: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".into(),
        admin_address: "127.0.0.1".parse().expect("an address"),
        admin_port: 0,
        admin_access_log_path: "/dev/null".into(),
    };
    router(Arc::new(BootstrapServer { store: api.store, context }))
}

#[tokio::test]
async fn answers_yaml_for_a_dataplane() {
    let router = server().await;
    let body = concat!(
        r#"{"mesh":"demo","name":"dp-1","adminPort":9901,"dataplaneTokenPath":"/run/dp/token","#,
        r#""accessLogSocket":"/run/dp/log.sock","later":1}"#,
    );
    let answer = post(&router, "/bootstrap", body).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/x-yaml"), "{}", answer.text());
    let parsed: Value = serde_saphyr::from_str(answer.text()).expect("YAML");
    assert_eq!((&parsed["node"]["id"], &parsed["node"]["cluster"]), (&Value::from("demo.dp-1"), &Value::from("web")));
    for part in ["/run/dp/token", "/run/dp/log.sock", "kuma.internal", "9901", "BEGIN CERTIFICATE"] {
        assert!(answer.text().contains(part), "{part} in {}", answer.text());
    }
    assert!(answer.text().contains("max_active_downstream_connections: 50000"), "{}", answer.text());
    let few =
        post(&router, "/bootstrap", r#"{"mesh":"demo","name":"dp-1","accessLogSocket":"/s","maxConnections":64}"#);
    assert!(few.await.text().contains("max_active_downstream_connections: 64"));
    let plain = post(&router, "/bootstrap/", r#"{"mesh":"demo","name":"dp-1"}"#).await;
    let parsed: Value = serde_saphyr::from_str(plain.text()).expect("YAML");
    assert_eq!(parsed.get("admin"), None, "no port, no admin interface");
    assert!(plain.text().contains("/tmp/kuma-access-logs-dp-1-demo.sock"), "{}", plain.text());
}

#[tokio::test]
async fn a_kuma_dp_of_another_release_is_told_so_in_words_that_it_prints() {
    let router = server().await;
    for body in [
        r#"{"mesh":"demo","name":"dp-1","adminPort":30001,"dataplaneTokenPath":"/tmp/token"}"#,
        r#"{"mesh":"demo","name":"dp-1","adminPort":30001}"#,
        r#"{"mesh":"demo","name":"none","dataplaneTokenPath":"/tmp/token"}"#,
    ] {
        let answer = post(&router, "/bootstrap", body).await;
        // It reads no other status than 200, and prints why it cannot read what it got: the name of the type.
        assert_eq!(answer.status.as_u16(), 200);
        let parsed: Value = serde_saphyr::from_str(answer.text()).expect("YAML");
        let printed = &parsed["statsSinks"][0]["typedConfig"]["@type"];
        assert_eq!(printed, "this control plane needs the kuma-dp of its own release", "{body}");
    }
}

#[tokio::test]
async fn refuses_everything_else() {
    let router = server().await;
    let (status, error) = post(&router, "/bootstrap", r#"{"mesh":"demo","name":"none"}"#).await.error();
    assert_eq!(status, 404);
    assert!(error.contains("Did you first apply a Dataplane resource?"), "{error}");
    for (body, causes) in [
        ("{}", "name: cannot be empty | mesh: cannot be empty"),
        (r#"{"mesh":"demo","name":"dp-1","adminPort":70000}"#, "adminPort: must be in the range [0, 65535]"),
        (r#"{"mesh":"demo","name":"dp-1","adminPort":"1"}"#, "adminPort: must be in the range [0, 65535]"),
        (
            r#"{"mesh":"demo","name":"dp-1","dataplaneTokenPath":"token"}"#,
            "dataplaneTokenPath: must be an absolute path",
        ),
        (r#"{"mesh":"demo","name":"dp-1","accessLogSocket":1}"#, "accessLogSocket: must be a text"),
        (r#"{"mesh":"demo","name":"dp-1","maxConnections":0}"#, "maxConnections: must be a whole number above 0"),
    ] {
        let expected = format!("Could not generate a bootstrap configuration | Resource is not valid | {causes}");
        assert_eq!(post(&router, "/bootstrap", body).await.error(), (400, expected), "{body}");
    }
    let long = format!(r#"{{"mesh":"demo","name":"dp-1","accessLogSocket":"/{}"}}"#, "a".repeat(107));
    assert_eq!(post(&router, "/bootstrap", long).await.error().0, 400);
    assert_eq!(post(&router, "/bootstrap", "mesh: demo").await.error().0, 400);
    assert_eq!(post(&router, "/bootstrap", " ".repeat(64 * 1024 + 1)).await.error().0, 413);
    assert_eq!(get(&router, "/bootstrap").await.error().0, 405);
    assert_eq!(get(&router, "/").await.error().0, 404);
}
