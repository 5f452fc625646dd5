//! The server over loopback, with a raw HTTP/2 client.

mod bounds;
mod frames;
mod timeouts;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kuma_xds::grpc::{self, Code, FrameDecoder, Status, frame};
use kuma_xds::server::{
    Authority, Bounds, DELTA_PATH, FarEnd, Peer, RequestBody, Routes, STREAM_PATH, Server, StreamHandler, Timeouts,
};
use kuma_xds::{DeltaDiscoveryRequest, DiscoveryRequest, Event, Node, ResourceType, Snapshot, StreamState, Variant};
use prost::Message;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::script::snapshot;

/// Enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    resource: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct DeltaResponse {
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Entry>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SotwResponse {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Any>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// Admits clients without a token, or with the token `good`, unless their node is `stranger`.
struct Door {
    states: watch::Receiver<StreamState>,
    log: mpsc::UnboundedSender<String>,
}

struct Visitor {
    node: String,
    far_end: FarEnd,
    log: mpsc::UnboundedSender<String>,
}

impl Authority for Door {
    type Stream = Visitor;
    /// Whether there was a token.
    type Proof = bool;

    fn admit(&self, _: &Peer, headers: &HeaderMap) -> Result<bool, Status> {
        match headers.get("authorization").map(|token| token.as_bytes()) {
            None => Ok(false),
            Some(b"good") => Ok(true),
            Some(_) => Err(Status::new(Code::Unauthenticated, "a bad token")),
        }
    }

    fn is_proof(&self, token: &bool) -> bool {
        *token
    }

    fn open(
        &self,
        peer: &Peer,
        token: bool,
        node: &Node,
        variant: Variant,
    ) -> Result<(Visitor, watch::Receiver<StreamState>), Status> {
        if node.id == "stranger" {
            return Err(Status::new(Code::PermissionDenied, "not for 100% of nodes"));
        }
        let _ = self.log.send(format!("open {} {variant:?} tls={} token={token}", node.id, peer.tls));
        let visitor = Visitor { node: node.id.clone(), far_end: peer.far_end.clone(), log: self.log.clone() };
        Ok((visitor, self.states.clone()))
    }
}

impl StreamHandler for Visitor {
    fn on_event(&mut self, event: Event) {
        assert!(self.node != "panic", "as asked");
        if let Event::Acked { resource_type } = event {
            let _ = self.log.send(format!("acked {resource_type:?}"));
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let by = if self.far_end.has_closed() { " with its connection" } else { "" };
        let _ = self.log.send(format!("closed {}{by}", self.node));
    }
}

struct World {
    address: SocketAddr,
    states: watch::Sender<StreamState>,
    log: mpsc::UnboundedReceiver<String>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl World {
    async fn start() -> World {
        World::start_with(|server| server).await
    }

    async fn start_with(adapt: impl FnOnce(Server<Door>) -> Server<Door>) -> World {
        let (states, receiver) = watch::channel(serve("C a:1"));
        let (sender, log) = mpsc::unbounded_channel();
        let server = adapt(Server::new(Arc::new(Door { states: receiver, log: sender })));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server.serve(listener, shutdown.clone()));
        World { address, states, log, shutdown, server }
    }

    async fn connect(&self) -> Connection {
        Connection::over(TcpStream::connect(self.address).await.expect("connects")).await
    }

    async fn log(&mut self) -> String {
        patiently(self.log.recv()).await.expect("the log goes on")
    }
}

fn serve(text: &str) -> StreamState {
    StreamState::Serve(Arc::new(snapshot(text)))
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("something to happen")
}

#[derive(Clone)]
struct Connection(SendRequest<BoxBody<Bytes, Infallible>>);

impl Connection {
    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Connection {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Connection(sender)
    }

    async fn call(&mut self, path: &str, token: Option<&str>) -> Call {
        let (requests, receiver) = mpsc::channel(16);
        let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(BodyExt::boxed(StreamBody::new(frames))).expect("a request");
        let response = patiently(self.0.send_request(request)).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let (head, body) = response.into_parts();
        Call { requests: Some(requests), headers: head.headers, body, decoder: FrameDecoder::new(16 << 20) }
    }
}

struct Call {
    requests: Option<mpsc::Sender<Bytes>>,
    headers: HeaderMap,
    body: Incoming,
    decoder: FrameDecoder,
}

impl Call {
    async fn send(&self, message: &impl Message) {
        self.send_bytes(frame(&message.encode_to_vec())).await;
    }

    async fn send_bytes(&self, bytes: Bytes) {
        self.requests.as_ref().expect("not ended").send(bytes).await.expect("taken");
    }

    async fn receive<M: Message + Default>(&mut self) -> M {
        loop {
            if let Some(message) = self.decoder.next_message().expect("well-formed") {
                return M::decode(message).expect("of this type");
            }
            let frame = patiently(self.body.frame()).await.expect("more").expect("no error");
            self.decoder.push(frame.into_data().expect("data rather than trailers"));
        }
    }

    /// Its outcome; what is received before is ignored.
    async fn outcome(mut self) -> (u16, String) {
        if let Some(outcome) = Status::from_headers(&self.headers) {
            return outcome;
        }
        while let Some(frame) = patiently(self.body.frame()).await {
            if let Ok(trailers) = frame.expect("no error").into_trailers() {
                return Status::from_headers(&trailers).expect("a status");
            }
        }
        panic!("it ended without trailers");
    }
}

fn first_request(node: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: node.to_owned(), ..Node::default() }),
        type_url: ResourceType::Cluster.type_url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_delta_stream() {
    let mut world = World::start().await;
    let mut connection = world.connect().await;
    let mut call = connection.call(DELTA_PATH, Some("good")).await;
    call.send(&first_request("default.web-1")).await;
    assert_eq!(world.log().await, "open default.web-1 Delta tls=false token=true");

    let response: DeltaResponse = call.receive().await;
    assert_eq!(response.type_url, ResourceType::Cluster.type_url());
    let [entry] = response.resources.try_into().expect("one");
    assert_eq!((entry.name.as_str(), entry.version.as_str()), ("a", "1"));
    let any = entry.resource.expect("a body");
    assert_eq!((any.type_url.as_str(), any.value.as_slice()), (ResourceType::Cluster.type_url(), &b"1"[..]));

    let ack = |nonce: String| DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        response_nonce: nonce,
        ..Default::default()
    };
    call.send(&ack(response.nonce)).await;
    assert_eq!(world.log().await, "acked Cluster");

    world.states.send_replace(serve("C b:1"));
    let added: DeltaResponse = call.receive().await;
    assert_eq!(added.resources[0].name, "b");
    call.send(&ack(added.nonce)).await;
    let removed: DeltaResponse = call.receive().await;
    assert_eq!(removed.removed, ["a"]);

    // The client ends it.
    call.requests = None;
    assert_eq!(call.outcome().await, (0, String::new()));
    assert_eq!(world.log().await, "acked Cluster");
    assert_eq!(world.log().await, "closed default.web-1");
}

