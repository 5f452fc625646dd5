//! mTLS is turned on and off under load: no request fails because one proxy has got the change before another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kuma_test::documents::{mesh, permission};
use kuma_test::{HttpClient, Load};

use crate::http;
use crate::scene::Scene;

/// How often it is switched.
const SWITCHES: usize = 4;

/// Time between two switches: longer than the drain time of these proxies.
const PAUSE: Duration = Duration::from_secs(4);

/// Number of HTTP clients, and the pause of each between two requests: together 600 requests a second.
const CLIENTS: u64 = 6;
const REST: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn of_http() {
    let scene = http::Scene::start(false).await;
    scene.cp.apply(&permission("default", "all", "*", "*")).await;
    let ended = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(send(scene.outbound, ended.clone()))).collect();
    for switch in 0..SWITCHES {
        tokio::time::sleep(PAUSE).await;
        scene.cp.apply(&mesh("default", switch % 2 == 0)).await;
    }
    tokio::time::sleep(PAUSE).await;
    ended.store(true, Ordering::Relaxed);
    let (mut answered, mut failures) = (0, Vec::new());
    for client in clients {
        let (of_client, failed) = client.await.expect("a client does not panic");
        answered += of_client;
        failures.extend(failed);
    }
    println!("{answered} requests were answered, {} were not", failures.len());
    assert!(answered > 1_000 && failures.is_empty(), "{answered} were answered, and these not: {failures:?}");
}

/// Sends requests over a connection until a response says `connection: close`, then over a new one. Returns how many
/// were answered with 200, and the failures of the others.
async fn send(port: u16, ended: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut answered, mut failures, begun) = (0, Vec::new(), Instant::now());
    let mut kept = None;
    while !ended.load(Ordering::Relaxed) {
        let mut client = match kept.take() {
            Some(client) => client,
            None => HttpClient::connect(port).await.expect("the outbound listens"),
        };
        match client.get("/").await {
            Ok(answer) if answer.status == 200 => {
                answered += 1;
                let is_last = answer.headers.get("connection").is_some_and(|value| value == "close");
                kept = (!is_last).then_some(client);
            }
            Ok(answer) => {
                failures.push(format!("{} {:?} after {:?}", answer.status, answer.body, begun.elapsed()));
            }
            Err(error) => failures.push(format!("{error} after {:?}", begun.elapsed())),
        }
        tokio::time::sleep(REST).await;
    }
    (answered, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tcp() {
    let scene = Scene::start().await;
    scene.cp.apply(&permission("default", "all", "*", "*")).await;
    let load = Load::start_with(scene.outbound, 500, 0);
    for switch in 0..SWITCHES {
        tokio::time::sleep(PAUSE).await;
        scene.cp.apply(&mesh("default", switch % 2 == 0)).await;
    }
    tokio::time::sleep(PAUSE).await;
    println!("{} connections, none lost", load.end().await);
}
