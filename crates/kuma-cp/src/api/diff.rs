//! `GET /diff`: the difference between two states.

use axum::response::Response;
use kuma_model::{Document, Violation};
use kuma_store::{Contents, Stored};
use serde_json::{Value, json};

use super::moment::Asked;
use super::page::Page;
use super::{Api, revision};
use crate::documents::{Difference, differences};
use crate::http::error::cause;
use crate::http::{ApiError, json as body};

const TITLE: &str = "Could not compare";

/// The parameters of a request.
struct Query {
    from: Asked,
    to: Asked,
    mesh: Option<String>,
}

impl Api {
    /// Lists the documents that differ, each before and after.
    pub(super) async fn diff(&self, path: &str, query: &str) -> Result<Response, ApiError> {
        let page = Page::of(query, TITLE)?;
        let Query { from, to, mesh } = Query::read(query)?;
        let from = self.state(from, "from", TITLE).await?;
        let to = self.state(to, "to", TITLE).await?;
        // All pages must compare the same two states.
        let query = pinned(query, &from, &to);
        let (path, revision) = (path.to_owned(), to.revision);
        let make = move || {
            let mut all = differences(&from.documents, &to.documents);
            all.retain(|difference| mesh.as_ref().is_none_or(|mesh| **mesh == *difference.key.mesh));
            let items = all.iter().map(to_json).collect();
            let mut answer = page.body(items, &path, &query);
            answer["from"] = from.revision.into();
            answer["to"] = to.revision.into();
            body::pretty(&answer)
        };
        let mut response = self.outgoing.respond(TITLE, make).await?;
        revision::add(&mut response, revision, &self.store.epoch());
        Ok(response)
    }
}

impl Query {
    fn read(query: &str) -> Result<Query, ApiError> {
        let (mut from, mut to, mut mesh) = (None, Asked::Latest, None);
        let mut wrong: Vec<Violation> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, Asked::parse(&value)) {
                ("from", asked) => from = Some(asked),
                ("to", Ok(asked)) => to = asked,
                ("to", Err(message)) => wrong.push(cause(name, message)),
                ("mesh", _) => match kuma_model::check_name(&value) {
                    Some(message) => wrong.push(cause(name, message)),
                    None => mesh = Some(value.into_owned()),
                },
                ("size" | "offset", _) => {}
                _ => {
                    let message = "unknown parameter; there are from, to, mesh, size and offset";
                    wrong.push(cause(name, message));
                }
            }
        }
        match from.unwrap_or_else(|| Err("is missing: the revision or the time to compare with".to_owned())) {
            Ok(from) if wrong.is_empty() => return Ok(Query { from, to, mesh }),
            Ok(_) => {}
            Err(message) => wrong.push(cause("from", message)),
        }
        Err(ApiError::invalid(TITLE, wrong))
    }
}

/// The query with the revisions of both states.
fn pinned(query: &str, from: &Contents, to: &Contents) -> String {
    let others = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "from" && name != "to");
    let mut pinned = url::form_urlencoded::Serializer::new(String::new());
    let states = [("from", from), ("to", to)].map(|(name, state)| (name, state.revision.to_string()));
    pinned.extend_pairs(states).extend_pairs(others);
    pinned.finish()
}

/// `{"type", "mesh", "name", "change", "before", "after"}`.
pub(super) fn to_json(difference: &Difference) -> Value {
    let Difference { key, before, after } = difference;
    let text = |stored: &Option<std::sync::Arc<Stored>>| stored.as_ref().map(|stored| stored.document().to_json());
    let spec = json!({"change": difference.change(), "before": text(before), "after": text(after)});
    Document { key: key.clone(), spec }.to_json()
}
