//! Thousands of hostile inputs on all ports at once: no panic, no access, nothing stored, and no response with status
//! 5xx.
//!
//! The inputs are made from a seed, so that a failure can be repeated: `HOSTILE_SEED=… cargo nextest run hostile`.

use std::fmt::Write as _;
use std::time::Duration;

use kuma_test::ControlPlane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Number of inputs for each kind of port.
const API: usize = 1400;
const ADMIN: usize = 400;
const BOOTSTRAP: usize = 400;
const DIAGNOSTICS: usize = 150;
const GRPC: usize = 300;
const MADS: usize = 300;

/// The random number generator xorshift64*, which gives the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn choose<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }
}

const METHODS: &[&str] = &[
    "GET", "PUT", "PUT", "PUT", "DELETE", "POST", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PRI", "get",
    "\u{7f}", "G ET",
];
const PIECES: &[&str] = &[
    "meshes",
    "default",
    "dataplanes",
    "dataplanes+insights",
    "dataplane-insights",
    "traffic-routes",
    "proxytemplates",
    "victim",
    "tokens",
    "bootstrap",
    "ready",
    "metrics",
    "config",
    "..",
    ".",
    "%2e%2e",
    "%2f",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%",
    "%zz",
    "%ff%fe",
    "é",
    "a b",
    "%0d%0aset-cookie:x",
    "{name}",
    "*",
    "'",
    "\"",
    "<script>",
    "-",
    "__proto__",
    "",
    "",
];
const HEADERS: &[&str] = &[
    "content-type: application/json",
    "content-type: text/html",
    "content-type: application/json; charset=utf-7",
    "content-encoding: gzip",
    "transfer-encoding: chunked",
    "transfer-encoding: chunked, identity",
    "content-length: 5",
    "content-length: 5, 6",
    "content-length: -1",
    "content-length: 99999999999999999999",
    "expect: 100-continue",
    "x-forwarded-for: 127.0.0.1",
    "forwarded: for=127.0.0.1",
    "origin: http://evil.example",
    "origin: null",
    "sec-fetch-site: cross-site",
    "if-match: *",
    "if-match: \u{1}",
    "if-none-match: \"",
    "authorization: Bearer x",
    "upgrade: h2c",
    "connection: upgrade, http2-settings",
    "range: bytes=0-",
    "accept: */*;q=nope",
    "cookie: a=b",
    ": empty",
    "bad header",
    "x: \u{0}",
    "host: evil.example",
    "host: a, b",
    "te: trailers",
    "access-control-request-method: PUT",
];
/// Documents that must not be stored: their names differ from those in the paths.
const DOCUMENTS: &[&str] = &[
    concat!(
        r#"{"type":"Dataplane","mesh":"default","name":"other","#,
        r#""networking":{"inbound":[{"interface":"127.0.0.1:80:81","tags":{"service":"web"}}]}}"#,
    ),
    r#"{"type":"Mesh","name":"other","mtls":{"enabled":true,"ca":{"builtin":{},"provided":{}}}}"#,
    concat!(
        r#"{"type":"TrafficRoute","mesh":"default","name":"other","sources":[{"match":{"service":"*"}}],"#,
        r#""destinations":[{"match":{"service":"*"}}],"conf":[{"weight":4294967296,"#,
        r#""destination":{"service":"a"}}]}"#,
    ),
    concat!(
        r#"{"type":"ProxyTemplate","mesh":"default","name":"other","conf":{"resources":[{"name":"a","#,
        r#""version":"b","resource":"'@type': type.googleapis.com/envoy.api.v2.Cluster\nname: &a [*a]"}]}}"#,
    ),
    concat!(
        r#"{"type":"DataplaneInsight","mesh":"default","name":"other","#,
        r#""subscriptions":[{"connectTime":"9999-99-99T00:00:00Z"}]}"#,
    ),
    r#"{"name":"a","mesh":"default","adminPort":70000,"dataplaneTokenPath":"../../etc/shadow"}"#,
    r#"{"name:" "dp-echo-1", "mesh": "default"}"#,
];

fn mutated(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.splice(at..at, b"\xff\xfe\x00".iter().copied())),
            3 => drop(bytes.splice(at..at, b"[".repeat(random.below(30_000)))),
            4 => drop(bytes.splice(at..at, b"\"\\ud800\"".iter().copied())),
            5 => drop(bytes.splice(at..at, b"1e999,-0,".iter().copied())),
            _ => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

/// A random request, maybe with wrong framing.
fn request(random: &mut Random, path: Option<&str>, guard: &str) -> Vec<u8> {
    let path = match path {
        Some(path) if random.below(4) > 0 => path.to_owned(),
        _ => {
            let mut path = String::new();
            for _ in 0..=random.below(6) {
                path.push('/');
                path.push_str(random.choose(PIECES));
            }
            match random.below(12) {
                0 => path.push_str(&"a".repeat(random.below(80_000))),
                1 => path.push_str("?size=0&offset=-1&tag=:&tag=a:b&tag=a:c"),
                _ => {}
            }
            path
        }
    };
    let body = match random.below(5) {
        0 => random.bytes(2000),
        1 => Vec::new(),
        _ => {
            let document = random.choose(DOCUMENTS);
            mutated(random, document)
        }
    };
    let method = random.choose(METHODS);
    let version = random.choose(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]);
    let mut head = format!("{method} {path} {version}\r\nhost: localhost\r\nconnection: close\r\n{guard}");
    for _ in 0..random.below(4) {
        let _ = write!(head, "{}\r\n", random.choose(HEADERS));
    }
    if random.below(5) > 0 {
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    if random.below(40) == 0 {
        head.push_str(&"x: y\r\n".repeat(12_000));
    }
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(b"\r\n");
    bytes.extend(body);
    bytes
}

