//! Clients that want to do harm: each is sent away, or costs no more than it is meant to.

use http::Response;
use kuma_http2::ErrorCode;

use crate::client::*;

/// Sends something again and again, until the connection has had enough, and returns after how many times that was.
/// Each time the stream is another one.
fn until_sent_away(name: &str, client: &mut Client, sent: impl Fn(u32) -> Vec<u8>) -> usize {
    for i in 0..100_000 {
        client.send(&sent(2 * i + 1));
        if let Some(error) = client.error {
            assert_eq!(error.code, ErrorCode::EnhanceYourCalm, "{name}");
            let last = client.frames.last().expect("it is told");
            assert_eq!((last.kind, last.code()), (GOAWAY, Some(ErrorCode::EnhanceYourCalm as u32)), "{name}");
            return i as usize;
        }
    }
    panic!("{name}: it goes on for ever");
}

#[test]
fn what_makes_work_and_brings_nothing_ends_the_connection() {
    type Sent = fn(u32) -> Vec<u8>;
    // What is sent once, and then again and again.
    let floods: [(&str, Vec<u8>, Sent); 16] = [
        ("rapid reset (CVE-2023-44487)", vec![], |stream| [open(stream), reset(stream)].concat()),
        ("rapid reset of whole requests", vec![], |stream| [request(stream), reset(stream)].concat()),
        ("reset by us (CVE-2025-8671): a window of nothing", vec![], |stream| {
            [open(stream), window_update(stream, 0)].concat()
        }),
        ("reset by us: a window too large", vec![], |stream| {
            [open(stream), window_update(stream, 0x7fff_ffff)].concat()
        }),
        ("reset by us: DATA after the end", vec![], |stream| [request(stream), frame(DATA, 0, stream, b"x")].concat()),
        ("reset by us: trailers that do not end it", vec![], |stream| [open(stream), open(stream)].concat()),
        ("reset by us: a body longer than announced", vec![], |stream| {
            let fields = [&POST[..], &[("content-length", "0")]].concat();
            [frame(HEADERS, END_HEADERS, stream, &block(&fields)), frame(DATA, 0, stream, b"x")].concat()
        }),
        ("malformed requests", vec![], |stream| frame(HEADERS, END_HEADERS, stream, &[0x82])),
        ("requests that are too large", vec![], |stream| {
            let large = "v".repeat(16_200);
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[&POST[..], &[("x", &large)]].concat()))
        }),
        ("more streams than are permitted", vec![], open),
        ("DATA on closed streams", [open(200_001), reset(200_001)].concat(), |stream| frame(DATA, 0, stream, b"x")),
        ("PING", vec![], |_| frame(PING, 0, 0, b"12345678")),
        ("SETTINGS", vec![], |_| settings(&[])),
        ("SETTINGS, large ones", vec![], |_| settings(&[(4, 1), (4, 2)].repeat(1_000))),
        ("PRIORITY", vec![], |stream| frame(PRIORITY, 0, stream, &[0; 5])),
        ("empty DATA", open(1), |_| frame(DATA, 0, 1, &[])),
    ];
    for (name, first, sent) in floods {
        let mut client = Client::new();
        client.send(&first);
        let times = until_sent_away(name, &mut client, sent);
        assert!(times <= LIMITS.unproductive_frames as usize + LIMITS.streams, "{name}: {times} times");
    }
}

#[test]
fn a_client_that_works_may_do_these_things_for_ever() {
    let mut client = Client::new();
    for i in 0..10_000 {
        let stream = 2 * i + 1;
        client.send(&[open(stream), frame(DATA, 0, stream, b"request"), frame(DATA, END_STREAM, stream, b"")].concat());
        client.connection.respond(stream, &Response::new(()), false);
        client.connection.send(stream, &mut &b"response"[..], 1_000);
        client.connection.finish(stream, None);
        client.send(&[window_update(0, 8), frame(PING, ACK, 0, b"12345678")].concat());
        assert_eq!(client.error, None);
        client.seen.clear();
        client.frames.clear();
    }
}

#[test]
fn a_reset_of_the_counters_allows_further_frames() {
    let mut client = Client::new();
    for _ in 0..10 {
        for _ in 1..LIMITS.unproductive_frames {
            client.send(&frame(PING, 0, 0, b"12345678"));
        }
        assert_eq!(client.error, None);
        client.connection.reset_counters();
    }
}

