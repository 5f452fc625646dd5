//! A raw gRPC client for streams of discovery requests.

use std::convert::Infallible;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use futures_util::StreamExt as _;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kuma_xds::grpc::{FrameDecoder, Status, frame};
use kuma_xds::{DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, Node, ResourceType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Enough for a loaded machine; nothing that works takes it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("something to happen")
}

#[derive(Clone)]
pub(crate) struct Grpc(SendRequest<BoxBody<Bytes, Infallible>>, Arc<std::net::TcpStream>);

impl Grpc {
    /// Over TLS with the CA in the state folder, or in plain text.
    pub(crate) async fn connect(port: u16, state_folder: Option<&Path>) -> Grpc {
        Grpc::connect_from([127, 0, 0, 1], port, state_folder).await
    }

    /// The same, from this address.
    pub(crate) async fn connect_from(address: [u8; 4], port: u16, state_folder: Option<&Path>) -> Grpc {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((address, 0))).expect("an address of loopback");
        let socket = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("connects");
        let socket = socket.into_std().expect("a socket");
        let connection = Arc::new(socket.try_clone().expect("a second handle"));
        let socket = TcpStream::from_std(socket).expect("a socket");
        let sender = match state_folder {
            Some(folder) => {
                let ca = CertificateDer::from_pem_file(folder.join("xds-ca.pem")).expect("a certificate");
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca).expect("a CA");
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .expect("versions")
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                config.alpn_protocols = vec![b"h2".to_vec()];
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await;
                handshake(stream.expect("a trusted server")).await
            }
            None => handshake(socket).await,
        };
        Grpc(sender, connection)
    }

    /// Closes the connection with all that is on it, as the system does for a process that is killed.
    pub(crate) fn kill(&self) {
        self.1.shutdown(Shutdown::Both).expect("it was open");
    }

    pub(crate) async fn call(&mut self, path: &str, token: Option<&str>) -> Call {
        let (requests, receiver) = mpsc::channel(16);
        let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(BoxBody::new(StreamBody::new(frames))).expect("a request");
        let response = patiently(self.0.send_request(request)).await.expect("a response");
        let (head, body) = response.into_parts();
        Call { requests, headers: head.headers, body, decoder: FrameDecoder::new(16 << 20) }
    }
}

async fn handshake(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<BoxBody<Bytes, Infallible>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

pub(crate) struct Call {
    requests: mpsc::Sender<Bytes>,
    headers: HeaderMap,
    body: Incoming,
    decoder: FrameDecoder,
}

impl Call {
    /// Asks for these names of a type, as the node of this id.
    pub(crate) async fn ask(&self, node: &str, resource_type: ResourceType, names: &[&str]) {
        self.send(&DeltaDiscoveryRequest {
            node: Some(Node { id: node.to_owned(), ..Node::default() }),
            type_url: resource_type.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// The same in the state-of-the-world variant.
    pub(crate) async fn ask_sotw(&self, node: &str, resource_type: ResourceType, names: &[&str]) {
        self.send(&DiscoveryRequest {
            node: Some(Node { id: node.to_owned(), ..Node::default() }),
            type_url: resource_type.type_url().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DiscoveryRequest::default()
        })
        .await;
    }

    /// Says as kuma-dp that the proxy of a Dataplane runs.
    pub(crate) async fn report(&self, mesh: &str, name: &str) {
        let state = kuma_wire::lifecycle::State::Running as i32;
        self.send(&kuma_wire::lifecycle::Report {
            mesh: mesh.into(),
            name: name.into(),
            state,
            detail: String::new(),
            instance: String::new(),
        })
        .await;
    }

    /// How the call ends, or `None` if something is sent, or if it is still open after a while.
    pub(crate) async fn outcome(mut self) -> Option<(u16, String)> {
        // A refusal comes at once; nothing is asserted about the time of anything else.
        let end = tokio::time::timeout(Duration::from_secs(1), self.receive_any()).await;
        end.ok().flatten()
    }

    async fn receive_any(&mut self) -> Option<(u16, String)> {
        if let Some(outcome) = Status::from_headers(&self.headers) {
            return Some(outcome);
        }
        let frame = self.body.frame().await?.expect("no error");
        Status::from_headers(&frame.into_trailers().ok()?)
    }

    pub(crate) async fn acknowledge(&self, response: &DeltaDiscoveryResponse) {
        self.send(&DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    pub(crate) async fn refuse(&self, response: &DeltaDiscoveryResponse, message: &str) {
        self.send(&DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(ErrorDetail { code: 3, message: message.to_owned() }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    pub(crate) async fn send(&self, request: &impl prost::Message) {
        // A server that has ended the call takes no more; its outcome tells.
        let _ = self.requests.send(frame(&request.encode_to_vec())).await;
    }

    /// The next response, or how the call ended.
    pub(crate) async fn receive(&mut self) -> Result<DeltaDiscoveryResponse, (u16, String)> {
        self.receive_message().await
    }

    /// The next message of this kind, or how the call ended.
    pub(crate) async fn receive_message<M: prost::Message + Default>(&mut self) -> Result<M, (u16, String)> {
        if let Some(outcome) = Status::from_headers(&self.headers) {
            return Err(outcome);
        }
        loop {
            if let Some(message) = self.decoder.next_message().expect("well-formed") {
                return Ok(M::decode(message).expect("a response"));
            }
            let frame = patiently(self.body.frame()).await.expect("trailers come first").expect("no error");
            match frame.into_data() {
                Ok(data) => self.decoder.push(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("data or trailers");
                    return Err(Status::from_headers(&trailers).expect("a status"));
                }
            }
        }
    }
}
