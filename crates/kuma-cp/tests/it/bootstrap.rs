//! The bootstrap port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Method;
use kuma_cp::bootstrap::{BootstrapContext, BootstrapServer, router};
use serde_json::{Value, json};

use crate::client::{get, post, put, request, send};
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
async fn names_the_xds_servers_of_further_control_planes() {
    let router = server().await;
    let servers = r#"["b.example:5678","[::1]:1","192.0.2.1:65535","kuma.internal:5678","b.example:5678"]"#;
    let body = format!(r#"{{"mesh":"demo","name":"dp-1","accessLogSocket":"/s","xdsServers":{servers}}}"#);
    let answer = post(&router, "/bootstrap", body).await;
    let parsed: Value = serde_saphyr::from_str(answer.text()).expect("YAML");
    let cluster = &parsed["static_resources"]["clusters"][0];
    let endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array().expect("endpoints");
    let address = |endpoint: &Value| {
        let address = &endpoint["endpoint"]["address"]["socket_address"];
        format!("{} {}", address["address"].as_str().expect("a host"), address["port_value"])
    };
    let addresses: Vec<String> = endpoints.iter().map(address).collect();
    assert_eq!(addresses, ["kuma.internal 5678", "b.example 5678", "::1 1", "192.0.2.1 65535"]);

    for (servers, cause) in [
        (r#""b:1""#, "xdsServers: must be a list of at most 16 texts"),
        (r#"["b:1", 7]"#, "xdsServers[1]: must be HOST:PORT"),
        (r#"["b"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"["b:0"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"["b:70000"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"["user@b:1"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"["b:1/path"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"[":1"]"#, "xdsServers[0]: must be HOST:PORT"),
        (r#"["a b:1"]"#, "xdsServers[0]: must be HOST:PORT"),
    ] {
        let body = format!(r#"{{"mesh":"demo","name":"dp-1","xdsServers":{servers}}}"#);
        let expected = format!("Could not generate a bootstrap configuration | Resource is not valid | {cause}");
        assert_eq!(post(&router, "/bootstrap", body).await.error(), (400, expected), "{servers}");
    }
}

/// The requests that kuma-dp 0.3.2 makes, by its settings: port and token are left out where they are not set.
#[tokio::test]
async fn the_original_kuma_dp_is_told_in_words_that_it_prints() {
    const WORDS: &str = "this control plane needs the kuma-dp of its own release";
    let router = server().await;
    let ask = async |client: &str, body: &str| {
        let request = request(Method::POST, "/bootstrap").header("content-type", "application/json");
        let request = request.header("user-agent", client).header("accept-encoding", "gzip");
        send(&router, request.body(body.to_owned().into()).expect("a request")).await
    };
    for body in [
        r#"{"mesh":"demo","name":"dp-1","adminPort":30001,"dataplaneTokenPath":"/tmp/token"}"#,
        r#"{"mesh":"demo","name":"dp-1","adminPort":30001}"#,
        r#"{"mesh":"demo","name":"dp-1","dataplaneTokenPath":"/tmp/token"}"#,
        r#"{"mesh":"demo","name":"dp-1"}"#,
        r#"{"mesh":"demo","name":"not-applied-yet","adminPort":30001}"#,
    ] {
        let answer = ask("Go-http-client/1.1", body).await;
        // It reads a body of status 200 only, and prints an error for the first type that it does not know, with the
        // part of the type's name after the last slash. So there must be no other field.
        assert_eq!(answer.status.as_u16(), 200, "{body}");
        let parsed: Value = serde_saphyr::from_str(answer.text()).expect("YAML");
        let expected = json!({"statsSinks": [{"name": "other-release", "typedConfig": {"@type": WORDS}}]});
        assert_eq!(parsed, expected, "{body}");
        assert!(!WORDS.contains('/'));
    }
    // A user who asks for a bootstrap by hand gets one, and so does a kuma-dp of this release, whatever its client.
    let own = r#"{"mesh":"demo","name":"dp-1","adminPort":30001,"accessLogSocket":"/s"}"#;
    for (client, body) in [("curl/8.5.0", r#"{"mesh":"demo","name":"dp-1"}"#), ("Go-http-client/1.1", own)] {
        let answer = ask(client, body).await;
        let parsed: Value = serde_saphyr::from_str(answer.text()).expect("YAML");
        assert_eq!(parsed["node"]["id"], "demo.dp-1", "{client}");
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
