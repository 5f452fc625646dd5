//! Requests to a router without a network.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kuma_cp::http::Connection;
use serde_json::Value;
use tower::ServiceExt as _;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The status, and the error as `TITLE | DETAILS | FIELD: MESSAGE | ...`.
    pub(crate) fn error(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/json", "{:?}", self.text());
        let body = self.json();
        let text = |value: &Value| value.as_str().expect("text").to_string();
        let mut parts = vec![text(&body["title"]), text(&body["details"])];
        if let Some(causes) = body.get("causes") {
            let causes = causes.as_array().expect("a list");
            assert!(!causes.is_empty());
            parts.extend(causes.iter().map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"]))));
        }
        (self.status.as_u16(), parts.join(" | "))
    }
}

/// From this machine, to `localhost`.
pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    let connection = Connection {
        peer: "127.0.0.1:40000".parse().expect("an address"),
        local: "127.0.0.1:5681".parse().expect("an address"),
    };
    Request::builder().method(method).uri(path).header("host", "localhost:5681").extension(connection)
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("routers answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, request(Method::GET, path).body(Body::empty()).expect("a request")).await
}

pub(crate) async fn delete(router: &Router, path: &str) -> Answer {
    send(router, request(Method::DELETE, path).body(Body::empty()).expect("a request")).await
}

pub(crate) async fn put(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    let request = request(Method::PUT, path).header("content-type", "application/json");
    send(router, request.body(body.into()).expect("a request")).await
}

pub(crate) async fn post(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    // What curl sends with --data.
    let request = request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
    send(router, request.body(body.into()).expect("a request")).await
}
