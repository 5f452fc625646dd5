//! What a kind of resource is: the trait that each implements, and its erased twin that everything else loops over.

use std::fmt::Debug;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::decode::{self, Fields};
use crate::document::Document;
use crate::violations::Violations;

/// Whether resources of a kind live inside a mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Inside a mesh: the document names it.
    Mesh,
    /// Beside all meshes. Only Mesh itself is.
    Global,
}

/// A column of the table that kumactl prints of a kind.
pub struct Column<R> {
    /// Its header.
    pub title: &'static str,
    /// What stands in it for one resource.
    pub cell: fn(&R) -> String,
}

/// The spec of a kind of resource: how it is called in each place, how it is read, and when it is valid.
pub trait Resource: Serialize + Clone + PartialEq + Debug + Default + Send + Sync + 'static {
    /// `type:` of the document; the kind on Kubernetes; the `type` column in PostgreSQL.
    const KIND: &'static str;
    /// Its collection in the REST API.
    const API_PATH: &'static str;
    /// How `kumactl get` calls the list.
    const CLI_LIST: &'static str;
    /// How `kumactl delete` calls one.
    const CLI_ONE: &'static str;
    /// Where it lives.
    const SCOPE: Scope = Scope::Mesh;
    /// Whether the control plane writes it by itself, so that kumactl need not offer it.
    const SERVER_MADE: bool = false;
    /// Columns of kumactl's table after MESH and NAME.
    const COLUMNS: &'static [Column<Self>] = &[];

    /// Reads the spec.
    fn decode(fields: &mut Fields<'_>) -> Self;

    /// Fills in the defaults that are stored with the resource.
    fn apply_defaults(&mut self) {}

    /// Checks the rules of the kind.
    fn validate(&self, violations: &mut Violations);
}

/// A [`Resource`] without its type: plain data and functions.
#[derive(Debug)]
pub struct Kind {
    /// [`Resource::KIND`].
    pub name: &'static str,
    /// [`Resource::API_PATH`].
    pub api_path: &'static str,
    /// [`Resource::CLI_LIST`].
    pub cli_list: &'static str,
    /// [`Resource::CLI_ONE`].
    pub cli_one: &'static str,
    /// [`Resource::SCOPE`].
    pub scope: Scope,
    /// [`Resource::SERVER_MADE`].
    pub server_made: bool,
    check: fn(&Map<String, Value>) -> Result<Value, Violations>,
    columns: fn() -> Vec<&'static str>,
    cells: fn(&Value) -> Vec<String>,
}

impl Kind {
    /// The kind of a type of resource.
    pub const fn of<R: Resource>() -> Kind {
        Kind {
            name: R::KIND,
            api_path: R::API_PATH,
            cli_list: R::CLI_LIST,
            cli_one: R::CLI_ONE,
            scope: R::SCOPE,
            server_made: R::SERVER_MADE,
            check: check::<R>,
            columns: columns::<R>,
            cells: cells::<R>,
        }
    }

    /// Reads, completes and validates a spec. Returns it in the form in which it is stored and served: defaults filled
    /// in, zero values left out, empty objects and lists kept where they were written.
    pub fn check(&self, spec: &Map<String, Value>) -> Result<Value, Violations> {
        (self.check)(spec)
    }

    /// Headers of the columns that are this kind's own.
    pub fn columns(&self) -> Vec<&'static str> {
        (self.columns)()
    }

    /// Cells of the columns that are this kind's own; `unknown` in each if the spec cannot be read.
    pub fn cells(&self, document: &Document) -> Vec<String> {
        (self.cells)(&document.spec)
    }

    /// Headers of kumactl's table.
    pub fn titles(&self) -> Vec<&'static str> {
        let mut titles = match self.scope {
            Scope::Global => vec!["NAME"],
            Scope::Mesh => vec!["MESH", "NAME"],
        };
        titles.extend(self.columns());
        titles
    }

    /// A row of kumactl's table.
    pub fn row(&self, document: &Document) -> Vec<String> {
        let mut row = match self.scope {
            Scope::Global => Vec::new(),
            Scope::Mesh => vec![document.key.mesh.to_string()],
        };
        row.push(document.key.name.to_string());
        row.extend(self.cells(document));
        row
    }
}

/// Reads a stored spec back into its type. Fields that this version does not know are passed over, and the rules of the
/// kind are not checked again.
pub fn decode_spec<R: Resource>(spec: &Value) -> Result<R, Violations> {
    let mut violations = Violations::default();
    let resource = decode::object(spec, "", &mut violations, R::decode).unwrap_or_default();
    violations.result(resource)
}

fn check<R: Resource>(spec: &Map<String, Value>) -> Result<Value, Violations> {
    let mut violations = Violations::default();
    let mut resource = decode::fields(spec, "", &mut violations, R::decode);
    resource.apply_defaults();
    let mut rules = Violations::default();
    resource.validate(&mut rules);
    let mut violations = violations.then(rules);
    let mut normal = match serde_json::to_value(&resource) {
        Ok(Value::Object(normal)) => normal,
        // Specs are structs of plain values, so this is for completeness.
        Ok(_) => Map::new(),
        Err(error) => {
            violations.add("", error.to_string());
            Map::new()
        }
    };
    drop_unwritten_lists(&mut normal, Some(spec));
    violations.result(Value::Object(normal))
}

/// Removes the empty lists that the document does not have: a type does not tell `[]` from absent.
fn drop_unwritten_lists(normal: &mut Map<String, Value>, spec: Option<&Map<String, Value>>) {
    normal.retain(|name, value| {
        let source = spec.and_then(|spec| decode::written(spec, name));
        match value {
            Value::Array(elements) if elements.is_empty() => source.is_some_and(Value::is_array),
            Value::Array(elements) => {
                let sources = source.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for (index, element) in elements.iter_mut().enumerate() {
                    if let Value::Object(element) = element {
                        drop_unwritten_lists(element, sources.get(index).and_then(Value::as_object));
                    }
                }
                true
            }
            Value::Object(fields) => {
                drop_unwritten_lists(fields, source.and_then(Value::as_object));
                true
            }
            _ => true,
        }
    });
}

fn columns<R: Resource>() -> Vec<&'static str> {
    R::COLUMNS.iter().map(|column| column.title).collect()
}

fn cells<R: Resource>(spec: &Value) -> Vec<String> {
    match decode_spec::<R>(spec) {
        Ok(resource) => R::COLUMNS.iter().map(|column| (column.cell)(&resource)).collect(),
        Err(_) => vec!["unknown".to_owned(); R::COLUMNS.len()],
    }
}
