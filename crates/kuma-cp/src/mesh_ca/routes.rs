//! The CAs of meshes on the administrative port. Nothing that is answered holds a key.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use kuma_ca::{ChangeError, Other, Root, RootState, Secret, provided_root};
use kuma_model::{Ca, Violation, Violations};
use kuma_store::{Cause, StoreError};
use serde_json::{Map, Value, json};

use super::{Certificate, ChangeRefused, MeshCas};
use crate::http::error::{cause, chain};
use crate::http::{ApiError, body, cause as http_cause, json};
use kuma_engine::{Engine, RotationStatus};

/// Largest request, in bytes: a chain of certificates and a key of 16,384 bits are smaller.
const MAX_BODY: usize = 64 * 1024;

/// Most names of proxies in an answer.
const NAMED: usize = 20;

const LIST: &str = "Could not retrieve signing certs";
const ADD: &str = "Could not add signing cert";
const DELETE: &str = "Could not delete signing cert";
const ROTATE: &str = "Could not rotate the CA";
const STATUS: &str = "Could not retrieve the rotation of the CA";
const UNREADABLE: &str = "Could not process the key pair";

/// Every path, with placeholders.
pub const PATHS: &[&str] = &[
    "/meshes/{mesh}/ca/provided/certificates",
    "/meshes/{mesh}/ca/provided/certificates/{name}",
    "/meshes/{mesh}/ca/provided/rotation",
    "/meshes/{mesh}/ca/builtin/certificates",
    "/meshes/{mesh}/ca/builtin/certificates/{name}",
    "/meshes/{mesh}/ca/builtin/rotation",
];

/// What a path means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    mesh: String,
    ca: Ca,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Certificates,
    Certificate(String),
    Rotation,
}

/// What `path` means here; `None` if nothing. One slash at the end makes no difference.
pub fn find(path: &str) -> Option<Target> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    let ["", "meshes", mesh, "ca", ca, rest @ ..] = segments.as_slice() else { return None };
    let ca = [Ca::Builtin, Ca::Provided].into_iter().find(|one| one.name() == *ca)?;
    let what = match rest {
        ["certificates"] => What::Certificates,
        ["certificates", id] if !id.is_empty() => What::Certificate((*id).to_owned()),
        ["rotation"] => What::Rotation,
        _ => return None,
    };
    Some(Target { mesh: (*mesh).to_owned(), ca, what })
}

/// The CAs of all meshes, to be administered.
pub struct CaAdmin {
    /// What is changed.
    pub cas: Arc<MeshCas>,
    /// What knows who holds a rotation up.
    pub engine: Arc<Engine>,
}

impl CaAdmin {
    /// Answers a request of `who`, who may administer.
    pub async fn respond(&self, target: Target, request: Request<Body>, who: &str) -> Result<Response, ApiError> {
        let (parts, sent) = request.into_parts();
        let Target { mesh, ca, what } = target;
        if let Some(message) = kuma_model::check_name(&mesh) {
            return Err(ApiError::invalid("Invalid request", vec![cause("mesh", message)]));
        }
        let rotated = |certificate| -> Result<Response, ApiError> { Ok(json::respond(&entry(&certificate))) };
        match (what, &parts.method, ca) {
            (What::Certificates, &(Method::GET | Method::HEAD), _) => self.list(ca, &mesh).await,
            (What::Certificates, &Method::POST, Ca::Provided) => {
                let by = http_cause::of(&parts, ADD)?;
                let fields = fields(&parts, sent).await?;
                let root = pair(&fields).map_err(|causes| ApiError::invalid(ADD, causes))?;
                let added = self.cas.add(&mesh, root, by).await.map_err(|refused| refuse(ADD, refused))?;
                tracing::info!(mesh, id = added.id, client = who, "added a certificate to the provided CA");
                Ok(json::respond(&json!({ "id": added.id, "cert": added.cert })))
            }
            (What::Certificates, _, Ca::Provided) => Err(ApiError::method_not_allowed("GET, HEAD, POST")),
            (What::Certificates, _, Ca::Builtin) => Err(ApiError::method_not_allowed("GET, HEAD")),
            (What::Certificate(id), &Method::DELETE, _) => {
                let force = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "force=true"));
                let by = http_cause::of(&parts, DELETE)?;
                let deleted = self.cas.delete(ca, &mesh, &id, force, by).await;
                deleted.map_err(|refused| refuse(DELETE, refused))?;
                tracing::info!(mesh, id, ca = ca.name(), force, client = who, "deleted a certificate of a CA");
                Ok(StatusCode::OK.into_response())
            }
            (What::Certificate(_), _, _) => Err(ApiError::method_not_allowed("DELETE")),
            (What::Rotation, &(Method::GET | Method::HEAD), _) => self.status(ca, &mesh).await,
            (What::Rotation, &Method::POST, _) => {
                let by = http_cause::of(&parts, ROTATE)?;
                let fields = fields(&parts, sent).await?;
                rotated(self.rotate(ca, &mesh, &fields, who, by).await?)
            }
            (What::Rotation, _, _) => Err(ApiError::method_not_allowed("GET, HEAD, POST")),
        }
    }

    async fn list(&self, ca: Ca, mesh: &str) -> Result<Response, ApiError> {
        let certificates = self.cas.certificates(ca, mesh).await.map_err(|refused| refuse(LIST, refused))?;
        let certificates = certificates.ok_or_else(|| refuse(LIST, ChangeRefused::NotFound))?;
        Ok(json::respond(&certificates.iter().map(entry).collect::<Vec<_>>()))
    }

    async fn rotate(
        &self,
        ca: Ca,
        mesh: &str,
        fields: &Map<String, Value>,
        who: &str,
        by: Cause,
    ) -> Result<Certificate, ApiError> {
        let invalid = |causes| ApiError::invalid(ROTATE, causes);
        let next = match ca {
            Ca::Provided => pair(fields).map_err(invalid)?,
            Ca::Builtin => {
                Root::generate(mesh, SystemTime::now()).map_err(|error| ApiError::internal(ROTATE, &error))?
            }
        };
        let patience = patience(fields).map_err(|cause| invalid(vec![cause]))?;
        let rotated = self.cas.rotate(ca, mesh, next, patience, by).await;
        let certificate = rotated.map_err(|refused| refuse(ROTATE, refused))?;
        tracing::info!(mesh, id = certificate.id, ca = ca.name(), client = who, "began to rotate a CA");
        Ok(certificate)
    }

    async fn status(&self, ca: Ca, mesh: &str) -> Result<Response, ApiError> {
        let roots = self.cas.roots(ca, mesh).await.map_err(|refused| refuse(STATUS, refused))?;
        let mut status = json!({ "phase": "none", "signing": roots.signing().id() });
        if let Some(change) = roots.change() {
            let (phase, role, id) = match &change.other {
                Other::Next(next) => ("introducing", "next", next.id()),
                Other::Old(old) => ("replacing", "old", old.id()),
            };
            status["phase"] = phase.into();
            status[role] = id.into();
            status["since"] = timestamp(change.since);
        }
        let RotationStatus { connected, waiting, away, until, waits_for_mesh } = self.engine.rotation(mesh, ca).await;
        let some = |names: &[Arc<str>]| names.iter().take(NAMED).map(|name| Value::from(&**name)).collect::<Vec<_>>();
        status["proxies"] = json!({
            "connected": connected,
            "waiting": waiting.len(), "waitingFor": some(&waiting),
            "away": away.len(), "awayNames": some(&away),
        });
        if waits_for_mesh && roots.change().is_some() {
            status["waitsForMesh"] = true.into();
        }
        if let Some(until) = until {
            status["until"] = timestamp(until);
        }
        Ok(json::respond(&status))
    }
}

