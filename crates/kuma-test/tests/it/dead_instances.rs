//! Instances that refuse or close connections: requests that no application has received, or that may be repeated,
//! reach another instance, or the same one over another connection.

use std::time::{Duration, Instant};

use kuma_test::apps::Client;
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::raw_app::{Reply, exchange, ok, status};
use kuma_test::wait::LIMIT;
use kuma_test::{Dataplane, HttpClient, Load, RawApp, eventually};
use serde_json::json;
use tokio::net::TcpStream;

use crate::as_they_are::RawScene;
use crate::fleet::Fleet;
use crate::http;
use crate::scene::Scene;

/// A Dataplane that is applied before its kuma-dp starts, as documented.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_not_there_yet_costs_no_connection() {
    let scene = Scene::start().await;
    let absent = dataplane("default", "redis-2", "redis", (free_port(), scene.redis.port), &[]);
    scene.cp.apply(&absent).await;
    eventually("web knows it", async || {
        (scene.web_proxy.stat("cluster.redis.membership_total").await == 2).then_some(())
    })
    .await;
    for connection in 0..200 {
        let connected = Client::connect_to(([127, 0, 0, 1], scene.outbound).into()).await;
        assert!(connected.is_ok(), "connection {connection}: {:?}", connected.err());
    }
    assert!(scene.web_proxy.stat("cluster.redis.upstream_cx_connect_fail").await > 0, "it was never dialled");
}

/// Under load, so that the attempts of many connections are interleaved.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_killed_costs_no_connection() {
    let mut fleet = Fleet::start(2).await;
    let begun = Instant::now();
    fleet.others[0].proxy.process().kill();
    // Open connections end with the proxy, so the load begins when its Envoy is gone.
    let inbound = ("127.0.0.1", fleet.others[0].inbound);
    eventually("nothing listens there", async || TcpStream::connect(inbound).await.is_err().then_some(())).await;
    let load = Load::start(fleet.scene.outbound);
    fleet.instances(1).await;
    println!("it was an endpoint for {:?}", begun.elapsed());
    println!("{} connections, none lost", load.end().await);
    // Without any instance, connections fail after a limited time.
    fleet.scene.redis_proxy.process().kill();
    let begun = Instant::now();
    assert!(Client::connect(fleet.scene.outbound).await.is_none());
    println!("with nobody left a connection took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_instance_that_lives() {
    let mut scene = http::Scene::start(true).await;
    let envoy = scene.api[1].envoy().await;
    scene.api[1].process().kill();
    // Its Envoy ends with it, and a request that is under way there with both.
    let process = format!("/proc/{envoy}");
    eventually("its Envoy has ended", async || (!std::fs::exists(&process).unwrap_or(true)).then_some(())).await;
    let mut client = HttpClient::connect(scene.outbound).await.expect("a connection");
    for number in 0..300 {
        let method = ["GET", "POST", "PUT", "PATCH"][number % 4];
        let answer = client.send_body(method, "/", &[], "a body".into()).await;
        let answer = answer.map(|answer| (answer.status, answer.instance()));
        assert_eq!(answer, Ok((200, "one".to_owned())), "{method}, request {number}");
    }
}

/// The proxy of an instance answers that it could not connect to its application.
#[tokio::test(flavor = "multi_thread")]
async fn requests_pass_by_an_application_that_is_down() {
    let scene = http::Scene::start(true).await;
    // Its proxy keeps running.
    scene.two.stop();
    let mut client = HttpClient::connect(scene.outbound).await.expect("a connection");
    for number in 0..100 {
        let method = ["GET", "POST"][number % 2];
        let answer = client.send_body(method, "/", &[], "a body".into()).await;
        let answer = answer.map(|answer| (answer.status, answer.instance()));
        assert_eq!(answer, Ok((200, "one".to_owned())), "{method}, request {number}");
    }
    // Without another instance the client gets the proxy's response, without the header that is for proxies only.
    scene.one.stop();
    let begun = Instant::now();
    let answer = client.get("/").await.expect("an answer");
    println!("with nobody left a request took {:?}", begun.elapsed());
    let ours = answer.headers.keys().find(|name| name.as_str().starts_with("x-kuma"));
    assert_eq!((answer.status, ours), (503, None));
}

/// An application cannot make proxies send its requests to another instance.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_proxy_says_that_nobody_was_reached() {
    let app = RawApp::start(Duration::from_secs(600), |request| match request.head.starts_with(b"GET /ready ") {
        true => ok("", ""),
        false => Reply::Answer(b"HTTP/1.1 503 Own\r\nx-kuma-not-reached: 1\r\ncontent-length: 3\r\n\r\nown".to_vec()),
    })
    .await;
    let scene = RawScene::start(&app).await;
    let before = app.heads().len();
    let answer = exchange(scene.outbound, b"POST / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.ends_with(b"own"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(app.heads().len(), before + 1, "a request was repeated");
}

