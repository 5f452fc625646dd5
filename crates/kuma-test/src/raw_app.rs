//! An application that handles HTTP/1.1 as bytes, without the limits and checks of a library.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The reaction to a request.
pub enum Reply {
    /// These bytes are sent, and the connection is kept.
    Answer(Vec<u8>),
    /// The connection is closed without a response.
    Close,
}

/// A request.
pub struct RawRequest<'a> {
    /// Request line and headers, with the empty line at their end.
    pub head: &'a [u8],
    /// Its number among the requests of its connection, counted from 1.
    pub number: usize,
}

/// A server on loopback that records the heads of requests.
pub struct RawApp {
    /// Its port.
    pub port: u16,
    heads: Heads,
    task: JoinHandle<()>,
}

type Heads = Arc<Mutex<Vec<Vec<u8>>>>;

impl RawApp {
    /// Starts one on 127.0.0.1 that answers by `reply`, and closes a connection after `idle` without a request.
    pub async fn start(idle: Duration, reply: fn(&RawRequest<'_>) -> Reply) -> RawApp {
        RawApp::start_at("127.0.0.1:0", idle, reply).await
    }

    /// The same on another address.
    pub async fn start_at(address: &str, idle: Duration, reply: fn(&RawRequest<'_>) -> Reply) -> RawApp {
        let listener = TcpListener::bind(address).await.expect("a free loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let heads = Heads::default();
        let noted = heads.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, idle, reply, noted.clone()));
            }
        });
        RawApp { port, heads, task }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<Vec<u8>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RawApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with this body, and further header lines that each end in CRLF.
pub fn ok(headers: &str, body: &str) -> Reply {
    Reply::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes())
}

async fn serve(mut stream: TcpStream, idle: Duration, reply: fn(&RawRequest<'_>) -> Reply, heads: Heads) {
    let mut bytes = Vec::new();
    for number in 1.. {
        let Ok(Some(head)) = tokio::time::timeout(idle, read_head(&mut stream, &mut bytes)).await else { return };
        heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        match reply(&RawRequest { head: &head, number }) {
            Reply::Answer(answer) if stream.write_all(&answer).await.is_ok() => {}
            _ => return,
        }
    }
}

/// Reads a request and returns its head. A body, by `content-length`, is skipped.
pub async fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut seen = 0;
    let end = loop {
        if let Some(at) = bytes[seen..].windows(END.len()).position(|window| window == END) {
            break seen + at + END.len();
        }
        seen = bytes.len().saturating_sub(END.len() - 1);
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head: Vec<u8> = bytes.drain(..end).collect();
    let body = content_length(&head);
    while bytes.len() < body {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    bytes.drain(..body);
    Some(head)
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// Sends bytes to a loopback port and returns the response: all bytes until the connection ends, or until the response
/// is complete by its `content-length`.
pub async fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return Vec::new() };
    let (mut read, mut write) = stream.split();
    let sent = async {
        // The response may come before the request has been read.
        let _ = write.write_all(request).await;
        std::future::pending::<()>().await
    };
    let answered = async {
        let mut answer = Vec::new();
        loop {
            if let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n")
                && answer.len() >= at + 4 + content_length(&answer[..at])
            {
                return answer;
            }
            if !read.read_buf(&mut answer).await.is_ok_and(|bytes| bytes > 0) {
                return answer;
            }
        }
    };
    tokio::select! {
        () = sent => unreachable!("it never ends"),
        answer = tokio::time::timeout(Duration::from_secs(30), answered) => answer.unwrap_or_default(),
    }
}

/// The status of a response; 0 if there is none.
pub fn status(answer: &[u8]) -> u16 {
    let line = String::from_utf8_lossy(&answer[..answer.len().min(100)]).into_owned();
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}