#[tokio::test]
async fn a_large_update_and_a_large_request() {
    let world = World::start().await;
    world.states.send_replace(StreamState::Hold);
    let mut connection = world.connect().await;
    let mut call = connection.call(DELTA_PATH, Some("good")).await;
    // 5 MB in pieces, as from a client with many resources after a reconnect.
    let names = (0..40_000).map(|number| (format!("{number:0>100}"), "0123456789abcdef".to_owned()));
    let request = DeltaDiscoveryRequest { initial_resource_versions: names.collect(), ..first_request("big") };
    let bytes = frame(&request.encode_to_vec());
    for piece in bytes.chunks(100_000) {
        call.send_bytes(Bytes::copy_from_slice(piece)).await;
    }
    let resource =
        |name: usize| kuma_xds::Resource::new(ResourceType::Cluster, format!("c{name}"), &vec![name as u8; 300_000]);
    let all = (0..20).fold(Snapshot::builder(), |builder, name| builder.with(resource(name)));
    world.states.send_replace(StreamState::Serve(Arc::new(all.build())));
    let mut received = 0;
    while received < 20 {
        let response: DeltaResponse = call.receive().await;
        assert!(response.encoded_len() < 2 << 20, "clients refuse messages of more than 4 MiB");
        for entry in response.resources {
            assert_eq!(entry.resource.expect("a body").value.len(), 300_000);
            received += 1;
        }
    }
}

