//! What a document's own text decides: reading, defaults, the rules of its kind.

use kuma_envoy::raw;
use kuma_model::{Document, Key, ProxyTemplate, Resource as _, decode_spec};
use kuma_store::Stored;
use serde_json::Value;

use super::refusal::{Attempt, Problem, Reason, Refusal};

/// Whether a stored document is as a writer thinks; it gets `None` if there is none.
type Condition = Box<dyn Fn(Option<&Stored>) -> bool + Send + Sync>;

/// One thing that is to be done.
pub struct Change {
    edit: Edit,
    condition: Option<Condition>,
}

enum Edit {
    Put(Value),
    Delete(Key),
}

impl Change {
    /// Creates or replaces a document: JSON with `type`, `mesh`, `name` and the fields of its spec.
    pub fn put(json: Value) -> Change {
        Change { edit: Edit::Put(json), condition: None }
    }

    /// Deletes a document: a Mesh with everything in it, a Dataplane with its insight.
    pub fn delete(key: Key) -> Change {
        Change { edit: Edit::Delete(key), condition: None }
    }

    /// Only while what is stored under its key passes this test.
    #[must_use]
    pub fn only_if(mut self, condition: impl Fn(Option<&Stored>) -> bool + Send + Sync + 'static) -> Change {
        self.condition = Some(Box::new(condition));
        self
    }
}

/// A change whose document has been looked at.
pub(super) struct Checked {
    /// `None` if the document does not say what it is.
    pub(super) key: Option<Key>,
    pub(super) wanted: Wanted,
    pub(super) condition: Option<Condition>,
}

/// What a change wants.
pub(super) enum Wanted {
    /// This spec, with defaults; or what is wrong with it.
    Spec(Result<Value, Reason>),
    /// That the document goes.
    Absent,
}

/// Looks at the documents of all changes.
pub(super) async fn check(changes: Vec<Change>) -> Result<Vec<Checked>, Refusal> {
    let is_quick = is_quick(&changes);
    let check_all = move || changes.into_iter().map(check_one).collect();
    if is_quick {
        return Ok(check_all());
    }
    tokio::task::spawn_blocking(check_all).await.map_err(|error| {
        let reason = Reason::Internal(format!("documents could not be checked: {error}"));
        Problem { change: 0, key: None, attempt: Attempt::Several, reason }.alone()
    })
}

/// Whether the check takes no longer than reading the request did. That of Envoy's resources takes time by the length
/// of their texts, and the first one unpacks Envoy's messages.
fn is_quick(changes: &[Change]) -> bool {
    match changes {
        [Change { edit: Edit::Put(json), .. }] => json.get("type").is_none_or(|kind| kind != ProxyTemplate::KIND),
        several => several.len() <= 1,
    }
}

fn check_one(change: Change) -> Checked {
    let Change { edit, condition } = change;
    match edit {
        Edit::Delete(key) => Checked { key: Some(key), wanted: Wanted::Absent, condition },
        Edit::Put(json) => {
            let (key, spec) = match Document::parse(&json) {
                Ok(document) => (Some(document.key.clone()), check_template(document)),
                Err(violations) => (Document::parse_key(&json).ok(), Err(Reason::Invalid(violations))),
            };
            Checked { key, wanted: Wanted::Spec(spec), condition }
        }
    }
}

/// ProxyTemplates hold resources of Envoy, which are checked by Envoy's own messages. Those are here alone: kumactl and
/// others that check documents do without.
fn check_template(Document { key, spec }: Document) -> Result<Value, Reason> {
    if key.kind != ProxyTemplate::KIND {
        return Ok(spec);
    }
    let template: ProxyTemplate = decode_spec(&spec).map_err(|violations| Reason::Internal(violations.to_string()))?;
    let (_, violations) = raw::template(&template);
    if violations.is_empty() { Ok(spec) } else { Err(Reason::Invalid(violations)) }
}
