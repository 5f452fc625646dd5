//! Reads and checks all documents of an input before the first one is used.

use std::collections::HashMap;

use kuma_model::text::{self, TextError};
use kuma_model::{Document, Key, Kind, Violation};
use serde_json::Value;

use crate::cli::Input;
use crate::failure::Failure;
use crate::input;
use crate::template::{TemplateError, render};

/// One document that has passed all checks.
pub(super) struct Checked {
    /// Place in the input, such as `document 2 of mesh.yaml`.
    pub(super) place: String,
    pub(super) kind: &'static Kind,
    /// With defaults.
    pub(super) document: Document,
    /// As the user wrote it, without defaults: the control plane fills those in.
    pub(super) body: Value,
}

/// Reads, renders, parses and checks the documents. A failure holds the errors of all of them.
pub(super) async fn read(arguments: Input) -> Result<Vec<Checked>, Failure> {
    let Input { file, var } = arguments;
    let variables = var.into_iter().collect();
    let (mut checked, mut failures) = (Vec::new(), Vec::new());
    for input in input::read(&file).await? {
        let rendered = render(&input.text, &variables).map_err(|error| template_failure(&input.name, error))?;
        check(&input.name, &rendered, &mut checked, &mut failures)?;
    }
    failures.extend(repeated(&checked));
    match failures.is_empty() {
        true => Ok(checked),
        false if checked.is_empty() => Err(Failure::all(failures)),
        false => Err(Failure::all(failures).hint("nothing was done; correct the input and try again")),
    }
}

/// A failure for each document that occurs twice, since it is unclear which one is meant.
fn repeated(documents: &[Checked]) -> Vec<Failure> {
    let mut first: HashMap<&Key, &str> = HashMap::new();
    let mut failures = Vec::new();
    for Checked { place, document, .. } in documents {
        match first.get(&document.key) {
            Some(first) => failures.push(Failure::new(format!("{place}: {} is {first} already", document.key))),
            None => drop(first.insert(&document.key, place)),
        }
    }
    failures
}

fn template_failure(input: &str, error: TemplateError) -> Failure {
    match error {
        TemplateError::NoValue { name, line } => Failure::new(format!(
            "{input}, line {line}: {{{{{name}}}}} has no value"
        ))
        .hint(format!("give it one with --var {name}=VALUE; to keep the braces, use --var '{name}={{{{{name}}}}}'")),
        TemplateError::Unsupported { tag, line } => {
            Failure::new(format!("{input}, line {line}: {tag} is not supported; only {{{{name}}}} is"))
        }
    }
}

fn check(input: &str, text: &str, checked: &mut Vec<Checked>, failures: &mut Vec<Failure>) -> Result<(), Failure> {
    let values = text::parse_documents(text).map_err(|error| text_failure(input, error))?;
    if values.is_empty() {
        return Err(Failure::new(format!("{input} holds no document")));
    }
    // Places are looked up only if there is an error.
    let mut places = None;
    for Item { place, document, prefix, body } in items(values) {
        let parsed = Document::parse(&body).map(|document| (kuma_model::kind(document.key.kind), document));
        match parsed {
            Ok((Some(kind), document)) => {
                checked.push(Checked { place: format!("{place} of {input}"), kind, document, body })
            }
            Ok((None, Document { key, .. })) => {
                failures.push(Failure::new(format!("{input}, {place}: {} can't be applied", key.kind)))
            }
            Err(violations) => {
                let places = places.get_or_insert_with(|| text::parse_places(text).unwrap_or_default());
                let root = places.get(document);
                let failure = Failure::new(format!("{input}, {place}{}: it is not valid", described(&body)));
                let add = |failure: Failure, Violation { field, message }: &Violation| match root {
                    Some(root) => {
                        let (line, column) = root.place_of(&format!("{prefix}{field}"));
                        failure.cause(field, format!("{message} (line {line}, column {column})"))
                    }
                    None => failure.cause(field, message),
                };
                failures.push(violations.iter().fold(failure, add));
            }
        }
    }
    Ok(())
}

fn text_failure(input: &str, error: TextError) -> Failure {
    let TextError { document, line, column, message } = error;
    let place = if line > 0 { format!(", line {line}, column {column}") } else { String::new() };
    Failure::new(format!("{input}, document {document}{place}: {message}"))
}

/// One document of a text.
struct Item {
    /// Such as `document 2, item 1`.
    place: String,
    /// Which document of the text it is or is part of, from 0.
    document: usize,
    /// Prefix of the paths of its fields.
    prefix: String,
    body: Value,
}

/// The documents with their places. A list, as `kumactl get -o yaml` prints it, is replaced by its items.
fn items(values: Vec<Value>) -> impl Iterator<Item = Item> {
    values.into_iter().enumerate().flat_map(|(document, value)| {
        let place = format!("document {}", document + 1);
        match value {
            Value::Object(mut list) if list.len() == 1 && list.get("items").is_some_and(Value::is_array) => {
                let Some(Value::Array(items)) = list.remove("items") else {
                    return Vec::new();
                };
                let item = |(index, body)| Item {
                    place: format!("{place}, item {}", index + 1),
                    document,
                    prefix: format!("items[{index}]."),
                    body,
                };
                items.into_iter().enumerate().map(item).collect()
            }
            body => vec![Item { place, document, prefix: String::new(), body }],
        }
    })
}

/// ` (Dataplane "web-1")`, as far as an invalid document has type and name.
fn described(body: &Value) -> String {
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    match (text("type"), text("name")) {
        (Some(kind), Some(name)) => format!(" ({kind} {name:?})"),
        _ => String::new(),
    }
}