#[tokio::test]
async fn a_sotw_stream_over_tls_whose_certificate_is_replaced() {
    let (first, first_client) = tls();
    let (second, second_client) = tls();
    let (config, receiver) = watch::channel(first);
    let mut world = World::start_with(|server| server.tls(receiver)).await;
    let connect = async |client: &Arc<rustls::ClientConfig>| {
        let socket = TcpStream::connect(world.address).await.expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        tokio_rustls::TlsConnector::from(client.clone()).connect(name, socket).await
    };
    let mut connection = Connection::over(connect(&first_client).await.expect("trusted")).await;
    let mut call = connection.call(STREAM_PATH, None).await;
    let request = DiscoveryRequest {
        node: Some(Node { id: "default.web-1".to_owned(), ..Node::default() }),
        type_url: ResourceType::Cluster.type_url().to_owned(),
        ..DiscoveryRequest::default()
    };
    call.send(&request).await;
    let response: SotwResponse = call.receive().await;
    assert_eq!(response.resources.len(), 1);
    assert!(!response.version_info.is_empty());

    config.send_replace(second);
    assert!(connect(&first_client).await.is_err(), "the old certificate is not shown any more");
    connect(&second_client).await.expect("the new one is");

    world.states.send_replace(serve("C a:2"));
    call.send(&DiscoveryRequest {
        response_nonce: response.nonce,
        version_info: response.version_info,
        node: None,
        ..request
    })
    .await;
    let response: SotwResponse = call.receive().await;
    assert_eq!(response.resources[0].value, b"2", "streams that are open go on");
    assert_eq!(world.log().await, "open default.web-1 Sotw tls=true token=false");
}

fn tls() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a good certificate");
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn what_is_refused_before_the_first_message() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let unknown = "/envoy.service.discovery.v3.AggregatedDiscoveryService/FetchAggregatedResources";
    let call = connection.call(unknown, None).await;
    assert_eq!(call.outcome().await.0, Code::Unimplemented as u16);

    for path in [STREAM_PATH, DELTA_PATH] {
        let call = connection.call(path, Some("bad")).await;
        assert!(call.headers.contains_key("grpc-status"), "nothing but headers");
        assert_eq!(call.outcome().await, (Code::Unauthenticated as u16, "a bad token".to_owned()));
    }

    let request = Request::get(format!("http://localhost{DELTA_PATH}"));
    let request = request.body(BodyExt::boxed(http_body_util::Empty::new())).expect("a request");
    let response = connection.0.send_request(request).await.expect("a response");
    assert_eq!(response.headers()["grpc-status"], "12", "a GET is no call");
}

#[tokio::test]
async fn what_is_refused_at_the_first_message() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let nobody = DeltaDiscoveryRequest { node: None, ..first_request("") };
    let cases = [
        (frame(&first_request("stranger").encode_to_vec()), Code::PermissionDenied),
        (frame(&nobody.encode_to_vec()), Code::InvalidArgument),
        (frame(b"\x0a"), Code::InvalidArgument),
        (Bytes::copy_from_slice(&grpc::prefix((16 << 20) + 1)), Code::ResourceExhausted),
        (Bytes::from_static(&[1, 0, 0, 0, 0]), Code::Unimplemented),
    ];
    for (bytes, expected) in cases {
        let call = connection.call(DELTA_PATH, None).await;
        call.send_bytes(bytes).await;
        let (code, message) = call.outcome().await;
        assert_eq!(code, expected as u16, "{message}");
    }
}

