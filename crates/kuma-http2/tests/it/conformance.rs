//! What RFC 9113 demands of a server, section by section: what a client sends, and what becomes of it.

use http::{HeaderMap, Response};
use kuma_http2::ErrorCode::{self, *};

use crate::client::*;

/// What the server says to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The connection ends.
    GoAway(ErrorCode),
    /// A stream ends.
    Reset(u32, ErrorCode),
    /// All is well.
    Fine,
}
use Outcome::*;

/// Sends it in pieces of `size` bytes, then a PING that is answered if the connection still works.
fn outcome(sent: &[u8], size: usize) -> (Outcome, Client) {
    let mut client = Client::new();
    for piece in sent.chunks(size) {
        client.send(piece);
    }
    let mut errors = client.frames.iter().filter_map(|frame| Some((frame.kind, frame.stream, frame.code()?)));
    let error = errors.next();
    assert_eq!(errors.next(), None, "one error is told once");
    let known = [
        NoError,
        ProtocolError,
        InternalError,
        FlowControlError,
        StreamClosed,
        FrameSizeError,
        RefusedStream,
        Cancel,
        CompressionError,
        EnhanceYourCalm,
    ];
    let named = |code| *known.iter().find(|known| **known as u32 == code).expect("a code that there is");
    let outcome = match error {
        None => Fine,
        Some((GOAWAY, _, code)) => GoAway(named(code)),
        Some((_, stream, code)) => Reset(stream, named(code)),
    };
    match outcome {
        GoAway(code) => {
            assert_eq!(client.error.expect("an error").code, code);
            client.send(&frame(PING, 0, 0, b"too late"));
            assert_eq!(client.frames.last().unwrap().kind, GOAWAY, "nothing follows");
        }
        Reset(..) | Fine => {
            assert_eq!(client.error, None);
            client.send(&frame(PING, 0, 0, b"and now?"));
            let answer = client.frames.pop().expect("an answer");
            assert_eq!((answer.kind, answer.flags, &answer.payload[..]), (PING, ACK, &b"and now?"[..]));
        }
    }
    (outcome, client)
}

fn check(rows: &[(&str, Vec<u8>, Outcome)]) {
    let mut wrong = Vec::new();
    for (name, sent, expected) in rows {
        let (found, client) = outcome(sent, usize::MAX);
        if found != *expected {
            wrong.push(format!("{name}: {found:?}, and not {expected:?}"));
        }
        for size in [1, 7, 10] {
            let (again, cut) = outcome(sent, size);
            assert_eq!((again, &cut.seen, &cut.frames), (found, &client.seen, &client.frames), "{name}, cut up");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One after the other.
fn all(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A request with these fields beside what every request has, and a body that follows.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(&[&POST[..], fields].concat()))
}

/// A whole request with these fields and no others.
fn of(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

const UNKNOWN: u8 = 0xb7;
const LARGEST: usize = 16_384;

#[test]
fn section_3_4_preface() {
    let mut client = Client::silent();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0");
    assert_eq!(client.error, None);

    for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut client = Client::silent();
        client.send(bad);
        assert_eq!(client.error.unwrap().code, ProtocolError);
    }

    // SETTINGS come first, and not those that acknowledge.
    for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[]), request(1), frame(UNKNOWN, 0, 0, &[])] {
        let mut client = Client::silent();
        client.send(PREFACE);
        client.send(&first);
        assert_eq!(client.error.unwrap().code, ProtocolError, "{first:?}");
    }
}

