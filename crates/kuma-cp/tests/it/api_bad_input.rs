//! What is refused, and how.

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use kuma_cp::api::MAX_BODY;

use crate::client::{delete, get, put, request, send};
use crate::test_api::TestApi;

const DATAPLANE: &str = concat!(
    r#"{"type":"Dataplane","mesh":"demo","name":"dp","networking":{"inbound":[{"interface":"127.0.0.1:1:2","#,
    r#""tags":{"service":"web"}}]}}"#,
);
const CHARACTERS: &str =
    "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_' symbols.";

#[tokio::test]
async fn bodies_that_are_no_documents() {
    let api = TestApi::with_mesh("demo").await;
    for (body, details) in [
        ("", "Body is not valid JSON: line 1, column 0: EOF while parsing a value"),
        ("{\n \"type\": \"Dataplane\"\n \"mesh\"", "Body is not valid JSON: line 3, column 2: expected `,` or `}`"),
        ("type: Dataplane", "Body is not valid JSON: line 1, column 2: expected ident"),
        ("{} {}", "Body is not valid JSON: line 1, column 4: trailing characters"),
        ("\u{feff}{}", "Body is not valid JSON: line 1, column 1: expected value"),
        ("[]", "Body is not a JSON object"),
        ("null", "Body is not a JSON object"),
    ] {
        let answer = put(&api.router, "/meshes/demo/dataplanes/dp", body).await;
        assert_eq!(answer.error(), (400, format!("Could not process a resource | {details}")), "{body}");
    }
    let answer = put(&api.router, "/meshes/demo/dataplanes/dp", Bytes::from_static(b"{\"type\": \"\xff\"}")).await;
    assert_eq!(answer.status, 400);
    let deep = "[".repeat(10_000);
    let (status, error) = put(&api.router, "/meshes/demo/dataplanes/dp", deep).await.error();
    assert!(status == 400 && error.contains("recursion limit exceeded"), "{error}");
    // Small texts that would unfold into much memory.
    for (open, close) in [("[", "]"), ("{", "}")] {
        let many = format!("{{\"a\":[{}]}}", vec![format!("{open}{close}"); 200_000].join(","));
        let answer = put(&api.router, "/meshes/demo/dataplanes/dp", many).await;
        assert_eq!(answer.error(), (400, "Could not process a resource | Body has more than 200000 values".into()));
    }
    let text = format!(r#"{{"a": "\"{}"}}"#, ",[{".repeat(200_000));
    let (status, error) = put(&api.router, "/meshes/demo/dataplanes/dp", text).await.error();
    assert!(status == 400 && error.contains("name from the URL"), "what is quoted counts for nothing: {error}");
    assert_eq!(get(&api.router, "/meshes/demo/dataplanes/dp").await.status, 404);
}

#[tokio::test]
async fn envelopes_that_do_not_match_the_path() {
    let api = TestApi::with_mesh("demo").await;
    let name = "name: name from the URL has to be the same as in body";
    let kind = "type: type from the URL has to be the same as in body";
    let mesh = "mesh: mesh from the URL has to be the same as in body";
    for (path, body, causes) in [
        ("/meshes/demo/dataplanes/dp", r#"{}"#, vec![name, kind, mesh]),
        ("/meshes/demo/dataplanes/dp", r#"{"type":"Dataplane","mesh":"demo","name":"other"}"#, vec![name]),
        ("/meshes/demo/dataplanes/dp", r#"{"type":"dataplane","mesh":"demo","name":"dp"}"#, vec![kind]),
        ("/meshes/demo/dataplanes/dp", r#"{"type":"Dataplane","mesh":"Demo","name":"dp"}"#, vec![mesh]),
        ("/meshes/demo/dataplanes/dp", r#"{"type":1,"mesh":null,"name":["dp"]}"#, vec![name, kind, mesh]),
        ("/meshes/demo", r#"{"type":"Mesh"}"#, vec![name]),
        ("/meshes/demo", r#"{"name":"demo","type":"Dataplane"}"#, vec![kind]),
    ] {
        let expected = format!("Could not process a resource | Resource is not valid | {}", causes.join(" | "));
        assert_eq!(put(&api.router, path, body).await.error(), (400, expected), "{path} {body}");
    }
    // A bad name of a Mesh is its name and its mesh.
    let body = r#"{"type":"Mesh","name":"UP.per"}"#;
    let expected =
        format!("Could not process a resource | Resource is not valid | name: {CHARACTERS} | mesh: {CHARACTERS}");
    assert_eq!(put(&api.router, "/meshes/UP.per", body).await.error(), (400, expected));
    let body = r#"{"type":"Dataplane","mesh":"demo","name":"a.b"}"#;
    let expected = format!("Could not process a resource | Resource is not valid | name: {CHARACTERS}");
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/a.b", body).await.error(), (400, expected));
    let long = "a".repeat(101);
    let body = format!(r#"{{"type":"Dataplane","mesh":"demo","name":"{long}"}}"#);
    assert_eq!(put(&api.router, &format!("/meshes/demo/dataplanes/{long}"), body).await.status, 400);
    // The mesh in the body of a Mesh is nobody's business.
    assert_eq!(put(&api.router, "/meshes/demo", r#"{"type":"Mesh","name":"demo","mesh":"x"}"#).await.status, 200);
}

#[tokio::test]
async fn specs_that_break_rules() {
    let api = TestApi::with_mesh("demo").await;
    let path = "/meshes/demo/dataplanes/dp";
    let body = r#"{"type":"Dataplane","mesh":"demo","name":"dp"}"#;
    let message = "networking: has to contain at least one inbound interface or gateway";
    let expected = |title: &str| (400, format!("{title} | Resource is not valid | {message}"));
    assert_eq!(put(&api.router, path, body).await.error(), expected("Could not create a resource"));
    assert_eq!(put(&api.router, path, DATAPLANE).await.status, 201);
    assert_eq!(put(&api.router, path, body).await.error(), expected("Could not update a resource"));
    assert_eq!(
        get(&api.router, path).await.json(),
        serde_json::from_str::<serde_json::Value>(DATAPLANE).expect("JSON")
    );

    let unknown = DATAPLANE.replace("\"inbound\"", "\"inbuond\"");
    let (status, error) = put(&api.router, path, unknown).await.error();
    assert_eq!(status, 400);
    assert!(error.contains("networking.inbuond") && error.contains("inbound\""), "names the nearest field: {error}");

    let both = r#"{"type":"TrafficPermission","mesh":"demo","name":"tp","sources":[{"match":{}}]}"#;
    let (_, error) = put(&api.router, "/meshes/demo/traffic-permissions/tp", both).await.error();
    assert!(
        error.contains("sources[0].match: ") && error.contains("destinations: must have at least one element"),
        "{error}"
    );
}

#[tokio::test]
async fn documents_need_their_mesh() {
    let api = TestApi::new();
    let answer = put(&api.router, "/meshes/demo/dataplanes/dp", DATAPLANE).await;
    let expected = "Could not create a resource | Mesh is not found | mesh: mesh of name demo is not found";
    assert_eq!(answer.error(), (400, expected.into()));
    assert_eq!(get(&api.router, "/meshes/demo/dataplanes").await.json()["items"], serde_json::json!([]));
    assert_eq!(delete(&api.router, "/meshes/demo").await.status, 404);
}

#[tokio::test]
async fn content_types() {
    let api = TestApi::with_mesh("demo").await;
    let with = async |headers: &[(&str, &str)]| {
        let mut builder = request(Method::PUT, "/meshes/demo/dataplanes/dp");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        send(&api.router, builder.body(Body::from(DATAPLANE)).expect("a request")).await
    };
    for fine in
        ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
    {
        assert!(with(&[("content-type", fine)]).await.status.is_success(), "{fine}");
    }
    assert!(with(&[]).await.status.is_success(), "not said");
    for wrong in ["application/x-www-form-urlencoded", "text/plain", "application/yaml", "json", ""] {
        let (status, error) = with(&[("content-type", wrong)]).await.error();
        assert_eq!(
            (status, error),
            (415, format!("Unsupported Media Type | The content type must be application/json, not {wrong:?}"))
        );
    }
    let (status, _) = with(&[("content-type", "application/json"), ("content-encoding", "gzip")]).await.error();
    assert_eq!(status, 415);
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let api = TestApi::with_mesh("demo").await;
    let padded = |size: usize| {
        let mut body = DATAPLANE.to_string();
        body.push_str(&" ".repeat(size - DATAPLANE.len()));
        body
    };
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp", padded(MAX_BODY)).await.status, 201);
    let expected = (413, format!("Could not process a resource | Body is larger than {MAX_BODY} bytes"));
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp", padded(MAX_BODY + 1)).await.error(), expected);
    // Without a length, as chunks that never end: the limit holds while they come.
    let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65536])));
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp", Body::from_stream(chunks)).await.error(), expected);
    // A length that is a lie is not believed, and nothing is waited for.
    let lie = request(Method::PUT, "/meshes/demo/dataplanes/dp")
        .header("content-length", "999999999999")
        .header("expect", "100-continue");
    assert_eq!(send(&api.router, lie.body(Body::empty()).expect("a request")).await.error(), expected);
}

#[tokio::test]
async fn a_body_that_breaks_off() {
    let api = TestApi::with_mesh("demo").await;
    let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    let answer = put(&api.router, "/meshes/demo/dataplanes/dp", Body::from_stream(broken)).await;
    assert_eq!(answer.error(), (400, "Could not process a resource | Body could not be read".into()));
}
