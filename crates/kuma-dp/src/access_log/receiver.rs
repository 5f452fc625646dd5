//! Receives access logs from Envoy: a gRPC server on a unix socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::messages::{METHOD, StreamAccessLogsMessage};
use super::record::{layout, record};
use super::{Collector, Collectors};

/// Largest message in bytes. Envoy sends batches of 16 kB; its first message describes its node in some 60 kB.
const MAX_MESSAGE: usize = 1 << 20;
/// The flow-control window in bytes. Envoy drops entries that it cannot send at once.
const WINDOW: u32 = 1 << 20;
/// Pause after an error of accept, for example when there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Receives until it is dropped.
pub(super) async fn receive(listener: UnixListener, collectors: Arc<Collectors>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    connections.spawn(serve(connection, collectors.clone()));
                }
                Err(error) => {
                    tracing::warn!("access logs: cannot accept Envoy's connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(connection: UnixStream, collectors: Arc<Collectors>) {
    let service = service_fn(move |request| {
        let collectors = collectors.clone();
        async move { Ok::<_, Infallible>(answer(request, &collectors).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("access logs: Envoy's connection ended: {error}");
    }
}

/// Status codes of gRPC.
const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

async fn answer(request: Request<Incoming>, collectors: &Collectors) -> Response<Empty<Bytes>> {
    let status = if request.uri().path() == METHOD {
        match take_all(request.into_body(), collectors).await {
            Ok(()) => OK,
            Err(error) => {
                tracing::warn!("access logs: a stream of Envoy was ended: {error}");
                INTERNAL
            }
        }
    } else {
        UNIMPLEMENTED
    };
    let mut response = Response::new(Empty::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    response
}

/// Why the receiver ended a stream.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("a compressed message")]
    Compressed,
    #[error("a message of {0} bytes")]
    TooLong(usize),
    #[error("a message that cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Reads the entries of one stream until Envoy ends it.
async fn take_all(mut body: Incoming, collectors: &Collectors) -> Result<(), StreamError> {
    let mut stream = Stream::default();
    let mut pending = BytesMut::new();
    // An error means that Envoy has closed the connection.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(message) = next_message(&mut pending)? {
            stream.take(StreamAccessLogsMessage::decode(message)?, collectors);
        }
    }
    Ok(())
}

/// The next complete message. It is framed as one byte that tells whether it is compressed, four bytes with its length,
/// and the message.
fn next_message(pending: &mut BytesMut) -> Result<Option<Bytes>, StreamError> {
    const HEADER: usize = 5;
    let Some((header, _)) = pending.split_at_checked(HEADER) else { return Ok(None) };
    if header[0] != 0 {
        return Err(StreamError::Compressed);
    }
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_MESSAGE {
        return Err(StreamError::TooLong(length));
    }
    if pending.len() < HEADER + length {
        return Ok(None);
    }
    pending.advance(HEADER);
    Ok(Some(pending.split_to(length).freeze()))
}

/// One stream: the entries of one log from one of Envoy's threads.
#[derive(Default)]
struct Stream {
    /// `HOST:PORT` of its collector.
    address: String,
    /// The layout of its records, if they are JSON.
    layout: Option<Value>,
    /// `None` while there are too many collectors.
    collector: Option<Arc<Collector>>,
    /// Whether it was warned that there are too many collectors.
    warned: bool,
}

impl Stream {
    fn take(&mut self, message: StreamAccessLogsMessage, collectors: &Collectors) {
        if let Some(identifier) = &message.identifier {
            let name = &identifier.log_name;
            let (address, format) = name.split_once(';').unwrap_or((name, ""));
            *self = Stream { address: address.to_owned(), layout: layout(format), ..Stream::default() };
        }
        if self.collector.is_none() {
            self.collector = collectors.get(&self.address);
        }
        let Some(collector) = &self.collector else {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!("access logs: too many collectors; records for {} are dropped for now", self.address);
            }
            return;
        };
        let mut unreadable = 0;
        for entry in message.into_entries() {
            match entry.and_then(|tags| record(self.layout.as_ref(), &tags)) {
                Some(record) => collector.buffer.push(record.into()),
                None => unreadable += 1,
            }
        }
        collectors.count_unreadable(unreadable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An encoded entry with one tag: field 1 is `common_properties`, whose field 22 holds the tags; 1 and 2 are a
    /// tag's name and value.
    fn entry(value: &[u8]) -> Vec<u8> {
        fn field(number: u8, content: &[u8]) -> Vec<u8> {
            let key: &[u8] = if number < 16 { &[number << 3 | 2] } else { &[number << 3 | 2 | 0x80, number >> 4] };
            [key, &[u8::try_from(content.len()).expect("short")], content].concat()
        }
        let tag = [field(1, b"kuma.record"), field(2, value)].concat();
        field(1, &field(22, &tag))
    }

    #[tokio::test]
    async fn what_is_not_utf_8_loses_nothing_and_what_cannot_be_read_is_counted() {
        let entries = [entry(b"one\n"), entry(b"\xff two\n"), vec![0x0f], entry(b"three\n")];
        let http_logs: Vec<u8> = entries
            .iter()
            .flat_map(|entry| [&[0x0a, u8::try_from(entry.len()).expect("short")], &entry[..]].concat())
            .collect();
        let identifier = b"\x0a\x05\x12\x03a:1";
        let message =
            [&identifier[..], &[0x12, u8::try_from(http_logs.len()).expect("short")], &http_logs[..]].concat();
        let message = StreamAccessLogsMessage::decode(&message[..]).expect("it is read");
        let (mut stream, collectors) = (Stream::default(), Collectors::default());
        stream.take(message, &collectors);
        let buffer = &stream.collector.as_ref().expect("a collector").buffer;
        assert_eq!(String::from_utf8_lossy(&buffer.oldest(1000).bytes), "one\n\u{fffd} two\nthree\n");
        assert_eq!(collectors.lock().unreadable.total, 1);
    }

    #[test]
    fn messages_are_taken_out_of_the_stream_whole() {
        let mut pending = BytesMut::from(&b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x03cd"[..]);
        let mut next = || next_message(&mut pending).expect("no error");
        assert_eq!(next().as_deref(), Some(&b"ab"[..]));
        assert_eq!(next().as_deref(), Some(&b""[..]));
        assert_eq!(next(), None);
        pending.extend_from_slice(b"e");
        assert_eq!(next_message(&mut pending).expect("no error").as_deref(), Some(&b"cde"[..]));
        for bad in [&b"\x01\0\0\0\0"[..], b"\0\x7f\0\0\0"] {
            assert!(next_message(&mut BytesMut::from(bad)).is_err());
        }
    }
}
