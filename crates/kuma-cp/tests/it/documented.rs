//! The requests and bodies of the requirements document, sent as they stand and read back.
//!
//! `tests/data/http-api.json` has the examples alone. While the document itself is beside the project, a test holds the
//! data to it, so that none is missing.

use std::path::Path;

use axum::body::Body;
use http::{Method, Request};
use kuma_model::{KINDS, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Answer, delete, get, put, send};
use crate::test_api::TestApi;

/// One example.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Example {
    /// Method and path with placeholders, where the document says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// The command that is shown.
    command: String,
    /// What is sent, or what comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/http-api.json");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/requirements/documentation.md");

/// The HTTP examples of the document.
fn extract(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut request = None;
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("Request: `") {
            request = rest.split('`').next().map(str::to_owned);
        }
        let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let text = block.join("\n");
        match language {
            "bash" if text.starts_with("curl ") => {
                examples.push(Example { request: request.take(), command: text, body: None });
            }
            "json" => {
                let example = examples.last_mut().filter(|example| example.body.is_none());
                example.expect("a body follows its command").body = Some(text);
            }
            _ => {}
        }
    }
    examples
}

fn examples() -> Vec<Example> {
    serde_json::from_str(&std::fs::read_to_string(DATA).expect("the data")).expect("examples")
}

#[test]
fn no_example_of_the_document_is_missing() {
    if !Path::new(DOCUMENT).exists() {
        // The document is no part of the project; its examples are.
        assert_eq!(examples().len(), 32);
        return;
    }
    let extracted = extract(&std::fs::read_to_string(DOCUMENT).expect("the document"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DATA, format!("{:#}\n", json!(extracted))).expect("writes");
    }
    assert_eq!(examples(), extracted, "run this test with UPDATE_DOCS=1");
}

impl Example {
    fn method(&self) -> Method {
        match self.command.split_whitespace().find_map(|word| word.strip_prefix("-X")) {
            Some(method) => method.parse().expect("a method"),
            None => Method::GET,
        }
    }

    /// Path of the command, without its host.
    fn path(&self) -> &str {
        let url = self.command.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
        &url[url[7..].find('/').expect("a path") + 7..]
    }

    /// The path that the request line means, which is not always spelled like that of the command.
    fn request_path(&self) -> Option<String> {
        let template = self.request.as_ref()?.split(' ').nth(1)?.trim_end_matches('/');
        let values: Vec<&str> = self.path().split('/').collect();
        let parts: Vec<&str> = template.split('/').collect();
        let fill =
            |(part, value): (&&str, &&str)| if part.starts_with('{') { value.to_string() } else { part.to_string() };
        let filled: Vec<String> = parts.iter().zip(&values).map(fill).collect();
        Some(format!("{}{}", filled.join("/"), if self.request.as_ref()?.ends_with('/') { "/" } else { "" }))
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.body.as_deref().expect("a body")).expect("JSON")
    }
}

/// Puts what an answer shows there, the Mesh first.
async fn seed(api: &TestApi, document: &Value) {
    let text = |field: &str| document[field].as_str().expect(field).to_owned();
    if text("type") == "DataplaneOverview" {
        for (kind, spec) in [("Dataplane", &document["dataplane"]), ("DataplaneInsight", &document["dataplaneInsight"])]
        {
            let mut one = json!({"type": kind, "mesh": text("mesh"), "name": text("name")});
            one.as_object_mut().expect("an object").extend(spec.as_object().expect("a spec").clone());
            Box::pin(seed(api, &one)).await;
        }
        return;
    }
    let kind = KINDS.iter().find(|kind| kind.name == text("type")).expect("a kind");
    let path = match kind.scope {
        Scope::Global => format!("/meshes/{}", text("name")),
        Scope::Mesh => {
            mesh(api, &text("mesh")).await;
            format!("/meshes/{}/{}/{}", text("mesh"), kind.api_path, text("name"))
        }
    };
    let answer = put(&api.router, &path, document.to_string()).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
}

async fn mesh(api: &TestApi, name: &str) {
    put(&api.router, &format!("/meshes/{name}"), json!({"type": "Mesh", "name": name}).to_string()).await;
}

