//! `POST /rollback`: restores documents of an earlier revision by a new commit.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use kuma_model::{SECRET_KIND, Violations};
use kuma_store::{Cause, Revision};
use serde_json::{Map, Value, json};

use super::moment::{self, Asked};
use super::{Api, changes, diff, revision, warnings};
use crate::documents::{MAX_DOCUMENTS, Plan, Rollback, RollbackRefusal};
use crate::http::error::cause;
use crate::http::{ApiError, json as body};

/// Title of all refusals.
pub(super) const TITLE: &str = "Could not roll back";

impl Api {
    /// Restores documents, or returns the plan.
    pub(super) async fn roll_back(&self, sent: &[u8], by: Cause) -> Result<Response, ApiError> {
        let request = read(sent)?;
        self.check_past(request.to, "to", TITLE)?;
        match self.documents.roll_back(&request, by).await {
            Ok(plan) => self.planned(plan).await,
            Err(RollbackRefusal::Changed(plan)) => {
                let details = format!(
                    "Documents of the plan have changed since revision {}. See the new plan",
                    request.expected.unwrap_or_default()
                );
                let message = format!("the latest revision is {}", plan.revision);
                Ok(self.conflict(&plan, &details, vec![("expected", message)]))
            }
            Err(RollbackRefusal::Irreversible(plan)) => {
                let causes = plan.irreversible.iter().map(|what| ("force", what.clone())).collect();
                Ok(self.conflict(&plan, "The rollback cannot be undone. Set force to execute it all the same", causes))
            }
            Err(RollbackRefusal::State(error)) => Err(moment::refused(&error, "to", TITLE)),
            Err(refusal @ RollbackRefusal::NoSuchMesh(_)) => {
                Err(ApiError::invalid(TITLE, vec![cause("mesh", refusal.to_string())]))
            }
            Err(RollbackRefusal::TooMany(count)) => {
                let details = format!(
                    "{count} documents would change, but one rollback changes at most {MAX_DOCUMENTS}. Roll back one \
                     mesh, or some types, at a time"
                );
                Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, TITLE, details))
            }
            Err(RollbackRefusal::Documents(refusal)) => {
                Err(changes::refused(refusal, TITLE, |_, named| named.to_owned()))
            }
        }
    }

    async fn planned(&self, mut plan: Plan) -> Result<Response, ApiError> {
        let (revision, epoch) = (plan.revision, plan.epoch.clone());
        let told = std::mem::take(&mut plan.warnings);
        let mut response = self.outgoing.respond(TITLE, move || body::pretty(&to_json(&plan))).await?;
        revision::add(&mut response, revision, &epoch);
        warnings::add(&mut response, &told);
        Ok(response)
    }

    /// A 409 with the plan.
    fn conflict(&self, plan: &Plan, details: &str, causes: Vec<(&str, String)>) -> Response {
        let causes: Vec<Value> =
            causes.into_iter().map(|(field, message)| json!({"field": field, "message": message})).collect();
        let answer = json!({"title": TITLE, "details": details, "causes": causes, "plan": to_json(plan)});
        let json = [(CONTENT_TYPE, "application/json")];
        let mut response = (StatusCode::CONFLICT, json, body::pretty(&answer)).into_response();
        revision::add(&mut response, plan.revision, &plan.epoch);
        response
    }
}

fn read(sent: &[u8]) -> Result<Rollback, ApiError> {
    let mut fields = body::object(sent).map_err(|error| ApiError::unreadable(TITLE, &error))?;
    let mut violations = Violations::default();
    let to = match fields.shift_remove("to").map(|to| Asked::read(&to)) {
        Some(Ok(Asked::Past(moment))) => Some(moment),
        Some(Ok(Asked::Latest)) => wrong("to", "must be an earlier state", &mut violations),
        Some(Err(message)) => wrong("to", message, &mut violations),
        None => wrong("to", "is missing: the revision or the time to go back to", &mut violations),
    };
    let mesh = match fields.shift_remove("mesh") {
        None | Some(Value::Null) => None,
        Some(Value::String(mesh)) => match kuma_model::check_name(&mesh) {
            Some(message) => wrong("mesh", message, &mut violations),
            None => Some(Arc::from(mesh)),
        },
        Some(_) => wrong("mesh", "must be the name of a mesh", &mut violations),
    };
    let kinds = kinds(fields.shift_remove("types"), &mut violations);
    let expected: Option<Revision> = match fields.shift_remove("expected") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64() {
            Some(revision) => Some(revision),
            None => wrong("expected", "must be a revision, which is a whole number", &mut violations),
        },
    };
    let dry_run = flag("dryRun", &mut fields, &mut violations);
    let force = flag("force", &mut fields, &mut violations);
    for unknown in fields.keys() {
        let message = "unknown field; there are to, mesh, types, expected, dryRun and force";
        violations.add(unknown, message);
    }
    match to {
        Some(to) if violations.is_empty() => Ok(Rollback { to, mesh, kinds, expected, force, dry_run }),
        _ => Err(ApiError::invalid(TITLE, violations.into_vec())),
    }
}

fn wrong<T>(field: &str, message: impl Into<String>, violations: &mut Violations) -> Option<T> {
    violations.add(field, message);
    None
}

fn flag(field: &str, fields: &mut Map<String, Value>, violations: &mut Violations) -> bool {
    match fields.shift_remove(field) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            violations.add(field, "must be true or false");
            false
        }
    }
}

/// The kinds of the request, or the usual ones.
fn kinds(types: Option<Value>, violations: &mut Violations) -> Vec<&'static str> {
    let usual = || Rollback::usual_kinds().map(|kind| kind.name).collect();
    let types = match types {
        None | Some(Value::Null) => return usual(),
        Some(Value::Array(types)) if types.is_empty() => return usual(),
        Some(Value::Array(types)) => types,
        Some(_) => {
            violations.add("types", "must be a list");
            return Vec::new();
        }
    };
    let mut kinds = Vec::new();
    for (index, name) in types.iter().enumerate() {
        match Rollback::possible_kinds().find(|kind| *name == *kind.name) {
            Some(kind) => kinds.push(kind.name),
            None if *name == *SECRET_KIND => {
                violations
                    .add(format!("types[{index}]"), "secrets cannot be rolled back: the history does not contain them");
            }
            None => {
                let known: Vec<&str> = Rollback::possible_kinds().map(|kind| kind.name).collect();
                violations.add(format!("types[{index}]"), format!("must be one of {}", known.join(", ")));
            }
        }
    }
    kinds
}

fn to_json(plan: &Plan) -> Value {
    let Plan { to, revision, epoch, changes, irreversible, .. } = plan;
    json!({
        "to": to,
        "revision": revision,
        "epoch": &**epoch,
        "irreversible": irreversible,
        "changes": changes.iter().map(diff::to_json).collect::<Vec<_>>(),
    })
}
