//! One gRPC call: a stream of reports to the control plane, over HTTP/2.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kuma_wire::lifecycle::{METHOD, Report};
use prost::Message;
use rustls::CertificateError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Identity, Status};
use crate::bootstrap::{Address, XdsServer};
use crate::tls::{self, TlsSetupError};

/// How long connecting may take, TLS and HTTP/2 included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// An idle stream is probed: this detects a control plane that has vanished without closing the connection, and keeps
/// middleboxes from dropping the connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// HTTP/2's default window; the server sends very little.
const RECEIVE_WINDOW: u32 = 65_535;
/// `UNIMPLEMENTED` of gRPC's status codes.
const UNIMPLEMENTED: i32 = 12;
/// `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;
/// `UNAUTHENTICATED`.
const UNAUTHENTICATED: i32 = 16;
/// `UNKNOWN`: the status of an answer without one.
const UNKNOWN: i32 = 2;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("could not connect to its xDS server {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error("could not connect to its xDS server: no answer within {0:?}")]
    ConnectTimedOut(Duration),
    #[error("could not use its xDS server's address")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    TlsSetup(#[from] TlsSetupError),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("it answered with HTTP status {0}")]
    Http(http::StatusCode),
    #[error("it refused with status {code}: {message}")]
    Refused { code: i32, message: String },
}

impl CallError {
    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, CallError::Refused { code: UNIMPLEMENTED, .. })
    }

    /// The server's message, if it refused the proxy for lack of a valid token.
    pub(super) fn denial(&self) -> Option<&str> {
        match self {
            CallError::Refused { code: PERMISSION_DENIED | UNAUTHENTICATED, message } => Some(message),
            _ => None,
        }
    }

    /// Whether the server's certificate is not signed by the CA in the bootstrap.
    pub(super) fn is_of_another_ca(&self) -> bool {
        let CallError::Connect { source, .. } = self else { return false };
        let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        matches!(
            cause,
            Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature | CertificateError::UnknownIssuer))
        )
    }
}

/// Connects, calls `connected`, and sends the status and each change of it until either side ends the call.
pub(super) async fn report(
    identity: &Identity,
    address: &Address,
    status: &watch::Receiver<Status>,
    connected: impl FnOnce(),
) -> Result<(), CallError> {
    let XdsServer { tls, .. } = &identity.server;
    let Address { host, port } = address;
    let connect = async {
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|source| CallError::Connect { host: host.clone(), port: *port, source })?;
        // Without this option reports are only sent a little later, so an error does not matter.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    };
    let stream = within_limit(connect).await?;
    match tls {
        None => call(stream, identity, address, Scheme::HTTP, status, connected).await,
        Some(tls) => {
            let config = tls::trusting_only(&tls.trusted_ca, &tls.names)?;
            let name = tls::server_name(tls.sni.as_deref().unwrap_or(host));
            let name = name.map_err(|error| CallError::Address(error.into()))?;
            let connector = tokio_rustls::TlsConnector::from(config);
            let handshake = async {
                let stream = connector.connect(name, stream).await;
                stream.map_err(|source| CallError::Connect { host: host.clone(), port: *port, source })
            };
            let stream = within_limit(handshake).await?;
            call(stream, identity, address, Scheme::HTTPS, status, connected).await
        }
    }
}

async fn within_limit<T>(attempt: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    match tokio::time::timeout(CONNECT_LIMIT, attempt).await {
        Ok(done) => done,
        Err(_) => Err(CallError::ConnectTimedOut(CONNECT_LIMIT)),
    }
}

async fn call<S>(
    stream: S,
    identity: &Identity,
    address: &Address,
    scheme: Scheme,
    status: &watch::Receiver<Status>,
    connected: impl FnOnce(),
) -> Result<(), CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(identity, address, scheme, reports(identity, status.clone()))?;
    let handshake = async {
        hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_LIMIT)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(CallError::from)
    };
    let (mut sender, connection) = within_limit(handshake).await?;
    let exchange = async {
        sender.ready().await?;
        connected();
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::OK {
            return Err(CallError::Http(response.status()));
        }
        // A refusal may have no body; its status is then among the headers.
        if response.headers().contains_key("grpc-status") {
            return outcome(response.headers());
        }
        outcome(&trailers(response.into_body()).await?)
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        done = &mut exchange => done,
        broken = &mut connection => {
            broken?;
            exchange.await
        }
    }
}

