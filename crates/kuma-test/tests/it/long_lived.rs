//! Idle connections and slow responses stay open for as long as the applications want, as they do without proxies.

use std::collections::BTreeSet;
use std::time::Duration;

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, HttpApp, HttpClient, eventually};
use serde_json::{Value, json};

use crate::http::WebSocket;

/// Longer than the lifetime after which an inbound asks HTTP clients to open a new connection (60 s), and the time that
/// Envoy gives them for that (5 s).
const IDLE: Duration = Duration::from_secs(67);

/// `web` with outbounds to the TCP service `redis` and the HTTP service `api`, which are inbounds of one proxy. web's
/// proxy is transparent.
struct Scene {
    _cp: ControlPlane,
    _apps: (Greeter, HttpApp),
    web: Dataplane,
    server: Dataplane,
    redis: u16,
    api: u16,
}

impl Scene {
    async fn start() -> Scene {
        let cp = ControlPlane::start().await;
        let apps = (Greeter::start().await, HttpApp::start("api").await);
        let (redis, api) = (free_port(), free_port());
        let mut server = dataplane("default", "server-1", "redis", (free_port(), apps.0.port), &[]);
        server["networking"]["inbound"].as_array_mut().expect("inbounds").push(json!({
            "interface": format!("127.0.0.1:{}:{}", free_port(), apps.1.port),
            "tags": {"service": "api", "protocol": "http"},
        }));
        let outbounds = [(redis, "redis"), (api, "api")];
        let mut web = dataplane("default", "web-1", "web", (free_port(), apps.0.port), &outbounds);
        web["networking"]["transparentProxying"] = json!({"redirectPort": free_port()});
        cp.apply(&mesh("default", true)).await;
        cp.apply(&permission("default", "all", "*", "*")).await;
        cp.apply(&server).await;
        cp.apply(&web).await;
        let server = Dataplane::start(&cp, "default", "server-1");
        let web = Dataplane::start(&cp, "default", "web-1");
        server.live().await;
        web.live().await;
        Scene { _cp: cp, _apps: apps, web, server, redis, api }
    }

    async fn request(&self) -> HttpClient {
        eventually("web reaches api", || async {
            let mut client = HttpClient::connect(self.api).await?;
            (client.get("/").await.ok()?.status == 200).then_some(client)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_slow_responses_stay_open() {
    let scene = Scene::start().await;
    let mut http1 = scene.request().await;
    let mut http2 = HttpClient::connect_http2(scene.api).await.expect("a connection");
    let mut idle = eventually("web reaches redis", || Client::connect(scene.redis)).await;
    let mut websocket = WebSocket::open(scene.api).await.expect("an upgraded connection");
    assert!(idle.echoes().await && websocket.echoes().await);
    let slow = format!("/slow/{}", IDLE.as_millis());
    let ((), http1, http2) = tokio::join!(tokio::time::sleep(IDLE), http1.get(&slow), http2.get(&slow));
    assert!(idle.echoes().await, "an idle TCP connection was closed");
    assert!(websocket.echoes().await, "an idle websocket was closed");
    assert_eq!(http1.map(|answer| answer.status), Ok(200), "a slow response of HTTP/1.1");
    assert_eq!(http2.map(|answer| answer.status), Ok(200), "a slow response of HTTP/2");
}

/// Envoy's timeouts are too long to wait for them, an hour for TCP, so this reads the configuration that is in use.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_has_no_timeout_for_idle_connections_and_slow_responses() {
    let scene = Scene::start().await;
    scene.request().await;
    let dump = async |proxy: &Dataplane| -> Value { serde_json::from_str(&proxy.config_dump().await).expect("JSON") };
    let (web, server) = (dump(&scene.web).await, dump(&scene.server).await);

    // web: its inbound, the split of its outbound to redis, connections that pass through, and those that the listeners
    // of redirected connections turn away.
    for (proxy, dump, expected) in [
        ("web", &web, ["kuma_nowhere", "localhost_", "pass_through", "redis"].as_slice()),
        ("server", &server, &["localhost_"]),
    ] {
        let filters = messages(dump, "TcpProxy");
        let names: BTreeSet<&str> = filters.iter().filter_map(|filter| filter["stat_prefix"].as_str()).collect();
        let is_there = |expected: &&str| names.iter().any(|name| name.starts_with(*expected));
        assert!(expected.iter().all(is_there), "{proxy}: {names:?}");
        for filter in filters {
            assert_eq!(filter["idle_timeout"], "0s", "{proxy}: {filter}");
            assert_eq!(filter["max_downstream_connection_duration"], Value::Null, "{proxy}: {filter}");
        }
    }

    // The inbound's own timeouts hold between requests: it outlasts the client's proxy, which closes an idle connection
    // after an hour, and ends a connection after its response.
    for (proxy, dump, idle_timeout, lifetime) in
        [("web", &web, json!("0s"), Value::Null), ("server", &server, json!("7200s"), json!("60s"))]
    {
        let managers = messages(dump, "HttpConnectionManager");
        assert_eq!(managers.len(), 1, "{proxy}: {managers:?}");
        let options = &managers[0]["common_http_protocol_options"];
        assert_eq!(managers[0]["stream_idle_timeout"], "0s", "{proxy}");
        assert_eq!((&options["idle_timeout"], &options["max_connection_duration"]), (&idle_timeout, &lifetime));
        assert_eq!(managers[0]["http1_safe_max_connection_duration"] == true, lifetime != Value::Null, "{proxy}");
        for timeout in ["request_timeout", "request_headers_timeout", "stream_flush_timeout"] {
            assert_eq!(managers[0][timeout], Value::Null, "{proxy}: {timeout}");
        }
        assert_eq!(options["max_stream_duration"], Value::Null, "{proxy}");
        let mut routes = Vec::new();
        collect(dump, &mut routes, &|value| value["match"].is_object() && value["route"].is_object());
        assert!(!routes.is_empty(), "{proxy}: {dump}");
        for route in routes {
            assert_eq!(route["route"]["timeout"], "0s", "{proxy}: {route}");
            for timeout in ["idle_timeout", "max_stream_duration", "flush_timeout"] {
                assert_eq!(route["route"][timeout], Value::Null, "{proxy}: {route}");
            }
        }
    }
}

/// All messages of a type in a dump, such as `TcpProxy`.
fn messages<'a>(dump: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let suffix = format!(".{name}");
    collect(dump, &mut found, &|value| value["@type"].as_str().is_some_and(|name| name.ends_with(&suffix)));
    found
}

fn collect<'a>(value: &'a Value, found: &mut Vec<&'a Value>, wanted: &impl Fn(&Value) -> bool) {
    if value.is_object() && wanted(value) {
        found.push(value);
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| collect(value, found, wanted)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, found, wanted)),
        _ => {}
    }
}
