//! Services with the tag `protocol: http`: requests pass unchanged; a change takes effect with the next request on an
//! open connection, and closes none.

use std::time::Duration;

use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::http_client::Answer;
use kuma_test::ports::free_port;
use kuma_test::wait::LIMIT;
use kuma_test::{ControlPlane, Dataplane, HttpApp, HttpClient, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http_load::HttpLoad;
use crate::restart::{connected, updates};

/// `web` with an outbound to `api`, which has two instances of different versions, each with a proxy.
pub(crate) struct Scene {
    pub(crate) cp: ControlPlane,
    pub(crate) one: HttpApp,
    pub(crate) two: HttpApp,
    pub(crate) web: Dataplane,
    pub(crate) api: [Dataplane; 2],
    /// Port of web's outbound to api.
    pub(crate) outbound: u16,
    /// The Dataplanes: the two of api, and that of web.
    documents: [Value; 3],
}

impl Scene {
    pub(crate) async fn start(mtls: bool) -> Scene {
        let cp = ControlPlane::start().await;
        let (one, two, outbound) = (HttpApp::start("one").await, HttpApp::start("two").await, free_port());
        let documents = [
            instance("api-1", "1.0", one.port),
            instance("api-2", "2.0", two.port),
            dataplane("default", "web-1", "web", (free_port(), one.port), &[(outbound, "api")]),
        ];
        cp.apply(&mesh("default", mtls)).await;
        cp.apply(&permission("default", "web-to-api", "web", "api")).await;
        for document in &documents {
            cp.apply(document).await;
        }
        let start = async |name: &str| {
            let proxy = Dataplane::start(&cp, "default", name);
            proxy.live().await;
            proxy
        };
        let api = [start("api-1").await, start("api-2").await];
        let web = start("web-1").await;
        let scene = Scene { cp, one, two, web, api, outbound, documents };
        scene.open().await;
        scene
    }

    /// Waits until a request of web succeeds, and returns the connection.
    pub(crate) async fn open(&self) -> HttpClient {
        eventually("web reaches api", || async {
            let mut client = HttpClient::connect(self.outbound).await?;
            let answer = client.get("/").await.ok()?;
            (answer.status == 200).then_some(client)
        })
        .await
    }

    /// Sends all requests to one version.
    async fn route_to(&self, version: &str) {
        let other = if version == "1.0" { "2.0" } else { "1.0" };
        let way = |weight: u32, version: &str| {
            let destination = json!({"service": "api", "version": version});
            json!({"weight": weight, "destination": destination})
        };
        self.cp
            .apply(&json!({
                "type": "TrafficRoute", "mesh": "default", "name": "api",
                "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "api"}}],
                "conf": [way(0, other), way(7, version)],
            }))
            .await;
    }
}

fn instance(name: &str, version: &str, app: u16) -> Value {
    let mut document = dataplane("default", name, "api", (free_port(), app), &[]);
    document["networking"]["inbound"][0]["tags"] = json!({"service": "api", "version": version, "protocol": "http"});
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_pass_as_they_are() {
    for mtls in [false, true] {
        let scene = Scene::start(mtls).await;
        let outbound = scene.outbound;
        // Longer than Envoy's default timeout.
        let slow = tokio::spawn(async move {
            let mut client = HttpClient::connect(outbound).await.expect("a connection");
            client.get("/slow/16000").await
        });

        let mut client = scene.open().await;
        let answer = client.send("PUT", "/a//b/../%2e?x=%20y", &[("X-Own", "mine"), ("user-agent", "a test")]).await;
        let answer = answer.expect("an answer");
        let seen = answer.json();
        let names: Vec<&String> = seen["headers"].as_object().expect("headers").keys().collect();
        assert_eq!(
            names,
            ["content-length", "host", "user-agent", "x-forwarded-proto", "x-own", "x-request-id"],
            "{seen}"
        );
        assert_eq!((&seen["method"], &seen["path"]), (&json!("PUT"), &json!("/a//b/../%2e")));
        assert_eq!((&seen["headers"]["host"], &seen["version"]), (&json!("the.host"), &json!("HTTP/1.1")));
        assert_eq!(answer.headers["server"], "the application");
        let ours = answer.headers.keys().find(|name| name.as_str().starts_with("x-"));
        assert_eq!(ours, None, "a header that nobody asked for");
        let given = client.send("GET", "/", &[("x-request-id", "given")]).await.expect("an answer");
        assert_eq!(given.json()["headers"]["x-request-id"], "given");

        for version in ["1.0", "2.0"] {
            assert!(old_http(outbound, version).await.starts_with("HTTP/1."), "HTTP/{version}");
        }
        assert!(old_http(outbound, "1.0").await.contains("200 OK"), "a request of HTTP/1.0 without a host");

        let mut grpc = HttpClient::connect_http2(outbound).await.expect("HTTP/2 without asking first");
        let answer =
            grpc.send_body("POST", "/a.Service/Call", &[("content-type", "application/grpc")], "a message".into());
        let answer = answer.await.expect("an answer");
        assert_eq!((&answer.body[..], answer.trailers["grpc-status"].to_str().ok()), (&b"a message"[..], Some("0")));
        assert_eq!(grpc.get("/").await.expect("an answer").json()["version"], "HTTP/2.0");

        let mut websocket = WebSocket::open(outbound).await.expect("an upgraded connection");
        assert!(websocket.echoes().await);
        let slow = slow.await.expect("no panic").expect("a slow answer is an answer");
        assert_eq!(slow.status, 200);
    }
}

/// Sends requests over a connection until a response is as wanted.
async fn until(client: &mut HttpClient, what: &str, wanted: impl Fn(&Answer) -> bool) {
    let answered = async {
        while !wanted(&client.get("/").await.expect("the connection lives")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, answered).await.unwrap_or_else(|_| panic!("no such answer within {LIMIT:?}: {what}"));
}

/// The response to a request as old clients send it.
async fn old_http(port: u16, version: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    stream.write_all(format!("GET / HTTP/{version}\r\n\r\n").as_bytes()).await.expect("it takes a request");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

/// An upgraded connection to an application that echoes.
pub(crate) struct WebSocket(TcpStream);

impl WebSocket {
    /// Connects to a port and upgrades the connection.
    pub(crate) async fn open(port: u16) -> Option<WebSocket> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Some(WebSocket(stream))
    }

    /// Whether bytes come back.
    pub(crate) async fn echoes(&mut self) -> bool {
        let mut echo = [0; 4];
        let sent = self.0.write_all(b"ping").await.is_ok();
        sent && self.0.read_exact(&mut echo).await.is_ok() && &echo == b"ping"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_holds_from_the_next_request_on_and_costs_none() {
    let scene = Scene::start(true).await;
    let mut client = scene.open().await;
    scene.route_to("2.0").await;
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let is_new = client.get("/").await.expect("the connection lives").instance() == "two";
        in_a_row = if is_new { in_a_row + 1 } else { 0 };
    }
    let load = HttpLoad::start(scene.outbound);
    for round in 0..20 {
        let (version, name) = if round % 2 == 0 { ("1.0", "one") } else { ("2.0", "two") };
        scene.route_to(version).await;
        let mut misses = 0;
        until(&mut client, &format!("version {version}"), |answer| answer.instance() == name).await;
        for _ in 0..20 {
            misses += usize::from(client.get("/").await.expect("the connection lives").instance() != name);
        }
        assert_eq!(misses, 0, "requests went to the other version");
    }
    // A route without destinations: status 503, and the connection stays open.
    scene.cp.delete("/meshes/default/traffic-routes/api").await;
    let requests = load.end().await;
    assert!(requests > 100, "only {requests}");
    let stopped = json!({
        "type": "TrafficRoute", "mesh": "default", "name": "api",
        "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "api"}}],
        "conf": [{"weight": 0, "destination": {"service": "api"}}],
    });
    scene.cp.apply(&stopped).await;
    until(&mut client, "the traffic stops", |answer| answer.status == 503).await;
    scene.cp.delete("/meshes/default/traffic-routes/api").await;
    until(&mut client, "the traffic goes on", |answer| answer.status == 200).await;
    let refused = scene.web.stats("(update_rejected|config_fail|config_conflict)$").await;
    assert!(refused.values().all(|&count| count == 0), "{refused:?}");
    assert_eq!(scene.web.stat("listener_manager.listener_modified").await, 0);
    assert_eq!(scene.web.stat("listener_manager.listener_in_place_updated").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_permission_denies_the_next_request_and_hurts_no_neighbour() {
    let scene = Scene::start(true).await;
    let outbound = free_port();
    scene
        .cp
        .apply(&dataplane("default", "billing-1", "billing", (free_port(), scene.one.port), &[(outbound, "api")]))
        .await;
    scene.cp.apply(&permission("default", "billing-to-api", "billing", "api")).await;
    let billing = Dataplane::start(&scene.cp, "default", "billing-1");
    billing.live().await;
    let mut neighbour = eventually("billing reaches api", || async {
        let mut client = HttpClient::connect(outbound).await?;
        (client.get("/").await.ok()?.status == 200).then_some(client)
    })
    .await;

    for _ in 0..3 {
        let mut revoked = scene.open().await;
        scene.cp.delete("/meshes/default/traffic-permissions/web-to-api").await;
        let denied = async {
            // The connection may end before that, since the flow is revoked.
            while let Ok(answer) = revoked.get("/").await
                && answer.status != 403
            {
                assert_eq!(neighbour.get("/").await.expect("the neighbour's connection lives").status, 200);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, denied).await.expect("the requests of a revoked flow are served");
        // Both instances deny it.
        let is_denied = async || {
            let mut client = HttpClient::connect(scene.outbound).await.expect("the listener stays");
            !matches!(client.get("/").await, Ok(answer) if answer.status == 200)
        };
        let mut in_a_row = 0;
        while in_a_row < 20 {
            in_a_row = if is_denied().await { in_a_row + 1 } else { 0 };
        }
        let before = scene.one.requests() + scene.two.requests();
        for _ in 0..10 {
            assert!(is_denied().await, "a request was served");
        }
        assert_eq!(scene.one.requests() + scene.two.requests(), before, "a request got through to the application");
        assert_eq!(neighbour.get("/").await.expect("the neighbour's connection lives").status, 200);
        scene.cp.apply(&permission("default", "web-to-api", "web", "api")).await;
    }
    scene.open().await;
    assert_eq!(neighbour.get("/").await.expect("the neighbour's connection lives").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_answers_with_errors_is_left_out() {
    let scene = Scene::start(false).await;
    let policy = json!({
        "type": "HealthCheck", "mesh": "default", "name": "api",
        "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "api"}}],
        "conf": {"passiveChecks": {"unhealthyThreshold": 3, "penaltyInterval": "3s"}},
    });
    scene.cp.apply(&policy).await;
    let ejected = || scene.web.stat("cluster.api.outlier_detection.ejections_active");
    scene.one.answers_with(500);
    let mut client = scene.open().await;
    let ejection = async {
        while ejected().await == 0 {
            client.get("/").await.expect("the connection lives");
        }
    };
    tokio::time::timeout(LIMIT, ejection).await.expect("an instance that answers with errors stays");
    for _ in 0..20 {
        assert_eq!(client.get("/").await.expect("the connection lives").instance(), "two");
    }
    scene.one.answers_with(200);
    until(&mut client, "it is back", |answer| answer.instance() == "one").await;
}

/// A check that only connects would reach the instance's proxy and succeed.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_by_request_finds_out_about_the_application() {
    let scene = Scene::start(true).await;
    let policy = json!({
        "type": "HealthCheck", "mesh": "default", "name": "api",
        "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "*"}}],
        "conf": {"activeChecks": {
            "interval": "200ms", "timeout": "2s", "unhealthyThreshold": 2, "healthyThreshold": 1,
            "http": {"path": "/health", "expectedStatuses": [200, 204]},
        }},
    });
    scene.cp.apply(&policy).await;
    let healthy = async |count: u64| {
        eventually(&format!("{count} instances are healthy"), || async {
            (scene.web.stat("cluster.api.membership_healthy").await == count).then_some(())
        })
        .await;
    };
    eventually("checks arrive", || async { (scene.one.requests() > 10).then_some(()) }).await;
    healthy(2).await;
    for status in [500, 404] {
        scene.one.answers_with(status);
        healthy(1).await;
        let mut client = scene.open().await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.expect("the connection lives").instance(), "two");
        }
        scene.one.answers_with(204);
        healthy(2).await;
    }
    // A check is a request, so it needs a permission.
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-api").await;
    healthy(0).await;
}

/// A change of protocol does not affect another service.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_change_what_it_speaks_under_traffic() {
    use kuma_test::apps::{Client, Greeter};
    let scene = Scene::start(true).await;
    let (redis, redis_outbound) = (Greeter::start().await, free_port());
    scene.cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), redis.port), &[])).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    let outbounds = [(scene.outbound, "api"), (redis_outbound, "redis")];
    scene.cp.apply(&dataplane("default", "web-1", "web", (free_port(), scene.one.port), &outbounds)).await;
    let redis_proxy = Dataplane::start(&scene.cp, "default", "redis-1");
    redis_proxy.live().await;
    let mut beside = eventually("web reaches redis", || Client::connect(redis_outbound)).await;

    let requests = || scene.web.stat("http.api.downstream_rq_total");
    for round in 0..3 {
        for document in &mut scene.documents[..2].to_vec() {
            document["networking"]["inbound"][0]["tags"]["protocol"] = json!("tcp");
            scene.cp.apply(document).await;
            // When only one instance is changed, the service counts as TCP.
            scene.open().await;
        }
        eventually("requests are not seen as such any more", || async {
            let before = requests().await;
            let mut client = scene.open().await;
            for _ in 0..5 {
                client.get("/").await.ok()?;
            }
            (requests().await == before).then_some(())
        })
        .await;
        for document in &scene.documents[..2] {
            scene.cp.apply(document).await;
        }
        eventually("requests are seen again", || async {
            let before = requests().await;
            let mut client = scene.open().await;
            for _ in 0..5 {
                client.get("/").await.ok()?;
            }
            (requests().await > before).then_some(())
        })
        .await;
        assert!(beside.echoes().await, "round {round}: the TCP service beside it was cut");
    }
    let load = HttpLoad::start(scene.outbound);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(load.end().await > 100, "it has settled");
    for proxy in [&scene.web, &scene.api[0], &scene.api[1]] {
        let refused = proxy.stats("(update_rejected|config_fail|config_conflict|envoy_bug_failures)$").await;
        assert!(refused.values().all(|&count| count == 0), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_control_plane_costs_no_request_and_sends_nothing_again() {
    let mut scene = Scene::start(true).await;
    scene.route_to("1.0").await;
    until(&mut scene.open().await, "the route has arrived", |answer| answer.instance() == "one").await;
    let load = HttpLoad::start(scene.outbound);
    let mut before = Vec::new();
    for proxy in [&scene.web, &scene.api[0], &scene.api[1]] {
        before.push(updates(proxy).await);
    }
    scene.cp.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.cp.restart().await;
    for proxy in [&scene.web, &scene.api[0], &scene.api[1]] {
        connected(proxy).await;
    }
    // The client's Dataplane comes first, when the protocol of the service is not known yet.
    for document in scene.documents.iter().rev() {
        scene.cp.apply(document).await;
    }
    scene.cp.apply(&mesh("default", true)).await;
    scene.route_to("1.0").await;
    scene.cp.apply(&permission("default", "web-to-api", "web", "api")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (proxy, before) in [&scene.web, &scene.api[0], &scene.api[1]].into_iter().zip(before) {
        assert_eq!(updates(proxy).await, before, "a proxy was sent what it had");
    }
    assert!(load.end().await > 100);
}