/// The stream of reports, from the current status on. It ends after the last report.
fn reports(
    identity: &Identity,
    mut status: watch::Receiver<Status>,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + use<> {
    status.mark_changed();
    let Identity { mesh, name, instance, .. } = identity;
    let (mesh, name, instance) = (mesh.clone(), name.clone(), instance.clone());
    let frames = stream::unfold(Some(status), move |status| {
        let (mesh, name, instance) = (mesh.clone(), name.clone(), instance.clone());
        async move {
            let mut status = status?;
            status.changed().await.ok()?;
            let Status { state, detail, last } = status.borrow_and_update().clone();
            let message = Report { mesh, name, state: state.into(), detail, instance };
            Some((Ok(Frame::data(framed(&message))), (!last).then_some(status)))
        }
    });
    let frames: Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>> = Box::pin(frames);
    StreamBody::new(frames)
}

/// A message with gRPC's framing: a byte for "not compressed", the length, and the message.
fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + encoded.len());
    frame.put_u8(0);
    // A report has a few hundred bytes.
    frame.put_u32(encoded.len() as u32);
    frame.put_slice(&encoded);
    frame.freeze()
}

fn request<B>(identity: &Identity, address: &Address, scheme: Scheme, body: B) -> Result<Request<B>, CallError> {
    let Address { host, port } = address;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let authority = Authority::try_from(format!("{host}:{port}"));
    let mut parts = http::uri::Parts::default();
    // A token is never sent without TLS.
    let token = if scheme == Scheme::HTTPS { identity.token.as_deref() } else { None };
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.map_err(|error| CallError::Address(error.into()))?);
    parts.path_and_query = Some(PathAndQuery::from_static(METHOD));
    let mut request = Request::new(body);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| CallError::Address(error.into()))?;
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("kuma-dp/", env!("CARGO_PKG_VERSION"))));
    if let Some(token) = token {
        // The file is read for every connection: tokens of a Kubernetes service account are renewed in place.
        match token.refresh() {
            Ok(token) => {
                headers.insert(AUTHORIZATION, token.header());
            }
            Err(error) => {
                tracing::warn!("connecting to the control plane without a token: {error:#}")
            }
        }
    }
    Ok(request)
}

async fn trailers(mut body: Incoming) -> Result<HeaderMap, CallError> {
    while let Some(frame) = body.frame().await {
        if let Ok(trailers) = frame?.into_trailers() {
            return Ok(trailers);
        }
    }
    Ok(HeaderMap::new())
}

fn outcome(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map_or(UNKNOWN, |code| code.parse().unwrap_or(UNKNOWN)) {
        0 => Ok(()),
        code => Err(CallError::Refused { code, message: percent_decoded(text("grpc-message").unwrap_or_default()) }),
    }
}

/// `grpc-message` is percent-encoded (gRPC over HTTP/2, "Responses").
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_readable() {
        for (headers, expected) in [
            (vec![("grpc-status", "0")], None),
            (vec![("grpc-status", "7"), ("grpc-message", "token%20is for \"x\"")], Some("7: token is for \"x\"")),
            (vec![("grpc-status", "16"), ("grpc-message", "100%")], Some("16: 100%")),
            (vec![("grpc-status", "1"), ("grpc-message", "a%0Ab%zz%4")], Some("1: a b%zz%4")),
            (vec![], Some("2: ")),
            (vec![("grpc-status", "x")], Some("2: ")),
        ] {
            let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let said = outcome(&headers.collect()).err().map(|error| error.to_string());
            assert_eq!(said, expected.map(|text| format!("it refused with status {text}")));
        }
    }

    #[test]
    fn frames_carry_their_length() {
        let report =
            Report { mesh: "m".into(), name: "n".into(), state: 2, detail: String::new(), instance: "i".into() };
        assert_eq!(&framed(&report)[..], b"\x00\x00\x00\x00\x0b\x0a\x01m\x12\x01n\x18\x02\x2a\x01i");
    }
}
