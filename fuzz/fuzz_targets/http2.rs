//! One connection of HTTP/2, with an application that answers. The first byte says how the rest is cut up, and whether
//! it begins with the preface and the settings of a client, which every other input would have to find out.
#![no_main]

use std::collections::HashSet;

use http::Response;
use kuma_http2::hpack::Decoder;
use kuma_http2::{Connection, Error, Event, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { streams: 3, header_list: 1_000, unproductive_frames: 50 };

const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

/// What came of it: the same however the input was cut.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<(u32, String, bool)>,
    /// The body of each stream, in pieces that were put together, and whether it is all of it.
    bodies: Vec<(u32, Vec<u8>, bool)>,
    resets: Vec<u32>,
    output: Vec<u8>,
    error: Option<Error>,
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut connection = Connection::new(LIMITS);
    let mut outcome =
        Outcome { requests: Vec::new(), bodies: Vec::new(), resets: Vec::new(), output: Vec::new(), error: None };
    outcome.output.append(connection.output());
    let mut last = 0;
    let mut sending = HashSet::new();
    let mut receiving = HashSet::new();
    for mut piece in pieces {
        loop {
            let event = match connection.receive(&mut piece) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    break;
                }
            };
            let mut ended = None;
            match event {
                Event::Request { stream, request, end } => {
                    assert!(stream > last && stream % 2 == 1);
                    last = stream;
                    outcome.requests.push((stream, request.uri().to_string(), end));
                    let is_refused = request.headers().contains_key("x");
                    connection.respond(stream, &Response::new(()), is_refused);
                    if !is_refused {
                        sending.insert(stream);
                        assert!(sending.len() <= LIMITS.streams);
                        if end {
                            ended = Some(stream);
                        } else {
                            receiving.insert(stream);
                        }
                    }
                }
                Event::Data { stream, data, end } => {
                    assert!(receiving.contains(&stream));
                    assert!(end || !data.is_empty());
                    connection.release(stream, data.len());
                    match outcome.bodies.iter_mut().find(|body| body.0 == stream) {
                        Some(body) => {
                            body.1.extend_from_slice(data);
                            body.2 = end;
                        }
                        None => outcome.bodies.push((stream, data.to_vec(), end)),
                    }
                    if end {
                        receiving.remove(&stream);
                        ended = Some(stream);
                    }
                }
                Event::Reset { stream } => {
                    assert!(sending.remove(&stream));
                    receiving.remove(&stream);
                    outcome.resets.push(stream);
                }
            }
            if let Some(stream) = ended {
                connection.send(stream, &mut &b"what was asked for"[..], 6);
                connection.finish(stream, None);
                sending.remove(&stream);
            }
        }
        outcome.output.append(connection.output());
        if let Some(error) = outcome.error {
            assert_eq!(connection.receive(&mut &b"more"[..]).err(), Some(error));
            assert!(connection.output().is_empty());
            break;
        }
    }
    outcome
}

/// That it is a server's side of HTTP/2, with a GOAWAY if it ended in an error. The client's settings are those at
/// first: what is sent is smaller than they permit in any case.
fn check(mut output: &[u8], error: Option<Error>) {
    let mut decoder = Decoder::new();
    let mut responses = HashSet::new();
    let mut last = None;
    while let [a, b, c, kind, flags, d, e, f, g, rest @ ..] = output {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = u32::from_be_bytes([*d, *e, *f, *g]);
        let (payload, rest) = rest.split_at(length);
        output = rest;
        match (kind, stream) {
            // DATA
            (0, 1..) => assert!(responses.contains(&stream) && length <= 6),
            // HEADERS
            (1, 1..) => {
                assert!(responses.insert(stream) && flags & !0x5 == 0);
                let mut fields = 0;
                decoder.decode(payload, &mut |_, _| fields += 1).expect("a good block");
                assert_eq!(fields, 1);
            }
            // RST_STREAM and WINDOW_UPDATE
            (3, 1..) | (8, _) => assert_eq!((length, *flags), (4, 0)),
            // SETTINGS, ours and acknowledgements
            (4, 0) => assert_eq!((length, *flags), if last.is_none() { (18, 0) } else { (0, 1) }),
            // Answers to PING
            (6, 0) => assert_eq!((length, *flags), (8, 1)),
            // GOAWAY
            (7, 0) => {
                let code = u32::from_be_bytes(payload[4..].try_into().expect("a code"));
                assert_eq!(Some(code), error.map(|error| error.code as u32));
            }
            _ => panic!("a frame of type {kind} on stream {stream}"),
        }
        last = Some(*kind);
    }
    assert_eq!(output, b"", "a whole number of frames");
    assert_eq!(last == Some(7), error.is_some());
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, sent)) = input.split_first() else { return };
    let beginning: &[&[u8]] = match first >> 6 {
        0 => &[],
        1 => &[BEGINNING],
        _ => &[BEGINNING, ACK],
    };
    let stream = [&beginning.concat(), sent].concat();
    let whole = run([&stream[..]].into_iter());
    check(&whole.output, whole.error);
    assert!(whole.output.len() <= 4 * stream.len() + 100, "it says more than it was told to");
    let received: usize = whole.bodies.iter().map(|body| body.1.len()).sum();
    assert!(received <= stream.len());
    let cut = run(stream.chunks(usize::from(first & 0x3f).max(1)));
    assert_eq!(whole, cut);
});
