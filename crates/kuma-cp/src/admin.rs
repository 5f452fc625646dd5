//! The administrative port (5679): issues dataplane tokens, to this machine alone.
//!
//! There is no authentication here, so whoever is not on this machine, or acts for somebody who is not, is turned away
//! before anything else is looked at.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use kuma_ca::{Secret, SigningKey};
use kuma_model::Violation;
use serde_json::Value;

use crate::http::error::cause;
use crate::http::locality::may_administer;
use crate::http::{ApiError, Connection, body, json};

/// Largest request, in bytes.
const MAX_BODY: usize = 64 * 1024;
const TITLE: &str = "Could not issue a token";

/// Issues tokens.
pub trait TokenIssuer: Send + Sync + 'static {
    /// A token for the Dataplane `name` of `mesh`. The error is for the log.
    fn issue(&self, mesh: &str, name: &str) -> Result<Secret, String>;
}

impl TokenIssuer for SigningKey {
    fn issue(&self, mesh: &str, name: &str) -> Result<Secret, String> {
        self.issue_token(mesh, name, SystemTime::now()).map_err(|error| error.to_string())
    }
}

/// What the port answers from.
pub struct Admin {
    /// `None` when `adminServer.apis.dataplaneToken.enabled` is false: then there is no such path.
    pub tokens: Option<Arc<dyn TokenIssuer>>,
}

/// The port as a service.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new().fallback(handle).with_state(admin)
}

async fn handle(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response {
    let mut response = admin.answer(request).await.unwrap_or_else(ApiError::into_response);
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

impl Admin {
    async fn answer(&self, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, sent) = request.into_parts();
        let connection = parts.extensions.get::<Connection>().copied();
        may_administer(connection, &parts.uri, &parts.headers).map_err(|refusal| {
            tracing::warn!(%refusal, "refused a request to the administrative port");
            let details = format!("{refusal}. This port answers only programs on the machine it runs on");
            ApiError::new(StatusCode::FORBIDDEN, "Administration is not allowed from here", details)
        })?;
        let tokens = match (parts.uri.path(), &self.tokens) {
            ("/tokens" | "/tokens/", Some(tokens)) => tokens,
            _ => return Err(ApiError::no_such_path()),
        };
        if parts.method != Method::POST {
            return Err(ApiError::method_not_allowed("POST"));
        }
        // The content type is not looked at: the documented call leaves it to curl, which says that it sends a form.
        let sent = body::read(&parts.headers, sent, MAX_BODY).await.map_err(|error| error.into_api_error(TITLE))?;
        let (mesh, name) = wanted(&sent)?;
        let token = tokens.issue(&mesh, &name).map_err(|reason| ApiError::internal(TITLE, &reason))?;
        tracing::info!(mesh, dataplane = name, "issued a dataplane token");
        Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], token.expose().to_string()).into_response())
    }
}

/// Mesh and name of a request.
fn wanted(body: &[u8]) -> Result<(String, String), ApiError> {
    let fields = json::object(body).map_err(|error| {
        let mut unreadable = ApiError::unreadable("Invalid request", &error);
        unreadable.details.push_str(hint(body));
        unreadable
    })?;
    let mut causes: Vec<Violation> = Vec::new();
    let mut text = |field: &str| {
        let text = match fields.get(field) {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(_) => {
                causes.push(cause(field, "must be a text"));
                return String::new();
            }
        };
        match kuma_model::check_name(text) {
            _ if text.is_empty() => causes.push(cause(field, "cannot be empty")),
            Some(message) => causes.push(cause(field, message)),
            None => {}
        }
        text.to_string()
    };
    let (name, mesh) = (text("name"), text("mesh"));
    if causes.is_empty() { Ok((mesh, name)) } else { Err(ApiError::invalid("Invalid request", causes)) }
}

/// What to write instead. The documented call has its first colon inside the quotes, and people copy it.
fn hint(body: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(body);
    if text.contains("\"name:\"") || text.contains("\"mesh:\"") {
        ". The colon belongs behind the quotes: {\"name\": \"dp-echo-1\", \"mesh\": \"default\"}"
    } else {
        ". Expected something like {\"name\": \"dp-echo-1\", \"mesh\": \"default\"}"
    }
}