#[test]
fn section_4_frames() {
    let block = block(&POST);
    check(&[
        ("4.1 an unknown type", frame(UNKNOWN, 0xff, 0, b"12345"), Fine),
        ("4.1 an unknown type on an idle stream", frame(UNKNOWN, 0, 1, b""), Fine),
        ("4.1 flags that mean nothing", frame(PING, 0xfe, 0, &[0; 8]), Fine),
        ("4.1 the reserved bit", frame(PING, 0, 1 << 31, &[0; 8]), Fine),
        ("4.2 the largest DATA", all(&[&open(1), &frame(DATA, 0, 1, &[0; LARGEST])]), Fine),
        ("4.2 a larger DATA", all(&[&open(1), &frame(DATA, 0, 1, &[0; LARGEST + 1])]), GoAway(FrameSizeError)),
        ("4.2 a larger HEADERS", frame(HEADERS, END_HEADERS, 1, &[0; LARGEST + 1]), GoAway(FrameSizeError)),
        ("4.2 a larger one of unknown type", frame(UNKNOWN, 0, 0, &[0; LARGEST + 1]), GoAway(FrameSizeError)),
        ("4.3 an invalid block", frame(HEADERS, END_HEADERS, 1, &[0x40]), GoAway(CompressionError)),
        (
            "4.3 an invalid block of a refused request",
            frame(HEADERS, END_HEADERS, 1, &[0x80]),
            GoAway(CompressionError),
        ),
        (
            "4.3 PRIORITY within a block",
            all(&[&frame(HEADERS, 0, 1, &block[..5]), &frame(PRIORITY, 0, 1, &[0; 5])]),
            GoAway(ProtocolError),
        ),
        (
            "4.3 another stream within a block",
            all(&[&frame(HEADERS, 0, 1, &block[..5]), &request(3)]),
            GoAway(ProtocolError),
        ),
        // Our table has no bytes, and the client knows it.
        ("4.3.1 the dynamic table", frame(HEADERS, END_HEADERS, 1, &[0xbe]), GoAway(CompressionError)),
        ("4.3.1 a larger table", frame(HEADERS, END_HEADERS, 1, &[0x21]), GoAway(CompressionError)),
        (
            "RFC 7541, 4.2 a size update after a field",
            frame(HEADERS, END_HEADERS, 1, &[&block[..], &[0x20]].concat()),
            GoAway(CompressionError),
        ),
        ("RFC 7541, 6.1 index 0", frame(HEADERS, END_HEADERS, 1, &[0x80]), GoAway(CompressionError)),
        (
            "RFC 7541, 5.2 end of string",
            frame(HEADERS, END_HEADERS, 1, &[0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            GoAway(CompressionError),
        ),
    ]);
}

#[test]
fn section_5_streams() {
    let data = |stream| frame(DATA, END_STREAM, stream, b"test");
    let continuation = |stream| frame(CONTINUATION, END_HEADERS, stream, &block(&POST));
    check(&[
        ("5.1 idle: DATA", data(1), GoAway(ProtocolError)),
        ("5.1 idle: RST_STREAM", reset(1), GoAway(ProtocolError)),
        ("5.1 idle: WINDOW_UPDATE", window_update(1, 100), GoAway(ProtocolError)),
        ("5.1 idle: CONTINUATION", continuation(1), GoAway(ProtocolError)),
        ("5.1 idle: PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), Fine),
        ("5.1 idle: what a server begins", window_update(2, 100), GoAway(ProtocolError)),
        ("5.1 half-closed: DATA", all(&[&request(1), &data(1)]), Reset(1, StreamClosed)),
        ("5.1 half-closed: HEADERS", all(&[&request(1), &request(1)]), Reset(1, StreamClosed)),
        ("5.1 half-closed: CONTINUATION", all(&[&request(1), &continuation(1)]), GoAway(ProtocolError)),
        ("5.1 half-closed: WINDOW_UPDATE", all(&[&request(1), &window_update(1, 1)]), Fine),
        ("5.1 half-closed: PRIORITY", all(&[&request(1), &frame(PRIORITY, 0, 1, &[0; 5])]), Fine),
        ("5.1 half-closed: RST_STREAM", all(&[&request(1), &reset(1)]), Fine),
        ("5.1 closed by the client: DATA", all(&[&open(1), &reset(1), &data(1)]), Reset(1, StreamClosed)),
        ("5.1 closed by the client: HEADERS", all(&[&open(1), &reset(1), &request(1)]), GoAway(StreamClosed)),
        (
            "5.1 closed by the client: CONTINUATION",
            all(&[&open(1), &reset(1), &continuation(1)]),
            GoAway(ProtocolError),
        ),
        ("5.1 closed by the client: WINDOW_UPDATE", all(&[&open(1), &reset(1), &window_update(1, 1)]), Fine),
        ("5.1 closed by the client: PRIORITY", all(&[&open(1), &reset(1), &frame(PRIORITY, 0, 1, &[0; 5])]), Fine),
        ("5.1 closed by the client: RST_STREAM", all(&[&open(1), &reset(1), &reset(1)]), Fine),
        ("5.1.1 an even stream", request(2), GoAway(ProtocolError)),
        ("5.1.1 a stream of the connection", request(0), GoAway(ProtocolError)),
        ("5.1.1 streams in order", all(&[&request(1), &request(5)]), Fine),
        ("5.1.1 a lower stream than before", all(&[&request(5), &request(3)]), GoAway(StreamClosed)),
        ("5.1.1 a stream that was passed over", all(&[&open(5), &data(3)]), Reset(3, StreamClosed)),
        ("5.1.2 as many streams as are permitted", all(&[&open(1), &open(3), &open(5), &open(7)]), Fine),
        ("5.1.2 one more", all(&[&open(1), &open(3), &open(5), &open(7), &open(9), &data(9)]), Reset(9, RefusedStream)),
        (
            "5.1.2 one more, after one has ended",
            all(&[&open(1), &open(3), &open(5), &open(7), &reset(3), &open(9)]),
            Fine,
        ),
        (
            "5.5 an unknown frame within a block",
            all(&[&frame(HEADERS, 0, 1, &[]), &frame(UNKNOWN, 0, 1, b"")]),
            GoAway(ProtocolError),
        ),
    ]);
}

#[test]
fn section_5_1_streams_that_we_have_ended() {
    // What the client sent before it knew is no fault of its own; what it sends on a stream that both had ended is.
    for (ended_by_client, after, expected) in [
        (false, frame(DATA, 0, 1, b"late"), Fine),
        (false, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x", "late")])), Fine),
        (false, window_update(1, 10), Fine),
        (false, reset(1), Fine),
        (true, frame(DATA, 0, 1, b"late"), Reset(1, StreamClosed)),
        (true, request(1), GoAway(StreamClosed)),
        (true, window_update(1, 10), Fine),
        (true, reset(1), Fine),
    ] {
        let mut client = Client::new();
        client.send(&if ended_by_client { request(1) } else { open(1) });
        client.connection.respond(1, &Response::new(()), false);
        client
            .connection
            .finish(1, Some(&HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])));
        client.read();
        let kinds: Vec<_> = client.frames.iter().map(|frame| (frame.kind, frame.flags, frame.code())).collect();
        let whole = [(HEADERS, END_HEADERS, None), (HEADERS, END_HEADERS | END_STREAM, None)];
        // Section 8.1: a request that is not needed any further is reset without an error.
        let stopped = [&whole[..], &[(RST_STREAM, 0, Some(0))]].concat();
        assert_eq!(kinds, if ended_by_client { whole.to_vec() } else { stopped });
        client.frames.clear();
        client.send(&after);
        let found = match (client.error, client.frames.first()) {
            (Some(error), _) => GoAway(error.code),
            (None, Some(frame)) => {
                assert_eq!((frame.kind, frame.code()), (RST_STREAM, Some(StreamClosed as u32)));
                Reset(frame.stream, StreamClosed)
            }
            (None, None) => Fine,
        };
        assert_eq!(found, expected, "{after:?}, ended by the client: {ended_by_client}");
    }
}

#[test]
fn section_6_frames() {
    let bytes = &[0; 16][..];
    let headers = block(&POST);
    check(&[
        ("6.1 DATA of the connection", frame(DATA, 0, 0, b"test"), GoAway(ProtocolError)),
        ("6.1 padding", all(&[&open(1), &frame(DATA, PADDED, 1, &[3, b'a', 0, 0, 0])]), Fine),
        ("6.1 nothing but padding", all(&[&open(1), &frame(DATA, PADDED | END_STREAM, 1, &[3, 0, 0, 0])]), Fine),
        (
            "6.1 more padding than frame",
            all(&[&open(1), &frame(DATA, PADDED, 1, &[4, 0, 0, 0])]),
            GoAway(ProtocolError),
        ),
        ("6.1 no length of the padding", all(&[&open(1), &frame(DATA, PADDED, 1, &[])]), GoAway(FrameSizeError)),
        (
            "6.2 padding and priority",
            frame(
                HEADERS,
                END_HEADERS | PADDED | WITH_PRIORITY,
                1,
                &[&[2, 0x80, 0, 0, 3, 15][..], &headers, &[0, 0]].concat(),
            ),
            Fine,
        ),
        ("6.2 more padding than frame", frame(HEADERS, END_HEADERS | PADDED, 1, &[1]), GoAway(ProtocolError)),
        (
            "6.2 more padding than is left by the priority",
            frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, &[1, 0, 0, 0, 0, 0]),
            GoAway(ProtocolError),
        ),
        ("6.2 no length of the padding", frame(HEADERS, END_HEADERS | PADDED, 1, &[]), GoAway(FrameSizeError)),
        (
            "6.2 no room for the priority",
            frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0; 4]),
            GoAway(FrameSizeError),
        ),
        ("6.3 PRIORITY of the connection", frame(PRIORITY, 0, 0, &bytes[..5]), GoAway(ProtocolError)),
        ("6.3 4 bytes", all(&[&open(1), &frame(PRIORITY, 0, 1, &bytes[..4])]), GoAway(FrameSizeError)),
        ("6.4 RST_STREAM of the connection", reset(0), GoAway(ProtocolError)),
        ("6.4 3 bytes", all(&[&open(1), &frame(RST_STREAM, 0, 1, &bytes[..3])]), GoAway(FrameSizeError)),
        ("6.4 5 bytes", all(&[&open(1), &frame(RST_STREAM, 0, 1, &bytes[..5])]), GoAway(FrameSizeError)),
        ("6.5 an acknowledgement that says something", frame(SETTINGS, ACK, 0, &bytes[..6]), GoAway(FrameSizeError)),
        ("6.5 SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), GoAway(ProtocolError)),
        ("6.5 half a setting", frame(SETTINGS, 0, 0, &bytes[..3]), GoAway(FrameSizeError)),
        ("6.5.2 ENABLE_PUSH", settings(&[(2, 0), (2, 1)]), Fine),
        ("6.5.2 ENABLE_PUSH of 2", settings(&[(2, 2)]), GoAway(ProtocolError)),
        ("6.5.2 the largest INITIAL_WINDOW_SIZE", settings(&[(4, 0x7fff_ffff)]), Fine),
        ("6.5.2 a larger INITIAL_WINDOW_SIZE", settings(&[(4, 0x8000_0000)]), GoAway(FlowControlError)),
        ("6.5.2 a MAX_FRAME_SIZE that is too small", settings(&[(5, 16_383)]), GoAway(ProtocolError)),
        ("6.5.2 a MAX_FRAME_SIZE that is too large", settings(&[(5, 16_777_216)]), GoAway(ProtocolError)),
        ("6.5.2 the bounds of MAX_FRAME_SIZE", settings(&[(5, 16_384), (5, 16_777_215)]), Fine),
        ("6.5.2 an unknown setting", settings(&[(0x99, 1), (0, 0)]), Fine),
        (
            "6.6 PUSH_PROMISE",
            all(&[&open(1), &frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])]),
            GoAway(ProtocolError),
        ),
        ("6.7 an answer to no PING", frame(PING, ACK, 0, &bytes[..8]), Fine),
        ("6.7 PING of a stream", frame(PING, 0, 1, &bytes[..8]), GoAway(ProtocolError)),
        ("6.7 6 bytes", frame(PING, 0, 0, &bytes[..6]), GoAway(FrameSizeError)),
        ("6.7 6 bytes, as an answer", frame(PING, ACK, 0, &bytes[..6]), GoAway(FrameSizeError)),
        ("6.8 GOAWAY", all(&[&open(1), &frame(GOAWAY, 0, 0, &bytes[..12]), &frame(DATA, 0, 1, b"more")]), Fine),
        ("6.8 GOAWAY of a stream", frame(GOAWAY, 0, 1, &bytes[..8]), GoAway(ProtocolError)),
        ("6.8 7 bytes", frame(GOAWAY, 0, 0, &bytes[..7]), GoAway(FrameSizeError)),
        ("6.9 WINDOW_UPDATE of nothing", window_update(0, 0), GoAway(ProtocolError)),
        ("6.9 the reserved bit", window_update(0, 0x8000_0000), GoAway(ProtocolError)),
        ("6.9 WINDOW_UPDATE of nothing for a stream", all(&[&open(1), &window_update(1, 0)]), Reset(1, ProtocolError)),
        ("6.9 3 bytes", frame(WINDOW_UPDATE, 0, 0, &bytes[..3]), GoAway(FrameSizeError)),
        (
            "6.9 3 bytes for a stream",
            all(&[&open(1), &frame(WINDOW_UPDATE, 0, 1, &bytes[..3])]),
            GoAway(FrameSizeError),
        ),
        ("6.9.1 the largest window", window_update(0, 0x7fff_ffff - 65_535), Fine),
        ("6.9.1 a larger window", window_update(0, 0x7fff_ffff - 65_534), GoAway(FlowControlError)),
        ("6.9.1 the largest window of a stream", all(&[&open(1), &window_update(1, 0x7fff_ffff - 65_535)]), Fine),
        (
            "6.9.1 a larger window of a stream",
            all(&[&open(1), &window_update(1, 0x7fff_ffff - 65_534)]),
            Reset(1, FlowControlError),
        ),
        (
            "6.9.2 a window that becomes too large by a setting",
            all(&[&open(1), &window_update(1, 1), &settings(&[(4, 0x7fff_ffff)])]),
            GoAway(FlowControlError),
        ),
        (
            "6.10 a block in pieces",
            all(&[
                &frame(HEADERS, END_STREAM, 1, &headers[..3]),
                &frame(CONTINUATION, 0, 1, &headers[3..4]),
                &frame(CONTINUATION, 0, 1, &[]),
                &frame(CONTINUATION, END_HEADERS, 1, &headers[4..]),
            ]),
            Fine,
        ),
        (
            "6.10 a block whose first piece is empty",
            all(&[&frame(HEADERS, END_STREAM, 1, &[]), &frame(CONTINUATION, END_HEADERS, 1, &headers)]),
            Fine,
        ),
        (
            "6.10 something else within a block",
            all(&[&frame(HEADERS, 0, 1, &headers[..3]), &frame(DATA, 0, 1, b"test")]),
            GoAway(ProtocolError),
        ),
        (
            "6.10 CONTINUATION of the connection",
            all(&[&frame(HEADERS, 0, 1, &headers[..3]), &frame(CONTINUATION, END_HEADERS, 0, &headers[3..])]),
            GoAway(ProtocolError),
        ),
        (
            "6.10 CONTINUATION of another stream",
            all(&[&frame(HEADERS, 0, 1, &headers[..3]), &frame(CONTINUATION, END_HEADERS, 3, &headers[3..])]),
            GoAway(ProtocolError),
        ),
        (
            "6.10 CONTINUATION of a whole block",
            all(&[&open(1), &frame(CONTINUATION, END_HEADERS, 1, &headers)]),
            GoAway(ProtocolError),
        ),
        (
            "6.10 CONTINUATION after the last one",
            all(&[
                &frame(HEADERS, 0, 1, &headers[..3]),
                &frame(CONTINUATION, END_HEADERS, 1, &headers[3..]),
                &frame(CONTINUATION, END_HEADERS, 1, &[]),
            ]),
            GoAway(ProtocolError),
        ),
        (
            "6.10 CONTINUATION after DATA",
            all(&[&open(1), &frame(DATA, 0, 1, b"test"), &frame(CONTINUATION, END_HEADERS, 1, &headers)]),
            GoAway(ProtocolError),
        ),
        ("7 an unknown error in GOAWAY", frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]), Fine),
        ("7 an unknown error in RST_STREAM", all(&[&open(1), &frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])]), Fine),
    ]);
}

