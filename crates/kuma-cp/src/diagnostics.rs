//! The diagnostics port (5680): for whatever starts and watches the control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode, Uri};

use crate::http::ApiError;
use crate::metrics::Metrics;

/// The paths of the port.
pub const PATHS: &[&str] = &["/healthy", "/ready", "/metrics"];

/// Whether the control plane can serve. Clones share it; it starts as "not yet".
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the control plane can serve now, or that it is about to stop.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it can serve.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The port as a service: `/healthy` is 200 while the process answers, `/ready` while `readiness` says so, and
/// `/metrics` is for Prometheus.
pub fn router(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new().fallback(handle).with_state((readiness, metrics))
}

async fn handle(State((readiness, metrics)): State<(Readiness, Arc<Metrics>)>, method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let status = match path.strip_suffix('/').unwrap_or(path) {
        "/healthy" => StatusCode::OK,
        "/ready" if readiness.get() => StatusCode::OK,
        "/ready" => StatusCode::SERVICE_UNAVAILABLE,
        "/metrics" => StatusCode::OK,
        _ => return ApiError::no_such_path().into_response(),
    };
    match method {
        Method::GET | Method::HEAD if path.starts_with("/metrics") => {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
        }
        Method::GET | Method::HEAD => status.into_response(),
        _ => ApiError::method_not_allowed("GET, HEAD").into_response(),
    }
}
