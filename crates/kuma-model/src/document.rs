//! One resource as it is written down: its identity flat beside its spec.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::decode::{Decode, did_you_mean, wrong_type};
use crate::key::{Key, check_name};
use crate::kinds::{self, KINDS};
use crate::resource::{Kind, Scope};
use crate::violations::Violations;

/// The fields of a document that are not its spec.
const ENVELOPE: [&str; 3] = ["type", "mesh", "name"];

/// One resource.
#[derive(Clone, PartialEq, Debug)]
pub struct Document {
    /// What it is.
    pub key: Key,
    /// The part that depends on the kind: a JSON object.
    pub spec: Value,
}

impl Document {
    /// The document as JSON: `type`, `mesh` (not of a Mesh), `name`, then the fields of the spec.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("type".into(), self.key.kind.into());
        if kinds::kind(self.key.kind).is_none_or(|kind| kind.scope == Scope::Mesh) {
            json.insert("mesh".into(), (*self.key.mesh).into());
        }
        json.insert("name".into(), (*self.key.name).into());
        if let Value::Object(spec) = &self.spec {
            json.extend(spec.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Value::Object(json)
    }

    /// Reads and validates a document of any kind. Reports what is wrong with the envelope and with the spec together.
    pub fn parse(json: &Value) -> Result<Document, Violations> {
        let mut violations = Violations::default();
        let Value::Object(fields) = json else {
            wrong_type::<()>("", &mut violations, "an object", json);
            return Err(violations);
        };
        let Some((kind, key)) = read_envelope(fields, &mut violations) else {
            return Err(violations);
        };
        let spec = fields.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
        let spec: Map<String, Value> = spec.map(|(name, value)| (name.clone(), value.clone())).collect();
        let spec = kind.check(&spec).unwrap_or_else(|found| {
            violations.extend_under("", found);
            Value::Null
        });
        violations.result(Document { key, spec })
    }

    /// Reads the key of a document, whatever its spec is. Reports what is wrong with `type`, `mesh` and `name`.
    pub fn parse_key(json: &Value) -> Result<Key, Violations> {
        let mut violations = Violations::default();
        let Value::Object(fields) = json else {
            wrong_type::<()>("", &mut violations, "an object", json);
            return Err(violations);
        };
        match read_envelope(fields, &mut violations) {
            Some((_, key)) => violations.result(key),
            None => Err(violations),
        }
    }
}

/// What a document is. `None` if its kind is not known; all that is wrong is reported.
fn read_envelope(fields: &Map<String, Value>, violations: &mut Violations) -> Option<(&'static Kind, Key)> {
    if fields.contains_key("apiVersion") && !fields.contains_key("type") {
        violations.add(
            "apiVersion",
            "this is the form that Kubernetes has; here a document has type, mesh and name in place of apiVersion, \
             kind and metadata, and the fields that are below spec there beside them",
        );
        return None;
    }
    let kind = read_kind(fields, violations);
    let mesh = match kind {
        Some(kind) if kind.scope == Scope::Global => None,
        _ => Some(read_name(fields, "mesh", violations)),
    };
    let name: Arc<str> = read_name(fields, "name", violations).into();
    let kind = kind?;
    let mesh = mesh.map_or_else(|| name.clone(), Arc::from);
    Some((kind, Key { kind: kind.name, mesh, name }))
}

fn read_kind(fields: &Map<String, Value>, violations: &mut Violations) -> Option<&'static Kind> {
    let name = read_text(fields, "type", violations)?;
    if name.is_empty() {
        violations.add("type", "cannot be empty");
        return None;
    }
    let kind = kinds::kind(&name);
    if kind.is_none() {
        violations.add("type", did_you_mean("unknown kind of resource", &name, KINDS.iter().map(|kind| kind.name)));
    }
    kind
}

fn read_name(fields: &Map<String, Value>, field: &'static str, violations: &mut Violations) -> String {
    let Some(name) = read_text(fields, field, violations) else {
        return String::new();
    };
    if let Some(problem) = check_name(&name) {
        violations.add(field, problem);
    }
    name
}

/// The text of a field, empty if absent; nothing if it is something else, which is then reported.
fn read_text(fields: &Map<String, Value>, field: &str, violations: &mut Violations) -> Option<String> {
    match fields.get(field) {
        None | Some(Value::Null) => Some(String::new()),
        Some(value) => String::decode(value, field, violations),
    }
}
