//! A mock of the HTTP API that keeps documents in memory. A test can set its answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A running server; it ends with the value.
pub(crate) struct ControlPlane {
    port: u16,
    state: Arc<Mutex<Known>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Known {
    /// By path.
    resources: BTreeMap<String, Value>,
    /// By method and path, in turn; the last one stays.
    answers: BTreeMap<String, Vec<Answer>>,
    requests: Vec<String>,
    port: u16,
    /// Whether it accepts several documents in one request.
    takes_changes: bool,
}

/// An answer set by the test.
#[derive(Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    location: Option<String>,
    revision: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            location: None,
            revision: None,
            body: body.into(),
        }
    }

    /// As it is at this revision.
    pub(crate) fn at(self, revision: u64) -> Answer {
        Answer { revision: Some(revision), ..self }
    }

    pub(crate) fn redirect(location: &str) -> Answer {
        Answer { location: Some(location.to_owned()), ..Answer::new(302, "") }
    }
}

impl ControlPlane {
    /// Starts with the Mesh `default`.
    pub(crate) fn start() -> ControlPlane {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let default = json!({"type": "Mesh", "name": "default", "mtls": {"ca": {"builtin": {}}}});
        let known =
            Known { resources: BTreeMap::from([("/meshes/default".to_owned(), default)]), port, ..Known::default() };
        let state = Arc::new(Mutex::new(known));
        let router = Router::new().fallback(handle).with_state(state.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        ControlPlane { port, state, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sets the answer to a request such as `GET /meshes`.
    pub(crate) fn answers(&self, request: &str, answer: Answer) -> &Self {
        self.state.lock().expect("no panic").answers.insert(request.to_owned(), vec![answer]);
        self
    }

    /// Prescribes the answers to the next requests of the same kind.
    pub(crate) fn answers_in_turn(&self, request: &str, answers: Vec<Answer>) -> &Self {
        self.state.lock().expect("no panic").answers.insert(request.to_owned(), answers);
        self
    }

    /// Accepts several documents in one request from now on, and offers that in its catalog.
    pub(crate) fn takes_changes(&self) -> &Self {
        self.state.lock().expect("no panic").takes_changes = true;
        self
    }

    /// Requests since the last call, with their bodies.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no panic").requests)
    }
}

async fn handle(
    State(state): State<Arc<Mutex<Known>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut known = state.lock().expect("no panic");
    let mut request = format!("{method} {uri}");
    if !body.is_empty() {
        request = format!("{request} {}", String::from_utf8_lossy(&body));
    }
    for name in [header::AUTHORIZATION, header::COOKIE, header::REFERER] {
        if headers.contains_key(&name) {
            request = format!("{request} (with {name})");
        }
    }
    if let Some(note) = headers.get("kuma-note") {
        request = format!("{request} (Kuma-Note: {})", String::from_utf8_lossy(note.as_bytes()));
    }
    known.requests.push(request);
    if let Some(answers) = known.answers.get_mut(&format!("{method} {}", uri.path())) {
        let first = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        let Answer { status, location, revision, body } = first;
        return match (location, revision) {
            (Some(location), _) => (status, [(header::LOCATION, location)]).into_response(),
            (None, Some(revision)) => {
                let headers = [("kuma-revision", revision.to_string()), ("kuma-epoch", "7f3a".to_owned())];
                (status, headers, body).into_response()
            }
            (None, None) => (status, body).into_response(),
        };
    }
    let path = uri.path();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", [""]) => json(StatusCode::OK, &json!({"tagline": "Kuma", "version": "0.4.0"})),
        ("GET", ["catalog"]) => {
            let local = format!("http://localhost:{}", known.port);
            let mut catalog = json!({"apis": {"dataplaneToken": {"localUrl": local, "publicUrl": ""},
                "admin": {"localUrl": local, "publicUrl": ""}}});
            if known.takes_changes {
                catalog["apis"]["changes"] = json!({"url": format!("{local}/changes")});
            }
            json(StatusCode::OK, &catalog)
        }
        ("POST", ["changes"]) if known.takes_changes => {
            known.change(&serde_json::from_slice(&body).expect("kumactl sends JSON"))
        }
        ("POST", ["tokens"]) => "the.dataplane.token".into_response(),
        ("GET", ["meshes"] | ["meshes", _, _]) => {
            let below = |key: &&String| {
                key.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| !rest.contains('/'))
            };
            let items: Vec<Value> =
                known.resources.iter().filter(|(key, _)| below(key)).map(|(_, item)| item.clone()).collect();
            json(StatusCode::OK, &json!({"items": items}))
        }
        ("GET", ["meshes", _] | ["meshes", _, _, _]) => match known.resources.get(path) {
            Some(item) => json(StatusCode::OK, item),
            None => {
                json(StatusCode::NOT_FOUND, &json!({"title": "Could not retrieve a resource", "details": "Not found"}))
            }
        },
        ("PUT", [_, mesh, ..]) => {
            if segments.len() == 4 && !known.resources.contains_key(&format!("/meshes/{mesh}")) {
                let cause = json!([{"field": "mesh", "message": format!("mesh of name {mesh} is not found")}]);
                let error =
                    json!({"title": "Could not create a resource", "details": "Mesh is not found", "causes": cause});
                return json(StatusCode::BAD_REQUEST, &error);
            }
            if headers.get(header::CONTENT_TYPE).is_none_or(|value| value != "application/json") {
                return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "415: Unsupported Media Type").into_response();
            }
            let item: Value = serde_json::from_slice(&body).expect("kumactl sends JSON");
            // With defaults, as the real one stores it.
            let item = kuma_model::Document::parse(&item).map_or(item, |document| document.to_json());
            match known.resources.insert(path.to_owned(), item) {
                None => StatusCode::CREATED.into_response(),
                Some(_) => StatusCode::OK.into_response(),
            }
        }
        ("DELETE", _) => match known.resources.remove(path) {
            Some(_) => StatusCode::OK.into_response(),
            None => {
                json(StatusCode::NOT_FOUND, &json!({"title": "Could not delete a resource", "details": "Not found"}))
            }
        },
        _ => (StatusCode::NOT_FOUND, "404: Page Not Found").into_response(),
    }
}

