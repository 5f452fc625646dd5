//! PUT and DELETE of documents: what the path says, and how refusals are told.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use kuma_model::{Kind, Scope, Violation};
use kuma_store::{Cause, Outcome};
use serde_json::{Map, Value};

use super::conditions::Conditions;
use super::{Api, changes, revision, routes, warnings};
use crate::documents::{Attempt, Change, Done, Problem, Reason, Refusal};
use crate::http::error::cause;
use crate::http::{ApiError, json};

/// Title of errors in what was sent, as opposed to what it says.
pub(super) const UNUSABLE: &str = "Could not process a resource";
const UPDATE: &str = "Could not update a resource";
const DELETE: &str = "Could not delete a resource";

impl Api {
    /// Creates (201) or replaces (200) a document.
    pub(super) async fn put(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        body: &[u8],
        conditions: Conditions,
        cause: Cause,
    ) -> Result<Response, ApiError> {
        let fields = json::object(body).map_err(|error| ApiError::unreadable(UNUSABLE, &error))?;
        check_envelope(kind, mesh, name, &fields)?;
        let change = conditions.apply_to(Change::put(Value::Object(fields)));
        let done = self.documents.change(vec![change], None, cause).await;
        let done = done.map_err(|refusal| refused(refusal, UPDATE))?;
        let status = match done.outcomes.first() {
            Some((_, Outcome::Created)) => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        Ok(answer(status, &done))
    }

    /// Deletes a document; a Mesh with everything in it, a Dataplane with its insight.
    pub(super) async fn delete(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        conditions: Conditions,
        cause: Cause,
    ) -> Result<Response, ApiError> {
        let key = routes::key(kind, mesh, name);
        let key = key.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, DELETE, "Not found"))?;
        let change = conditions.apply_to(Change::delete(key));
        let done = self.documents.change(vec![change], None, cause).await;
        let done = done.map_err(|refusal| refused(refusal, DELETE))?;
        Ok(answer(StatusCode::OK, &done))
    }
}

fn answer(status: StatusCode, done: &Done) -> Response {
    let mut response = status.into_response();
    revision::add(&mut response, done.revision, &done.epoch);
    warnings::add(&mut response, &done.warnings);
    response
}

/// Compares type, mesh and name of the body with the path. All that is wrong is reported together, in the documented
/// order.
fn check_envelope(kind: &'static Kind, mesh: &str, name: &str, fields: &Map<String, Value>) -> Result<(), ApiError> {
    let mut causes: Vec<Violation> = Vec::new();
    let mut same = |field: &str, expected: &str| {
        if fields.get(field).and_then(Value::as_str) != Some(expected) {
            causes.push(cause(field, format!("{field} from the URL has to be the same as in body")));
        }
    };
    same("name", name);
    same("type", kind.name);
    if kind.scope == Scope::Mesh {
        same("mesh", mesh);
    }
    for (field, text) in [("name", name), ("mesh", mesh)] {
        if let Some(message) = kuma_model::check_name(text) {
            causes.push(cause(field, message));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(UNUSABLE, causes)) }
}

/// The refusal of a request, of whose changes the first problem is told. `title` is that of a request that others have
/// overtaken.
pub(super) fn refused(refusal: Refusal, title: &str) -> ApiError {
    match refusal {
        Refusal::Changes(problems) => match problems.into_iter().next() {
            Some(problem) => to_api_error(problem),
            None => ApiError::internal(title, &"it was refused for no reason"),
        },
        Refusal::Overtaken(key) => {
            let details = format!("{key} is being changed by others at the same time; try again");
            ApiError::new(StatusCode::CONFLICT, title, details)
        }
        Refusal::HeadMoved { .. } => ApiError::new(StatusCode::CONFLICT, title, refusal.to_string()),
        Refusal::Store { attempt, error } => ApiError::store(title_of(attempt), &error),
    }
}

fn to_api_error(Problem { attempt, reason, .. }: Problem) -> ApiError {
    let title = title_of(attempt);
    match reason {
        Reason::Invalid(violations) => ApiError::invalid(title, violations.into_vec()),
        Reason::Twice { .. } | Reason::MeshDeleted(_) => {
            ApiError::new(StatusCode::BAD_REQUEST, title, reason.to_string())
        }
        Reason::MeshMissing(_) => {
            let error = ApiError::new(StatusCode::BAD_REQUEST, title, "Mesh is not found");
            ApiError { causes: vec![cause("mesh", reason.to_string())], ..error }
        }
        Reason::NotFound => ApiError::new(StatusCode::NOT_FOUND, title, "Not found"),
        Reason::Precondition => ApiError::new(StatusCode::PRECONDITION_FAILED, title, "Precondition Failed"),
        Reason::CaLost(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, title, reason.to_string()),
        Reason::Internal(reason) => ApiError::internal(title, &reason),
    }
}

fn title_of(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Find => "Could not find a resource",
        Attempt::Create => "Could not create a resource",
        Attempt::Update => UPDATE,
        Attempt::Delete => DELETE,
        Attempt::Several => changes::TITLE,
    }
}
