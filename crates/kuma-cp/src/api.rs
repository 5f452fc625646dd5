//! The HTTP API (port 5681): documents in and out, the catalog, the effective configuration.
//!
//! [`routes`] says what a path means and which methods it has; it is the only list of paths. Reads are open. Writes are
//! taken from this machine (see [`crate::http::locality`]).

pub mod catalog;
mod changes;
mod conditions;
mod diff;
mod history;
mod moment;
mod openapi;
pub mod overview;
mod page;
mod query;
mod read;
mod receipts;
mod revision;
mod rollback;
pub mod routes;
mod store;
mod warnings;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use kuma_engine::Engine;
use kuma_store::Store;
use serde_json::json;

use crate::access::{self, Port, Proof};
use crate::config::Config;
use crate::documents::Documents;
use crate::http::cors::{self, Grant, Origins};
use crate::http::locality::{Refusal, WriteContext, may_write};
use crate::http::outgoing::Outgoing;
use crate::http::{ApiError, ClientCertificate, Connection, body, cause, json};
pub use changes::MAX_DOCUMENTS;
use conditions::Conditions;
use kuma_wire::catalog::Catalog;
use overview::LiveInsights;
pub use revision::{EPOCH, REVISION};
use routes::Target;

/// Largest body of a write, in bytes.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// What the API answers from.
pub struct Api {
    store: Arc<dyn Store>,
    live: Arc<dyn LiveInsights>,
    documents: Arc<Documents>,
    /// What knows how far a change has come.
    engine: Arc<Engine>,
    catalog: Catalog,
    /// The effective configuration, printed once.
    config: Bytes,
    origins: Origins,
    advertised_hostname: String,
    read_only: bool,
    allow_remote_writes: bool,
    outgoing: Outgoing,
}

impl Api {
    /// An API that reads from `store`, writes by `documents`, and asks `engine` how far changes have come. `config` is
    /// complete (see [`Config::complete`]).
    ///
    /// # Errors
    /// If an entry of `apiServer.corsAllowedDomains` cannot be used.
    pub fn new(
        store: Arc<dyn Store>,
        live: Arc<dyn LiveInsights>,
        documents: Arc<Documents>,
        engine: Arc<Engine>,
        config: &Config,
    ) -> Result<Self, String> {
        Ok(Self {
            store,
            live,
            documents,
            engine,
            catalog: catalog::catalog(config),
            config: config.to_json().to_string().into(),
            origins: Origins::new(&config.api_server.cors_allowed_domains)?,
            advertised_hostname: config.general.advertised_hostname.clone(),
            read_only: config.api_server.read_only,
            allow_remote_writes: config.api_server.allow_remote_writes,
            outgoing: Outgoing::default(),
        })
    }
}

/// The API as a service.
pub fn router(api: Arc<Api>) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let (method, origin) = (parts.method.clone(), parts.headers.get(ORIGIN).cloned());
    let grant = api.origins.grant_of(&parts.headers);
    if method == Method::OPTIONS
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && let Some(target) = routes::find(parts.uri.path())
    {
        return cors::preflight(grant, origin.as_ref(), api.methods(&target));
    }
    let mut response = api.answer(parts, body, grant).await.unwrap_or_else(ApiError::into_response);
    api.tell_away(response.headers_mut());
    cors::expose(&mut response, grant, &method, origin.as_ref());
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if method == Method::HEAD { without_body(response) } else { response }
}

impl Api {
    /// Answers the holder of a client certificate, who may write from anywhere. No page of a browser is meant here.
    pub async fn respond_to_administrator(&self, request: Request<Body>, who: &str) -> Response {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        if !matches!(method, Method::GET | Method::HEAD) {
            tracing::info!(client = who, %method, path = parts.uri.path(), "a write over the admin port");
        }
        let mut response = self.answer(parts, body, Grant::Nothing).await.unwrap_or_else(ApiError::into_response);
        self.tell_away(response.headers_mut());
        if method == Method::HEAD { without_body(response) } else { response }
    }

