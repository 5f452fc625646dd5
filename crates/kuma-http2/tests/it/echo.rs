//! Whole conversations with the client of the `h2` crate: what it sends comes back to it, whatever the windows are.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use kuma_http2::{Connection, Event, Limits, StreamId};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// How the client is set up, and how the server reads and writes.
#[derive(Debug, Clone)]
struct Setup {
    stream_window: u32,
    connection_window: u32,
    max_frame_size: u32,
    /// Bytes that are read at a time.
    read: usize,
    /// Bytes of each stream that are put out at a time.
    room: usize,
}

fn a_setup() -> impl Strategy<Value = Setup> {
    (1..100_000u32, 65_535..200_000u32, 16_384..60_000u32, 1..40_000usize, 1..40_000usize).prop_map(
        |(stream_window, connection_window, max_frame_size, read, room)| Setup {
            stream_window,
            connection_window,
            max_frame_size,
            read,
            room,
        },
    )
}

/// Sends back what comes, and its length in the trailers, until the client hangs up.
async fn serve(mut io: DuplexStream, setup: Setup) {
    let mut connection = Connection::new(Limits { streams: 100, header_list: 16 << 10, unproductive_frames: 1_000 });
    let mut echoes: BTreeMap<StreamId, (BytesMut, usize, bool)> = BTreeMap::new();
    let mut buffer = vec![0; setup.read];
    loop {
        while {
            let mut is_more = false;
            echoes.retain(|stream, (body, length, ended)| {
                is_more |= connection.send(*stream, body, setup.room);
                let is_whole = *ended && !body.has_remaining();
                if is_whole {
                    let length = HeaderValue::from(*length);
                    let trailers = HeaderMap::from_iter([(HeaderName::from_static("length"), length)]);
                    connection.finish(*stream, Some(&trailers));
                }
                !is_whole
            });
            let output = std::mem::take(connection.output());
            if io.write_all(&output).await.is_err() {
                return;
            }
            is_more
        } {}
        let Ok(length @ 1..) = io.read(&mut buffer).await else { return };
        let mut input = &buffer[..length];
        while let Some(event) = connection.receive(&mut input).expect("the client makes no mistakes") {
            match event {
                Event::Request { stream, end, .. } => {
                    connection.respond(stream, &Response::new(()), false);
                    echoes.insert(stream, (BytesMut::new(), 0, end));
                }
                Event::Data { stream, data, end } => {
                    let (body, length, ended) = echoes.get_mut(&stream).expect("its request has come");
                    body.extend_from_slice(data);
                    *length += data.len();
                    *ended = end;
                    connection.release(stream, data.len());
                }
                Event::Reset { stream } => panic!("{stream} was reset"),
            }
        }
    }
}

/// Sends the bodies on streams of their own at the same time, each in pieces of the lengths that it is given as.
async fn converse(setup: Setup, bodies: Vec<Vec<usize>>) {
    let (client, server) = tokio::io::duplex(64 << 10);
    let server = tokio::spawn(serve(server, setup.clone()));
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(setup.stream_window)
        .initial_connection_window_size(setup.connection_window)
        .max_frame_size(setup.max_frame_size)
        // What we send back in small pieces is no attack.
        .data_frame_budget(1 << 30)
        .handshake::<_, Bytes>(client)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut calls = Vec::new();
    for (number, pieces) in bodies.into_iter().enumerate() {
        let mut requests = requests.clone().ready().await.unwrap();
        calls.push(tokio::spawn(async move {
            let request = Request::post(format!("http://kuma-cp/{number}")).body(()).unwrap();
            let (response, mut body) = requests.send_request(request, false).unwrap();
            let mut sent = Vec::new();
            for length in pieces {
                let piece: Vec<u8> = (0..length).map(|i| (i + number) as u8).collect();
                sent.extend_from_slice(&piece);
                body.send_data(piece.into(), false).unwrap();
                tokio::task::yield_now().await;
            }
            body.send_data(Bytes::new(), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut received = Vec::new();
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                received.extend_from_slice(&piece);
            }
            assert!(sent == received, "{} bytes went, and {} came back", sent.len(), received.len());
            let trailers = body.trailers().await.unwrap().expect("trailers");
            assert_eq!(trailers["length"], received.len().to_string());
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    drop(requests);
    connection.await.unwrap().unwrap();
    server.await.unwrap();
}

proptest! {
    // What fails may be one that waits in vain, so it is not made smaller for long.
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 4, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_comes_back(setup in a_setup(), bodies in vec(vec(0..50_000usize, 0..6), 1..5)) {
        let conversation = async {
            tokio::time::timeout(Duration::from_secs(20), converse(setup, bodies)).await.expect("nobody waits for \
                ever");
        };
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(conversation);
    }
}
