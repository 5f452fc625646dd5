//! The administrative port (5679): issues dataplane tokens and manages the CAs of meshes, for this machine, and for the
//! holders of client certificates.
//!
//! Whoever comes without a certificate and is not on this machine, or acts for somebody who is not, is turned away
//! before anything else is looked at. With one, the whole HTTP API is here too: this is where other machines write.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use go_duration::GoDuration;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use kuma_ca::{IssuedToken, SigningKey};
use kuma_model::Violation;
use serde_json::Value;

use crate::api::Api;
use crate::http::error::cause;
use crate::http::locality::{may_administer, may_use_certificate};
use crate::http::{ApiError, ClientCertificate, Connection, body, json};
use crate::mesh_ca::routes::{self, CaAdmin};

/// Largest request, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Tokens end on a whole second.
const SHORTEST: Duration = Duration::from_secs(1);
const TITLE: &str = "Could not issue a token";

/// Issues tokens.
pub trait TokenIssuer: Send + Sync + 'static {
    /// A token for the Dataplane `name` of `mesh`, which expires after `valid_for`, or never. The error is for the log.
    fn issue(&self, mesh: &str, name: &str, valid_for: Option<Duration>) -> Result<IssuedToken, String>;
}

impl TokenIssuer for SigningKey {
    fn issue(&self, mesh: &str, name: &str, valid_for: Option<Duration>) -> Result<IssuedToken, String> {
        self.issue_token(mesh, name, valid_for, SystemTime::now()).map_err(|error| error.to_string())
    }
}

/// What the port answers from.
pub struct Admin {
    /// `None` when `adminServer.apis.dataplaneToken.enabled` is false: then there is no such path.
    pub tokens: Option<Arc<dyn TokenIssuer>>,
    /// The CAs of meshes.
    pub ca: Option<CaAdmin>,
    /// The HTTP API, for the holders of client certificates.
    pub api: Option<Arc<Api>>,
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
        let client = request.extensions().get::<ClientCertificate>().cloned();
        let (uri, headers) = (request.uri(), request.headers());
        let admitted = match &client {
            Some(_) => may_use_certificate(uri, headers),
            None => may_administer(request.extensions().get::<Connection>().copied(), uri, headers),
        };
        admitted.map_err(|refusal| {
            tracing::warn!(%refusal, "refused a request to the administrative port");
            let details = format!(
                "{refusal}. This port answers programs on the machine it runs on, and others over TLS with a client \
                 certificate (adminServer.public, KUMA_ADMIN_SERVER_PUBLIC_ENABLED=true)"
            );
            ApiError::new(StatusCode::FORBIDDEN, "Administration is not allowed from here", details)
        })?;
        let who = client.as_ref().map_or("this machine", |client| &client.file);
        if let (Some(ca), Some(target)) = (&self.ca, routes::find(request.uri().path())) {
            return ca.respond(target, request, who).await;
        }
        match (request.uri().path(), &self.tokens, &self.api) {
            (TOKENS | "/tokens/", Some(tokens), _) => issue_token(tokens.as_ref(), request, who).await,
            (_, _, Some(api)) if client.is_some() => Ok(api.respond_to_administrator(request, who).await),
            _ => Err(ApiError::no_such_path()),
        }
    }
}

/// Where tokens are issued.
pub const TOKENS: &str = "/tokens";

/// Every path that this port has beside those of the HTTP API, with placeholders.
pub fn paths() -> impl Iterator<Item = &'static str> {
    [TOKENS].into_iter().chain(routes::PATHS.iter().copied())
}

async fn issue_token(tokens: &dyn TokenIssuer, request: Request<Body>, who: &str) -> Result<Response, ApiError> {
    let (parts, sent) = request.into_parts();
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    // The content type is not looked at: the documented call leaves it to curl, which says that it sends a form.
    let sent = body::read(&parts.headers, sent, MAX_BODY).await.map_err(|error| error.into_api_error(TITLE))?;
    let Wanted { mesh, name, valid_for } = wanted(&sent)?;
    let issued = tokens.issue(&mesh, &name, valid_for).map_err(|reason| ApiError::internal(TITLE, &reason))?;
    let IssuedToken { token, id } = issued;
    tracing::info!(mesh, dataplane = name, id, ?valid_for, client = who, "issued a dataplane token");
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], token.expose().to_string()).into_response())
}

/// The token that a request asks for.
struct Wanted {
    mesh: String,
    name: String,
    valid_for: Option<Duration>,
}

fn wanted(body: &[u8]) -> Result<Wanted, ApiError> {
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
    let valid_for = match fields.get("validFor") {
        None | Some(Value::Null) => None,
        Some(given) => match given.as_str().map(str::parse::<GoDuration>) {
            Some(Ok(valid_for)) if valid_for.get() >= SHORTEST => Some(valid_for.get()),
            _ => {
                causes.push(cause("validFor", "must be a length of time of at least 1s, such as 24h or 90m"));
                None
            }
        },
    };
    if causes.is_empty() {
        Ok(Wanted { mesh, name, valid_for })
    } else {
        Err(ApiError::invalid("Invalid request", causes))
    }
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
