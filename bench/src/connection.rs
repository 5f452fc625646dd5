//! One connection to a control plane with the one stream that an Envoy has on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::{Connection, ResponseFuture};
use h2::{RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Method, Request};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::node::numbered;

/// What Envoy allows a control plane to have under way: 16 MiB per stream, 24 MiB per connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

/// Connections from one address of ours: the ports that the system gives out are some 28,000.
const CONNECTIONS_PER_SOURCE: u32 = 10_000;

/// Where the control plane is, and what every stream shows.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What the requests call it.
    pub(crate) authority: String,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(crate) path: &'static str,
    /// In their values `{i}` stands for the number of the client.
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// Addresses of ours to connect from, in turn. Empty: the system chooses, and on loopback there are as many as
    /// needed.
    pub(crate) sources: Vec<IpAddr>,
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A stream whose headers are on the way. Nothing moves unless `connection` is polled.
pub(crate) struct Stream {
    pub(crate) connection: Pin<Box<Connection<Box<dyn Io>, Bytes>>>,
    pub(crate) response: ResponseFuture,
    pub(crate) requests: SendStream<Bytes>,
}

/// Connects, and begins a stream.
pub(crate) async fn open(target: &Target, client: u32, token: Option<&HeaderValue>) -> anyhow::Result<Stream> {
    let socket = if target.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source(target, client) {
        socket.bind((source, 0).into()).with_context(|| format!("cannot connect from {source}"))?;
    }
    let tcp = socket.connect(target.address).await.context("cannot connect")?;
    tcp.set_nodelay(true)?;
    let io: Box<dyn Io> = match &target.tls {
        Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await.context("TLS")?),
        None => Box::new(tcp),
    };
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false)
        .handshake(io)
        .await
        .context("HTTP/2")?;
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{}{}", target.authority, target.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in &target.headers {
        request = request.header(name, numbered(value, client));
    }
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let mut connection = Box::pin(connection);
    let ready = sender.ready();
    let mut sender = tokio::select! {
        ended = connection.as_mut() => {
            ended.context("HTTP/2")?;
            anyhow::bail!("the connection was closed");
        }
        ready = ready => ready.context("HTTP/2")?,
    };
    let (response, requests) = sender.send_request(request.body(())?, false)?;
    Ok(Stream { connection, response, requests })
}

/// The address that a client connects from, unless the system is to choose.
fn source(target: &Target, client: u32) -> Option<IpAddr> {
    if let Some(last) = target.sources.len().checked_sub(1) {
        return Some(target.sources[client as usize % (last + 1)]);
    }
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    (target.address.ip() == loopback && client >= CONNECTIONS_PER_SOURCE)
        .then(|| Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + client / CONNECTIONS_PER_SOURCE).into())
}

/// The pieces of a response as whole gRPC messages.
pub(crate) struct Messages {
    body: RecvStream,
    buffer: Vec<u8>,
    start: usize,
}

/// The prefix of a message: a flag of compression, and the length.
const PREFIX: usize = crate::session::PREFIX;

impl Messages {
    pub(crate) fn new(body: RecvStream) -> Messages {
        Messages { body, buffer: Vec::new(), start: 0 }
    }

    /// The next message, without its prefix. `None` at the end; why it ended is in the trailers.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        loop {
            let pending = &self.buffer[self.start..];
            if let Some(prefix) = pending.first_chunk::<PREFIX>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if pending.len() >= PREFIX + length {
                    let from = self.start + PREFIX;
                    self.start = from + length;
                    return Ok(Some(&self.buffer[from..from + length]));
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.is_empty() {
                // What a client holds between messages would be counted as its memory.
                self.buffer = Vec::new();
            }
            let Some(piece) = self.body.data().await else { return Ok(None) };
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
            self.buffer.extend_from_slice(&piece);
        }
    }

    /// What the control plane said at the end.
    pub(crate) async fn outcome(&mut self) -> String {
        match self.body.trailers().await {
            Ok(Some(trailers)) => status(&trailers),
            Ok(None) => "the stream ended without a status".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// The gRPC status in headers or trailers.
pub(crate) fn status(headers: &http::HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let message = text("grpc-message").map_or_else(String::new, |message| format!(": {message}"));
    format!("grpc-status {}{message}", text("grpc-status").unwrap_or("?"))
}

/// A certificate chain of ours and its key, each a PEM text.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// TLS that trusts the CAs of a PEM text.
pub(crate) fn tls(ca_pem: &str, identity: Option<&Identity>) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(ca_pem).context("the CA")? {
        roots.add(certificate)?;
    }
    connector(client()?.with_root_certificates(roots), identity)
}

/// TLS that trusts everybody: only to load what listens there.
pub(crate) fn tls_with_anybody(identity: Option<&Identity>) -> anyhow::Result<TlsConnector> {
    let verifier = Arc::new(Anybody(provider()));
    connector(client()?.dangerous().with_custom_certificate_verifier(verifier), identity)
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().context("no PEM")?;
    anyhow::ensure!(!certificates.is_empty(), "no certificate in PEM");
    Ok(certificates)
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn client() -> anyhow::Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>> {
    Ok(rustls::ClientConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions()?)
}

fn connector(
    builder: rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>,
    identity: Option<&Identity>,
) -> anyhow::Result<TlsConnector> {
    let mut config = match identity {
        Some(Identity { chain, key }) => {
            let chain = certificates(chain).context("our certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("our key")?;
            builder.with_client_auth_cert(chain, key).context("our certificate and key")?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Envoy does not resume.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate; that its owner has the key is still checked.
#[derive(Debug)]
struct Anybody(rustls::crypto::CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
