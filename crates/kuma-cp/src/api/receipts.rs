//! `GET /changes` and `GET /changes/{revision}`: how far commits have come.

use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use kuma_engine::{Change, Counts, Exception, ExceptionState, NoReceipt, Progress, Receipt};
use kuma_model::Document;
use kuma_store::Revision;
use serde_json::{Value, json};

use super::{Api, EPOCH, revision};
use crate::http::error::cause;
use crate::http::{ApiError, json as body};

const TITLE: &str = "Could not retrieve a change";
const LIST: &str = "Could not retrieve changes";

/// So many of the latest changes are listed.
pub(super) const LISTED: usize = 100;

/// The longest wait of one request: a client asks again, so it misses nothing, and one that has gone without a word is
/// noticed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a request asks for.
#[derive(Default)]
struct Query {
    wait: Option<Duration>,
    all: bool,
    epoch: Option<String>,
}

impl Api {
    /// The latest changes, each with how far it has come.
    pub(super) async fn list_changes(&self, query: &str) -> Result<Response, ApiError> {
        let Query { epoch, .. } = Query::read(query, &["epoch"], LIST)?;
        self.check_epoch(epoch.as_deref(), LIST)?;
        let mut items = Vec::new();
        for change in self.engine.changes(LISTED).into_iter().rev() {
            // One that is forgotten meanwhile is left out.
            if let Ok((change, receipt)) = self.engine.receipt(change.revision, None).await {
                items.push(to_json(&change, &receipt, &self.store.epoch()));
            }
        }
        Ok(body::respond(&json!({ "items": items })))
    }

    /// One change, and how far it has come; with `wait`, once that is final.
    pub(super) async fn receipt(&self, revision: &str, parts: &Parts) -> Result<Response, ApiError> {
        let not_found = |details: String| ApiError::new(StatusCode::NOT_FOUND, TITLE, details);
        let query = Query::read(parts.uri.query().unwrap_or(""), &["wait", "all", "epoch"], TITLE)?;
        let revision: Revision = revision
            .parse()
            .map_err(|_| not_found(format!("{revision:?} is not a revision, which is a whole number")))?;
        self.check_epoch(query.epoch.as_deref().or(epoch_of(&parts.headers)), TITLE)?;
        let wait = query.wait.map(|time| (time.min(LONGEST_WAIT), query.all));
        match self.engine.receipt(revision, wait).await {
            Ok((change, receipt)) => {
                let epoch = self.store.epoch();
                let mut response = body::respond(&to_json(&change, &receipt, &epoch));
                revision::add(&mut response, revision, &epoch);
                Ok(response)
            }
            Err(NoReceipt::NotCommitted(head)) => {
                Err(not_found(format!("There is no revision {revision}: the latest is {head}")))
            }
            Err(NoReceipt::Forgotten) => Err(not_found(format!(
                "How far revision {revision} has come is not remembered: it was before this control plane started, or \
                 long ago"
            ))),
        }
    }

    /// Refuses a revision that belongs to another life of the store.
    fn check_epoch(&self, asked: Option<&str>, title: &str) -> Result<(), ApiError> {
        let epoch = self.store.epoch();
        match asked {
            Some(asked) if *asked != *epoch => {
                let details = format!(
                    "The revision belongs to epoch {asked:?}, and the store is at {:?}: it has lost its documents \
                     since, or it is another one",
                    &*epoch
                );
                Err(ApiError::new(StatusCode::GONE, title, details))
            }
            _ => Ok(()),
        }
    }
}

fn epoch_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(EPOCH)?.to_str().ok()
}

impl Query {
    fn read(query: &str, known: &[&str], title: &str) -> Result<Query, ApiError> {
        let mut asked = Query::default();
        let mut wrong = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                (other, _) if !known.contains(&other) => {
                    wrong.push(cause(name, format!("unknown parameter; there are {}", known.join(", "))));
                }
                ("wait", value) => match value.parse::<kuma_model::Duration>().map(kuma_model::Duration::to_std) {
                    Ok(Some(time)) => asked.wait = Some(time),
                    _ => wrong.push(cause("wait", "must be a duration such as \"30s\" or \"1m30s\"")),
                },
                ("all", "true") => asked.all = true,
                ("all", "false") => asked.all = false,
                ("all", _) => wrong.push(cause("all", "must be true or false")),
                (_, value) => asked.epoch = Some(value.to_owned()),
            }
        }
        if wrong.is_empty() { Ok(asked) } else { Err(ApiError::invalid(title, wrong)) }
    }
}

fn to_json(change: &Change, receipt: &Receipt, epoch: &str) -> Value {
    let documents = change.documents.iter().map(|(key, is_there)| {
        let done = if *is_there { "written" } else { "deleted" };
        Document { key: key.clone(), spec: json!({ "change": done }) }.to_json()
    });
    let Counts { concerned, accepted, refused, waiting, superseded, away, silent, held, joined } = receipt.counts;
    let [first, half, most, last] = receipt.accepted_after.map(|after| after.map(|after| after.as_secs_f64()));
    json!({
        "revision": change.revision,
        "epoch": epoch,
        "time": timestamp(change.received),
        "state": state(receipt.progress),
        "documents": documents.collect::<Vec<_>>(),
        "proxies": {
            "concerned": concerned, "accepted": accepted, "refused": refused, "waiting": waiting,
            "superseded": superseded,
            "silent": silent, "away": away, "held": held, "joined": joined,
        },
        "seconds": {"first": first, "p50": half, "p99": most, "last": last},
        "exceptions": receipt.exceptions.iter().map(exception).collect::<Vec<_>>(),
    })
}

/// How far a change has come, in a word.
pub(super) const STATES: [&str; 5] = ["live", "superseded", "reached", "refused", "spreading"];

fn state(progress: Progress) -> &'static str {
    STATES[progress as usize]
}

/// What keeps a proxy, in a word.
pub(super) const EXCEPTIONS: [&str; 5] = ["refused", "unanswered", "waiting", "silent", "held"];

fn exception(exception: &Exception) -> Value {
    let Exception { dataplane, state, resource, message, since_revision, since } = exception;
    let mut fields = json!({"dataplane": &**dataplane, "state": EXCEPTIONS[*state as usize]});
    if let Some((resource_type, name)) = resource {
        fields["type"] = resource_type.type_url().into();
        fields["resource"] = (&**name).into();
    }
    if let Some(message) = message {
        fields["message"] = (&**message).into();
    }
    if !matches!(state, ExceptionState::Waiting | ExceptionState::Held) {
        fields["sinceRevision"] = (*since_revision).into();
    }
    if let Some(since) = since {
        fields["since"] = timestamp(*since);
    }
    fields
}

fn timestamp(time: SystemTime) -> Value {
    jiff::Timestamp::try_from(time).map_or(Value::Null, |time| time.to_string().into())
}
