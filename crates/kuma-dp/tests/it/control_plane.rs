//! A mock of the control plane: its answers are set by the test, and it records the requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kuma_test::eventually;
use prost::Message;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A copy of the control plane's message, so that a change of the wire format makes a test fail.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Report {
    #[prost(string, tag = "1")]
    pub(crate) mesh: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    #[prost(string, tag = "4")]
    pub(crate) detail: String,
    #[prost(string, tag = "5")]
    pub(crate) instance: String,
}

pub(crate) const RUNNING: i32 = 1;
pub(crate) const DRAINING: i32 = 2;
pub(crate) const ENVOY_EXITED: i32 = 3;

/// The answers that it gives, and the requests that it has got.
pub(crate) struct Script {
    pub(crate) catalog_status: StatusCode,
    pub(crate) issues_tokens: bool,
    pub(crate) bootstrap_status: StatusCode,
    /// Listeners and clusters to add to the static resources of the bootstrap.
    pub(crate) listeners: Value,
    pub(crate) clusters: Vec<Value>,
    pub(crate) catalog_requests: usize,
    pub(crate) bootstrap_requests: Vec<Value>,
    pub(crate) reports: Vec<Report>,
    /// The headers of each call of `Report`.
    pub(crate) calls: Vec<HeaderMap>,
}

pub(crate) struct ControlPlane {
    api: SocketAddr,
    xds: SocketAddr,
    script: Arc<Mutex<Script>>,
    /// The CA in the bootstrap, PEM.
    pinned: Arc<Mutex<Option<String>>>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    _api_task: JoinSet<()>,
    xds_task: JoinSet<()>,
}

impl ControlPlane {
    pub(crate) async fn start() -> ControlPlane {
        let api_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let xds_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut control_plane = ControlPlane {
            api: api_listener.local_addr().unwrap(),
            xds: xds_listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(Script {
                catalog_status: StatusCode::OK,
                issues_tokens: false,
                bootstrap_status: StatusCode::OK,
                listeners: json!([]),
                clusters: Vec::new(),
                catalog_requests: 0,
                bootstrap_requests: Vec::new(),
                reports: Vec::new(),
                calls: Vec::new(),
            })),
            pinned: Arc::default(),
            tls: Arc::default(),
            _api_task: JoinSet::new(),
            xds_task: JoinSet::new(),
        };
        let (script, pinned) = (control_plane.script.clone(), control_plane.pinned.clone());
        let (api, xds) = (control_plane.api, control_plane.xds);
        control_plane._api_task.spawn(async move {
            serve(api_listener, None, move |request| {
                answer(request, script.clone(), pinned.lock().unwrap().clone(), api, xds)
            })
            .await;
        });
        control_plane.serve_xds(xds_listener);
        control_plane
    }

    fn serve_xds(&mut self, listener: TcpListener) {
        let (script, tls) = (self.script.clone(), self.tls.clone());
        self.xds_task.spawn(async move {
            serve(listener, Some(tls), move |request| take_reports(request, script.clone())).await
        });
    }

    /// Closes all streams of reports and accepts no new ones.
    pub(crate) async fn stop_xds(&mut self) {
        self.xds_task.shutdown().await;
    }

    /// Closes all streams of reports and accepts new ones at the same address.
    pub(crate) async fn restart_xds(&mut self) {
        self.stop_xds().await;
        let xds = self.xds;
        let listener = eventually("the port is free again", || async move { TcpListener::bind(xds).await.ok() }).await;
        self.serve_xds(listener);
    }

    /// Serves xDS over TLS, with a certificate of a new CA. With `pin` that CA is in the bootstrap; otherwise another
    /// one is.
    pub(crate) fn with_tls(&self, pin: bool) {
        let (ca, issuer) = authority();
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["kuma-control-plane".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        *self.tls.lock().unwrap() = Some(TlsAcceptor::from(Arc::new(config)));
        *self.pinned.lock().unwrap() = Some(if pin { ca } else { authority().0 });
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    pub(crate) fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Gives access to the answers and the recorded requests.
    pub(crate) fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.script.lock().unwrap())
    }

    /// Waits until the reported states are exactly `states`.
    pub(crate) async fn reported(&self, states: &[i32]) {
        eventually(&format!("reports {states:?}"), || async {
            let reported: Vec<i32> = self.script(|script| script.reports.iter().map(|report| report.state).collect());
            assert!(reported.len() <= states.len(), "{reported:?} were reported");
            (reported == states).then_some(())
        })
        .await;
    }
}