#[test]
fn section_6_9_what_the_client_may_send() {
    let piece = &frame(DATA, 0, 1, &[0; 16_384])[..];
    let pieces = [open(1), piece.repeat(3), frame(DATA, 0, 1, &[0; 16_383])].concat();
    for (more, is_released, expected) in [
        (frame(DATA, 0, 1, &[]), false, None),
        (frame(DATA, 0, 1, &[0]), false, Some((GOAWAY, Some(FlowControlError as u32)))),
        (frame(DATA, PADDED, 1, &[0]), false, Some((GOAWAY, Some(FlowControlError as u32)))),
        (piece.repeat(40), true, None),
    ] {
        let mut client = Client::new();
        client.releases = is_released;
        client.send(&pieces);
        assert_eq!((client.error, client.frames.len()), (None, 0));
        client.send(&more);
        assert_eq!(client.frames.first().map(|frame| (frame.kind, frame.code())), expected);
    }
    // The stream has no room and the connection has: the other stream's bytes were dealt with.
    let mut client = Client::new();
    client.releases = false;
    client.send(&pieces);
    client.connection.release(0, 65_535);
    client.send(&frame(DATA, 0, 1, &[0]));
    let frame = client.frames.pop().unwrap();
    assert_eq!((frame.kind, frame.stream, frame.code()), (RST_STREAM, 1, Some(FlowControlError as u32)));
    assert_eq!(client.seen.pop(), Some(Seen::Reset { stream: 1 }));
}

