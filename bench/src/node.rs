//! The Node of a simulated Envoy, as large as Envoy's own.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::wire::{put_bytes, put_double, put_number};

/// The version of Envoy in nodes.
const ENVOY: [u64; 3] = [1, 40, 0];

/// Extensions that Envoy 1.40 lists; with them a node has 61 KB.
pub(crate) const EXTENSIONS: usize = 516;

/// The template of nodes. In every string, `{i}` stands for the number of the client.
#[derive(Clone)]
pub(crate) struct Pattern {
    pub(crate) id: String,
    pub(crate) cluster: String,
    /// A JSON object, or nothing.
    pub(crate) metadata: String,
    /// Extensions, the same in every node.
    pub(crate) extensions: Arc<[u8]>,
}

/// An encoded `envoy.config.core.v3.Node`, with a part of its own and a part that all share.
#[derive(Clone)]
pub(crate) struct Node {
    own: Box<[u8]>,
    shared: Arc<[u8]>,
}

impl Pattern {
    /// A pattern of nodes with this id, that list this many extensions.
    pub(crate) fn new(id: &str, extensions: usize) -> Pattern {
        let mut shared = Vec::new();
        put_bytes(&mut shared, 6, b"envoy");
        // Some control planes serve only certain versions of Envoy.
        let mut version = Vec::new();
        for (number, part) in (1..).zip(ENVOY) {
            put_number(&mut version, number, part);
        }
        let mut build = Vec::new();
        put_bytes(&mut build, 1, &version);
        put_bytes(&mut shared, 8, &build);
        for index in 0..extensions {
            let mut extension = Vec::new();
            put_bytes(&mut extension, 1, format!("envoy.filters.of.some.kind.{index:06}").as_bytes());
            put_bytes(&mut extension, 2, b"envoy.filters.of.some.category");
            put_bytes(&mut extension, 6, b"envoy.extensions.filters.of.some.kind.v3.Config_");
            put_bytes(&mut shared, 9, &extension);
        }
        Pattern { id: id.to_owned(), cluster: "xdsload".to_owned(), metadata: String::new(), extensions: shared.into() }
    }

    /// The node of one client.
    ///
    /// # Errors
    /// If the metadata is no JSON object.
    pub(crate) fn node(&self, number: u32) -> anyhow::Result<Node> {
        let mut own = Vec::new();
        put_bytes(&mut own, 1, numbered(&self.id, number).as_bytes());
        put_bytes(&mut own, 2, numbered(&self.cluster, number).as_bytes());
        if !self.metadata.is_empty() {
            let metadata =
                serde_json::from_str(&numbered(&self.metadata, number)).context("the metadata is not JSON")?;
            put_bytes(&mut own, 3, &structure(&metadata)?);
        }
        Ok(Node { own: own.into(), shared: self.extensions.clone() })
    }
}

impl Node {
    /// The whole message.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        [&*self.own, &*self.shared].concat()
    }
}

/// A text with the number of a client in it.
pub(crate) fn numbered(text: &str, number: u32) -> String {
    text.replace("{i}", &number.to_string())
}

/// A JSON object as an encoded `google.protobuf.Struct`.
fn structure(value: &Value) -> anyhow::Result<Vec<u8>> {
    let Value::Object(fields) = value else { bail!("the metadata is not a JSON object: {value}") };
    let mut structure = Vec::new();
    for (name, value) in fields {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &encoded_value(value)?);
        put_bytes(&mut structure, 1, &entry);
    }
    Ok(structure)
}

/// A `google.protobuf.Value`.
fn encoded_value(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    match value {
        Value::Null => put_number(&mut encoded, 1, 0),
        Value::Number(number) => put_double(&mut encoded, 2, number.as_f64().context("a number is too large")?),
        Value::String(text) => put_bytes(&mut encoded, 3, text.as_bytes()),
        Value::Bool(value) => put_number(&mut encoded, 4, u64::from(*value)),
        Value::Object(_) => put_bytes(&mut encoded, 5, &structure(value)?),
        Value::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                put_bytes(&mut list, 1, &encoded_value(item)?);
            }
            put_bytes(&mut encoded, 6, &list);
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Fields, bytes_field, text_field};

    #[test]
    fn every_client_has_a_node_of_its_own() {
        let pattern = Pattern {
            metadata: r#"{"CLUSTER": "c-{i}", "weights": [1, null, true, {"a": {}}]}"#.to_owned(),
            ..Pattern::new("sidecar~{i}", EXTENSIONS)
        };
        let node = pattern.node(7).expect("a node").encoded();
        assert_eq!(text_field(&node, 1), "sidecar~7");
        let entry = bytes_field(bytes_field(&node, 3), 1);
        assert_eq!((text_field(entry, 1), text_field(bytes_field(entry, 2), 3)), ("CLUSTER", "c-7"));
        assert!((58_000..64_000).contains(&node.len()), "{}", node.len());
        // Name, category and type URLs; a control plane that decodes them refuses a field of another kind.
        let numbers: Vec<u64> = Fields(bytes_field(&node, 9)).filter_map(|field| Some(field.ok()?.0)).collect();
        assert_eq!(numbers, [1, 2, 6]);
        assert!(Pattern { metadata: "[]".to_owned(), ..pattern }.node(7).is_err());
    }
}
