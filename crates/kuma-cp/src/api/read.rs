//! GET of documents and of lists of them.

use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use kuma_model::{DataplaneInsight, Document, Kind, Resource as _};
use kuma_store::{Contents, Stored};
use serde_json::Value;

use super::conditions::{self, Conditions};
use super::overview::{LiveInsights, current_insight};
use super::page::Page;
use super::{Api, moment, revision, routes};
use crate::http::{ApiError, json as body};

const ITEM: &str = "Could not retrieve a resource";
const LIST: &str = "Could not retrieve resources";

impl Api {
    /// One document, as it is or as it was.
    pub(super) async fn item(
        &self,
        kind: &'static Kind,
        mesh: &str,
        name: &str,
        parts: &Parts,
    ) -> Result<Response, ApiError> {
        let not_found = || ApiError::new(StatusCode::NOT_FOUND, ITEM, "Not found");
        let key = routes::key(kind, mesh, name).ok_or_else(not_found)?;
        let past = self.past(kind, parts.uri.query().unwrap_or(""), ITEM).await?;
        let stored = match &past {
            Some(past) => past.documents.iter().find(|stored| stored.key == key).cloned(),
            None => self.store.get(&key).await.map_err(|error| ApiError::store(ITEM, &error))?,
        };
        let stored = stored.map(|stored| current(self.live.as_ref(), &stored));
        let text = body::pretty(&stored.ok_or_else(not_found)?);
        let tag = conditions::tag(&text);
        let mut response = match Conditions::of(&parts.headers).has_already(&tag) {
            true => (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response(),
            false => {
                let json = HeaderValue::from_static("application/json");
                ([(CONTENT_TYPE, json), (ETAG, tag)], text).into_response()
            }
        };
        if let Some(past) = past {
            revision::add(&mut response, past.revision, &self.store.epoch());
        }
        Ok(response)
    }

    /// All documents of a kind in a mesh, as they are or as they were. A mesh that does not exist has none.
    pub(super) async fn list(
        &self,
        kind: &'static Kind,
        mesh: Option<&str>,
        path: &str,
        query: &str,
    ) -> Result<Response, ApiError> {
        let page = Page::of(query, LIST)?;
        let past = self.past(kind, query, LIST).await?;
        let revision = past.as_ref().map(|past| past.revision);
        let all = match past {
            Some(Contents { mut documents, .. }) => {
                documents
                    .retain(|stored| stored.key.kind == kind.name && mesh.is_none_or(|mesh| *mesh == *stored.key.mesh));
                documents
            }
            None => self.store.list(kind.name, mesh).await.map_err(|error| ApiError::store(LIST, &error))?,
        };
        let (live, path, query) = (self.live.clone(), path.to_owned(), query.to_owned());
        let make = move || {
            let items: Vec<Value> = all.iter().map(|stored| current(live.as_ref(), stored)).collect();
            body::pretty(&page.body(items, &path, &query))
        };
        let mut response = self.outgoing.respond(LIST, make).await?;
        if let Some(revision) = revision {
            revision::add(&mut response, revision, &self.store.epoch());
        }
        Ok(response)
    }

    /// The state that `at` in a query asks for, if it is there.
    async fn past(&self, kind: &Kind, query: &str, title: &str) -> Result<Option<Contents>, ApiError> {
        if kind.name == DataplaneInsight::KIND {
            moment::refuse(query, title)?;
        }
        let Some(at) = moment::at(query, title)? else { return Ok(None) };
        self.state(at, moment::AT, title).await.map(Some)
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