#[tokio::test]
async fn what_is_shown_is_what_comes_back() {
    let mut seen = 0;
    for example in examples().iter().filter(|example| example.method() == Method::GET && example.path() != "/config") {
        let api = TestApi::new();
        let expected = example.json();
        match expected.get("items") {
            Some(items) => {
                for item in items.as_array().expect("a list") {
                    seed(&api, item).await;
                }
            }
            None => seed(&api, &expected).await,
        }
        for path in [Some(example.path().to_owned()), example.request_path()].into_iter().flatten() {
            let answer = get(&api.router, &path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.json(), expected, "{path}");
        }
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[tokio::test]
async fn what_is_sent_is_stored() {
    let mut seen = 0;
    for example in examples().iter().filter(|example| example.method() == Method::PUT) {
        assert!(example.command.contains("-H'content-type: application/json'"));
        for path in [Some(example.path().to_owned()), example.request_path()].into_iter().flatten() {
            let api = TestApi::new();
            mesh(&api, "default").await;
            if example.path().split('/').count() > 3 {
                mesh(&api, "mesh-1").await;
            }
            let sent = example.body.as_deref().expect("a body");
            let created = put(&api.router, &path, sent.to_owned()).await;
            assert_eq!((created.status.as_u16(), created.text()), (201, ""), "{path}");
            assert_eq!(put(&api.router, &path, sent.to_owned()).await.status, 200, "{path}");
            assert_eq!(get(&api.router, example.path()).await.json(), example.json(), "{path}");
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let all = examples();
    let mut seen = 0;
    for example in all.iter().filter(|example| example.method() == Method::DELETE) {
        let api = TestApi::new();
        let path: Vec<&str> = example.path().split('/').collect();
        // A document of that kind, under the name that the command has.
        let kind = if path.len() == 3 { "meshes" } else { path[3] };
        let name = *path.last().expect("a name");
        let of_kind = |one: &&Example| {
            let parts: Vec<&str> = one.path().split('/').collect();
            one.method() == Method::PUT && (if parts.len() == 3 { "meshes" } else { parts[3] }) == kind
        };
        let mut document = all.iter().find(of_kind).expect("it can be created too").json();
        document["name"] = name.into();
        if path.len() > 3 {
            document["mesh"] = path[2].into();
        }
        seed(&api, &document).await;
        let answer = delete(&api.router, example.path()).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ""), "{}", example.path());
        assert_eq!(get(&api.router, example.path()).await.status, 404);
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn the_configuration_has_every_key_that_is_shown() {
    fn missing(shown: &Value, ours: &Value, at: &str, found: &mut Vec<String>) {
        match (shown, ours) {
            (Value::Object(shown), Value::Object(ours)) => {
                for (key, value) in shown {
                    match ours.get(key) {
                        Some(ours) => missing(value, ours, &format!("{at}.{key}"), found),
                        None => found.push(format!("{at}.{key}")),
                    }
                }
            }
            (shown, ours) if std::mem::discriminant(shown) == std::mem::discriminant(ours) => {}
            _ => found.push(format!("{at} is of another type")),
        }
    }
    let examples = examples();
    let example = examples.iter().find(|example| example.path() == "/config").expect("it is shown");
    let answer = get(&TestApi::new().router, "/config").await;
    let mut found = Vec::new();
    missing(&example.json(), &answer.json(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn the_broken_request_for_a_token_gets_a_hint() {
    let examples = examples();
    let example = examples.iter().find(|example| example.path() == "/tokens").expect("it is shown");
    let sent = example.command.split('\'').nth(1).expect("data in quotes").to_owned();
    let issuer = kuma_ca::SigningKey::generate().expect("a key");
    let admin = kuma_cp::admin::Admin { tokens: Some(std::sync::Arc::new(issuer)), ca: None, api: None };
    let router = kuma_cp::admin::router(std::sync::Arc::new(admin));
    let post = |body: String| {
        let request =
            crate::client::request(Method::POST, "/tokens").header("content-type", "application/x-www-form-urlencoded");
        let request: Request<Body> = request.body(Body::from(body)).expect("a request");
        let router = router.clone();
        async move { send(&router, request).await }
    };
    let refused: Answer = post(sent.clone()).await;
    let (status, error) = refused.error();
    assert_eq!(status, 400);
    let meant = error.split("behind the quotes: ").nth(1).expect("a hint").to_owned();
    assert_eq!(post(meant).await.status, 200, "what the hint says works");
}
