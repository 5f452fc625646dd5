//! What pages of other origins may do.

use axum::body::Body;
use http::Method;
use kuma_cp::http::cors::{Grant, Origins};

use crate::client::{request, send};
use crate::test_api::TestApi;

const OWNER: &str = "https://gui.example.com";
const STRANGER: &str = "https://stranger.example";

#[test]
fn grants() {
    use Grant::{Full, Nothing, Read};
    for (entries, origin, expected) in [
        (&[".*"][..], STRANGER, Read),
        (&[".*"], "null", Read),
        (&[".+"], STRANGER, Read),
        (&["https?://.*"], STRANGER, Read),
        (&[], STRANGER, Nothing),
        (&[OWNER], OWNER, Full),
        (&[OWNER], STRANGER, Nothing),
        (&[OWNER], "https://guiXexample.com", Nothing),
        (&[OWNER], "https://gui.example.com.evil.example", Nothing),
        (&[OWNER], "http://gui.example.com", Nothing),
        (&["gui.example.com"], "http://gui.example.com:8080", Full),
        (&["gui.example.com"], "http://gui.example.com.evil.example", Nothing),
        (&[".*", OWNER], OWNER, Full),
        (&[r"https://[a-z]+\.example\.com"], OWNER, Full),
        (&[r"https://[a-z]+\.example\.com"], "https://gui.example.com.evil.example", Nothing),
        (&[r"https://[a-z]+\.example\.com"], "xhttps://gui.example.com", Nothing),
        (&["a|https://b.example"], "https://b.example.evil", Nothing),
    ] {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let origins = Origins::new(&entries).expect("entries");
        assert_eq!(origins.grant(origin), expected, "{entries:?} for {origin}");
    }
    assert!(Origins::new(&["[".to_string()]).is_err());
    assert!(Origins::new(&["a".repeat(1025)]).is_err());
}

async fn from(api: &TestApi, method: Method, path: &str, origin: &str) -> (u16, String) {
    let body = if method == Method::PUT { r#"{"type": "Mesh", "name": "demo"}"# } else { "" };
    let request = request(method, path).header("origin", origin).header("sec-fetch-site", "cross-site");
    let answer = send(&api.router, request.body(Body::from(body)).expect("a request")).await;
    assert_eq!(answer.header("access-control-allow-credentials"), "", "never");
    assert_eq!(answer.header("vary"), "origin");
    (answer.status.as_u16(), answer.header("access-control-allow-origin").to_string())
}

#[tokio::test]
async fn strangers_read_by_default_and_never_write() {
    let api = TestApi::new();
    assert_eq!(from(&api, Method::GET, "/meshes", STRANGER).await, (200, STRANGER.into()));
    assert_eq!(from(&api, Method::GET, "/nothing", STRANGER).await, (404, STRANGER.into()));
    assert_eq!(from(&api, Method::PUT, "/meshes/demo", STRANGER).await, (403, String::new()));
    assert_eq!(from(&api, Method::DELETE, "/meshes/demo", STRANGER).await, (403, String::new()));
}

#[tokio::test]
async fn listed_origins_read_and_write() {
    let api = TestApi::with(&[("KUMA_API_SERVER_CORS_ALLOWED_DOMAINS", OWNER)]);
    assert_eq!(from(&api, Method::GET, "/meshes", OWNER).await, (200, OWNER.into()));
    assert_eq!(from(&api, Method::PUT, "/meshes/demo", OWNER).await, (201, OWNER.into()));
    assert_eq!(from(&api, Method::GET, "/meshes", STRANGER).await, (200, String::new()));
    assert_eq!(from(&api, Method::PUT, "/meshes/demo", STRANGER).await, (403, String::new()));
}

#[tokio::test]
async fn who_may_read_sees_the_revision() {
    let changes = async |api: &TestApi, method, path: &str, origin: &str| {
        let request = request(method, path).header("origin", origin).header("content-type", "application/json");
        let answer = send(&api.router, request.body(Body::from("{}")).expect("a request")).await;
        (answer.status.as_u16(), answer.header("access-control-expose-headers").to_string())
    };
    let shown = "kuma-revision, kuma-epoch".to_string();
    let open = TestApi::new();
    assert_eq!(changes(&open, Method::GET, "/meshes", STRANGER).await, (200, shown.clone()));
    assert_eq!(changes(&open, Method::POST, "/changes", STRANGER).await, (403, String::new()));
    let listed = TestApi::with(&[("KUMA_API_SERVER_CORS_ALLOWED_DOMAINS", OWNER)]);
    assert_eq!(changes(&listed, Method::POST, "/changes", OWNER).await, (200, shown));
    assert_eq!(changes(&listed, Method::POST, "/changes", STRANGER).await, (403, String::new()));
    assert_eq!(changes(&listed, Method::GET, "/meshes", STRANGER).await, (200, String::new()));
}

#[tokio::test]
async fn preflights() {
    let ask = async |api: &TestApi, path: &str, origin: &str| {
        let request = request(Method::OPTIONS, path)
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "content-type");
        let answer = send(&api.router, request.body(Body::empty()).expect("a request")).await;
        let methods = answer.header("access-control-allow-methods").to_string();
        (answer.status.as_u16(), answer.header("access-control-allow-origin").to_string(), methods)
    };
    let open = TestApi::new();
    assert_eq!(ask(&open, "/meshes/demo", STRANGER).await, (200, STRANGER.into(), "GET, HEAD".into()));
    let listed = TestApi::with(&[("KUMA_API_SERVER_CORS_ALLOWED_DOMAINS", OWNER)]);
    assert_eq!(ask(&listed, "/meshes/demo", OWNER).await, (200, OWNER.into(), "GET, HEAD, PUT, DELETE".into()));
    assert_eq!(ask(&listed, "/changes", OWNER).await, (200, OWNER.into(), "GET, HEAD, POST".into()));
    assert_eq!(ask(&listed, "/changes", STRANGER).await, (200, String::new(), String::new()));
    assert_eq!(ask(&listed, "/meshes", OWNER).await, (200, OWNER.into(), "GET, HEAD".into()));
    assert_eq!(ask(&listed, "/meshes/demo", STRANGER).await, (200, String::new(), String::new()));
    assert_eq!(ask(&listed, "/nothing", OWNER).await.0, 404);
}
