//! `POST /changes`: several documents in one commit.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use kuma_model::{Document, Key, Violations};
use kuma_store::{Cause, Outcome, Revision};
use serde_json::{Map, Value, json};

use super::{Api, revision, warnings};
use crate::documents::{Change, Done, Problem, Reason, Refusal};
use crate::http::error::cause;
use crate::http::{ApiError, json as body};

/// Title of all refusals.
pub(super) const TITLE: &str = "Could not change resources";

/// Most documents in one request.
pub const MAX_DOCUMENTS: usize = 1000;

/// The field that asks what would come of a request; the query may do that as well.
const DRY_RUN: &str = "dryRun";

/// A request that has been read.
struct Request {
    changes: Vec<Change>,
    /// How many of them are in `apply`; the others are in `delete`.
    applied: usize,
    expected: Option<Revision>,
    dry_run: bool,
}

impl Api {
    /// Makes all changes of a request, or says what would come of them.
    pub(super) async fn change(&self, sent: &[u8], query: &str, cause: Cause) -> Result<Response, ApiError> {
        let request = Request::read(sent, query)?;
        let Request { changes, applied, expected, dry_run } = request;
        let done = match dry_run {
            true => self.documents.dry_run(changes, expected).await,
            false => self.documents.change(changes, expected, cause).await,
        };
        match done {
            Ok(done) => Ok(answer(&done)),
            Err(Refusal::HeadMoved { expected, head }) => {
                let mut response = head_moved(expected, head).into_response();
                revision::add(&mut response, head, &self.store.epoch());
                Ok(response)
            }
            Err(refusal) => {
                let place = |change: usize, _: &str| match change.checked_sub(applied) {
                    None => format!("apply[{change}]"),
                    Some(index) => format!("delete[{index}]"),
                };
                Err(refused(refusal, TITLE, place))
            }
        }
    }
}

impl Request {
    fn read(sent: &[u8], query: &str) -> Result<Request, ApiError> {
        let mut fields = body::object(sent).map_err(|error| ApiError::unreadable(TITLE, &error))?;
        let mut violations = Violations::default();
        let applied = list(fields.shift_remove("apply"), "apply", &mut violations);
        let deleted = list(fields.shift_remove("delete"), "delete", &mut violations);
        let expected = match fields.shift_remove("expected") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let revision = value.as_u64();
                if revision.is_none() {
                    violations.add("expected", "must be a revision, which is a whole number");
                }
                revision
            }
        };
        let dry_run = match fields.shift_remove(DRY_RUN) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(dry_run)) => dry_run,
            Some(_) => {
                violations.add(DRY_RUN, "must be true or false");
                false
            }
        };
        for unknown in fields.keys() {
            violations.add(unknown, "unknown field; there are apply, delete, expected and dryRun");
        }
        // What is misspelt there would make changes that were only to be looked at.
        let dry_run = read_query(query, &mut violations) || dry_run;
        let count = applied.len() + deleted.len();
        if count > MAX_DOCUMENTS {
            let details = format!("There are {count} documents in the request, and {MAX_DOCUMENTS} are taken at once");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, TITLE, details));
        }
        let mut keys = Vec::new();
        for (index, entry) in deleted.iter().enumerate() {
            match read_key(entry) {
                Ok(key) => keys.push(key),
                Err(wrong) => violations.extend_under(&format!("delete[{index}]"), wrong),
            }
        }
        if !violations.is_empty() {
            // The documents are looked at as well: what is wrong is told at once.
            for (index, json) in applied.iter().enumerate() {
                if let Err(wrong) = Document::parse(json) {
                    violations.extend_under(&format!("apply[{index}]"), wrong);
                }
            }
            return Err(ApiError::invalid(TITLE, violations.into_vec()));
        }
        let count = applied.len();
        let changes = applied.into_iter().map(Change::put).chain(keys.into_iter().map(Change::delete)).collect();
        Ok(Request { changes, applied: count, expected, dry_run })
    }
}