/// How many bytes of CONTINUATION are taken, in pieces of `size`.
fn taken_of_a_block(size: usize, field: &[u8]) -> usize {
    let mut client = Client::new();
    client.send(&frame(HEADERS, 0, 1, &[]));
    let piece = frame(CONTINUATION, 0, 1, &field.repeat(size / field.len()));
    for i in 0..1_000_000 {
        client.send(&piece);
        if let Some(error) = client.error {
            assert_eq!(error.code, ErrorCode::EnhanceYourCalm);
            return i * size;
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn continuation_flood() {
    // A field of eight bytes, each of which could be decoded at once.
    let field = b"\x00\x01x\x04aaaa";
    for size in [8, 1_000, 16_384] {
        let taken = taken_of_a_block(size, field);
        assert!(taken <= 64 << 10, "{taken} bytes in pieces of {size}");
    }
    let mut client = Client::new();
    client.send(&frame(HEADERS, 0, 1, &[]));
    let times = until_sent_away("empty CONTINUATION", &mut client, |_| frame(CONTINUATION, 0, 1, &[]));
    assert!(times <= LIMITS.unproductive_frames as usize);
}

/// A header block of one kilobyte that stands for four megabytes. It needs our table, so it comes before the client has
/// acknowledged that there is none.
#[test]
fn hpack_bomb() {
    let mut client = Client::silent();
    client.send(PREFACE);
    client.send(&settings(&[]));
    client.frames.clear();
    let mut bomb = block(&POST);
    bomb.extend([0x40, 1, b'x', 0x7f, 0xe0, 0x1e]);
    bomb.resize(bomb.len() + 4_063, b'v');
    bomb.resize(bomb.len() + 1_000, 0xbe);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
    assert_eq!((client.error, client.seen.len()), (None, 0));
    let answer = &client.frames[0];
    assert_eq!((answer.kind, answer.flags, answer.stream), (HEADERS, END_HEADERS | END_STREAM, 1));
    assert_eq!(answer.payload, b"\x08\x03431");
    // Then the table is gone, and what refers to it is an error.
    client.send(&frame(SETTINGS, ACK, 0, &[]));
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x20, 0xbe]));
    assert_eq!(client.error.unwrap().code, ErrorCode::CompressionError);
}

#[test]
fn many_small_fields_are_too_large() {
    // Each takes four bytes of the block and counts 34 of the list.
    let mut client = Client::new();
    let fields = b"\x00\x01x\x00".repeat(4_000);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block(&POST), fields].concat()));
    assert_eq!((client.error, client.seen.len()), (None, 0));
    assert_eq!(client.frames[0].payload, b"\x08\x03431");
}

/// A client that opens no window gets no body, and what it could have is not kept here.
#[test]
fn windows_of_nothing() {
    let mut client = Client::new();
    client.send(&settings(&[(4, 0)]));
    client.frames.clear();
    for stream in [1, 3, 5, 7] {
        client.send(&request(stream));
        client.connection.respond(stream, &Response::new(()), false);
        let mut body = &[0; 100_000][..];
        assert!(!client.connection.send(stream, &mut body, usize::MAX));
        assert_eq!(body.len(), 100_000);
    }
    client.read();
    assert!(client.frames.iter().all(|frame| frame.kind == HEADERS));
    // By single bytes.
    let mut body = &[0; 100_000][..];
    for _ in 0..10 {
        client.send(&window_update(1, 1));
        assert!(client.connection.send(1, &mut body, usize::MAX));
        assert!(!client.connection.send(1, &mut body, usize::MAX));
    }
    assert_eq!(body.len(), 100_000 - 10);
}

/// What comes on streams that are closed still counts against the window of the connection, and is given back to it.
#[test]
fn bodies_that_nobody_wants() {
    let mut client = Client::new();
    client.send(&open(1));
    client.connection.respond(1, &Response::new(()), true);
    for _ in 0..100 {
        client.send(&frame(DATA, 0, 1, &[0; 16_384]));
        assert_eq!(client.error, None);
    }
    assert_eq!(client.seen.len(), 1, "only the request");
}