impl Known {
    /// Applies all documents, if all of their meshes exist.
    fn change(&mut self, request: &Value) -> Response {
        let documents = request["apply"].as_array().expect("a list");
        let documents: Vec<_> =
            documents.iter().map(|json| kuma_model::Document::parse(json).expect("valid")).collect();
        let path = |key: &kuma_model::Key| match key.kind {
            "Mesh" => format!("/meshes/{}", key.name),
            kind => format!("/meshes/{}/{}/{}", key.mesh, kuma_model::kind(kind).expect("known").api_path, key.name),
        };
        let mut resources = self.resources.clone();
        let outcomes = documents.iter().map(|document| {
            let json = document.to_json();
            let outcome = match resources.insert(path(&document.key), json.clone()) {
                None => "created",
                Some(before) if before == json => "unchanged",
                Some(_) => "updated",
            };
            json!({"type": document.key.kind, "mesh": *document.key.mesh, "name": *document.key.name,
                "outcome": outcome})
        });
        let outcomes: Vec<Value> = outcomes.collect();
        let causes = documents.iter().enumerate().filter_map(|(index, document)| {
            let mesh = &document.key.mesh;
            let message = format!("mesh of name {mesh} is not found");
            let missing = !resources.contains_key(&format!("/meshes/{mesh}"));
            missing.then(|| json!({"field": format!("apply[{index}].mesh"), "message": message}))
        });
        let causes: Vec<Value> = causes.collect();
        if !causes.is_empty() {
            let error =
                json!({"title": "Could not change resources", "details": "Resource is not valid", "causes": causes});
            return json(StatusCode::BAD_REQUEST, &error);
        }
        if request["dryRun"] != true {
            self.resources = resources;
        }
        json(StatusCode::OK, &json!({"revision": 7, "epoch": "7f3a", "outcomes": outcomes}))
    }
}

fn json(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
