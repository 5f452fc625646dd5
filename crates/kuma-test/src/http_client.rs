//! A client that sends requests over one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long a response may take.
const LIMIT: Duration = Duration::from_secs(90);

/// One connection of HTTP/1.1 or HTTP/2 to a loopback port.
pub struct HttpClient {
    sender: Sender,
    connection: Arc<Connection>,
}

/// The task of a connection. It ends with the last client that shares it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as JSON; null if it does not parse.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The name of the [`HttpApp`](crate::HttpApp) that has answered; empty if the response is from no such
    /// application.
    pub fn instance(&self) -> String {
        self.json()["instance"].as_str().unwrap_or_default().to_owned()
    }
}

impl HttpClient {
    /// Connects with HTTP/1.1.
    pub async fn connect(port: u16) -> Option<HttpClient> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Some(HttpClient { sender: Sender::Http1(sender), connection: Arc::new(Connection(connection)) })
    }

    /// Connects with HTTP/2 without negotiation ("prior knowledge"), as gRPC does.
    pub async fn connect_http2(port: u16) -> Option<HttpClient> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.ok()?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Some(HttpClient { sender: Sender::Http2(sender), connection: Arc::new(Connection(connection)) })
    }

    /// Another client on the same connection. `None` for HTTP/1.1.
    pub fn share(&self) -> Option<HttpClient> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(HttpClient { sender: Sender::Http2(sender.clone()), connection: self.connection.clone() })
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// There was no complete response.
    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.send("GET", path, &[]).await
    }

    /// Sends a request with these headers.
    ///
    /// # Errors
    /// There was no complete response.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.send_body(method, path, headers, Bytes::new()).await
    }

    /// Sends a request with these headers and this body.
    ///
    /// # Errors
    /// There was no complete response.
    pub async fn send_body(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let attempt = async {
            let is_http2 = matches!(self.sender, Sender::Http2(_));
            let uri = if is_http2 { format!("http://the.host{path}") } else { path.to_owned() };
            let mut request = Request::builder().method(method).uri(uri);
            if !is_http2 {
                request = request.header("host", "the.host");
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await.map_err(|error| format!("the connection has ended: {error}"))?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => sender.send_request(request).await,
            };
            let response = response.map_err(|error| format!("no answer: {error}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("no whole answer: {error}"))?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers })
        };
        tokio::time::timeout(LIMIT, attempt).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.connection.0.is_finished()
    }
}
