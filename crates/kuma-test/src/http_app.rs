//! An application that speaks HTTP/1.1 and HTTP/2.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, SERVER, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::http_client::HttpClient;

/// The headers that an application copies from the request that it serves to the requests that it makes, so that they
/// belong to one trace.
const TRACE_HEADERS: [&str; 5] = ["x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"];

/// A server on loopback that describes each request in its response, as JSON: its own name as `instance`, and
/// `version`, `method`, `path` and `headers` of the request.
///
/// - `/call/<port>/<path>` sends a request to another server on loopback, and adds its response as `answer`.
/// - `/slow/<milliseconds>` delays the response.
/// - `/held` is answered once [`HttpApp::release`] has been called.
/// - A request with `upgrade: websocket` upgrades the connection, which then echoes bytes.
/// - A request with `content-type: application/grpc` is answered with its own body, and trailers.
pub struct HttpApp {
    /// Its port.
    pub port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    name: String,
    status: AtomicU16,
    requests: AtomicUsize,
    /// Has no permits; is closed when requests for `/held` are answered.
    held: Semaphore,
}

impl HttpApp {
    /// Starts one of this name.
    pub async fn start(name: &str) -> HttpApp {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state = State {
            name: name.to_owned(),
            status: AtomicU16::new(200),
            requests: AtomicUsize::new(0),
            held: Semaphore::new(0),
        };
        let state = Arc::new(state);
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, state.clone()));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The client ends the connection.
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        HttpApp { port, state, task }
    }

    /// Answers with this status from now on.
    pub fn answers_with(&self, status: u16) {
        self.state.status.store(status, Ordering::Relaxed);
    }

    /// Answers the requests for `/held`, and from now on each at once.
    pub fn release(&self) {
        self.state.held.close();
    }

    /// Stops it: it refuses new connections and closes the open ones.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// How many requests it has received.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for HttpApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    if request.headers().get(UPGRADE).is_some_and(|protocol| protocol == "websocket") {
        return Ok(upgraded(request));
    }
    if request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc") {
        return Ok(with_trailers(request).await);
    }
    let path = request.uri().path().to_owned();
    let mut said = json!({
        "instance": state.name, "version": format!("{:?}", request.version()), "method": request.method().as_str(),
        "path": path, "headers": readable(request.headers()),
    });
    if let Some(milliseconds) = path.strip_prefix("/slow/").and_then(|text| text.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if path == "/held" {
        // It ends with an error when the semaphore is closed, and in no other way.
        let _ = state.held.acquire().await;
    }
    if let Some((port, path)) = path.strip_prefix("/call/").and_then(|rest| rest.split_once('/')) {
        said["answer"] = ask(port.parse().unwrap_or_default(), &format!("/{path}"), request.headers()).await;
    }
    let status = StatusCode::from_u16(state.status.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK);
    let mut response = Response::new(whole(said.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(SERVER, HeaderValue::from_static("the application"));
    Ok(response)
}

fn whole(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Sends a request to another application, as a part of serving a request.
async fn ask(port: u16, path: &str, headers: &HeaderMap) -> Value {
    let Some(mut client) = HttpClient::connect(port).await else { return Value::Null };
    let passed_on = TRACE_HEADERS.iter().filter_map(|&name| Some((name, headers.get(name)?.to_str().ok()?)));
    match client.send("GET", path, &passed_on.collect::<Vec<_>>()).await {
        Ok(answer) => answer.json(),
        Err(error) => json!({ "error": error }),
    }
}

fn upgraded(mut request: Request<Incoming>) -> Response<Body> {
    tokio::spawn(async move {
        if let Ok(connection) = hyper::upgrade::on(&mut request).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn with_trailers(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