#[tokio::test]
async fn the_application_ends_a_stream() {
    let mut world = World::start().await;
    let mut connection = world.connect().await;
    let call = connection.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    world.log().await;
    let reason = Status::new(Code::FailedPrecondition, "the mesh \"café\" is gone: 100%\n");
    world.states.send_replace(StreamState::Close(reason.clone()));
    assert_eq!(call.outcome().await, (Code::FailedPrecondition as u16, reason.message));
    assert_eq!(world.log().await, "closed default.web-1");
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_and_so_is_how() {
    let mut world = World::start().await;
    let socket = TcpStream::connect(world.address).await.expect("connects").into_std().expect("a socket");
    let other = socket.try_clone().expect("a second handle");
    let mut connection = Connection::over(TcpStream::from_std(socket).expect("a socket")).await;
    let call = connection.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    world.log().await;
    // As the system does for a process that ends.
    other.shutdown(std::net::Shutdown::Both).expect("it is open");
    assert_eq!(world.log().await, "closed default.web-1 with its connection");
}

#[tokio::test]
async fn a_panic_hurts_no_other_stream() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let mut good = connection.call(DELTA_PATH, None).await;
    good.send(&first_request("default.web-1")).await;
    let _: DeltaResponse = good.receive().await;

    let mut bad = connection.call(DELTA_PATH, None).await;
    bad.send(&first_request("panic")).await;
    let ended = patiently(bad.body.frame()).await;
    assert!(!matches!(ended, Some(Ok(_))), "it ends without an answer");

    good.send(&DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoint.type_url().to_owned(),
        resource_names_subscribe: vec!["z".to_owned()],
        ..Default::default()
    })
    .await;
    let response: DeltaResponse = good.receive().await;
    assert_eq!(response.removed, ["z"], "on the same connection");
    let mut other = world.connect().await.call(DELTA_PATH, None).await;
    other.send(&first_request("default.web-2")).await;
    let _: DeltaResponse = other.receive().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_the_server() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let mut call = connection.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    let _: DeltaResponse = call.receive().await;
    let _silent = TcpStream::connect(world.address).await.expect("connects");

    world.shutdown.cancel();
    assert_eq!(call.outcome().await.0, Code::Unavailable as u16);
    patiently(world.server).await.expect("it ends by itself");
    assert!(TcpStream::connect(world.address).await.is_err(), "and listens no more");
}

#[tokio::test]
async fn further_methods_are_served_on_the_same_port() {
    let world = World::start_with(|server| {
        server.routes(Routes::new().with("/kuma.Test/Echo", |peer: Peer, request: Request<RequestBody>| async move {
            assert!(!peer.tls);
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let mut decoder = FrameDecoder::new(100);
            decoder.push(body);
            match decoder.next_message() {
                Ok(Some(message)) => grpc::unary_response(&message),
                Ok(None) => Status::new(Code::InvalidArgument, "no message").into_response(),
                Err(status) => status.into_response(),
            }
        }))
    })
    .await;
    let mut connection = world.connect().await;
    let mut call = connection.call_once("/kuma.Test/Echo", first_request("echo")).await;
    let echoed: DeltaDiscoveryRequest = call.receive().await;
    assert_eq!(echoed.node.as_ref().expect("a node").id, "echo");
    assert_eq!(call.outcome().await.0, 0);
}

impl Connection {
    /// A call whose one message is sent before the response is awaited.
    async fn call_once(&mut self, path: &str, message: impl Message) -> Call {
        let request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        let body = http_body_util::Full::new(frame(&message.encode_to_vec()));
        let request = request.body(BodyExt::boxed(body)).expect("a request");
        let response = patiently(self.0.send_request(request)).await.expect("a response");
        let (head, body) = response.into_parts();
        Call { requests: None, headers: head.headers, body, decoder: FrameDecoder::new(1 << 20) }
    }
}

#[tokio::test]
async fn a_large_body_reaches_a_method_piece_by_piece() {
    let count = |_: Peer, request: Request<RequestBody>| async move {
        let (mut body, mut bytes) = (request.into_body(), 0);
        while let Some(piece) = body.frame().await {
            bytes += piece.expect("no error").into_data().expect("data").len();
            tokio::task::yield_now().await;
        }
        grpc::unary_response(&first_request(&bytes.to_string()).encode_to_vec())
    };
    let world = World::start_with(|server| server.routes(Routes::new().with("/kuma.Test/Count", count))).await;
    let mut connection = world.connect().await;
    // Twice, so that the window of the connection is whole again after the first.
    for _ in 0..2 {
        let mut call = connection.call_once("/kuma.Test/Count", first_request(&"x".repeat(1 << 20))).await;
        let counted: DeltaDiscoveryRequest = call.receive().await;
        let expected = frame(&first_request(&"x".repeat(1 << 20)).encode_to_vec()).len();
        assert_eq!(counted.node.expect("a node").id, expected.to_string());
        assert_eq!(call.outcome().await.0, 0);
    }
}