fn list(value: Option<Value>, field: &str, violations: &mut Violations) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            violations.add(field, "must be a list");
            Vec::new()
        }
    }
}

/// Whether the query asks for a dry run.
fn read_query(query: &str, violations: &mut Violations) -> bool {
    let mut dry_run = false;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            (DRY_RUN, "true") => dry_run = true,
            (DRY_RUN, "false") => {}
            (DRY_RUN, _) => violations.add(DRY_RUN, "must be true or false"),
            _ => violations.add(name, "unknown parameter; there is dryRun"),
        }
    }
    dry_run
}

/// `{"type", "mesh", "name"}`.
fn read_key(entry: &Value) -> Result<Key, Violations> {
    let key = Document::parse_key(entry);
    let mut violations = key.as_ref().err().cloned().unwrap_or_default();
    for field in entry.as_object().into_iter().flat_map(Map::keys) {
        if !matches!(field.as_str(), "type" | "mesh" | "name") {
            violations.add(field, "unknown field; there are type, mesh and name");
        }
    }
    if violations.is_empty() { key } else { Err(violations) }
}

fn answer(done: &Done) -> Response {
    let outcomes: Vec<Value> = done.outcomes.iter().map(|(key, outcome)| to_json(key, *outcome)).collect();
    let mut response = body::respond(&json!({"revision": done.revision, "epoch": &*done.epoch, "outcomes": outcomes}));
    revision::add(&mut response, done.revision, &done.epoch);
    warnings::add(&mut response, &done.warnings);
    response
}

fn to_json(key: &Key, outcome: Outcome) -> Value {
    let spec = json!({"outcome": match outcome {
        Outcome::Created => "created",
        Outcome::Updated { .. } => "updated",
        Outcome::Unchanged { .. } => "unchanged",
        Outcome::Deleted => "deleted",
    }});
    Document { key: key.clone(), spec }.to_json()
}

fn head_moved(expected: Revision, head: Revision) -> ApiError {
    let details = format!(
        "Revision {expected} was expected to be the latest, but {head} is: others have made changes. Look at what is \
         there now, and try again"
    );
    let error = ApiError::new(StatusCode::CONFLICT, TITLE, details);
    ApiError { causes: vec![cause("expected", format!("the latest revision is {head}"))], ..error }
}

/// The error for a refusal. `place` says where a document is in the request, by the index of its change and its key.
pub(super) fn refused(refusal: Refusal, title: &str, place: impl Fn(usize, &str) -> String) -> ApiError {
    let problems = match refusal {
        Refusal::Changes(problems) => problems,
        other => return super::write::refused(other, title),
    };
    let status = if problems.iter().all(|problem| matches!(problem.reason, Reason::NotFound)) {
        StatusCode::NOT_FOUND
    } else if problems.iter().any(|problem| matches!(problem.reason, Reason::CaLost(_))) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::BAD_REQUEST
    };
    let mut violations = Violations::default();
    for Problem { change, key, reason, .. } in problems {
        let named = key.as_ref().map(Key::to_string).unwrap_or_default();
        let at = place(change, &named);
        match reason {
            Reason::Invalid(wrong) => violations.extend_under(&at, wrong),
            Reason::Twice { first } => {
                violations.add(at, format!("is the same document as {}: {named}", place(first, &named)));
            }
            Reason::MeshMissing(_) | Reason::MeshDeleted(_) => {
                violations.add(format!("{at}.mesh"), reason.to_string());
            }
            Reason::NotFound => violations.add(at, format!("{named} does not exist")),
            Reason::Precondition | Reason::CaLost(_) => violations.add(at, reason.to_string()),
            Reason::Internal(reason) => return ApiError::internal(title, &reason),
        }
    }
    let details = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::BAD_REQUEST => "Resource is not valid",
        _ => "The CA of a mesh is missing",
    };
    ApiError { causes: violations.into_vec(), ..ApiError::new(status, title, details) }
}
