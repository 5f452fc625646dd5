//! Clients that say what they are told to, frame by frame.

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn who_breaks_the_protocol_is_told_so_over_tls() {
    let (server, client) = tls();
    let (_configs, receiver) = watch::channel(server);
    let world = World::start_with(|server| server.tls(receiver)).await;
    let socket = TcpStream::connect(world.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, socket).await.expect("a handshake");
    stream.write_all(PREFACE_AND_SETTINGS).await.expect("writes");
    stream.write_all(&http2_frame(PUSH_PROMISE, 0, 1, &[0; 8])).await.expect("writes");
    for _ in 0..3 {
        // More records behind it, in the same piece.
        stream.write_all(&http2_frame(PING, 0, 0, &[0; 8])).await.expect("writes");
    }
    stream.flush().await.expect("writes");
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.expect("it ends in order");
    let frames = http2_frames(&answer);
    assert_eq!(frames.last().map(|frame| frame.0), Some(GOAWAY), "{frames:?}");
}

/// Kind, flags and stream of each whole frame.
fn http2_frames(mut bytes: &[u8]) -> Vec<(u8, u8, u8)> {
    let mut frames = Vec::new();
    while let [0, a, b, kind, flags, _, _, _, stream, ..] = *bytes {
        let Some(rest) = bytes.get(9 + usize::from(u16::from_be_bytes([a, b]))..) else { break };
        frames.push((kind, flags, stream));
        bytes = rest;
    }
    frames
}

/// A request for a path, as a client sends it first on a connection.
fn http2_call(path: &str, body: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    let grpc = ("content-type", "application/grpc");
    for (name, value) in [(":method", "POST"), (":scheme", "https"), (":path", path), grpc] {
        kuma_http2::hpack::put_field(&mut headers, name.as_bytes(), value.as_bytes());
    }
    [PREFACE_AND_SETTINGS, &http2_frame(HEADERS, END_HEADERS, 1, &headers), &http2_frame(DATA, 0, 1, body)].concat()
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_is_ended_by_the_far_end() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let (server, client) = tls();
    let (_configs, receiver) = watch::channel(server);
    let mut world = World::start_with(|server| server.tls(receiver)).await;
    let call = http2_call(DELTA_PATH, &frame(&first_request("default.web-1").encode_to_vec()));

    let mut socket = TcpStream::connect(world.address).await.expect("connects");
    socket.write_all(&call).await.expect("writes");
    world.log().await;
    socket.write_all(&http2_frame(RST_STREAM, 0, 1, &CANCEL)).await.expect("writes");
    socket.shutdown().await.expect("closes");
    assert_eq!(world.log().await, "closed default.web-1 with its connection");

    let mut socket = TcpStream::connect(world.address).await.expect("connects");
    socket.write_all(&call).await.expect("writes");
    world.log().await;
    socket.write_all(&http2_frame(RST_STREAM, 0, 1, &CANCEL)).await.expect("writes");
    assert_eq!(world.log().await, "closed default.web-1", "the connection is still there");

    let socket = TcpStream::connect(world.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, socket).await.expect("a handshake");
    stream.write_all(&call).await.expect("writes");
    stream.flush().await.expect("writes");
    world.log().await;
    stream.shutdown().await.expect("closes");
    assert_eq!(world.log().await, "closed default.web-1 with its connection", "by the word of TLS");
}

#[tokio::test]
async fn who_asks_for_nothing_but_refusals_is_sent_away() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let mut refused = 0;
    loop {
        let request =
            Request::post("http://localhost/kuma.Test/Unknown").body(BodyExt::boxed(http_body_util::Empty::new()));
        match patiently(connection.0.send_request(request.expect("a request"))).await {
            Ok(response) => assert_eq!(response.headers()["grpc-status"], "12"),
            Err(_) => break,
        }
        refused += 1;
        assert!(refused < 5000, "there is an end to it");
    }
    assert!(refused > 100, "after a mistake or two one may go on: {refused}");
    let _others_are_served = world.connect().await;
}

#[tokio::test]
async fn a_status_without_a_body_is_one_frame() {
    let refuse = |_: Peer, _: Request<RequestBody>| async { Status::new(Code::Unauthenticated, "no").into_response() };
    let world = World::start_with(|server| server.routes(Routes::new().with("/kuma.Test/Refuse", refuse))).await;
    for path in ["/kuma.Test/Refuse", "/kuma.Test/Unknown"] {
        let mut socket = TcpStream::connect(world.address).await.expect("connects");
        socket.write_all(&http2_call(path, b"")).await.expect("writes");
        let mut answer = Vec::new();
        let headers = loop {
            let frames = http2_frames(&answer);
            if let Some(frame) = frames.into_iter().find(|(.., stream)| *stream == 1) {
                break frame;
            }
            assert_ne!(patiently(socket.read_buf(&mut answer)).await.expect("reads"), 0, "it is not closed");
        };
        assert_eq!(headers, (HEADERS, END_STREAM | END_HEADERS, 1), "{path}");
    }
}

#[tokio::test]
async fn what_comes_with_the_end_of_a_connection_is_heard() {
    let (server, client) = tls();
    let (_configs, receiver) = watch::channel(server);
    let (heard, mut said) = mpsc::unbounded_channel();
    let listen = move |_: Peer, request: Request<RequestBody>| {
        let heard = heard.clone();
        async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let _ = heard.send(body);
            Status::ok().into_response()
        }
    };
    let world =
        World::start_with(|server| server.tls(receiver).routes(Routes::new().with("/kuma.Test/Say", listen))).await;
    let socket = TcpStream::connect(world.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, socket).await.expect("a handshake");

    let end = http2_frame(DATA, END_STREAM, 1, b"");
    let all = [http2_call("/kuma.Test/Say", b"the last word"), end].concat();
    // In one piece with the end of TLS.
    let (socket, tls) = stream.get_mut();
    std::io::Write::write_all(&mut tls.writer(), &all).expect("there is room");
    tls.send_close_notify();
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).expect("a buffer takes all");
    }
    socket.write_all(&bytes).await.expect("writes");
    assert_eq!(patiently(said.recv()).await.expect("it is heard"), "the last word");
}
