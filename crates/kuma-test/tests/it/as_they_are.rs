//! Large, many and unusual requests and connections pass through the proxies of client and server as they would without
//! a mesh.

use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::raw_app::{Reply, exchange, ok, status};
use kuma_test::{ControlPlane, Dataplane, HttpClient, RawApp, eventually};
use serde_json::json;

use crate::http;
use crate::scene::Scene;

/// More than any of Envoy's default limits on concurrent connections and requests.
const MANY: usize = 1_500;

/// `web` with an outbound to `api`, a service with one instance.
pub(crate) struct RawScene {
    pub(crate) cp: ControlPlane,
    pub(crate) web: Dataplane,
    pub(crate) api: Dataplane,
    pub(crate) outbound: u16,
}

impl RawScene {
    pub(crate) async fn start(app: &RawApp) -> RawScene {
        let cp = ControlPlane::start().await;
        let outbound = free_port();
        let mut api = dataplane("default", "api-1", "api", (free_port(), app.port), &[]);
        api["networking"]["inbound"][0]["tags"]["protocol"] = json!("http");
        cp.apply(&mesh("default", true)).await;
        cp.apply(&permission("default", "web-to-api", "web", "api")).await;
        cp.apply(&api).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), app.port), &[(outbound, "api")])).await;
        let (api, web) = (Dataplane::start(&cp, "default", "api-1"), Dataplane::start(&cp, "default", "web-1"));
        api.live().await;
        web.live().await;
        eventually("web reaches api", || async {
            (status(&exchange(outbound, b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n").await) == 200).then_some(())
        })
        .await;
        RawScene { cp, web, api, outbound }
    }
}

/// Longer than any of these tests takes.
const NEVER: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_at_a_time() {
    let scene = Scene::start().await;
    let mut connections = Vec::new();
    for number in 0..MANY {
        let connected = Client::connect_to(([127, 0, 0, 1], scene.outbound).into()).await;
        connections.push(connected.unwrap_or_else(|error| panic!("connection {number}: {error}")));
    }
    for (number, connection) in connections.iter_mut().enumerate() {
        assert!(connection.echoes().await, "connection {number}");
    }
    assert_eq!(scene.web_proxy.stat("cluster.redis.upstream_cx_active").await, MANY as u64);
    let refused = scene.web_proxy.stats("(overflow|circuit_breakers.*cx_open)$").await;
    assert!(refused.values().all(|&count| count == 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_a_time() {
    let scene = http::Scene::start(true).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(HttpClient::connect(scene.outbound).await.expect("a connection"));
    }
    at_a_time(&scene, clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_one_connection_at_a_time() {
    let scene = http::Scene::start(true).await;
    let client = HttpClient::connect_http2(scene.outbound).await.expect("a connection");
    let clients = (0..MANY).map(|_| client.share().expect("it is of HTTP/2"));
    at_a_time(&scene, clients.collect()).await;
}

/// Sends one request of each client, all at the same time.
async fn at_a_time(scene: &http::Scene, clients: Vec<HttpClient>) {
    let requests = clients.into_iter().map(|mut client| tokio::spawn(async move { client.get("/held").await }));
    let requests: Vec<_> = requests.collect();
    eventually("all are under way", async || {
        (scene.web.stat("http.api.downstream_rq_active").await == MANY as u64).then_some(())
    })
    .await;
    scene.one.release();
    scene.two.release();
    for (number, request) in requests.into_iter().enumerate() {
        let answer = request.await.expect("no panic");
        let status = answer.map(|answer| answer.status);
        assert_eq!(status, Ok(200), "request {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_many_headers() {
    let app = RawApp::start(NEVER, |request| match request.head.starts_with(b"GET /large ") {
        true => ok(&format!("x-large: {}\r\n", "a".repeat(1_000_000)), ""),
        false => ok(&(0..500).map(|number| format!("x-{number}: a\r\n")).collect::<String>(), ""),
    })
    .await;
    let scene = RawScene::start(&app).await;
    for (headers, length) in [(98, 10), (99, 10), (5_000, 10), (1, 61_000), (1, 1_000_000), (10, 100_000)] {
        let headers: String = (0..headers).map(|number| format!("h-{number}: {}\r\n", "b".repeat(length))).collect();
        let answer = exchange(scene.outbound, format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).await;
        assert_eq!(status(&answer), 200, "{} bytes of headers", headers.len());
        assert!(String::from_utf8_lossy(&answer).contains("\r\nx-499: a\r\n"));
        let head = app.heads().pop().expect("a request");
        assert!(head.len() > headers.len(), "{} of {} bytes arrived", head.len(), headers.len());
    }
    let answer = exchange(scene.outbound, b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((status(&answer), answer.len() > 1_000_000), (200, true));
}

/// Requests with an unusual method, path or header. Each case is the request line and a header.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_requests() {
    let app = RawApp::start(NEVER, |_| ok("x-envoy-own: kept\r\nx-envoy-upstream-service-time: 7\r\n", "")).await;
    let scene = RawScene::start(&app).await;
    for (line, header) in [
        // QUERY requires a content type (RFC 10008); Envoy refuses it without one.
        ("QUERY / HTTP/1.1", "content-type: a/b"),
        ("FOO /a HTTP/1.1", "x: 1"),
        ("PROPFIND /b HTTP/1.1", "x: 1"),
        ("GET /a%20b%2fc//d/../e;f?g=h&%zz{|}\"<> HTTP/1.1", "x: 1"),
        ("GET /a HTTP/1.1", "under_score: 1"),
        ("GET /b HTTP/1.1", "x: caf\u{e9}"),
        ("GET /c HTTP/1.1", "x-forwarded-for: 10.0.0.1"),
        ("GET /d HTTP/1.1", "x-forwarded-proto: https"),
        ("GET /e HTTP/1.1", "x-envoy-retry-on: 5xx"),
        ("GET /f HTTP/1.1", "x-envoy-internal: true"),
        ("GET /h HTTP/1.1", "x-envoy-upstream-stream-duration-ms: 5"),
        ("GET /i HTTP/1.1", "x-envoy-decorator-operation: mine"),
        ("GET /g HTTP/1.1", "x-envoy-of-mine: 1"),
    ] {
        let before = app.heads().len();
        let answer = exchange(scene.outbound, format!("{line}\r\nhost: a\r\n{header}\r\n\r\n").as_bytes()).await;
        let heads = app.heads();
        assert_eq!((status(&answer), heads.len()), (200, before + 1), "{line}, {header}");
        let head = String::from_utf8_lossy(&heads[before]).into_owned();
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains(&format!("\r\n{header}\r\n")) && !head.contains("x-kuma"), "{head}");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.contains("x-envoy-own: kept") && answer.contains("x-envoy-upstream-service-time: 7"),
            "{answer}"
        );
    }
}

/// An upgrade that is not supported is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn upgrades_that_are_offered() {
    let app = RawApp::start(NEVER, |_| ok("", "plain")).await;
    let scene = RawScene::start(&app).await;
    for offer in ["TLS/1.2", "tcp", "h2c", "w", "Websockets", "TLS/1.2, h2c", "spdy/3.1"] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: {offer}\r\n\r\n");
        let answer = exchange(scene.outbound, request.as_bytes()).await;
        assert!(answer.ends_with(b"plain"), "{offer}: {}", String::from_utf8_lossy(&answer));
    }
}

/// Headers of a client do not control proxies.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_steer_proxies() {
    let app = RawApp::start(NEVER, |request| match request.head.starts_with(b"GET /ready ") {
        true => ok("", ""),
        false => Reply::Answer(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec()),
    })
    .await;
    let scene = RawScene::start(&app).await;
    let before = app.heads().len();
    for forwarded in ["", "x-forwarded-for: 10.0.0.1\r\n", "x-forwarded-for: 127.0.0.1\r\n"] {
        let request = format!(
            "GET /a HTTP/1.1\r\nhost: a\r\n{forwarded}x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 5\r\n\
             x-envoy-upstream-rq-timeout-ms: 1\r\n\r\n"
        );
        assert_eq!(status(&exchange(scene.outbound, request.as_bytes()).await), 500);
    }
    assert_eq!(app.heads().len(), before + 3, "a request was repeated");
}