/// An application that closes a connection when the second request arrives on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_any_answer() {
    let app = RawApp::start(Duration::from_secs(600), |request| match request.number {
        1 => ok("", ""),
        _ => Reply::Close,
    })
    .await;
    let scene = RawScene::start(&app).await;
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        for _ in 0..20 {
            let request =
                format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody");
            assert_eq!(status(&exchange(scene.outbound, request.as_bytes()).await), 200, "{method}");
        }
    }
    // The application may have handled the request, so it is not repeated.
    for _ in 0..20 {
        let before = app.heads().len();
        exchange(scene.outbound, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(app.heads().len(), before + 1, "a request that may not be repeated was");
    }
}

/// An application that closes idle connections, as servers do by default: proxies close them first, so no request is
/// lost, whatever its method.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closes_what_is_idle() {
    const IDLE: Duration = Duration::from_secs(2);
    let app = RawApp::start(IDLE, |_| ok("", "")).await;
    let scene = RawScene::start(&app).await;
    let outbound = scene.outbound;
    let clients = (0..20_u32).map(|number| {
        tokio::spawn(async move {
            let mut client = HttpClient::connect(outbound).await.expect("a connection");
            for request in 0..5 {
                let answer = client.send_body("POST", "/", &[], "a body".into()).await;
                assert_eq!(answer.map(|answer| answer.status), Ok(200), "client {number}, request {request}");
                // Around the moment at which the application closes its connections.
                tokio::time::sleep(IDLE - Duration::from_millis(20) + Duration::from_millis(2) * number).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("every request is answered");
    }
}

/// A passive check does not eject the only instance.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_only_instance_stay_what_they_are() {
    let app = RawApp::start(Duration::from_secs(600), |request| match request.head.starts_with(b"GET /ready ") {
        true => ok("", ""),
        false => Reply::Answer(b"HTTP/1.1 500 Own\r\ncontent-length: 3\r\n\r\nown".to_vec()),
    })
    .await;
    let scene = RawScene::start(&app).await;
    scene.cp.apply(&passive("web", "api", 5, "60s")).await;
    eventually("the check has arrived", async || {
        scene.web.config_dump().await.contains("\"outlier_detection\"").then_some(())
    })
    .await;
    for number in 0..20 {
        let answer = exchange(scene.outbound, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.ends_with(b"own"), "request {number}: {}", String::from_utf8_lossy(&answer));
    }
    drop(scene.api);
}

/// One of two instances is ejected; when the other one is gone, the ejected one is used again.
#[tokio::test(flavor = "multi_thread")]
async fn the_penalty_is_as_long_as_it_says() {
    const PENALTY: Duration = Duration::from_secs(10);
    let scene = http::Scene::start(false).await;
    scene.cp.apply(&passive("web", "api", 3, "10s")).await;
    eventually("the check has arrived", async || {
        scene.web.config_dump().await.contains("\"outlier_detection\"").then_some(())
    })
    .await;
    let ejected = || scene.web.stat("cluster.api.outlier_detection.ejections_active");
    for _ in 0..2 {
        scene.one.answers_with(500);
        let mut client = scene.open().await;
        let ejection = async {
            while ejected().await == 0 {
                client.get("/").await.expect("an answer");
            }
        };
        tokio::time::timeout(LIMIT, ejection).await.expect("it is taken out");
        let begun = Instant::now();
        scene.one.answers_with(200);
        eventually("it is back", async || (ejected().await == 0).then_some(())).await;
        let took = begun.elapsed();
        println!("a penalty of {PENALTY:?} took {took:?}");
        assert!(took > PENALTY - Duration::from_secs(1), "{took:?}");
    }
}

fn passive(source: &str, destination: &str, failures: u32, penalty: &str) -> serde_json::Value {
    json!({
        "type": "HealthCheck", "mesh": "default", "name": "passive",
        "sources": [{"match": {"service": source}}], "destinations": [{"match": {"service": destination}}],
        "conf": {"passiveChecks": {"unhealthyThreshold": failures, "penaltyInterval": penalty}},
    })
}

/// An application that listens only on the loopback address of IPv6.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_on_ipv6_alone_is_reached() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("this machine has no IPv6");
        return;
    }
    let app = RawApp::start_at("[::1]:0", Duration::from_secs(600), |_| ok("", "six")).await;
    let scene = RawScene::start(&app).await;
    for _ in 0..20 {
        let answer = exchange(scene.outbound, b"POST / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.ends_with(b"six"), "{}", String::from_utf8_lossy(&answer));
    }
    let _proxies: [&Dataplane; 2] = [&scene.web, &scene.api];
}
