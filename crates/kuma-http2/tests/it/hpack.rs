//! The decoder of header blocks against the encoder of the `h2` crate.

use http::{HeaderName, HeaderValue, Request};
use kuma_http2::hpack::{Decoder, put_field};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What one test tells the `h2` client to do.
#[derive(Debug, Clone)]
enum Step {
    /// Send a request with these fields, some of them marked as secrets, which no table may hold.
    Request { path: String, fields: Vec<(String, Vec<u8>, bool)> },
    /// Keep to a table of so many bytes from now on.
    TableSize(u32),
}

fn a_value() -> impl Strategy<Value = Vec<u8>> {
    // All that a field value may have in it (RFC 9110, 5.5).
    let octet = prop_oneof![8 => 0x20..0x7fu8, 1 => 0x80..=0xffu8, 1 => Just(b'\t')];
    prop_oneof![
        6 => vec(octet.clone(), 0..40),
        2 => prop_oneof![Just("application/grpc"), Just("trailers"), Just("1")].prop_map(|s| s.as_bytes().to_vec()),
        1 => (octet, 100..6_000usize).prop_map(|(octet, length)| vec![octet; length]),
    ]
}

fn a_field() -> impl Strategy<Value = (String, Vec<u8>, bool)> {
    let name = prop_oneof![
        3 => "x-[a-c]{0,2}",
        1 => "x-[a-z0-9_.-]{1,150}",
        3 => prop_oneof![Just("content-type"), Just("user-agent"), Just("authorization"), Just("cookie")]
            .prop_map(String::from),
    ];
    (name, a_value(), prop::bool::weighted(0.1))
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => ("/[a-z]{0,3}", vec(a_field(), 0..12)).prop_map(|(path, fields)| Step::Request { path, fields }),
        1 => prop_oneof![Just(0), Just(64), Just(300), Just(4_096), Just(20_000)].prop_map(Step::TableSize),
    ]
}

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// The server's end: just what is needed to keep the client going.
struct Server {
    io: DuplexStream,
    decoder: Decoder,
    /// What was asked for and is not acknowledged yet, in bytes.
    table_sizes: Vec<u32>,
}

impl Server {
    async fn send_settings(&mut self, table_size: u32) {
        let mut frame = vec![0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 1];
        frame.extend(table_size.to_be_bytes());
        self.io.write_all(&frame).await.unwrap();
        self.table_sizes.insert(0, table_size);
    }

    async fn read_frame(&mut self) -> (u8, u8, Vec<u8>) {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.io.read_exact(&mut payload).await.unwrap();
        (head[3], head[4], payload)
    }

    /// The fields of the next request, and the acknowledgements before it.
    async fn read_request(&mut self) -> Fields {
        let mut block = Vec::new();
        loop {
            let (kind, flags, payload) = self.read_frame().await;
            match kind {
                // The h2 client neither pads nor sends priorities.
                HEADERS | CONTINUATION => block.extend(payload),
                SETTINGS if flags & ACK != 0 => self.acknowledged(),
                _ => assert_ne!(kind, DATA),
            }
            if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
                let mut fields = Fields::new();
                let decoded = self.decoder.decode(&block, &mut |name, value| {
                    fields.push((name.to_vec(), value.to_vec()));
                });
                assert_eq!(decoded, Ok(()));
                return fields;
            }
        }
    }

    fn acknowledged(&mut self) {
        self.decoder.set_limit(self.table_sizes.pop().expect("what is acknowledged was sent") as usize);
    }

    async fn await_acknowledgements(&mut self) {
        while !self.table_sizes.is_empty() {
            if let (SETTINGS, ACK, _) = self.read_frame().await {
                self.acknowledged();
            }
        }
    }
}

async fn run(steps: Vec<Step>) {
    let (client, io) = tokio::io::duplex(1 << 20);
    let mut server = Server { io, decoder: Decoder::new(), table_sizes: Vec::new() };
    server.send_settings(4_096).await;
    let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut preface = [0; 24];
    server.io.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

    // Their responses never come. They are kept, since one that is dropped resets its stream.
    let mut responses = Vec::new();
    for step in steps {
        match step {
            Step::TableSize(size) => {
                server.send_settings(size).await;
                server.await_acknowledgements().await;
            }
            Step::Request { path, fields } => {
                let mut expected: Fields =
                    [(":method", "GET"), (":scheme", "http"), (":authority", "kuma-cp:5678"), (":path", &path)]
                        .map(|(name, value)| (name.into(), value.into()))
                        .to_vec();
                let mut request = Request::get(format!("http://kuma-cp:5678{path}"));
                for (name, value, is_secret) in fields {
                    let mut header = HeaderValue::from_bytes(&value).unwrap();
                    header.set_sensitive(is_secret);
                    request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), header);
                    expected.push((name.into(), value));
                }
                requests = requests.ready().await.unwrap();
                responses.push(requests.send_request(request.body(()).unwrap(), true).unwrap());
                let mut found = server.read_request().await;
                // The client sends the fields in an order of its own.
                found.sort();
                expected.sort();
                assert_eq!(found, expected);
            }
        }
    }
    connection.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_h2_encodes_is_decoded(steps in vec(a_step(), 1..12)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(steps));
    }

    #[test]
    fn what_is_encoded_is_decoded(fields in vec((vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..400)), 0..10)) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            put_field(&mut block, name, value);
        }
        let mut found = Fields::new();
        let decoded = Decoder::new().decode(&block, &mut |name, value| found.push((name.to_vec(), value.to_vec())));
        prop_assert_eq!(decoded, Ok(()));
        prop_assert_eq!(found, fields);
    }
}
