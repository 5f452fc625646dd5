//! The diagnostics port.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use kuma_cp::diagnostics::{Readiness, router};

use crate::client::{get, request, send};

#[tokio::test]
async fn says_whether_it_lives_and_whether_it_serves() {
    let readiness = Readiness::default();
    let router = router(readiness.clone(), Arc::default());
    let status = async |path: &str| get(&router, path).await.status.as_u16();
    assert_eq!((status("/healthy").await, status("/ready").await), (200, 503));
    readiness.set(true);
    assert_eq!((status("/healthy").await, status("/ready/").await), (200, 200));
    readiness.set(false);
    assert_eq!((status("/healthy").await, status("/ready").await), (200, 503));
    assert_eq!((status("/").await, status("/config").await, status("/ready/x").await), (404, 404, 404));
    assert_eq!(get(&router, "/healthy").await.text(), "");
    let post = send(&router, request(Method::POST, "/ready").body(Body::empty()).expect("a request")).await;
    assert_eq!((post.error().0, post.header("allow")), (405, "GET, HEAD"));
}
