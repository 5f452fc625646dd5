//! `kumactl apply`: creates or changes resources.
//!
//! The whole input is read, rendered, parsed and checked before the first document is sent, so that a mistake in the last one does not leave
//! the first ones applied. The checks are those of the control plane, out of the same crate.

use kuma_model::text::{self, TextError};
use kuma_model::{Document, Kind, Scope, Violation};
use serde_json::Value;

use super::{collection, segment};
use crate::cli::Apply;
use crate::client::Client;
use crate::failure::Failure;
use crate::input;
use crate::session::Session;
use crate::template::{TemplateError, render};

/// One document of the input that has passed all checks.
struct Checked {
    /// Place in the input, such as `document 2`.
    place: String,
    kind: &'static Kind,
    document: Document,
    /// As the user wrote it: what a default means is up to the control plane.
    body: Value,
}

/// Applies. Silent when all went well.
pub(super) async fn run(session: &Session, arguments: Apply) -> Result<String, Failure> {
    let Apply { file, var } = arguments;
    let input = input::read(file.as_deref()).await?;
    let rendered =
        render(&input.text, &var.into_iter().collect()).map_err(|error| template_failure(&input.name, error))?;
    let mut documents = check(&input.name, &rendered)?;
    // What belongs to a mesh is refused while the mesh is not there. The sort keeps the order otherwise.
    documents.sort_by_key(|checked| checked.kind.scope != Scope::Global);
    send(&session.writer().await?, &input.name, &documents).await?;
    Ok(String::new())
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

/// Parses and checks all documents, and reports all that is wrong with any of them.
fn check(input: &str, text: &str) -> Result<Vec<Checked>, Failure> {
    let values = text::parse_documents(text).map_err(|error| text_failure(input, error))?;
    if values.is_empty() {
        return Err(Failure::new(format!("{input} holds no document")));
    }
    let (mut checked, mut failures) = (Vec::new(), Vec::new());
    for (place, body) in items(values) {
        let parsed = Document::parse(&body).map(|document| (kuma_model::kind(document.key.kind), document));
        match parsed {
            Ok((Some(kind), document)) => checked.push(Checked { place, kind, document, body }),
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
    match failures.is_empty() {
        true => Ok(checked),
        false if checked.is_empty() => Err(Failure::all(failures)),
        false => Err(Failure::all(failures).hint("nothing was applied; correct the input and apply it again")),
    }
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

/// Sends documents one after the other, up to the first that is refused.
async fn send(client: &Client, input: &str, documents: &[Checked]) -> Result<(), Failure> {
    for (index, checked) in documents.iter().enumerate() {
        let Checked { place, kind, document, body } = checked;
        let mut path = collection(kind, &document.key.mesh)?;
        path.push(segment(&document.key.name)?);
        if let Err(error) = client.put(&path, body).await {
            let failure = Failure::from(error);
            if documents.len() == 1 {
                return Err(failure);
            }
            let applied: Vec<String> =
                documents[..index].iter().map(|checked| checked.document.key.to_string()).collect();
            let applied = if applied.is_empty() { "nothing".to_owned() } else { applied.join(", ") };
            let left = documents.len() - index - 1;
            return Err(failure
                .note(format!("This was {place} of {input}, {}.", document.key))
                .note(format!("Applied before it: {applied}. Not sent after it: {left}.")));
        }
    }
    Ok(())
}
