//! The documents of an input, all of them read and checked before anything is done with the first.

use kuma_model::text::{self, TextError};
use kuma_model::{Document, Kind, Violation};
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
    /// As the user wrote it: what a default means is up to the control plane.
    pub(super) body: Value,
}

/// Reads, renders, parses and checks, and reports all that is wrong with any document.
pub(super) async fn read(arguments: Input) -> Result<Vec<Checked>, Failure> {
    let Input { file, var } = arguments;
    let variables = var.into_iter().collect();
    let (mut checked, mut failures) = (Vec::new(), Vec::new());
    for input in input::read(&file).await? {
        let rendered = render(&input.text, &variables).map_err(|error| template_failure(&input.name, error))?;
        check(&input.name, &rendered, &mut checked, &mut failures)?;
    }
    match failures.is_empty() {
        true => Ok(checked),
        false if checked.is_empty() => Err(Failure::all(failures)),
        false => Err(Failure::all(failures).hint("nothing was done; correct the input and try again")),
    }
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
    for (place, body) in items(values) {
        let parsed = Document::parse(&body).map(|document| (kuma_model::kind(document.key.kind), document));
        match parsed {
            Ok((Some(kind), document)) => {
                checked.push(Checked { place: format!("{place} of {input}"), kind, document, body })
            }
            Ok((None, Document { key, .. })) => {
                failures.push(Failure::new(format!("{input}, {place}: {} can't be applied", key.kind)))
            }
            Err(violations) => {
                let failure = Failure::new(format!("{input}, {place}{}: it is not valid", described(&body)));
                let add = |failure: Failure, violation: &Violation| failure.cause(&violation.field, &violation.message);
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

/// The documents with their places. A list, as `kumactl get -o yaml` shows it, stands for its items.
fn items(values: Vec<Value>) -> impl Iterator<Item = (String, Value)> {
    values.into_iter().zip(1..).flat_map(|(value, number)| match value {
        Value::Object(mut list) if list.len() == 1 && list.get("items").is_some_and(Value::is_array) => {
            let Some(Value::Array(items)) = list.remove("items") else {
                return Vec::new();
            };
            items.into_iter().zip(1..).map(|(item, index)| (format!("document {number}, item {index}"), item)).collect()
        }
        value => vec![(format!("document {number}"), value)],
    })
}

/// ` (Dataplane "web-1")`, as far as a document that is not valid says so.
fn described(body: &Value) -> String {
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    match (text("type"), text("name")) {
        (Some(kind), Some(name)) => format!(" ({kind} {name:?})"),
        _ => String::new(),
    }
}