#[tokio::test]
async fn a_method_that_does_not_read_leaves_room_for_other_streams() {
    let refuse = |_: Peer, _: Request<RequestBody>| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Status::new(Code::ResourceExhausted, "no").into_response()
    };
    let world = World::start_with(|server| server.routes(Routes::new().with("/kuma.Test/Refuse", refuse))).await;
    let mut connection = world.connect().await;
    // More than all flow-control windows together.
    for _ in 0..4 {
        let call = connection.call_once("/kuma.Test/Refuse", first_request(&"x".repeat(60_000))).await;
        assert_eq!(call.outcome().await.0, Code::ResourceExhausted as u16);
    }
    let mut call = connection.call(DELTA_PATH, None).await;
    call.send(&first_request(&"x".repeat(200_000))).await;
    let _: DeltaResponse = call.receive().await;
}

#[tokio::test]
async fn a_shutdown_ends_a_method_that_would_go_on() {
    let listen = |_: Peer, _: Request<RequestBody>| async {
        let never = StreamBody::new(futures_util::stream::pending());
        let mut response = http::Response::new(BodyExt::boxed_unsync(never));
        response.headers_mut().insert("content-type", grpc::CONTENT_TYPE_GRPC);
        response
    };
    let world = World::start_with(|server| server.routes(Routes::new().with("/kuma.Test/Listen", listen))).await;
    let call = world.connect().await.call("/kuma.Test/Listen", None).await;
    world.shutdown.cancel();
    assert_eq!(call.outcome().await.0, Code::Unavailable as u16);
    patiently(world.server).await.expect("it ends by itself");
}

#[tokio::test]
async fn what_fills_the_room_to_the_last_byte_holds_up_nothing() {
    /// Bytes that are gathered before they are sent.
    const GATHERED: usize = 32 << 10;
    let world = World::start().await;
    let mut connection = world.connect().await;
    for length in GATHERED - 400..GATHERED - 50 {
        world.states.send_replace(StreamState::Hold);
        let mut call = connection.call(DELTA_PATH, None).await;
        call.send(&first_request("default.web-1")).await;
        call.send(&DeltaDiscoveryRequest {
            type_url: ResourceType::Endpoint.type_url().to_owned(),
            resource_names_subscribe: vec!["z".to_owned()],
            ..Default::default()
        })
        .await;
        let cluster = kuma_xds::Resource::new(ResourceType::Cluster, "a", &vec![1; length]);
        let endpoints = kuma_xds::Resource::new(ResourceType::Endpoint, "z", b"1");
        world
            .states
            .send_replace(StreamState::Serve(Arc::new(Snapshot::builder().with(cluster).with(endpoints).build())));
        let response: DeltaResponse = call.receive().await;
        assert_eq!(response.type_url, ResourceType::Cluster.type_url());
        let response: DeltaResponse = call.receive().await;
        assert_eq!(response.type_url, ResourceType::Endpoint.type_url(), "after {length} bytes");
    }
}

#[tokio::test]
async fn what_speaks_something_else_is_cut_off() {
    let world = World::start().await;
    for greeting in ["GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}", "PRI nonsense that is no preface at all"] {
        let mut socket = TcpStream::connect(world.address).await.expect("connects");
        socket.write_all(greeting.as_bytes()).await.expect("writes");
        let mut rest = Vec::new();
        // Closed or reset, whichever comes first.
        let _ = patiently(socket.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn what_breaks_tls_is_told_so_and_cut_off() {
    /// The content type of an alert record.
    const ALERT: u8 = 0x15;
    let (server, client) = tls();
    let (_configs, receiver) = watch::channel(server);
    let world = World::start_with(|server| server.tls(receiver)).await;
    let strange = [0x16, 3, 1, 0, 8, 99, 0, 0, 4, 1, 2, 3, 4];
    let too_long = [0x16, 3, 1, 0xff, 0xff, 0, 0];
    for nonsense in [&strange[..], &too_long, &[strange, strange].concat()] {
        let mut socket = TcpStream::connect(world.address).await.expect("connects");
        socket.write_all(nonsense).await.expect("writes");
        let mut answer = Vec::new();
        let _ = patiently(socket.read_to_end(&mut answer)).await;
        assert_eq!(answer.first(), Some(&ALERT), "after {nonsense:x?}");
    }
    let socket = TcpStream::connect(world.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, socket).await.expect("a handshake");
    let forged = [&[0x17, 3, 3, 0, 40][..], &[0; 40]].concat();
    let socket = stream.get_mut().0;
    socket.write_all(&[forged.clone(), forged].concat()).await.expect("writes");
    let _ = patiently(socket.read_to_end(&mut Vec::new())).await;
}
