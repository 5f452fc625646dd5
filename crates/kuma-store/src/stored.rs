//! A document as it is stored.

use jiff::Timestamp;
use kuma_model::text::parse_json;
use kuma_model::{Document, Key, Resource, Violations, decode_spec};
use serde_json::Value;

use crate::transaction::is_insight;

/// A document as it is stored. Its spec is kept as JSON text: as a tree of values it takes five times the memory, and
/// most documents are seldom looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What it is.
    pub key: Key,
    spec: Box<str>,
    /// 1 when created, and one more with each change.
    pub version: u64,
    /// When it was created.
    pub created: Timestamp,
    /// When this version was written.
    pub modified: Timestamp,
}

impl Stored {
    /// A document in its first version.
    pub fn new(document: Document, now: Timestamp) -> Stored {
        let Document { key, spec } = document;
        Stored { key, spec: spec.to_string().into(), version: 1, created: now, modified: now }
    }

    /// A document as a store has kept it: `spec` is JSON text.
    pub fn restored(key: Key, spec: Box<str>, version: u64, created: Timestamp, modified: Timestamp) -> Stored {
        Stored { key, spec, version, created, modified }
    }

    /// What it becomes with another spec, or `None` if it says that already, in whatever order. The fields of an
    /// insight have one order, since it is we who write it.
    pub fn replaced(&self, spec: &Value, now: Timestamp) -> Option<Stored> {
        let text = spec.to_string();
        let is_equal = || *text == *self.spec || !is_insight(&self.key) && self.spec() == *spec;
        // Texts of equal specs differ in their order at most.
        (text.len() != self.spec.len() || !is_equal()).then(|| Stored {
            key: self.key.clone(),
            spec: text.into(),
            version: self.version + 1,
            created: self.created,
            modified: now,
        })
    }

    /// The part that depends on the kind, read anew each time.
    pub fn spec(&self) -> Value {
        // It was written by `to_string`. A null is no spec of any kind, and is reported as that. Not by serde_json's
        // own reader, which takes a map that begins with a certain private key for something else.
        parse_json(self.spec.as_bytes()).unwrap_or_default()
    }

    /// The spec as JSON text, as it is kept.
    pub fn spec_text(&self) -> &str {
        &self.spec
    }

    /// The document, read anew each time.
    pub fn document(&self) -> Document {
        Document { key: self.key.clone(), spec: self.spec() }
    }

    /// The spec as its type; see [`decode_spec`].
    ///
    /// # Errors
    /// It is not one of that type.
    pub fn decode<R: Resource>(&self) -> Result<R, Violations> {
        decode_spec(&self.spec())
    }
}