fn authority() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), rcgen::Issuer::new(params, key))
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves a port. All connections end when the task does.
async fn serve<F, A>(listener: TcpListener, tls: Option<Arc<Mutex<Option<TlsAcceptor>>>>, handle: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let tls = tls.as_ref().and_then(|tls| tls.lock().unwrap().clone());
        let handle = handle.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            match tls {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
    pinned: Option<String>,
    api: SocketAddr,
    xds: SocketAddr,
) -> Answer {
    let route = format!("{} {}", request.method(), request.uri().path());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut script = script.lock().unwrap();
    match route.as_str() {
        "GET /catalog" => {
            script.catalog_requests += 1;
            let token_url = if script.issues_tokens { "http://localhost:5679" } else { "" };
            let catalog = json!({"apis": {
                "bootstrap": {"url": format!("http://{api}")},
                "dataplaneToken": {"localUrl": token_url, "publicUrl": ""},
            }});
            text(script.catalog_status, catalog.to_string())
        }
        "POST /bootstrap" => {
            let request: Value = serde_json::from_slice(&body).unwrap();
            let bootstrap = bootstrap(&request, pinned, xds, &script);
            script.bootstrap_requests.push(request);
            text(script.bootstrap_status, bootstrap.to_string())
        }
        _ => text(StatusCode::NOT_FOUND, route),
    }
}

fn bootstrap(request: &Value, pinned: Option<String>, xds: SocketAddr, script: &Script) -> Value {
    let mut ads_cluster = json!({
        "name": "ads_cluster",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "ads_cluster", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": xds.ip().to_string(), "port_value": xds.port()}}}}]}]},
    });
    if let Some(ca) = pinned {
        ads_cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {"validation_context": {"trusted_ca": {"inline_string": ca}}},
        }});
    }
    let clusters: Vec<Value> = [ads_cluster].into_iter().chain(script.clusters.iter().cloned()).collect();
    let mut bootstrap = json!({
        "node": {"id": "default.web-1", "cluster": "web"},
        "static_resources": {"clusters": clusters, "listeners": script.listeners},
    });
    if let Some(port) = request.get("adminPort") {
        bootstrap["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}});
    }
    bootstrap
}

/// `DataplaneLifecycle/Report`: reads until kuma-dp ends the stream, then answers with status 0.
async fn take_reports(request: Request<Incoming>, script: Arc<Mutex<Script>>) -> Answer {
    if request.uri().path() != "/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report" {
        return text(StatusCode::NOT_FOUND, String::new());
    }
    let (parts, mut body) = request.into_parts();
    script.lock().unwrap().calls.push(parts.headers);
    let ending = async move {
        let mut buffer = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            buffer.extend_from_slice(frame.data_ref().unwrap());
            while buffer.len() >= 5 {
                let length = u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize;
                assert_eq!(buffer[0], 0, "not compressed");
                if buffer.len() < 5 + length {
                    break;
                }
                buffer.advance(5);
                let report = Report::decode(buffer.split_to(length)).unwrap();
                script.lock().unwrap().reports.push(report);
            }
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        Ok(Frame::trailers(trailers))
    };
    let mut response = Response::new(StreamBody::new(futures_util::stream::once(ending)).boxed_unsync());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}