    async fn answer(&self, parts: Parts, body: Body, grant: Grant) -> Result<Response, ApiError> {
        let target = routes::find(parts.uri.path()).ok_or_else(ApiError::no_such_path)?;
        let allowed = self.methods(&target);
        if !allowed.split(", ").any(|method| parts.method.as_str() == method) {
            return Err(ApiError::method_not_allowed(allowed));
        }
        match access::proof(Port::Api, &parts.method, target.template()) {
            Some(Proof::Nothing) => {}
            Some(Proof::ThisMachine) => self.require_writer(&parts, grant)?,
            // Nothing on this port needs anything else.
            _ => return Err(ApiError::no_such_path()),
        }
        match (parts.method.clone(), target) {
            (Method::PUT, Target::Item { kind, mesh, name }) => {
                let cause = cause::of(&parts, write::UNUSABLE)?;
                let body = read_json(&parts.headers, body, write::UNUSABLE).await?;
                self.put(kind, &mesh, &name, &body, Conditions::of(&parts.headers), cause).await
            }
            (Method::DELETE, Target::Item { kind, mesh, name }) => {
                let cause = cause::of(&parts, write::UNUSABLE)?;
                self.delete(kind, &mesh, &name, Conditions::of(&parts.headers), cause).await
            }
            (Method::POST, Target::Changes) => {
                let cause = cause::of(&parts, changes::TITLE)?;
                let body = read_json(&parts.headers, body, changes::TITLE).await?;
                self.change(&body, parts.uri.query().unwrap_or(""), cause).await
            }
            (Method::POST, Target::AcceptStore) => {
                let body = read_json(&parts.headers, body, store::TITLE).await?;
                self.accept_store(&body).await
            }
            (Method::POST, Target::Rollback) => {
                let cause = cause::of(&parts, rollback::TITLE)?;
                let body = read_json(&parts.headers, body, rollback::TITLE).await?;
                self.roll_back(&body, cause).await
            }
            (_, target) => self.read(target, &parts).await,
        }
    }

    async fn read(&self, target: Target, parts: &Parts) -> Result<Response, ApiError> {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or(""));
        match target {
            Target::Index => Ok(json::respond(&json!({"tagline": "Kuma", "version": kuma_version::VERSION}))),
            Target::Catalog => Ok(json::respond(&self.catalog)),
            Target::Config => Ok(([(CONTENT_TYPE, "application/json")], self.config.clone()).into_response()),
            Target::OpenApi => Ok(json::respond(&openapi::document())),
            Target::List { kind, mesh } => self.list(kind, mesh.as_deref(), path, query).await,
            Target::Store => Ok(self.store().await),
            // It has no method that reads.
            Target::AcceptStore => Err(ApiError::no_such_path()),
            Target::Item { kind, mesh, name } => self.item(kind, &mesh, &name, parts).await,
            Target::History => self.history(path, query).await,
            Target::Diff => self.diff(path, query).await,
            // It has no method that reads.
            Target::Rollback => Err(ApiError::no_such_path()),
            Target::Changes => self.list_changes(query).await,
            Target::Receipt { revision } => self.receipt(&revision, parts).await,
            Target::Overviews { mesh } => self.overviews(&mesh, path, query).await,
            Target::Overview { mesh, name } => self.overview(&mesh, &name, query).await,
        }
    }

    fn methods(&self, target: &Target) -> &'static str {
        match target {
            Target::Changes if !self.read_only => "GET, HEAD, POST",
            Target::AcceptStore if !self.read_only => "POST",
            Target::AcceptStore => "",
            Target::Rollback if !self.read_only => "POST",
            Target::Rollback => "",
            Target::Item { .. } if !self.read_only => "GET, HEAD, PUT, DELETE",
            _ => "GET, HEAD",
        }
    }

    fn require_writer(&self, parts: &Parts, grant: Grant) -> Result<(), ApiError> {
        if parts.extensions.get::<ClientCertificate>().is_some() {
            return Ok(());
        }
        let context = WriteContext {
            connection: parts.extensions.get::<Connection>().copied(),
            uri: &parts.uri,
            headers: &parts.headers,
            advertised_hostname: &self.advertised_hostname,
            origin_listed: grant == Grant::Full,
            allow_remote: self.allow_remote_writes,
        };
        may_write(&context).map_err(|refusal| forbidden(&refusal))
    }
}

/// The refusal of a write, with the ways out that this reason leaves.
fn forbidden(refusal: &Refusal) -> ApiError {
    let remedy = match refusal {
        Refusal::ForeignOrigin(_) | Refusal::CrossSite => {
            "To let pages of that origin write, add it to apiServer.corsAllowedDomains \
             (KUMA_API_SERVER_CORS_ALLOWED_DOMAINS)"
        }
        _ => {
            "This port takes writes only from the machine it runs on. To write from elsewhere, use the admin port \
             over mutual TLS with a client certificate (adminServer.public, KUMA_ADMIN_SERVER_PUBLIC_ENABLED=true), or \
             open this port to everybody who can reach it (KUMA_API_SERVER_ALLOW_REMOTE_WRITES=true)"
        }
    };
    tracing::warn!(%refusal, "refused a write");
    ApiError::new(StatusCode::FORBIDDEN, "Writing is not allowed from here", format!("{refusal}. {remedy}"))
}

/// The body of a write.
async fn read_json(headers: &HeaderMap, body: Body, title: &str) -> Result<Bytes, ApiError> {
    require_json(headers)?;
    body::read(headers, body, MAX_BODY).await.map_err(|error| error.into_api_error(title))
}

/// Documents are JSON; a request that does not say so is believed to be JSON, one that says otherwise is not.
fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported =
        |details: String| Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type", details));
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return unsupported("The body must not be compressed".into());
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json") {
        return Ok(());
    }
    unsupported(format!(
        "The content type must be application/json, not {:?}",
        String::from_utf8_lossy(value.as_bytes())
    ))
}

/// The answer to HEAD: that to GET without its body.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}
