//! A minimal delta ADS server over TLS, with one set of resources for every client. It knows only the part of the
//! protocol that these tests need; `kuma-xds` is the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_api::{Any, ResourceType};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kuma_envoy::Encoded;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

type Name = (ResourceType, String);

/// The served resources and the client's answers.
#[derive(Default)]
struct State {
    resources: BTreeMap<Name, Bytes>,
    refusals: Vec<String>,
    /// Resources that the proxy holds and has acknowledged.
    acknowledged: BTreeMap<Name, Bytes>,
    /// `authorization` of the last stream.
    token: Option<String>,
}

/// A running server.
pub(crate) struct Ads {
    pub(crate) port: u16,
    pub(crate) ca_pem: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Ads {
    pub(crate) async fn start() -> Ads {
        let ca = kuma_ca::XdsCa::generate(SystemTime::now()).expect("a CA");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let ads = Ads {
            port: listener.local_addr().expect("an address").port(),
            ca_pem: ca.cert_pem().to_owned(),
            state: Arc::default(),
            changed: watch::Sender::new(()),
        };
        let (acceptor, state, changed) = (acceptor(&ca), ads.state.clone(), ads.changed.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, state, changed) = (acceptor.clone(), state.clone(), changed.clone());
                tokio::spawn(async move {
                    let Ok(connection) = acceptor.accept(connection).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let (state, changed) = (state.clone(), changed.subscribe());
                        async move { Ok::<_, Infallible>(open(request, state, changed)) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // The connection ends when the proxy does.
                    let _ = server.serve_connection(TokioIo::new(connection), service).await;
                });
            }
        });
        ads
    }

    /// Replaces what is served.
    pub(crate) fn serve(&self, resources: impl IntoIterator<Item = Encoded>) {
        let resources =
            resources.into_iter().map(|one| ((one.resource_type, one.name.to_string()), one.value)).collect();
        lock(&self.state).resources = resources;
        self.changed.send_replace(());
    }

    /// Whether the proxy has acknowledged all that is served and holds nothing else, except resources of types whose
    /// removal it is not told.
    ///
    /// # Panics
    /// If it refused anything.
    pub(crate) fn is_accepted(&self) -> bool {
        let state = lock(&self.state);
        assert_eq!(state.refusals, Vec::<String>::new(), "Envoy refused");
        let is_served = |name: &Name| state.resources.contains_key(name);
        let held: BTreeMap<&Name, &Bytes> =
            state.acknowledged.iter().filter(|(name, _)| tells_absence(name.0) || is_served(name)).collect();
        held == state.resources.iter().collect()
    }

    /// The credential of the last stream.
    pub(crate) fn token(&self) -> Option<String> {
        lock(&self.state).token.clone()
    }
}

/// Whether the proxy is told when resources of this type are removed. Listeners that are being drained still use those
/// of other types.
fn tells_absence(resource_type: ResourceType) -> bool {
    !matches!(resource_type, ResourceType::Secret | ResourceType::ExtensionConfig)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acceptor(ca: &kuma_ca::XdsCa) -> TlsAcceptor {
    let leaf =
        ca.issue_server(&["localhost"], &[], Duration::from_secs(3600), SystemTime::now()).expect("a certificate");
    let chain = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a fitting key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

type Body = StreamBody<tokio_stream::wrappers::ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

fn open(request: Request<Incoming>, state: Arc<Mutex<State>>, changed: watch::Receiver<()>) -> Response<Body> {
    let token = request.headers().get("authorization");
    let token = token.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    {
        let mut state = lock(&state);
        state.token = token;
        // A new stream is of another proxy, which holds nothing yet.
        state.acknowledged.clear();
    }
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(Stream::new(state, sender).run(request.into_body(), changed));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)))
        .expect("a response")
}

struct Stream {
    state: Arc<Mutex<State>>,
    sender: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    wildcards: BTreeSet<ResourceType>,
    subscribed: BTreeSet<Name>,
    sent: BTreeMap<Name, Bytes>,
    /// Responses that are not acknowledged yet, by nonce.
    in_flight: BTreeMap<String, DeltaDiscoveryResponse>,
    responses: usize,
}

impl Stream {
    fn new(state: Arc<Mutex<State>>, sender: mpsc::Sender<Result<Frame<Bytes>, Infallible>>) -> Stream {
        Stream {
            state,
            sender,
            wildcards: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            responses: 0,
        }
    }

