//! The server on real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use kuma_cp::http::Connection;
use kuma_cp::http::serve::{Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

async fn start(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let router = Router::new()
        .route(
            "/",
            get(|request: Request| async move {
                let ends = request.extensions().get::<Connection>().expect("the server sets it");
                format!("{} {}", ends.peer.ip(), ends.local)
            }),
        )
        .route("/panic", get(|| async { panic!("on purpose") as &'static str }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                "slow"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(serve("test", listener, router, limits, stop)))
}

/// Sends bytes, and reads until the server closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(bytes).await.expect("writes");
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(address: SocketAddr, path: &str) -> String {
    talk(address, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn handlers_see_both_ends() {
    let (address, _stop, _task) = start(Limits::default()).await;
    let answer = ask(address, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("127.0.0.1 {address}")), "{answer}");
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let (address, _stop, _task) = start(Limits::default()).await;
    let answer = ask(address, "/panic").await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Internal Server Error"), "{answer}");
    assert!(ask(address, "/").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn slow_and_silent_clients_are_let_go() {
    for streams in [0, 8] {
        let limits = Limits { head: Duration::from_millis(200), streams, ..Limits::default() };
        let (address, _stop, _task) = start(limits).await;
        for bytes in [
            "",
            "P",
            "GET / HTT",
            "GET / HTTP/1.1\r\nhost: localhost\r\n",
            "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "PRI * HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let answer = tokio::time::timeout(Duration::from_secs(20), talk(address, bytes.as_bytes())).await;
            assert!(answer.is_ok(), "{bytes:?} holds the connection");
        }
    }
}

#[tokio::test]
async fn idle_connections_make_place_for_others() {
    let (address, _stop, _task) = start(Limits { connections: 2, ..Limits::default() }).await;
    let mut idle = TcpStream::connect(address).await.expect("connects");
    let mut trickling = TcpStream::connect(address).await.expect("connects");
    trickling.write_all(b"GET / HTTP/1.1\r\nhos").await.expect("sends");
    // Both are let go long before their time of 10 s, one for each that comes, and none of these has to wait.
    let mut others = Vec::new();
    for stream in [&mut idle, &mut trickling] {
        let answer = ask(address, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
        // Takes the place that has become free.
        others.push(TcpStream::connect(address).await.expect("connects"));
    }
}

#[tokio::test]
async fn ambiguous_and_oversized_requests_are_refused() {
    let (address, _stop, _task) = start(Limits::default()).await;
    for bytes in [
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_string(),
        "GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n".to_string(),
        "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n".to_string(),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100_000)),
    ] {
        let answer = talk(address, bytes.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(ask(address, "/").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn stopping_lets_requests_end() {
    let (address, stop, task) = start(Limits::default()).await;
    let slow = tokio::spawn(async move { ask(address, "/slow").await });
    let idle = TcpStream::connect(address).await.expect("connects");
    // The slow request must be under way; nothing tells us, but its handler takes long enough.
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    let answer = slow.await.expect("ends");
    assert!(answer.ends_with("slow"), "{answer}");
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("ends").expect("no panic");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    drop(idle);
}
