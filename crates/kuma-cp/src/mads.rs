//! The monitoring assignment port (5676): lists the metrics addresses of the proxies of all meshes for Prometheus.
//!
//! It has two protocols: v1alpha1 over gRPC, for `kuma-prometheus-sd`, and v1 over HTTP, which Prometheus itself
//! supports. Both are read-only and need no authentication; they serve targets and tags only.
//!
//! ```text
//!  store --commits--> Assignments (documents -> list) --watch--> each stream and each long poll
//! ```
//!
//! There is no polling of the store: a commit that changes the list wakes the streams and long polls that wait for it.

mod documents;
mod follower;
mod grpc;
mod http;
mod list;
mod session;

use std::sync::Arc;

use ::http::Request;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use kuma_mads::{v1, v1alpha1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::ApiError;
use crate::http::outgoing::Outgoing;
use crate::http::serve::Limits;
use crate::metrics::Metrics;

pub use documents::Documents;
pub use follower::Assignments;
pub use list::{Hold, List};

/// The paths of the port.
pub const PATHS: &[&str] = &[v1alpha1::STREAM_PATH, v1alpha1::FETCH_PATH, v1::PATH];

/// Limit on HTTP/2 streams of a connection. Clients need one.
const STREAMS: u32 = 8;

/// The server's state.
pub struct Mads {
    list: watch::Receiver<Arc<List>>,
    /// A random id of this process, to recognise nonces of an earlier one.
    life: String,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Mads {
    /// A server of the latest list. Streams and long polls end when `stop` is cancelled.
    pub fn new(list: watch::Receiver<Arc<List>>, metrics: Arc<Metrics>, stop: CancellationToken) -> Arc<Mads> {
        Arc::new(Mads { list, life: uuid::Uuid::new_v4().to_string(), outgoing: Outgoing::default(), metrics, stop })
    }
}

/// Limits of the port: those of the HTTP servers, with HTTP/2 for gRPC.
pub fn limits() -> Limits {
    Limits { streams: STREAMS, ..Limits::default() }
}

/// The port as a service.
pub fn router(mads: Arc<Mads>) -> Router {
    Router::new().fallback(handle).with_state(mads)
}

async fn handle(State(mads): State<Arc<Mads>>, request: Request<Body>) -> Response {
    match request.uri().path() {
        v1::PATH => mads.poll(request).await.unwrap_or_else(ApiError::into_response),
        v1alpha1::STREAM_PATH => mads.stream(request),
        v1alpha1::FETCH_PATH => mads.fetch(request),
        _ => grpc::no_such_method(&request),
    }
}