#[test]
fn section_6_9_padding_is_given_back() {
    // 256 bytes each, of which one is data that nobody releases: ten times the window.
    let mut client = Client::new();
    client.releases = false;
    client.send(&open(1));
    let mut padded = vec![0; 256];
    padded[0] = 254;
    for _ in 0..2_560 {
        client.send(&frame(DATA, PADDED, 1, &padded));
    }
    assert_eq!((client.error, &client.frames), (None, &vec![]));
}

/// The lengths of the DATA frames that come, and whether the last one ends the stream.
fn sent(client: &mut Client) -> Vec<usize> {
    client.read();
    client.frames.drain(..).filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).collect()
}

#[test]
fn section_6_9_what_the_server_may_send() {
    let mut client = Client::new();
    client.send(&all(&[&settings(&[(4, 1)]), &request(1)]));
    client.connection.respond(1, &Response::new(()), false);
    let mut body = &[7; 200_000][..];
    let room = usize::MAX;
    assert!(client.connection.send(1, &mut body, room));
    assert_eq!(sent(&mut client), [1], "6.9.2: the initial window is 1");
    assert!(!client.connection.send(1, &mut body, room));

    client.send(&settings(&[(4, 3), (4, 4)]));
    assert!(client.connection.send(1, &mut body, room));
    assert_eq!(sent(&mut client), [3], "6.9.2, 6.5.3: three more, by the last of the two");

    client.send(&settings(&[(4, 2)]));
    client.send(&window_update(1, 2));
    assert!(!client.connection.send(1, &mut body, room), "6.9.2: the window was less than nothing");
    client.send(&window_update(1, 1));
    assert!(client.connection.send(1, &mut body, room));
    assert_eq!(sent(&mut client), [1]);

    client.send(&window_update(1, 100_000));
    assert!(client.connection.send(1, &mut body, room));
    let rest = 65_535 - 5;
    assert_eq!(sent(&mut client), [16_384, 16_384, 16_384, rest - 3 * 16_384], "6.9.1: the connection's window; 4.2");
    assert!(!client.connection.send(1, &mut body, room));

    client.send(&all(&[&settings(&[(5, 20_000)]), &window_update(0, 1 << 20)]));
    assert!(client.connection.send(1, &mut body, room));
    assert_eq!(sent(&mut client), [20_000, 100_000 - rest - 20_000], "6.5.2: larger frames");
    assert_eq!(body.len(), 200_000 - 5 - 100_000);
}