    async fn run(mut self, mut body: Incoming, mut changed: watch::Receiver<()>) {
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                frame = body.frame() => {
                    let Some(Ok(frame)) = frame else { return };
                    let Ok(data) = frame.into_data() else { return };
                    buffer.put(data);
                    while let Some(request) = next(&mut buffer) {
                        if let Some(first) = self.take(request) {
                            self.send(first, true).await;
                        }
                    }
                }
                _ = changed.changed() => {}
            }
            for resource_type in ResourceType::ALL {
                self.send(resource_type, false).await;
            }
        }
    }

    /// Handles a request. Returns the resource type that has to be answered even if there is nothing to send.
    fn take(&mut self, request: DeltaDiscoveryRequest) -> Option<ResourceType> {
        let resource_type = ResourceType::from_type_url(&request.type_url).expect("a type of ours");
        if let Some(error) = request.error_detail {
            lock(&self.state).refusals.push(error.message);
        } else if let Some(response) = self.in_flight.remove(&request.response_nonce) {
            self.acknowledge(resource_type, response);
        }
        for name in request.resource_names_unsubscribe {
            let name = (resource_type, name);
            self.subscribed.remove(&name);
            self.sent.remove(&name);
            lock(&self.state).acknowledged.remove(&name);
        }
        for name in request.resource_names_subscribe {
            // A subscription is answered, even if the resource was sent before.
            self.sent.remove(&(resource_type, name.clone()));
            self.subscribed.insert((resource_type, name));
        }
        let is_wildcard = matches!(resource_type, ResourceType::Cluster | ResourceType::Listener);
        (is_wildcard && self.wildcards.insert(resource_type)).then_some(resource_type)
    }

    fn acknowledge(&self, resource_type: ResourceType, response: DeltaDiscoveryResponse) {
        let mut state = lock(&self.state);
        for resource in response.resources {
            let value = resource.resource.expect("we sent one").value;
            state.acknowledged.insert((resource_type, resource.name), value);
        }
        for name in response.removed_resources {
            state.acknowledged.remove(&(resource_type, name));
        }
    }

    async fn send(&mut self, resource_type: ResourceType, even_nothing: bool) {
        let response = self.response(resource_type);
        if response.resources.is_empty() && response.removed_resources.is_empty() && !even_nothing {
            return;
        }
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(response.encoded_len() as u32);
        frame.put(response.encode_to_vec().as_slice());
        self.in_flight.insert(response.nonce.clone(), response);
        // The proxy may be gone.
        let _ = self.sender.send(Ok(Frame::data(frame.freeze()))).await;
    }

    fn response(&mut self, resource_type: ResourceType) -> DeltaDiscoveryResponse {
        let state = lock(&self.state);
        let is_wanted = |name: &Name| {
            name.0 == resource_type && (self.wildcards.contains(&name.0) || self.subscribed.contains(name))
        };
        let mut resources = Vec::new();
        for (name, value) in state.resources.iter().filter(|(name, _)| is_wanted(name)) {
            if self.sent.insert(name.clone(), value.clone()).as_ref() == Some(value) {
                continue;
            }
            if resource_type == ResourceType::Cluster {
                // A changed cluster waits for its endpoints.
                self.sent.remove(&(ResourceType::Endpoint, name.1.clone()));
            }
            let any = Any { type_url: resource_type.type_url().into(), value: value.clone() };
            resources.push(Resource {
                name: name.1.clone(),
                version: "1".into(),
                resource: Some(any),
                ..Default::default()
            });
        }
        let gone = |name: &&Name| {
            name.0 == resource_type && tells_absence(resource_type) && !state.resources.contains_key(*name)
        };
        let removed: Vec<Name> = self.sent.keys().filter(gone).cloned().collect();
        for name in &removed {
            self.sent.remove(name);
        }
        self.responses += 1;
        DeltaDiscoveryResponse {
            type_url: resource_type.type_url().into(),
            resources,
            removed_resources: removed.into_iter().map(|(_, name)| name).collect(),
            nonce: self.responses.to_string(),
            ..Default::default()
        }
    }
}

/// The next message, if it is complete.
fn next(buffer: &mut BytesMut) -> Option<DeltaDiscoveryRequest> {
    const HEADER: usize = 5;
    let length = buffer.get(1..HEADER)?.get_u32() as usize;
    if buffer.len() < HEADER + length {
        return None;
    }
    buffer.advance(HEADER);
    Some(DeltaDiscoveryRequest::decode(buffer.split_to(length)).expect("a request"))
}
