//! Paths, statuses and bodies of the HTTP API.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use kuma_model::{KINDS, Scope};
use serde_json::{Value, json};

use crate::client::{delete, get, put, request, send};
use crate::test_api::{Away, TestApi, config};

/// One valid spec of each kind, and what is shown of it.
fn example(kind: &str) -> Value {
    match kind {
        "Mesh" => json!({"mtls": {"ca": {"builtin": {}}, "enabled": true}}),
        "Dataplane" => {
            json!({"networking": {"inbound": [{"interface": "127.0.0.1:11011:11012", "tags": {"service": "backend",
                "version": "2.0"}}], "outbound": [{"interface": ":33033", "service": "database"}]}})
        }
        "DataplaneInsight" => {
            json!({"subscriptions": [{"id": "1", "controlPlaneInstanceId": "2",
                "connectTime": "2019-10-24T14:04:56.820350Z", "status": {"total": {"responsesSent": "3"}, "cds": {},
                    "eds": {}, "lds": {}, "rds": {}}}]})
        }
        "HealthCheck" => {
            json!({"sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "backend"}}],
                "conf": {"activeChecks": {"interval": "10s", "timeout": "2s", "unhealthyThreshold": 3,
                    "healthyThreshold": 1}, "passiveChecks": {"unhealthyThreshold": 3, "penaltyInterval": "5s"}}})
        }
        "ProxyTemplate" => {
            json!({"selectors": [{"match": {"service": "backend"}}], "conf": {"imports": ["default-proxy"]}})
        }
        "TrafficLog" => {
            json!({"sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "backend"}}],
                "conf": {"backend": "file"}})
        }
        "TrafficPermission" => {
            json!({"sources": [{"match": {"service": "backend"}}], "destinations": [{"match": {"service": "redis"}}]})
        }
        "TrafficRoute" => {
            json!({"sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "backend"}}],
                "conf": [{"weight": 90, "destination": {"service": "backend"}}]})
        }
        "TrafficTrace" => json!({"selectors": [{"match": {"region": "eu"}}], "conf": {"backend": "zipkin"}}),
        other => panic!("no example of {other}"),
    }
}

fn document(kind: &str, mesh: Option<&str>, name: &str, spec: &Value) -> Value {
    let mut document = json!({"type": kind, "name": name});
    if let Some(mesh) = mesh {
        document["mesh"] = mesh.into();
    }
    for (key, value) in spec.as_object().expect("a spec") {
        document[key] = value.clone();
    }
    document
}

#[tokio::test]
async fn every_kind_is_created_read_listed_updated_and_deleted() {
    for kind in KINDS {
        let api = TestApi::with_mesh("demo").await;
        let (mesh, collection) = match kind.scope {
            Scope::Global => (None, format!("/{}", kind.api_path)),
            Scope::Mesh => (Some("demo"), format!("/meshes/demo/{}", kind.api_path)),
        };
        let spec = example(kind.name);
        for name in ["b-1", "a_2"] {
            let path = format!("{collection}/{name}");
            let sent = document(kind.name, mesh, name, &spec);
            let created = put(&api.router, &path, sent.to_string()).await;
            assert_eq!((created.status.as_u16(), created.text()), (201, ""), "{}", kind.name);
            assert_eq!(created.header("content-type"), "", "an empty body has no type");
            let updated = put(&api.router, &path, sent.to_string()).await;
            assert_eq!((updated.status.as_u16(), updated.text()), (200, ""), "{}", kind.name);
            let found = get(&api.router, &path).await;
            assert_eq!((found.status.as_u16(), found.header("content-type")), (200, "application/json"));
            assert_eq!(found.json(), sent, "{}", kind.name);
        }
        let list = get(&api.router, &collection).await.json();
        let names: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["name"].as_str().expect("a name"))
            .collect();
        let mut expected = vec!["a_2", "b-1"];
        expected.extend((kind.scope == Scope::Global).then_some("demo"));
        assert_eq!(names, expected, "sorted by name");
        assert_eq!(list.as_object().expect("an object").len(), 1, "only items");

        let path = format!("{collection}/b-1");
        let deleted = delete(&api.router, &path).await;
        assert_eq!((deleted.status.as_u16(), deleted.text()), (200, ""));
        assert_eq!(get(&api.router, &path).await.error(), (404, "Could not retrieve a resource | Not found".into()));
        assert_eq!(delete(&api.router, &path).await.error(), (404, "Could not delete a resource | Not found".into()));
    }
}

