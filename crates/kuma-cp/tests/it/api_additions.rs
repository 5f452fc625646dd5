//! What the HTTP API has beyond its documents: conditional requests, lists in pieces, and a description of itself.

use axum::body::Body;
use http::Method;
use kuma_model::KINDS;
use serde_json::{Value, json};

use crate::client::{Answer, get, put, request, send};
use crate::test_api::TestApi;

const PATH: &str = "/meshes/demo/traffic-logs/log-1";

fn log(backend: &str) -> String {
    let any = json!([{"match": {"service": "*"}}]);
    let conf = json!({"backend": backend});
    json!({"type": "TrafficLog", "mesh": "demo", "name": "log-1", "sources": any, "destinations": any, "conf": conf})
        .to_string()
}

async fn with(api: &TestApi, method: Method, path: &str, header: (&str, &str), body: &str) -> Answer {
    let request = request(method, path).header("content-type", "application/json").header(header.0, header.1);
    send(&api.router, request.body(Body::from(body.to_owned())).expect("a request")).await
}

#[tokio::test]
async fn a_write_may_demand_that_nobody_else_has_written() {
    let api = TestApi::with_mesh("demo").await;
    let refused = |title: &str| (412, format!("{title} | Precondition Failed"));
    let absent = with(&api, Method::PUT, PATH, ("if-match", "*"), &log("a")).await;
    assert_eq!(absent.error(), refused("Could not create a resource"));
    assert_eq!(with(&api, Method::PUT, PATH, ("if-none-match", "*"), &log("a")).await.status, 201);
    let present = with(&api, Method::PUT, PATH, ("if-none-match", "*"), &log("b")).await;
    assert_eq!(present.error(), refused("Could not update a resource"));

    let first = get(&api.router, PATH).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 18, "{tag}");
    let unchanged = with(&api, Method::GET, PATH, ("if-none-match", &tag), "").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text(), unchanged.header("etag")), (304, "", &*tag));
    assert_eq!(with(&api, Method::PUT, PATH, ("if-match", &format!("\"other\", {tag}")), &log("b")).await.status, 200);
    let late = with(&api, Method::PUT, PATH, ("if-match", &tag), &log("c")).await;
    assert_eq!(late.error(), refused("Could not update a resource"));
    let late = with(&api, Method::DELETE, PATH, ("if-match", &tag), "").await;
    assert_eq!(late.error(), refused("Could not delete a resource"));
    let second = get(&api.router, PATH).await;
    assert_eq!(second.json()["conf"]["backend"], "b");
    assert_ne!(second.header("etag"), tag);
    assert_eq!(with(&api, Method::DELETE, PATH, ("if-match", second.header("etag")), "").await.status, 200);

    // The same for a Mesh, which goes another way.
    let mesh = r#"{"type": "Mesh", "name": "demo"}"#;
    let late = with(&api, Method::PUT, "/meshes/demo", ("if-match", "\"other\""), mesh).await;
    assert_eq!(late.error(), refused("Could not update a resource"));
    let late = with(&api, Method::DELETE, "/meshes/demo", ("if-match", "\"other\""), "").await;
    assert_eq!(late.error(), refused("Could not delete a resource"));
    let tag = get(&api.router, "/meshes/demo").await.header("etag").to_owned();
    assert_eq!(with(&api, Method::DELETE, "/meshes/demo", ("if-match", &tag), "").await.status, 200);
}

#[tokio::test]
async fn a_list_comes_in_pieces_if_asked_for() {
    let api = TestApi::new();
    for name in ["a", "b", "c", "d", "e"] {
        put(&api.router, &format!("/meshes/{name}"), format!(r#"{{"type": "Mesh", "name": "{name}"}}"#)).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("a list");
        items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    let whole = get(&api.router, "/meshes").await.json();
    assert_eq!((names(&whole).len(), whole.as_object().expect("an object").len()), (5, 1), "as documented");
    let (mut next, mut seen) = ("/meshes?size=2".to_owned(), Vec::new());
    loop {
        let piece = get(&api.router, &next).await.json();
        assert_eq!(piece["total"], 5);
        seen.extend(names(&piece));
        match &piece["next"] {
            Value::String(path) => next = path.clone(),
            Value::Null => break,
            other => panic!("{other}"),
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(
        get(&api.router, "/meshes?offset=4").await.json(),
        json!({"items": [get(&api.router, "/meshes/e").await.json()], "next": null, "total": 5})
    );
    assert_eq!(get(&api.router, "/meshes?offset=4294967295&size=1000").await.json()["items"], json!([]));
    for query in [
        "size=0",
        "size=1001",
        "size=x",
        "size=",
        "offset=-1",
        "offset=4294967296",
        "offset=99999999999999999999",
        "size=+1",
    ] {
        let answer = get(&api.router, &format!("/meshes?{query}")).await;
        assert_eq!(answer.error().0, 400, "{query}");
    }
    let overviews = get(&api.router, "/meshes/a/dataplanes+insights?tag=service:web&size=1").await.json();
    assert_eq!(overviews, json!({"items": [], "next": null, "total": 0}));
}

#[tokio::test]
async fn the_description_has_every_kind_and_no_dead_reference() {
    let api = TestApi::new();
    let answer = get(&api.router, "/openapi.json").await;
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    for kind in KINDS {
        let collection =
            if kind.name == "Mesh" { "/meshes".to_owned() } else { format!("/meshes/{{mesh}}/{}", kind.api_path) };
        for (path, methods) in [(collection.clone(), 1), (format!("{collection}/{{name}}"), 3)] {
            let item = document["paths"][&path].as_object().unwrap_or_else(|| panic!("no {path}"));
            let found = ["get", "put", "delete"].iter().filter(|method| item.contains_key(**method)).count();
            assert_eq!(found, methods, "{path}");
        }
    }
    for (path, method) in [("/changes", "post"), ("/history", "get"), ("/diff", "get"), ("/rollback", "post")] {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
    for (at, _) in answer.text().match_indices("\"$ref\": \"#") {
        let pointer = answer.text()[at..].split('"').nth(3).expect("a pointer").trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