/// Random bytes for a gRPC port.
fn frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => return random.bytes(4000),
        // A malformed TLS record.
        1 => vec![0x16, 3, 1, 0x02, 0x00],
        _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
    };
    for _ in 0..random.below(60) {
        let payload = random.bytes(200);
        let length = if random.below(10) == 0 { random.next() as u32 >> 8 } else { payload.len() as u32 };
        bytes.extend_from_slice(&length.to_be_bytes()[1..]);
        // Type, flags, stream.
        bytes.extend([random.below(12) as u8, random.next() as u8]);
        bytes.extend((random.below(9) as u32).to_be_bytes());
        bytes.extend(payload);
    }
    bytes
}

/// Sends bytes, and returns the status of the response, if there is one. A server that waits for more data gets the end
/// of the stream after a while; then it must close the connection.
async fn status(port: u16, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
    // The server may close the connection before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = [0; 12];
    let mut read = 0;
    let mut patience = Duration::from_millis(300);
    while read < answer.len() {
        match tokio::time::timeout(patience, stream.read(&mut answer[read..])).await {
            Ok(Ok(more @ 1..)) => read += more,
            Ok(_) => break,
            Err(_) => {
                assert!(patience < Duration::from_secs(45), "a client that says no more is not let go");
                let _ = stream.shutdown().await;
                patience = Duration::from_secs(45);
            }
        }
    }
    String::from_utf8_lossy(&answer).strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_on_every_port() {
    let seed = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_124);
    println!("HOSTILE_SEED={seed}");
    let mut random = Random(seed);
    let mut cp = ControlPlane::start().await;
    let lists =
        ["/meshes", "/meshes/default/dataplanes", "/meshes/default/traffic-routes", "/meshes/default/proxytemplates"];
    let mut before = Vec::new();
    for list in lists {
        before.push(cp.get(list).await);
    }
    let port = |url: String| url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let (api, admin) = (port(cp.api_url()), port(cp.admin_url()));
    let (bootstrap, diagnostics) = (port(cp.bootstrap_url()), port(cp.diagnostics_url()));
    // The port, the bytes, and whether a status 2xx would be a bypass.
    let mut inputs: Vec<(u16, Vec<u8>, bool)> = Vec::new();
    for _ in 0..API {
        inputs.push((api, request(&mut random, Some("/meshes/default/dataplanes/victim"), ""), false));
    }
    for _ in 0..ADMIN {
        inputs.push((admin, request(&mut random, Some("/tokens"), "x-forwarded-for: 192.0.2.1\r\n"), true));
        inputs.push((admin, request(&mut random, Some("/meshes/default/ca/provided/certificates"), ""), false));
    }
    for _ in 0..BOOTSTRAP {
        inputs.push((bootstrap, request(&mut random, Some("/bootstrap"), ""), true));
    }
    for _ in 0..DIAGNOSTICS {
        inputs.push((diagnostics, request(&mut random, None, ""), false));
    }
    for _ in 0..GRPC {
        inputs.push((cp.xds_port(), frames(&mut random), true));
        inputs.push((cp.sds_port(), frames(&mut random), true));
    }
    for _ in 0..MADS {
        let path = "/v3/discovery:monitoringassignments?fetch-timeout=-1s";
        inputs.push((cp.mads_port(), request(&mut random, Some(path), ""), false));
        inputs.push((cp.mads_port(), frames(&mut random), true));
    }
    assert!(inputs.len() >= 2000);
    let all = std::sync::Arc::new(inputs);
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..32 {
        let (all, next, answered) = (all.clone(), next.clone(), answered.clone());
        senders.spawn(async move {
            while let Some((port, bytes, bypass)) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let status = status(*port, bytes).await;
                answered.fetch_add(usize::from(status.is_some()), std::sync::atomic::Ordering::Relaxed);
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
                assert!(status.is_none_or(|status| status < 500), "{status:?} for {shown:?}");
                assert!(
                    !bypass || status.is_none_or(|status| !(200..300).contains(&status)),
                    "{status:?} for {shown:?}"
                );
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("no input makes a difference");
    }
    let answered = answered.load(std::sync::atomic::Ordering::Relaxed);
    assert!(answered > 1000, "most HTTP requests are answered, not just dropped: {answered}");
    for (list, before) in lists.iter().zip(&before) {
        assert_eq!(cp.get(list).await, *before, "{list} has changed");
    }
    assert!(!cp.folder().join("state/providedca.default").exists(), "a CA was stored");
    assert!(cp.process().is_running());
    let log = cp.process().output();
    assert!(!log.contains("panic"), "{log}");
}
