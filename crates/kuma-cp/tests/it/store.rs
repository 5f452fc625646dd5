//! What the HTTP API says of the store, what it notes of who writes, and how it answers while the store is away.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use kuma_cp::http::Connection;
use kuma_store::{Cause, HistoryQuery};
use serde_json::{Value, json};

use crate::client::{Answer, get, put, request, send};
use crate::test_api::{Away, TestApi, config};

const MESH: &str = r#"{"type": "Mesh", "name": "demo"}"#;

async fn put_with(api: &TestApi, headers: &[(&str, &[u8])]) -> Answer {
    let mut request = request(Method::PUT, "/meshes/demo").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&api.router, request.body(Body::from(MESH)).expect("a request")).await
}

async fn accept(api: &TestApi, body: &Value) -> Answer {
    let request = request(Method::POST, "/store/accept").header("content-type", "application/json");
    send(&api.router, request.body(Body::from(body.to_string())).expect("a request")).await
}

async fn causes(api: &TestApi) -> Vec<Cause> {
    let page = api.store.history(HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.expect("it is kept");
    page.entries.into_iter().map(|entry| entry.cause).collect()
}

#[tokio::test]
async fn a_store_is_accepted_as_it_is() {
    let api = TestApi::with_mesh("demo").await;
    let store = get(&api.router, "/store").await.json();
    let id = api.store.head().store.to_string();
    let nothing = json!({"documents": [], "documentCount": 0, "proxies": [], "proxyCount": 0});
    assert_eq!((&store["store"], &store["revision"], &store["complete"]), (&json!(id), &json!(1), &json!(false)));
    assert_eq!((&store["durable"], &store["away"], &store["missing"]), (&json!(false), &Value::Null, &nothing));

    let other = accept(&api, &json!({"store": "another"})).await;
    let details = format!("The store is {id}, and not another any more. Look at it again (GET /store)");
    assert_eq!(other.error(), (409, format!("Could not accept the store | {details}")));
    let unknown = accept(&api, &json!({"stor": id})).await;
    assert!(unknown.error().1.ends_with(" | stor: unknown field; there is store"), "{:?}", unknown.error());
    assert!(!api.store.is_complete());

    let accepted = accept(&api, &json!({"store": id})).await;
    assert_eq!((accepted.status.as_u16(), &accepted.json()["complete"]), (200, &json!(true)));
    assert!(api.store.is_complete());
    assert_eq!(get(&api.router, "/store").await.json()["complete"], true);
    // Again is as good.
    assert_eq!(accept(&api, &json!({})).await.status, 200);
}

#[tokio::test]
async fn only_who_may_write_accepts_a_store() {
    let api = TestApi::new();
    let remote = request(Method::POST, "/store/accept").extension(Connection {
        peer: "192.0.2.1:40000".parse().expect("an address"),
        local: "192.0.2.2:5681".parse().expect("an address"),
    });
    assert_eq!(send(&api.router, remote.body(Body::empty()).expect("a request")).await.status, 403);
    let api = TestApi::with(&[("KUMA_API_SERVER_READ_ONLY", "true")]);
    assert_eq!(accept(&api, &json!({})).await.status, 405);
    assert_eq!(get(&api.router, "/store/accept").await.status, 405);
    assert!(!api.store.is_complete());
}

#[tokio::test]
async fn the_history_has_who_wrote_with_what_and_why() {
    let api = TestApi::new();
    let note = "más sitio — für alle".as_bytes();
    assert_eq!(put_with(&api, &[("user-agent", b"kumactl/1"), ("kuma-note", note)]).await.status, 201);
    let expected = Cause { author: "local".into(), via: "kumactl/1".into(), note: "más sitio — für alle".into() };
    assert_eq!(causes(&api).await, [expected]);

    let open = TestApi::with(&[("KUMA_API_SERVER_ALLOW_REMOTE_WRITES", "true")]);
    let remote = request(Method::PUT, "/meshes/demo").extension(Connection {
        peer: "[::ffff:192.0.2.1]:40000".parse().expect("an address"),
        local: "192.0.2.2:5681".parse().expect("an address"),
    });
    assert_eq!(send(&open.router, remote.body(Body::from(MESH)).expect("a request")).await.status, 201);
    let expected = Cause { author: "192.0.2.1".into(), ..Cause::default() };
    assert_eq!(causes(&open).await, [expected]);
}

#[tokio::test]
async fn a_note_that_cannot_be_kept_is_refused() {
    let api = TestApi::new();
    let longest = [b'x'; 1024];
    let title = "Could not process a resource | A header of the request cannot be used";
    for (note, message) in
        [(&[b'x'; 1025][..], "must not be longer than 1024 bytes, and has 1025"), (b"\xff\xfe", "must be UTF-8")]
    {
        let refused = put_with(&api, &[("kuma-note", note)]).await;
        assert_eq!(refused.error(), (400, format!("{title} | kuma-note: {message}")));
    }
    assert_eq!(api.store.head().position.revision, 0, "nothing is written");
    assert_eq!(put_with(&api, &[("kuma-note", &longest)]).await.status, 201);
}

#[tokio::test]
async fn while_the_store_is_away_answers_say_so() {
    let api = TestApi::over(Arc::new(Away), &config(&[]));
    let config = get(&api.router, "/config").await;
    assert_eq!((config.status.as_u16(), config.header("kuma-store")), (200, "away, revision 0"));
    let store = get(&api.router, "/store").await;
    assert_eq!((store.status.as_u16(), &store.json()["away"]), (200, &json!("connection refused")));
    let write = put(&api.router, "/meshes/demo", MESH).await;
    assert_eq!((write.status.as_u16(), write.header("retry-after")), (503, "5"));
    assert_eq!(write.header("kuma-store"), "away, revision 0");
    let here = TestApi::with_mesh("demo").await;
    assert_eq!(get(&here.router, "/config").await.header("kuma-store"), "");
}