#[test]
fn section_8_requests() {
    let [method, scheme, authority, path] = POST;
    let head = [method, scheme, path];
    let trailers = |flags, fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
    let data = |flags, length| frame(DATA, flags, 1, &vec![0; length]);
    check(&[
        ("8.1 trailers", all(&[&open(1), &data(0, 3), &trailers(END_STREAM, &[("x", "1")])]), Fine),
        ("8.1 trailers that do not end it", all(&[&open(1), &trailers(0, &[("x", "1")])]), Reset(1, ProtocolError)),
        ("8.1 a pseudo-header in trailers", all(&[&open(1), &trailers(END_STREAM, &[path])]), Reset(1, ProtocolError)),
        ("8.1.1 the length that was announced", all(&[&with(&[("content-length", "4")]), &data(END_STREAM, 4)]), Fine),
        (
            "8.1.1 ended by trailers",
            all(&[&with(&[("content-length", "4")]), &data(0, 4), &trailers(END_STREAM, &[("x", "1")])]),
            Fine,
        ),
        (
            "8.1.1 less than the length",
            all(&[&with(&[("content-length", "4")]), &data(END_STREAM, 3)]),
            Reset(1, ProtocolError),
        ),
        (
            "8.1.1 less than the length, ended by trailers",
            all(&[&with(&[("content-length", "4")]), &data(0, 3), &trailers(END_STREAM, &[("x", "1")])]),
            Reset(1, ProtocolError),
        ),
        (
            "8.1.1 more than the length",
            all(&[&with(&[("content-length", "4")]), &data(0, 3), &data(0, 2)]),
            Reset(1, ProtocolError),
        ),
        ("8.1.1 a length and no body", of(&[method, scheme, path, ("content-length", "1")]), Reset(1, ProtocolError)),
        ("8.1.1 no length at all", with(&[("content-length", "x")]), Reset(1, ProtocolError)),
        ("8.2.1 an uppercase name", with(&[("X-Test", "1")]), Reset(1, ProtocolError)),
        ("8.2.1 a blank in a name", with(&[("x test", "1")]), Reset(1, ProtocolError)),
        ("8.2.1 a colon in a name", with(&[("x:", "1")]), Reset(1, ProtocolError)),
        ("8.2.1 a NUL in a value", with(&[("x", "a\0b")]), Reset(1, ProtocolError)),
        ("8.2.1 a line feed in a value", with(&[("x", "a\nb")]), Reset(1, ProtocolError)),
        ("8.2.1 a blank before a value", with(&[("x", " a")]), Reset(1, ProtocolError)),
        ("8.2.2 connection", with(&[("connection", "keep-alive")]), Reset(1, ProtocolError)),
        ("8.2.2 te", with(&[("te", "trailers, deflate")]), Reset(1, ProtocolError)),
        ("8.2.2 te: trailers", with(&[("te", "trailers")]), Fine),
        ("8.3 an unknown pseudo-header", with(&[(":test", "1")]), Reset(1, ProtocolError)),
        ("8.3 one of responses", with(&[(":status", "200")]), Reset(1, ProtocolError)),
        ("8.3 one after a field", of(&[method, scheme, ("x", "1"), path]), Reset(1, ProtocolError)),
        ("8.3.1 no authority", of(&head), Fine),
        ("8.3.1 no method", of(&[scheme, path, authority]), Reset(1, ProtocolError)),
        ("8.3.1 no scheme", of(&[method, path, authority]), Reset(1, ProtocolError)),
        ("8.3.1 no path", of(&[method, scheme, authority]), Reset(1, ProtocolError)),
        ("8.3.1 an empty path", of(&[method, scheme, authority, (":path", "")]), Reset(1, ProtocolError)),
        ("8.3.1 two methods", of(&[method, method, scheme, path]), Reset(1, ProtocolError)),
        ("8.3.1 two schemes", of(&[method, scheme, scheme, path]), Reset(1, ProtocolError)),
        ("8.3.1 two paths", of(&[method, scheme, path, path]), Reset(1, ProtocolError)),
        ("8.3.1 two authorities", of(&[method, scheme, path, authority, authority]), Reset(1, ProtocolError)),
    ]);
}