#[tokio::test]
async fn other_spellings_of_paths() {
    let api = TestApi::with_mesh("demo").await;
    let dataplane = document("Dataplane", Some("demo"), "dp", &example("Dataplane"));
    let permission = document("TrafficPermission", Some("demo"), "tp", &example("TrafficPermission"));
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp/", dataplane.to_string()).await.status, 201);
    assert_eq!(put(&api.router, "/meshes/demo/trafficpermissions/tp", permission.to_string()).await.status, 201);
    for path in [
        "/meshes/",
        "/meshes/demo/",
        "/meshes/demo/traffic-permissions/tp",
        "/meshes/demo/traffic-permissions/",
        "/meshes/demo/dataplanes+insights",
        "/meshes/demo/dataplanes+insights/",
        "/meshes/demo/dataplanes%2Binsights/dp",
        "/meshes/demo/dataplanes%2binsights/dp/",
        "/meshes/demo/dataplane+insights",
        "/meshes/demo/dataplane+insights/dp",
        "/meshes/%64emo/dataplanes/d%70",
        "/catalog/",
        "/config/",
        "/meshes?size=1",
    ] {
        assert_eq!(get(&api.router, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_mesh_that_does_not_exist_has_empty_lists() {
    let api = TestApi::new();
    for kind in KINDS.iter().filter(|kind| kind.scope == Scope::Mesh) {
        let answer = get(&api.router, &format!("/meshes/none/{}", kind.api_path)).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\n \"items\": []\n}"));
    }
    assert_eq!(get(&api.router, "/meshes/none/dataplanes+insights").await.json(), json!({"items": []}));
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let api = TestApi::with_mesh("demo").await;
    for path in [
        "/nothing",
        "//",
        "/meshes//",
        "/meshes//dataplanes",
        "//meshes",
        "/meshes/demo/dataplanes/a/b",
        "/meshes/demo/meshes/x",
        "/meshes/demo/secrets",
        "/meshes/demo/secrets/builtinca.demo",
        "/dataplanes/x",
        "/Meshes",
        "/meshes/demo/dataplanes/%ff",
        "/meshes/demo/trafficroutes",
        "/catalog/x",
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = send(&api.router, request(method, path).body(Body::empty()).expect("a request")).await;
            assert_eq!(answer.error(), (404, "Page Not Found | There is nothing at this path".into()), "{path}");
        }
    }
    // Names that no store ever sees.
    let long = "a".repeat(101);
    for name in ["..", ".", "..%2f..", "%00", "UPPER", "a.b", "%c3%a4", "a%2fb", &long] {
        for path in [
            format!("/meshes/{name}"),
            format!("/meshes/demo/dataplanes/{name}"),
            format!("/meshes/demo/dataplanes+insights/{name}"),
        ] {
            assert_eq!(get(&api.router, &path).await.status, 404, "{path}");
        }
        assert_eq!(delete(&api.router, &format!("/meshes/{name}")).await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_have() {
    let api = TestApi::with_mesh("demo").await;
    for (method, path, allow) in [
        (Method::POST, "/", "GET, HEAD"),
        (Method::PUT, "/config", "GET, HEAD"),
        (Method::DELETE, "/meshes", "GET, HEAD"),
        (Method::PUT, "/meshes/demo/dataplanes", "GET, HEAD"),
        (Method::PUT, "/meshes/demo/dataplanes+insights/dp", "GET, HEAD"),
        (Method::POST, "/meshes/demo", "GET, HEAD, PUT, DELETE"),
        (Method::PATCH, "/meshes/demo/dataplanes/dp", "GET, HEAD, PUT, DELETE"),
        (Method::OPTIONS, "/meshes/demo", "GET, HEAD, PUT, DELETE"),
    ] {
        let answer = send(&api.router, request(method.clone(), path).body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.error(), (405, format!("Method Not Allowed | This path takes {allow}")), "{method} {path}");
        assert_eq!(answer.header("allow"), allow);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let api = TestApi::with_mesh("demo").await;
    for path in ["/", "/config", "/meshes/demo", "/meshes/none"] {
        let get = get(&api.router, path).await;
        let head = send(&api.router, request(Method::HEAD, path).body(Body::empty()).expect("a request")).await;
        assert_eq!((head.status, head.text()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn read_only_takes_no_writes() {
    let api = TestApi::with(&[("KUMA_API_SERVER_READ_ONLY", "true")]);
    let mesh = document("Mesh", None, "demo", &json!({}));
    for answer in [put(&api.router, "/meshes/demo", mesh.to_string()).await, delete(&api.router, "/meshes/demo").await]
    {
        assert_eq!(answer.error(), (405, "Method Not Allowed | This path takes GET, HEAD".into()));
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    assert_eq!(get(&api.router, "/meshes").await.json(), json!({"items": []}));
}

#[tokio::test]
async fn the_index_and_the_configuration() {
    let api = TestApi::with(&[("KUMA_STORE_POSTGRES_PASSWORD", "hunter2")]);
    let index = get(&api.router, "/").await;
    assert_eq!(index.json(), json!({"tagline": "Kuma", "version": kuma_version::VERSION}));
    let config = get(&api.router, "/config").await;
    assert_eq!(config.header("content-type"), "application/json");
    assert!(!config.text().contains("hunter2") && !config.text().contains('\n'), "{}", config.text());
    let body = config.json();
    assert_eq!(body["store"]["postgres"]["password"], "*****");
    assert_eq!(body["bootstrapServer"]["params"]["xdsPort"], 5678, "autoconfigured values are shown");
    // A client may ask for JSON and nothing else.
    let only_json =
        request(Method::GET, "/config").header("accept", "application/json").body(Body::empty()).expect("a request");
    assert_eq!(send(&api.router, only_json).await.status, 200);
}

#[tokio::test]
async fn the_catalog() {
    let catalog = async |variables: &[(&str, &str)]| get(&TestApi::with(variables).router, "/catalog").await.json();
    assert_eq!(
        catalog(&[]).await,
        json!({"apis": {
            "bootstrap": {"url": "http://localhost:5682"},
            "dataplaneToken": {"localUrl": "http://localhost:5679", "publicUrl": ""},
            "admin": {"localUrl": "http://localhost:5679", "publicUrl": ""},
            "monitoringAssignment": {"url": "grpc://localhost:5676"},
            "xds": {"url": "grpcs://localhost:5678"},
            "changes": {"url": "http://localhost:5681/changes"},
        }})
    );
    let public = catalog(&[
        ("KUMA_GENERAL_ADVERTISED_HOSTNAME", "kuma.internal"),
        ("KUMA_ADMIN_SERVER_APIS_DATAPLANE_TOKEN_ENABLED", "false"),
        ("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "true"),
        ("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "0.0.0.0"),
        ("KUMA_ADMIN_SERVER_PUBLIC_PORT", "5684"),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", "c"),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", "k"),
    ])
    .await;
    assert_eq!(
        public,
        json!({"apis": {
            "bootstrap": {"url": "http://kuma.internal:5682"},
            "dataplaneToken": {"localUrl": "", "publicUrl": ""},
            "admin": {"localUrl": "http://localhost:5679", "publicUrl": "https://kuma.internal:5684"},
            "monitoringAssignment": {"url": "grpc://kuma.internal:5676"},
            "xds": {"url": "grpcs://kuma.internal:5678"},
            "changes": {"url": "http://kuma.internal:5681/changes"},
        }})
    );
    let ipv6 = catalog(&[("KUMA_GENERAL_ADVERTISED_HOSTNAME", "2001:db8::1")]).await;
    assert_eq!(ipv6["apis"]["bootstrap"]["url"], "http://[2001:db8::1]:5682");
}

#[tokio::test]
async fn bodies_are_indented_by_one_space() {
    let api = TestApi::with_mesh("demo").await;
    let mesh = get(&api.router, "/meshes/demo").await;
    insta::assert_snapshot!(mesh.text());
    insta::assert_snapshot!(get(&api.router, "/meshes/none").await.text());
}

#[tokio::test]
async fn writes_need_this_machine() {
    let api = TestApi::new();
    let body = r#"{"type": "Mesh", "name": "demo"}"#;
    let remote = || http::Request::builder().method(Method::PUT).uri("/meshes/demo").header("host", "localhost:5681");
    let answer = send(&api.router, remote().body(Body::from(body)).expect("a request")).await;
    let (status, error) = answer.error();
    assert_eq!(status, 403);
    assert!(
        error.starts_with(
            "Writing is not allowed from here | The request does not come from this machine's loopback address. "
        ),
        "{error}"
    );
    for way in ["client certificate", "KUMA_API_SERVER_ALLOW_REMOTE_WRITES=true"] {
        assert!(error.contains(way), "{error}");
    }
    assert_eq!(get(&api.router, "/meshes/demo").await.status, 404, "nothing is stored");
    let delete =
        http::Request::builder().method(Method::DELETE).uri("/meshes/demo").body(Body::empty()).expect("a request");
    assert_eq!(send(&api.router, delete).await.status, 403);
    let read =
        http::Request::builder().uri("/meshes").header("host", "any.example").body(Body::empty()).expect("a request");
    assert_eq!(send(&api.router, read).await.status, 200, "reads are open");

    let open = TestApi::with(&[("KUMA_API_SERVER_ALLOW_REMOTE_WRITES", "true")]);
    assert_eq!(send(&open.router, remote().body(Body::from(body)).expect("a request")).await.status, 201);
}

#[tokio::test]
async fn a_store_that_is_away() {
    let api = TestApi::over(Arc::new(Away), &config(&[]));
    let mesh = document("Mesh", None, "demo", &json!({}));
    for (answer, title) in [
        (get(&api.router, "/meshes/demo").await, "Could not retrieve a resource"),
        (get(&api.router, "/meshes").await, "Could not retrieve resources"),
        (put(&api.router, "/meshes/demo", mesh.to_string()).await, "Could not find a resource"),
        (delete(&api.router, "/meshes/demo").await, "Could not delete a resource"),
        (get(&api.router, "/meshes/demo/dataplanes+insights/dp").await, "Could not retrieve a dataplane overview"),
        (get(&api.router, "/meshes/demo/dataplanes+insights").await, "Could not retrieve dataplane overviews"),
    ] {
        let expected = format!("{title} | The store is unavailable (connection refused). Try again later");
        assert_eq!(answer.error(), (503, expected));
    }
    assert_eq!(get(&api.router, "/config").await.status, 200);
}
