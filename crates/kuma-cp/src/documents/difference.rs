//! The difference between two states of a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::Key;
use kuma_store::Stored;

/// A document that differs between two states.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Identifies the document.
    pub key: Key,
    /// The document before; `None` if it did not exist.
    pub before: Option<Arc<Stored>>,
    /// The document after; `None` if it does not exist any more.
    pub after: Option<Arc<Stored>>,
}

impl Difference {
    /// `created`, `updated` or `deleted`.
    pub fn change(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "created",
            (Some(_), Some(_)) => "updated",
            (Some(_), None) => "deleted",
        }
    }
}

/// The documents whose specs differ, ordered by key. Versions do not count: a document that was deleted and created
/// again with the same spec is equal.
pub fn differences(before: &[Arc<Stored>], after: &[Arc<Stored>]) -> Vec<Difference> {
    let mut all: BTreeMap<&Key, Difference> = BTreeMap::new();
    let none = |stored: &Stored| Difference { key: stored.key.clone(), before: None, after: None };
    for stored in before {
        all.entry(&stored.key).or_insert_with(|| none(stored)).before = Some(stored.clone());
    }
    for stored in after {
        all.entry(&stored.key).or_insert_with(|| none(stored)).after = Some(stored.clone());
    }
    let differs = |difference: &Difference| match (&difference.before, &difference.after) {
        // Equal specs may have their fields in another order.
        (Some(before), Some(after)) => before.spec_text() != after.spec_text() && before.spec() != after.spec(),
        _ => true,
    };
    all.into_values().filter(differs).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kuma_model::{Document, Resource as _, TrafficLog};
    use serde_json::{Value, json};

    use super::*;

    fn stored(name: &str, spec: Value, second: i64) -> Arc<Stored> {
        let key = Key::new(TrafficLog::KIND, "default", name);
        Arc::new(Stored::new(Document { key, spec }, Timestamp::from_second(second).expect("a time")))
    }

    #[test]
    fn documents_differ_by_their_specs_alone() {
        let before = [stored("gone", json!({}), 1), stored("same", json!({"a": 1, "b": 2}), 1)];
        let after = [stored("new", json!({}), 2), stored("same", json!({"b": 2, "a": 1}), 2)];
        let told = |before: &[Arc<Stored>], after: &[Arc<Stored>]| -> Vec<String> {
            let all = differences(before, after);
            all.iter().map(|difference| format!("{} {}", difference.change(), difference.key.name)).collect()
        };
        assert_eq!(told(&before, &after), ["deleted gone", "created new"]);
        assert_eq!(told(&before[1..], &[stored("same", json!({"a": 1}), 1)]), ["updated same"]);
        assert!(told(&before, &before).is_empty());
    }
}
