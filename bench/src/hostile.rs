//! Clients that waste a server's connections: each reconnects as soon as it was disconnected.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::Ports;
use crate::session::Variant;
use crate::types::ApiVersion;
use crate::wire::put_bytes;

/// Their source address, which no proxy has.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Pause before a client reconnects, and between two bytes of [`Habit::Trickle`].
const PAUSE: Duration = Duration::from_millis(300);

/// The behaviour of a client.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Connects and sends nothing.
    Silent,
    /// Sends the head of a request byte by byte.
    Trickle,
    /// Sends the head of a write, and never its body.
    NoBody,
    /// Sends two gigabytes as the body of a write.
    HugeBody,
    /// Sends requests for large responses, and reads nothing.
    Deaf,
    /// Begins a TLS handshake and does not continue it.
    HalfTls,
    /// Sends invalid HTTP/2.
    BrokenHttp2,
    /// Opens a stream and never sends its first message.
    NoMessage,
    /// Announces a message of two gigabytes, and begins to send it.
    HugeMessage,
}

const OF_HTTP: [Habit; 5] = [Habit::Silent, Habit::Trickle, Habit::NoBody, Habit::HugeBody, Habit::Deaf];
const OF_GRPC: [Habit; 5] = [Habit::Silent, Habit::HalfTls, Habit::BrokenHttp2, Habit::NoMessage, Habit::HugeMessage];

/// What they have done so far.
#[derive(Default)]
struct Deeds {
    connections: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    bytes: AtomicU64,
}

/// Running hostile clients, on a thread of their own so that they do not slow down the measurement.
pub(crate) struct Horde {
    deeds: Arc<Deeds>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Horde {
    /// Starts this many clients for each port of a control plane.
    pub(crate) fn start(ports: Ports, on_each: u32) -> anyhow::Result<Horde> {
        let deeds = Arc::new(Deeds::default());
        let stop = Arc::new(AtomicBool::new(false));
        let http = [ports.api, ports.admin, ports.bootstrap, ports.diagnostics].map(|port| (port, &OF_HTTP));
        let grpc = [ports.xds, ports.sds].map(|port| (port, &OF_GRPC));
        let all: Vec<(u16, Habit)> = http
            .into_iter()
            .chain(grpc)
            .flat_map(|(port, habits)| (0..on_each as usize).map(move |index| (port, habits[index % habits.len()])))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (theirs, stopped) = (deeds.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("hostile".to_owned()).spawn(move || {
            runtime.block_on(async {
                for (port, habit) in all {
                    tokio::spawn(live(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), habit, theirs.clone()));
                }
                while !stopped.load(Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        })?;
        Ok(Horde { deeds, stop, thread: Some(thread) })
    }

    /// What they have done.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "open": self.deeds.open.load(Relaxed), "connections": self.deeds.connections.load(Relaxed),
            "refused": self.deeds.refused.load(Relaxed), "bytes_sent": self.deeds.bytes.load(Relaxed),
        })
    }
}

impl Drop for Horde {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn live(address: SocketAddr, habit: Habit, deeds: Arc<Deeds>) {
    loop {
        match connect(address).await {
            Ok(stream) => {
                deeds.connections.fetch_add(1, Relaxed);
                deeds.open.fetch_add(1, Relaxed);
                // It is repeated, however it ends.
                let _ = behave(stream, habit, &deeds).await;
                deeds.open.fetch_sub(1, Relaxed);
            }
            Err(_) => drop(deeds.refused.fetch_add(1, Relaxed)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // A small buffer, so that unread data stays on the server's side.
    socket.set_recv_buffer_size(4096)?;
    socket.bind((SOURCE, 0).into())?;
    socket.connect(address).await.context("cannot connect")
}

async fn behave(mut stream: TcpStream, habit: Habit, deeds: &Deeds) -> anyhow::Result<()> {
    const PUT: &str =
        "PUT /meshes/default/dataplanes/hostile HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    match habit {
        Habit::Silent => {}
        Habit::Trickle => {
            for byte in format!("{PUT}x-padding: {}", "a".repeat(100_000)).bytes() {
                stream.write_all(&[byte]).await?;
                deeds.bytes.fetch_add(1, Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
        Habit::NoBody => stream.write_all(format!("{PUT}content-length: 1000\r\n\r\n{{").as_bytes()).await?,
        Habit::HugeBody => {
            stream.write_all(format!("{PUT}content-length: {}\r\n\r\n", 2_u64 << 30).as_bytes()).await?;
            return pour(stream, deeds).await;
        }
        Habit::Deaf => {
            let request = "GET /meshes/default/dataplanes?size=10000 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20);
            stream.write_all(request.as_bytes()).await?;
            // Until the server disconnects. Its data is not read, so only a write shows that.
            while stream.write_all(b"\r\n").await.is_ok() {
                tokio::time::sleep(PAUSE).await;
            }
            return Ok(());
        }
        // The head of a handshake record of 512 bytes, and the beginning of a ClientHello.
        Habit::HalfTls => stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await?,
        Habit::BrokenHttp2 => {
            let mut bytes = PREFACE.to_vec();
            // A settings frame, then frames of unknown length, type and stream.
            bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
            bytes.extend((0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8));
            stream.write_all(&bytes).await?;
        }
        Habit::NoMessage => return open_stream(stream, &[], deeds).await,
        Habit::HugeMessage => {
            let mut message = vec![0, 0x7f, 0xff, 0xff, 0xff];
            put_bytes(&mut message, 2, &[b'x'; 60_000]);
            return open_stream(stream, &message, deeds).await;
        }
    }
    // Waits until the server disconnects.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn pour(mut stream: TcpStream, deeds: &Deeds) -> anyhow::Result<()> {
    let piece = vec![b'a'; 64 << 10];
    loop {
        stream.write_all(&piece).await?;
        deeds.bytes.fetch_add(piece.len() as u64, Relaxed);
    }
}

/// An ADS stream over plain HTTP/2 that sends this once, and again whenever there is room.
async fn open_stream(stream: TcpStream, message: &[u8], deeds: &Deeds) -> anyhow::Result<()> {
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let request = http::Request::post(format!("http://localhost{}", Variant::Delta.path(ApiVersion::V3)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    let talk = async {
        let mut message = bytes::Bytes::copy_from_slice(message);
        while !message.is_empty() {
            body.reserve_capacity(message.len());
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.context("no room")??;
            let piece = message.split_to(room.min(message.len()));
            deeds.bytes.fetch_add(piece.len() as u64, Relaxed);
            body.send_data(piece, false)?;
        }
        anyhow::Ok(response.await?)
    };
    tokio::select! {
        ended = connection => ended?,
        answered = talk => drop(answered?),
    }
    Ok(())
}
