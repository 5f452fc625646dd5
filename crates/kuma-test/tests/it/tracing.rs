//! TrafficTrace: a collector with Zipkin's protocol gets the spans of a request from both sides, in one trace.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kuma_test::documents::{dataplane, permission};
use kuma_test::ports::free_port;
use kuma_test::wait::LIMIT;
use kuma_test::{ControlPlane, Dataplane, HttpApp, HttpClient, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A collector that records spans.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Collector {
    async fn start() -> Collector {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = spans.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| take(request, kept.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Collector { port, spans, task }
    }

    fn spans(&self) -> Vec<Value> {
        self.spans.lock().expect("no panic").clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// The senders of a trace's spans: the service and its side of the request.
    fn sides(&self, trace: &str) -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spans = self.spans();
        let of_trace = spans.iter().filter(|span| span["traceId"] == trace);
        of_trace.map(|span| (text(&span["localEndpoint"]["serviceName"]), text(&span["kind"]))).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(request: Request<Incoming>, kept: Arc<Mutex<Vec<Value>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_right = request.method() == "POST" && request.uri().path() == "/api/v2/spans";
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let spans: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
    kept.lock().expect("no panic").extend(spans);
    Ok(Response::builder().status(if is_right { 202 } else { 404 }).body(Full::default()).expect("a response"))
}

/// `web` calls `api`, which calls `db`; both speak HTTP.
struct Scene {
    cp: ControlPlane,
    web: Dataplane,
    outbound: u16,
    /// The path that web requests.
    path: String,
    _proxies: [Dataplane; 2],
    _apps: [HttpApp; 2],
}

impl Scene {
    async fn start(mesh: Value) -> Scene {
        let cp = ControlPlane::start().await;
        let (api, db) = (HttpApp::start("api").await, HttpApp::start("db").await);
        let (outbound, api_outbound) = (free_port(), free_port());
        let http = |name: &str, service: &str, app: u16, outbounds: &[(u16, &str)]| {
            let mut document = dataplane("default", name, service, (free_port(), app), outbounds);
            document["networking"]["inbound"][0]["tags"]["protocol"] = json!("http");
            document
        };
        cp.apply(&mesh).await;
        cp.apply(&permission("default", "all", "*", "*")).await;
        cp.apply(&http("api-1", "api", api.port, &[(api_outbound, "db")])).await;
        cp.apply(&http("db-1", "db", db.port, &[])).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), api.port), &[(outbound, "api")])).await;
        let start = async |name: &str| {
            let proxy = Dataplane::start(&cp, "default", name);
            proxy.live().await;
            proxy
        };
        let (web, proxies) = (start("web-1").await, [start("api-1").await, start("db-1").await]);
        let path = format!("/call/{api_outbound}/");
        let scene = Scene { cp, web, outbound, path, _proxies: proxies, _apps: [api, db] };
        eventually("web reaches db by way of api", || async {
            let mut client = HttpClient::connect(scene.outbound).await?;
            (client.get(&scene.path).await.ok()?.json()["answer"]["instance"] == "db").then_some(())
        })
        .await;
        scene
    }

    /// Waits until a proxy's configuration contains a text, or does not contain it any more.
    async fn has(&self, text: &str, there: bool) {
        for proxy in self._proxies.iter().chain([&self.web]) {
            eventually(&format!("{text:?} is there: {there}"), || async {
                (proxy.config_dump().await.contains(text) == there).then_some(())
            })
            .await;
        }
    }

    /// Sends a request over a new connection, and returns the id of its trace as db has received it.
    async fn request(&self) -> Option<String> {
        let mut client = HttpClient::connect(self.outbound).await.expect("a connection");
        let answer = client.get(&self.path).await.expect("an answer").json();
        answer["answer"]["headers"]["x-b3-traceid"].as_str().map(str::to_owned)
    }
}

fn mesh(mtls: bool, default: &str, backends: &Value) -> Value {
    json!({
        "type": "Mesh", "name": "default", "mtls": {"enabled": mtls, "ca": {"builtin": {}}},
        "tracing": {"defaultBackend": default, "backends": backends},
    })
}

fn trace(selector: &Value, backend: Option<&str>) -> Value {
    let mut trace =
        json!({"type": "TrafficTrace", "mesh": "default", "name": "all", "selectors": [{"match": selector}]});
    if let Some(backend) = backend {
        trace["conf"] = json!({"backend": backend});
    }
    trace
}

