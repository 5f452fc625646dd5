//! `defaults.mesh`: the Mesh that exists from the first start on.

use kuma_model::{Document, Key, Violations, text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::Rules;

/// Name of the Mesh that everything is in unless it says otherwise.
const DEFAULT_MESH: &str = "default";

/// `defaults`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// The default Mesh as YAML text.
    pub mesh: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { mesh: "type: Mesh\nname: default\nmtls:\n  ca: {}\n  enabled: false\n".into() }
    }
}

impl Defaults {
    /// The Mesh `default` with the spec of the text. Its `type` and `name` are not looked at.
    pub fn mesh_document(&self) -> Result<Document, String> {
        let documents = text::parse_documents(&self.mesh).map_err(|error| error.to_string())?;
        let mut spec = match documents.as_slice() {
            [] | [Value::Null] => serde_json::Map::new(),
            [Value::Object(fields)] => fields.clone(),
            [_] => return Err("expected a mapping".into()),
            _ => return Err("expected a single document".into()),
        };
        spec.retain(|key, _| !matches!(key.as_str(), "type" | "name" | "mesh"));
        let key = Key::mesh(DEFAULT_MESH);
        let kind = kuma_model::kind(key.kind).ok_or("there is no kind Mesh")?;
        let spec = kind.check(&spec).map_err(|violations| one_line(&violations))?;
        Ok(Document { key, spec })
    }

    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        if let Err(reason) = self.mesh_document() {
            rules.require(false, "defaults.mesh", &format!("Mesh is not valid: {reason}"));
        }
    }
}

fn one_line(violations: &Violations) -> String {
    let all: Vec<String> = violations.iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
    all.join("; ")
}
