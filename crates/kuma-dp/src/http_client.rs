//! A minimal HTTP client, with one request per connection, for the control plane's API and Envoy's admin interface.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::tls;

/// Largest body that is accepted; a bootstrap has some 10 kB.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("could not connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("could not agree on TLS with {address}")]
    Tls { address: String, source: io::Error },
    #[error("could not read the system's CA certificates")]
    Roots(#[from] tls::TlsSetupError),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the connection broke before the answer was complete")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} is not a URL that can be requested")]
    BadUrl(Url),
}

impl NoAnswer {
    /// Whether the server's certificate was refused: then another attempt is of no use.
    pub(crate) fn is_untrusted_certificate(&self) -> bool {
        let NoAnswer::Tls { source, .. } = self else {
            return false;
        };
        let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
    }
}

/// Sends a GET request.
pub(crate) async fn get(url: &Url, limit: Duration) -> Result<Answer, NoAnswer> {
    send(Method::GET, url, Bytes::new(), limit).await
}

/// Sends a POST request with `body`, which is JSON or empty.
pub(crate) async fn post(url: &Url, body: Bytes, limit: Duration) -> Result<Answer, NoAnswer> {
    send(Method::POST, url, body, limit).await
}

async fn send(method: Method, url: &Url, body: Bytes, limit: Duration) -> Result<Answer, NoAnswer> {
    match tokio::time::timeout(limit, connect_and_send(method, url, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(NoAnswer::TimedOut(limit)),
    }
}

async fn connect_and_send(method: Method, url: &Url, body: Bytes) -> Result<Answer, NoAnswer> {
    let bad_url = || NoAnswer::BadUrl(url.clone());
    let host = match url.host().ok_or_else(bad_url)? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let port = url.port_or_known_default().ok_or_else(bad_url)?;
    let address = format!("{}:{port}", url.host_str().unwrap_or_default());
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|source| NoAnswer::Connect { address: address.clone(), source })?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::builder().method(method).uri(target).header(HOST, &address);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body)).map_err(|_| bad_url())?;
    if url.scheme() == "https" {
        let connector = tokio_rustls::TlsConnector::from(tls::trusting_the_system()?);
        let name = tls::server_name(&host).map_err(|_| bad_url())?;
        let stream = connector.connect(name, stream).await.map_err(|source| NoAnswer::Tls { address, source })?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| NoAnswer::Broken(error.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(NoAnswer::Broken)?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(answer, connection);
    // The connection has to be polled for the answer to arrive. If it fails, the answer fails too.
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}