/// A time as JSON has it.
fn timestamp(time: SystemTime) -> Value {
    jiff::Timestamp::try_from(time).map_or(Value::Null, |time| time.to_string().into())
}

/// A certificate as it is shown.
fn entry(certificate: &Certificate) -> Value {
    let state = match certificate.state {
        RootState::Signing => "signing",
        RootState::Next => "next",
        RootState::Old => "old",
    };
    json!({ "id": certificate.id, "cert": certificate.cert, "state": state })
}

/// The object that was sent. The content type is not looked at; nothing at all stands for an empty one.
async fn fields(parts: &Parts, sent: Body) -> Result<Map<String, Value>, ApiError> {
    let sent = body::read(&parts.headers, sent, MAX_BODY).await.map_err(|error| error.into_api_error(UNREADABLE))?;
    if sent.is_empty() {
        return Ok(Map::new());
    }
    json::object(&sent).map_err(|error| ApiError::unreadable(UNREADABLE, &error))
}

/// The root that was sent, or all that is wrong with it.
fn pair(fields: &Map<String, Value>) -> Result<Root, Vec<Violation>> {
    let mut causes = Violations::default();
    let mut text = |field: &str| match fields.get(field) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        None | Some(Value::Null | Value::String(_)) => {
            causes.add(field, "must not be empty");
            String::new()
        }
        Some(_) => {
            causes.add(field, "must be a text");
            String::new()
        }
    };
    let (cert, key) = (text("cert"), Secret::new(text("key")));
    let checked = if causes.is_empty() { provided_root(&cert, &key, SystemTime::now()) } else { Err(causes) };
    checked.map_err(Violations::into_vec)
}

/// How long proxies that are away are to be waited for.
fn patience(fields: &Map<String, Value>) -> Result<Option<Duration>, Violation> {
    let text = match fields.get("wait") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(cause("wait", "must be a text")),
    };
    let parsed = text.parse::<kuma_model::Duration>().map_err(|error| cause("wait", error.to_string()))?;
    parsed.to_std().map(Some).ok_or_else(|| cause("wait", "must not be negative"))
}

fn refuse(title: &str, refused: ChangeRefused) -> ApiError {
    let (status, details) = match &refused {
        ChangeRefused::NotFound | ChangeRefused::Change(ChangeError::Unknown) => {
            (StatusCode::NOT_FOUND, "Not found".to_owned())
        }
        ChangeRefused::InUse => (StatusCode::BAD_REQUEST, refused.to_string()),
        ChangeRefused::Change(ChangeError::LooksAlike) => {
            return ApiError::invalid(title, vec![cause("cert", refused.to_string())]);
        }
        ChangeRefused::OnlyOne | ChangeRefused::StillTrusted | ChangeRefused::Change(_) => {
            (StatusCode::CONFLICT, refused.to_string())
        }
        ChangeRefused::Ca(error) => return ApiError::internal(title, &chain(error)),
        ChangeRefused::Store(StoreError::Conflict { .. } | StoreError::NotFound(_) | StoreError::AlreadyExists(_)) => {
            let details = "The CA or its mesh is being changed by others at the same time; try again";
            (StatusCode::CONFLICT, details.to_owned())
        }
        ChangeRefused::Store(error) => return ApiError::store(title, error),
    };
    ApiError::new(status, title, details)
}
