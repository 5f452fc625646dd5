//! Envoy's side: a gRPC server on a unix socket.

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
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::messages::{METHOD, StreamAccessLogsMessage};
use super::{Collector, Collectors};

/// Bytes of one message. Envoy sends batches of 16 kB; its first message says all about itself, some 60 kB.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes that Envoy may send before any are read: it drops entries when it may not send.
const WINDOW: u32 = 1 << 20;
/// Pause after a connection could not be accepted, for want of file descriptors, say.
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

/// Why a stream was ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("a compressed message")]
    Compressed,
    #[error("a message of {0} bytes")]
    TooLong(usize),
    #[error("a message that cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Takes the entries of one stream until Envoy ends it.
async fn take_all(mut body: Incoming, collectors: &Collectors) -> Result<(), StreamError> {
    let mut stream = Stream::default();
    let mut pending = BytesMut::new();
    // An error means that Envoy is gone; that is its business.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(message) = next_message(&mut pending)? {
            stream.take(StreamAccessLogsMessage::decode(message)?, collectors);
        }
    }
    Ok(())
}

/// The next whole message: a byte that says whether it is compressed, four with its length, itself.
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

/// One stream of Envoy: the entries of one log from one of its threads.
#[derive(Default)]
struct Stream {
    /// `HOST:PORT` of its collector.
    address: String,
    /// Nothing while there are too many others.
    collector: Option<Arc<Collector>>,
    /// Whether that was said.
    warned: bool,
}

impl Stream {
    fn take(&mut self, message: StreamAccessLogsMessage, collectors: &Collectors) {
        if let Some(identifier) = &message.identifier {
            let name = &identifier.log_name;
            let address = name.split_once(';').map_or(name.as_str(), |(address, _)| address);
            *self = Stream { address: address.to_owned(), ..Stream::default() };
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
        for mut line in message.into_lines() {
            // Each record is a line of its own.
            if !line.ends_with('\n') {
                line.push('\n');
            }
            collector.buffer.push(line.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
