//! `/store`: which store it is, whether it has everything, and the word that what it lacks does not exist.

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use kuma_engine::Absent;
use kuma_model::Violations;
use kuma_store::Position;
use serde_json::{Value, json};

use super::Api;
use crate::http::{ApiError, json as body};

/// Title of all refusals.
pub(super) const TITLE: &str = "Could not accept the store";

/// Says that an answer may be old.
const AWAY: HeaderName = HeaderName::from_static("kuma-store");

/// How many documents, and how many proxies, are named.
pub(super) const NAMED: usize = 1000;

impl Api {
    /// What is known of the store, and what would be taken away if it were accepted.
    pub(super) async fn store(&self) -> Response {
        body::respond(&self.store_json().await)
    }

    async fn store_json(&self) -> Value {
        let head = self.store.head();
        let Position { revision, commit } = head.position;
        let complete = self.store.is_complete();
        // Of a store that is complete nothing is missing.
        let Absent { documents, proxies } = match complete {
            true => Absent::default(),
            false => self.engine.absent().await,
        };
        let named = documents.iter().take(NAMED).map(|key| kuma_model::Document { key: key.clone(), spec: json!({}) });
        let named: Vec<Value> = named.map(|document| document.to_json()).collect();
        let held = proxies.iter().take(NAMED).map(|(mesh, name)| json!({"mesh": &**mesh, "name": &**name}));
        json!({
            "store": head.store.to_string(),
            "revision": revision,
            "commit": commit.to_string(),
            "durable": self.store.durable(),
            "complete": complete,
            "away": self.store.away().as_deref(),
            "missing": {
                "documents": named,
                "documentCount": documents.len(),
                "proxies": held.collect::<Vec<_>>(),
                "proxyCount": proxies.len(),
            },
        })
    }

    /// From now on what the store lacks does not exist. The answer is what that took away.
    pub(super) async fn accept_store(&self, sent: &[u8]) -> Result<Response, ApiError> {
        let mut fields = match sent {
            [] => serde_json::Map::new(),
            sent => body::object(sent).map_err(|error| ApiError::unreadable(TITLE, &error))?,
        };
        let mut violations = Violations::default();
        let expected = match fields.shift_remove("store") {
            None | Some(Value::Null) => None,
            Some(Value::String(store)) => Some(store),
            Some(_) => {
                violations.add("store", "must be a text");
                None
            }
        };
        for unknown in fields.keys() {
            violations.add(unknown, "unknown field; there is store");
        }
        if !violations.is_empty() {
            return Err(ApiError::invalid(TITLE, violations.into_vec()));
        }
        let actual = self.store.head().store.to_string();
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            let details = format!("The store is {actual}, and not {expected} any more. Look at it again (GET /store)");
            return Err(ApiError::new(StatusCode::CONFLICT, TITLE, details));
        }
        let mut answer = self.store_json().await;
        self.store.accept().await.map_err(|error| ApiError::store(TITLE, &error))?;
        if answer["complete"] == false {
            let missing = &answer["missing"];
            tracing::warn!(documents = %missing["documentCount"], proxies = %missing["proxyCount"],
                "the store was accepted as it is: what it lacks does not exist");
        }
        answer["complete"] = true.into();
        Ok(([(CONTENT_TYPE, "application/json")], body::pretty(&answer)).into_response())
    }

    /// Says of an answer that it is from memory, while the store is away.
    pub(super) fn tell_away(&self, headers: &mut HeaderMap) {
        if self.store.away().is_some()
            && let Ok(text) = HeaderValue::from_str(&format!("away, revision {}", self.store.head().position.revision))
        {
            headers.insert(AWAY, text);
        }
    }
}
