//! PUT and DELETE of documents.

use http::StatusCode;
use kuma_model::{Dataplane, DataplaneInsight, Document, Key, Kind, Resource as _, Scope, Violation};
use kuma_store::{Outcome, StoreError, Write};
use serde_json::{Map, Value};

use super::conditions::{self, Conditions};
use super::{Api, routes, templates};
use crate::http::error::cause;
use crate::http::{ApiError, json};

/// Title of errors in what was sent, as opposed to what it says.
pub(super) const UNUSABLE: &str = "Could not process a resource";
const FIND: &str = "Could not find a resource";
const CREATE: &str = "Could not create a resource";
const UPDATE: &str = "Could not update a resource";
const DELETE: &str = "Could not delete a resource";

/// How often a write is tried when others write the same document at the same time.
const ATTEMPTS: usize = 5;

/// Why a write did not happen.
pub(super) enum Failed {
    /// Somebody else was faster: read again, and try again.
    Overtaken,
    /// For good.
    Error(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl Api {
    /// Creates (201) or replaces (200) a document.
    pub(super) async fn put(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        body: &[u8],
        conditions: &Conditions,
    ) -> Result<StatusCode, ApiError> {
        let mut fields = json::object(body).map_err(|error| ApiError::unreadable(UNUSABLE, &error))?;
        let key = envelope(kind, mesh, name, &mut fields)?;
        for _ in 0..ATTEMPTS {
            let written = match kind.scope {
                Scope::Global => self.put_mesh(kind, &key, &fields, conditions).await,
                Scope::Mesh => self.put_in_mesh(kind, &key, &fields, conditions).await,
            };
            match written {
                Ok(status) => {
                    let done = if status == StatusCode::CREATED { "created" } else { "updated" };
                    tracing::info!("{done} {key}");
                    return Ok(status);
                }
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Overtaken) => {}
            }
        }
        let details = format!("{key} is being changed by others at the same time; try again");
        Err(ApiError::new(StatusCode::CONFLICT, UPDATE, details))
    }

    async fn put_in_mesh(
        &self,
        kind: &Kind,
        key: &Key,
        fields: &Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<StatusCode, Failed> {
        let stored = self.stored(key).await?;
        let title = title(stored.is_some());
        conditions.check(stored.as_deref(), title)?;
        let spec = spec(kind, fields, title)?;
        templates::check(kind, &spec, title).await?;
        let document = Document { key: key.clone(), spec };
        let write = match stored {
            Some(stored) => Write::Update { document, version: stored.version },
            None => Write::Create(document),
        };
        self.commit(vec![write], title).await
    }

    /// The stored document.
    pub(super) async fn stored(&self, key: &Key) -> Result<Option<std::sync::Arc<kuma_store::Stored>>, Failed> {
        self.store.get(key).await.map_err(|error| ApiError::store(FIND, &error).into())
    }

    /// Commits; the first write is the document that the request is about.
    pub(super) async fn commit(&self, writes: Vec<Write>, title: &str) -> Result<StatusCode, Failed> {
        match self.store.commit(writes).await {
            Ok(committed) => Ok(match committed.outcomes.first() {
                Some(Outcome::Created) => StatusCode::CREATED,
                _ => StatusCode::OK,
            }),
            Err(error @ (StoreError::NotFound(_) | StoreError::AlreadyExists(_) | StoreError::Conflict { .. })) => {
                tracing::debug!(%error, "a write was overtaken");
                Err(Failed::Overtaken)
            }
            Err(StoreError::MeshNotFound(mesh)) => {
                let error = ApiError::new(StatusCode::BAD_REQUEST, title, "Mesh is not found");
                let causes = vec![cause("mesh", format!("mesh of name {mesh} is not found"))];
                Err(ApiError { causes, ..error }.into())
            }
            Err(error) => Err(ApiError::store(title, &error).into()),
        }
    }

    /// Deletes a document; a Mesh with everything in it, a Dataplane with its insight.
    pub(super) async fn delete(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        conditions: &Conditions,
    ) -> Result<StatusCode, ApiError> {
        let not_found = || ApiError::new(StatusCode::NOT_FOUND, DELETE, "Not found");
        let key = routes::key(kind, mesh, name).ok_or_else(not_found)?;
        if kind.scope == Scope::Global {
            return self.delete_mesh(&key, DELETE, conditions).await;
        }
        let mut version = None;
        if !conditions.is_empty() {
            let stored = self.store.get(&key).await.map_err(|error| ApiError::store(DELETE, &error))?;
            conditions.check(stored.as_deref(), DELETE)?;
            version = stored.map(|stored| stored.version);
        }
        let mut writes = vec![Write::Delete { key: key.clone(), version }];
        if kind.name == Dataplane::KIND {
            let insight = Key::new(DataplaneInsight::KIND, mesh, name);
            let stored = self.store.get(&insight).await.map_err(|error| ApiError::store(DELETE, &error))?;
            writes.extend(stored.map(|_| Write::Delete { key: insight, version: None }));
        }
        match self.store.commit(writes).await {
            Ok(_) => {}
            // An insight that was deleted in between is no reason to keep the Dataplane.
            Err(StoreError::NotFound(missing)) if missing != key => {
                let alone = vec![Write::Delete { key: key.clone(), version }];
                self.store.commit(alone).await.map_err(|error| deletion(error, not_found))?;
            }
            Err(error) => return Err(deletion(error, not_found)),
        }
        if matches!(kind.name, Dataplane::KIND | DataplaneInsight::KIND) {
            self.live.forget(mesh, name);
        }
        tracing::info!("deleted {key}");
        Ok(StatusCode::OK)
    }
}

/// The error of a deletion that failed.
pub(super) fn deletion(error: StoreError, not_found: impl Fn() -> ApiError) -> ApiError {
    match error {
        StoreError::NotFound(_) => not_found(),
        // Only a conditional deletion names a version.
        StoreError::Conflict { .. } => conditions::failed(DELETE),
        error => ApiError::store(DELETE, &error),
    }
}

/// The title of an error, depending on whether the document existed.
pub(super) fn title(exists: bool) -> &'static str {
    if exists { UPDATE } else { CREATE }
}

/// The normalised spec, or everything that is wrong with it.
pub(super) fn spec(kind: &Kind, fields: &Map<String, Value>, title: &str) -> Result<Value, ApiError> {
    kind.check(fields).map_err(|violations| ApiError::invalid(title, violations.into_vec()))
}

/// Compares type, mesh and name of the body with the path, takes them out of `fields`, and gives the key. All that is
/// wrong is reported together, in the documented order.
fn envelope(kind: &'static Kind, mesh: &str, name: &str, fields: &mut Map<String, Value>) -> Result<Key, ApiError> {
    let mut causes: Vec<Violation> = Vec::new();
    let mut same = |field: &str, expected: &str| {
        let found = fields.shift_remove(field);
        if found.as_ref().and_then(Value::as_str) != Some(expected) {
            causes.push(cause(field, format!("{field} from the URL has to be the same as in body")));
        }
    };
    same("name", name);
    same("type", kind.name);
    match kind.scope {
        Scope::Mesh => same("mesh", mesh),
        Scope::Global => {
            fields.shift_remove("mesh");
        }
    }
    for (field, text) in [("name", name), ("mesh", mesh)] {
        if let Some(message) = kuma_model::check_name(text) {
            causes.push(cause(field, message));
        }
    }
    match routes::key(kind, mesh, name) {
        Some(key) if causes.is_empty() => Ok(key),
        _ => Err(ApiError::invalid(UNUSABLE, causes)),
    }
}