#[test]
fn section_6_8_going_away() {
    let mut client = Client::new();
    client.send(&open(1));
    client.connection.go_away();
    client.send(&open(3));
    client.send(&frame(DATA, END_STREAM, 1, b"it goes on"));
    assert_eq!(client.seen.last(), Some(&Seen::Data { stream: 1, data: b"it goes on".to_vec(), end: true }));
    assert_eq!(client.seen.len(), 2, "no request any more");
    assert!(!client.connection.is_done());
    client.connection.finish(1, None);
    assert!(client.connection.is_done());
    client.read();
    let told: Vec<_> = client.frames.iter().map(|frame| (frame.kind, frame.stream, frame.code())).collect();
    assert_eq!(told, [(GOAWAY, 0, Some(0)), (RST_STREAM, 3, Some(RefusedStream as u32)), (DATA, 1, None)]);
    assert_eq!(client.frames[0].payload[..4], [0, 0, 0, 1], "the last stream that is dealt with");
    assert_eq!(client.frames[2].flags, END_STREAM);
}

#[test]
fn section_6_5_2_a_smaller_table_is_acknowledged_in_the_next_block() {
    let mut client = Client::new();
    client.send(&all(&[&settings(&[(1, 0)]), &request(1), &request(3)]));
    client.frames.clear();
    // The first response is for a stream that is no more.
    client.send(&reset(1));
    client.connection.respond(1, &Response::new(()), true);
    client.connection.respond(3, &Response::new(()), false);
    client.connection.finish(3, Some(&HeaderMap::new()));
    client.read();
    let blocks: Vec<_> = client.frames.iter().map(|frame| (frame.kind, frame.flags, &frame.payload[..])).collect();
    assert_eq!(blocks, [(HEADERS, END_HEADERS, &[0x20, 0x88][..]), (DATA, END_STREAM, &[])]);
}
