//! The administrative port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use kuma_ca::{IssuedToken, Secret};
use kuma_cp::admin::{Admin, TokenIssuer, router};

use crate::client::{get, post, request, send};

struct Issuer;

impl TokenIssuer for Issuer {
    fn issue(&self, mesh: &str, name: &str, valid_for: Option<Duration>) -> Result<IssuedToken, String> {
        if mesh == "broken" {
            return Err("the key is gone".into());
        }
        let end = valid_for.map(|valid_for| format!("-for-{}s", valid_for.as_secs())).unwrap_or_default();
        Ok(IssuedToken { token: Secret::new(format!("token-of-{mesh}-{name}{end}")), id: "id".into() })
    }
}

fn admin() -> Router {
    router(Arc::new(Admin { tokens: Some(Arc::new(Issuer)), ca: None, api: None }))
}

#[tokio::test]
async fn issues_tokens() {
    let answer = post(&admin(), "/tokens", r#"{"name": "dp-echo-1", "mesh": "default"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "token-of-default-dp-echo-1"), "no newline");
    assert!(answer.header("content-type").starts_with("text/plain"));
    assert_eq!(answer.header("cache-control"), "no-store");
    for content_type in ["application/json", "text/plain", "anything"] {
        let request = request(Method::POST, "/tokens/").header("content-type", content_type);
        let body = Body::from(r#"{"name": "a", "mesh": "b", "newer": 1}"#);
        assert_eq!(send(&admin(), request.body(body).expect("a request")).await.status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn issues_tokens_that_end() {
    let answer = post(&admin(), "/tokens", r#"{"name": "web-1", "mesh": "default", "validFor": "1h30m"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "token-of-default-web-1-for-5400s"));
    let answer = post(&admin(), "/tokens", r#"{"name": "web-1", "mesh": "default", "validFor": null}"#).await;
    assert_eq!(answer.text(), "token-of-default-web-1");
    for bad in ["\"\"", "\"1\"", "60", "\"-1h\"", "\"0s\"", "\"999ms\"", "\"1d\"", "\"400y\"", "[]"] {
        let body = format!(r#"{{"name": "web-1", "mesh": "default", "validFor": {bad}}}"#);
        let expected = "Invalid request | Resource is not valid | validFor: must be a length of time of at least 1s, \
                        such as 24h or 90m";
        assert_eq!(post(&admin(), "/tokens", body).await.error(), (400, expected.to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn refuses_what_it_cannot_understand() {
    let characters = "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_' symbols.";
    for (body, expected) in [
        (
            r#"{"name:" "dp-echo-1", "mesh": "default"}"#,
            "Invalid request | Body is not valid JSON: line 1, column 10: expected `:`. The colon belongs behind the \
             quotes: {\"name\": \"dp-echo-1\", \"mesh\": \"default\"}"
                .to_string(),
        ),
        (
            "",
            "Invalid request | Body is not valid JSON: line 1, column 0: EOF while parsing a value. Expected \
             something like {\"name\": \"dp-echo-1\", \"mesh\": \"default\"}"
                .into(),
        ),
        ("{}", "Invalid request | Resource is not valid | name: cannot be empty | mesh: cannot be empty".into()),
        (r#"{"name": "a", "mesh": null}"#, "Invalid request | Resource is not valid | mesh: cannot be empty".into()),
        (r#"{"name": 1, "mesh": "m"}"#, "Invalid request | Resource is not valid | name: must be a text".into()),
        (
            r#"{"name": "A.b", "mesh": "m/n"}"#,
            format!(
                "Invalid request | Resource is not valid | name: {characters} | \
            mesh: {characters}"
            ),
        ),
    ] {
        assert_eq!(post(&admin(), "/tokens", body).await.error(), (400, expected), "{body}");
    }
    assert_eq!(post(&admin(), "/tokens", "[]").await.error().0, 400);
    assert_eq!(post(&admin(), "/tokens", " ".repeat(64 * 1024 + 1)).await.status, 413);
    let broken = post(&admin(), "/tokens", r#"{"name": "a", "mesh": "broken"}"#).await;
    assert_eq!(
        broken.error(),
        (500, "Could not issue a token | Internal Server Error".into()),
        "the reason stays in the log"
    );
}

#[tokio::test]
async fn other_paths_and_methods() {
    let answer = get(&admin(), "/tokens").await;
    assert_eq!((answer.error().0, answer.header("allow")), (405, "POST"));
    assert_eq!(get(&admin(), "/").await.error().0, 404);
    let disabled = router(Arc::new(Admin { tokens: None, ca: None, api: None }));
    assert_eq!(post(&disabled, "/tokens", r#"{"name": "a", "mesh": "b"}"#).await.error().0, 404);
}

#[tokio::test]
async fn answers_this_machine_alone() {
    let body = || Body::from(r#"{"name": "a", "mesh": "b"}"#);
    let unknown = Request::builder()
        .method(Method::POST)
        .uri("/tokens")
        .header("host", "localhost:5679")
        .body(body())
        .expect("a request");
    let (status, error) = send(&admin(), unknown).await.error();
    assert_eq!(status, 403);
    assert!(
        error.starts_with(
            "Administration is not allowed from here | The request does not come from this machine's loopback address."
        ),
        "{error}"
    );
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("host", "evil.example"),
    ] {
        let request = request(Method::POST, "/tokens").header(name, value).body(body()).expect("a request");
        let answer = send(&admin(), request).await;
        assert_eq!(answer.error().0, 403, "{name}: {value}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}
