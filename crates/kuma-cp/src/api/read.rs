//! GET of documents and of lists of them.

use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use kuma_model::{DataplaneInsight, Document, Kind, Resource as _};
use kuma_store::Stored;
use serde_json::Value;

use super::conditions::{self, Conditions};
use super::overview::{LiveInsights, current_insight};
use super::page::Page;
use super::{Api, routes};
use crate::http::{ApiError, json as body};

const ITEM: &str = "Could not retrieve a resource";
const LIST: &str = "Could not retrieve resources";

impl Api {
    /// One document.
    pub(super) async fn item(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        conditions: &Conditions,
    ) -> Result<Response, ApiError> {
        let not_found = || ApiError::new(StatusCode::NOT_FOUND, ITEM, "Not found");
        let key = routes::key(kind, mesh, name).ok_or_else(not_found)?;
        let stored = self.store.get(&key).await.map_err(|error| ApiError::store(ITEM, &error))?;
        let stored = stored.map(|stored| current(self.live.as_ref(), &stored));
        let text = body::pretty(&stored.ok_or_else(not_found)?);
        let tag = conditions::tag(&text);
        if conditions.has_already(&tag) {
            return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
        }
        Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json")), (ETAG, tag)], text).into_response())
    }

    /// All documents of a kind in a mesh. A mesh that does not exist has none.
    pub(super) async fn list(
        &self,
        kind: &'static Kind,
        mesh: Option<&str>,
        path: &str,
        query: &str,
    ) -> Result<Response, ApiError> {
        let page = Page::of(query, LIST)?;
        let all = self.store.list(kind.name, mesh).await.map_err(|error| ApiError::store(LIST, &error))?;
        let (live, path, query) = (self.live.clone(), path.to_owned(), query.to_owned());
        let make = move || {
            let items: Vec<Value> = all.iter().map(|stored| current(live.as_ref(), stored)).collect();
            body::pretty(&page.body(items, &path, &query))
        };
        self.outgoing.respond(LIST, make).await
    }
}

/// The document as it is now: what a connected proxy reports is younger than what is stored.
fn current(live: &dyn LiveInsights, stored: &Stored) -> Value {
    let spec = match stored.key.kind {
        DataplaneInsight::KIND => current_insight(live, &stored.key.mesh, &stored.key.name, Some(stored)),
        _ => None,
    };
    match spec {
        Some(spec) => Document { key: stored.key.clone(), spec }.to_json(),
        None => stored.document().to_json(),
    }
}
