//! `GET /history`: the commits, with time, author and note.

use std::sync::Arc;

use axum::response::Response;
use kuma_model::{DataplaneInsight, Document, KINDS, Key, Resource as _, SECRET_KIND, Violation};
use kuma_store::{HistoryChange, HistoryEntry, HistoryQuery, PAGE_LIMIT};
use serde_json::{Map, Value, json};

use super::{Api, moment};
use crate::http::error::cause;
use crate::http::{ApiError, json as body};

const TITLE: &str = "Could not retrieve the history";

/// The default number of entries on a page.
pub(super) const DEFAULT_LIMIT: usize = 100;

/// The parameters.
const PARAMETERS: &str = "mesh, type, name, since, until, limit and before";

impl Api {
    /// A page of the history, newest first.
    pub(super) async fn history(&self, path: &str, query: &str) -> Result<Response, ApiError> {
        let asked = read(query)?;
        let page = self.store.history(asked).await.map_err(|error| ApiError::store(TITLE, &error))?;
        let next = page.entries.last().filter(|_| page.more).map(|last| next(path, query, last.revision));
        let make = move || {
            let items: Vec<Value> = page.entries.iter().map(to_json).collect();
            body::pretty(&json!({"items": items, "floor": page.floor, "next": next}))
        };
        self.outgoing.respond(TITLE, make).await
    }
}

fn read(query: &str) -> Result<HistoryQuery, ApiError> {
    let mut asked = HistoryQuery { limit: DEFAULT_LIMIT, ..HistoryQuery::default() };
    let mut wrong: Vec<Violation> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let mut time = || {
            let time = moment::time(&value);
            if time.is_none() {
                wrong.push(cause(name.clone(), "must be a time such as 2026-11-30T14:00:00Z"));
            }
            time
        };
        match &*name {
            "since" => asked.since = time(),
            "until" => asked.until = time(),
            "mesh" | "name" => match kuma_model::check_name(&value) {
                Some(message) => wrong.push(cause(name, message)),
                None if name == "mesh" => asked.mesh = Some(Arc::from(&*value)),
                None => asked.name = Some(Arc::from(&*value)),
            },
            "type" => match kinds().find(|kind| *kind == value) {
                Some(kind) => asked.kind = Some(kind),
                None => {
                    let known: Vec<&str> = kinds().collect();
                    wrong.push(cause(name, format!("must be one of {}", known.join(", "))));
                }
            },
            "limit" => match value.parse() {
                Ok(limit @ 1..=PAGE_LIMIT) => asked.limit = limit,
                _ => wrong.push(cause(name, format!("must be a number in the range [1, {PAGE_LIMIT}]"))),
            },
            "before" => match value.parse() {
                Ok(revision) => asked.before = Some(revision),
                Err(_) => wrong.push(cause(name, "must be a revision, which is a whole number")),
            },
            _ => wrong.push(cause(name, format!("unknown parameter; there are {PARAMETERS}"))),
        }
    }
    if wrong.is_empty() { Ok(asked) } else { Err(ApiError::invalid(TITLE, wrong)) }
}

/// The kinds in the history.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    let documents = KINDS.iter().map(|kind| kind.name).filter(|kind| *kind != DataplaneInsight::KIND);
    documents.chain([SECRET_KIND])
}

/// The URL of the page after the revision `last`.
fn next(path: &str, query: &str, last: u64) -> String {
    let others = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "before");
    let mut next = url::form_urlencoded::Serializer::new(String::new());
    next.extend_pairs(others).append_pair("before", &last.to_string());
    format!("{path}?{}", next.finish())
}

fn to_json(entry: &HistoryEntry) -> Value {
    let HistoryEntry { revision, id, at, cause, changes } = entry;
    json!({
        "revision": revision,
        "id": id.to_string(),
        "time": at.to_string(),
        "author": &*cause.author,
        "via": &*cause.via,
        "note": &*cause.note,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(HistoryChange { key, version }: &HistoryChange) -> Value {
    let change = match version {
        Some(1) => "created",
        Some(_) => "updated",
        None => "deleted",
    };
    let mut fields = Map::new();
    fields.insert("change".into(), change.into());
    fields.insert("version".into(), (*version).into());
    if kuma_model::kind(key.kind).is_some() {
        return Document { key: key.clone(), spec: Value::Object(fields) }.to_json();
    }
    hidden(key, fields)
}

/// A change of a document that no API returns, such as the key of a CA: only its type and mesh.
fn hidden(key: &Key, fields: Map<String, Value>) -> Value {
    let mut json = Map::new();
    json.insert("type".into(), key.kind.into());
    if *key.mesh != *kuma_store::NO_MESH {
        json.insert("mesh".into(), (*key.mesh).into());
    }
    json.extend(fields);
    Value::Object(json)
}