fn everybody() -> BTreeSet<(String, String)> {
    let sides = [("web", "CLIENT"), ("api", "SERVER"), ("api", "CLIENT"), ("db", "SERVER")];
    sides.iter().map(|(service, side)| ((*service).to_owned(), (*side).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_has_spans_of_every_side() {
    let collector = Collector::start().await;
    let backends = |sampling: Value| {
        json!([
            {"name": "zipkin", "sampling": sampling, "zipkin": {"url": collector.url("/api/v1/spans"),
                "apiVersion": "httpJsonV1"}},
            {"name": "away", "zipkin": {"url": "http://collector.invalid:9411/api/v2/spans"}},
            {"name": "long", "zipkin": {"url": collector.url(""), "traceId128bit": true}},
        ])
    };
    let scene = Scene::start(mesh(true, "zipkin", &backends(json!(100)))).await;
    let mut open = HttpClient::connect(scene.outbound).await.expect("a connection");
    assert_eq!(open.get("/").await.expect("an answer").status, 200);
    assert_eq!(scene.request().await, None, "nobody asked for traces");

    scene.cp.apply(&trace(&json!({"service": "*"}), None)).await;
    scene.has("collector_cluster", true).await;
    // Proxies keep their connections to each other for a minute, with the tracing settings that they were opened with.
    let whole = async {
        loop {
            if let Some(trace) = scene.request().await {
                // Envoy sends spans within 5 s.
                tokio::time::sleep(Duration::from_secs(6)).await;
                if collector.sides(&trace) == everybody() {
                    return trace;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let id = tokio::time::timeout(3 * LIMIT, whole).await.expect("a trace is whole");
    assert_eq!(id.len(), 16);
    let spans: Vec<Value> = collector.spans().into_iter().filter(|span| span["traceId"] == id.as_str()).collect();
    let server = spans.iter().find(|span| span["localEndpoint"]["serviceName"] == "db").expect("db's span");
    assert_eq!((&server["tags"]["http.method"], &server["tags"]["http.status_code"]), (&json!("GET"), &json!("200")));
    let parents: BTreeMap<&str, &Value> =
        spans.iter().filter_map(|span| Some((span["id"].as_str()?, &span["parentId"]))).collect();
    assert_eq!(parents.len(), 2, "two requests, each a span that both sides share: {spans:?}");

    // Other backends: with long ids, with an unreachable collector, and one that does not exist.
    scene.cp.apply(&trace(&json!({"service": "*"}), Some("long"))).await;
    scene.has("trace_id_128bit", true).await;
    let long = eventually("the id is long", || async { scene.request().await.filter(|id| id.len() == 32) }).await;
    eventually("its spans arrive", || async { (!collector.sides(&long).is_empty()).then_some(()) }).await;
    for backend in ["away", "none"] {
        scene.cp.apply(&trace(&json!({"service": "*"}), Some(backend))).await;
        scene.has("trace_id_128bit", false).await;
    }
    scene.has("collector_cluster", false).await;
    assert_eq!(open.get("/").await.expect("the connection lives").status, 200, "an edit of tracing cut a connection");
    assert_eq!(scene.web.stat("listener_manager.listener_modified").await, 0);
    let refused = scene.web.stats("(update_rejected|config_fail|config_conflict)$").await;
    assert!(refused.values().all(|&count| count == 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_selected_proxies_trace_and_only_so_many_requests() {
    let collector = Collector::start().await;
    let backends = |sampling: f64| {
        json!([{"name": "zipkin", "sampling": sampling,
        "zipkin": {"url": collector.url("/api/v2/spans")}}])
    };
    let scene = Scene::start(mesh(false, "zipkin", &backends(50.0))).await;
    scene.cp.apply(&trace(&json!({"service": "web"}), None)).await;
    eventually("web traces", || async { scene.web.config_dump().await.contains("collector_cluster").then_some(()) })
        .await;
    for _ in 0..400 {
        scene.request().await;
    }
    let count = eventually("spans arrive", || async {
        let count = collector.spans().len();
        tokio::time::sleep(Duration::from_secs(6)).await;
        (count > 0 && count == collector.spans().len()).then_some(count)
    })
    .await;
    // The expected number is 200, with a standard deviation of 10.
    assert!((130..270).contains(&count), "{count} of 400 were traced where half should");
    let services: BTreeSet<String> = collector
        .spans()
        .iter()
        .filter_map(|span| Some(span["localEndpoint"]["serviceName"].as_str()?.to_owned()))
        .collect();
    assert_eq!(services, BTreeSet::from(["web".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_proxy_could_do_is_refused() {
    let cp = ControlPlane::start().await;
    for (backend, field, message) in [
        (json!({"name": "a", "sampling": 101}), "sampling", "has to be in [0.0 - 100.0] range"),
        (json!({"name": "a", "zipkin": {"url": "http://zipkin"}}), "zipkin.url", "port has to be explicitly specified"),
        (
            json!({"name": "a", "zipkin": {"url": "https://zipkin:1"}}),
            "zipkin.url",
            "https is not supported: proxies send spans by http",
        ),
    ] {
        let response = cp.put(&mesh(false, "a", &json!([backend]))).await;
        assert_eq!(response.status().as_u16(), 400);
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(
            (&body["causes"][0]["field"], &body["causes"][0]["message"]),
            (&json!(format!("tracing.backends[0].{field}")), &json!(message))
        );
    }
    let output = cp.kumactl(&["apply", "-f", "-"], "type: TrafficTrace\nmesh: default\nname: t\nselectors: []\n");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("selectors") && error.contains("must have at least one element"), "{error}");
}
