//! `kumactl apply`: creates or changes resources.
//!
//! The whole input is read, rendered, parsed and checked before anything is sent, so that a mistake in the last
//! document does not leave the first ones applied. The checks are those of the control plane, from the same crate. If
//! the control plane supports it, several documents are one request and one commit; otherwise they are sent one after
//! the other.

use std::collections::HashMap;

use kuma_model::Scope;
use serde_json::{Value, json};

use super::compare::{differences, stored};
use super::read::{Checked, read};
use super::wait::wait;
use super::{Outcome, collection, segment};
use crate::cli::{Apply, NoteFlag, Wait, WaitFlag};
use crate::client::{CallError, Client, Refusal, Written};
use crate::failure::Failure;
use crate::session::Session;

/// Runs `apply`. Prints nothing for one document that was applied, and a line for each of several; before that, with
/// `--diff`, what is different.
pub(super) async fn run(session: &Session, arguments: Apply) -> Result<Outcome, Failure> {
    let Apply { input, dry_run, diff, note: NoteFlag { note }, wait: WaitFlag { wait: limit } } = arguments;
    let mut documents = read(input).await?;
    // Meshes come first, since documents in a mesh need it. The sort is stable.
    documents.sort_by_key(|checked| checked.kind.scope != Scope::Global);
    let shown = if diff { differences(&session.api()?, &documents).await? } else { String::new() };
    if documents.len() == 1 && !dry_run {
        let client = session.writer().await?.with_note(note);
        let written = send(&client, &documents).await?;
        return finish(&client, shown, written, limit).await;
    }
    let (client, takes_changes) = session.writer_of_changes().await?;
    let client = client.with_note(note);
    if takes_changes {
        match change(&client, &documents, dry_run).await {
            Err(CallError::Refused(refusal)) if refusal.is_too_large() => {
                eprintln!("Note: that is more than the Control Plane takes at once, so documents go one by one");
            }
            Err(CallError::Refused(refusal)) => {
                // After an internal error of the server it is not known whether something was stored.
                let certain = !dry_run && refusal.status.is_client_error();
                let failure = refused(refusal, &documents);
                return Err(if certain { failure.note("Nothing was applied.") } else { failure });
            }
            done => {
                let (said, written) = done?;
                return finish(&client, shown + &said, vec![written], limit).await;
            }
        }
    }
    match dry_run {
        true => Ok((shown + &preview(&client, &documents).await?).into()),
        false => {
            let written = send(&client, &documents).await?;
            finish(&client, shown, written, limit).await
        }
    }
}

/// Waits for the written changes if `--wait` was given. `said` is the output so far.
pub(super) async fn finish(
    client: &Client,
    said: String,
    written: Vec<Option<Written>>,
    limit: Option<Wait>,
) -> Result<Outcome, Failure> {
    let Some(limit) = limit else { return Ok(said.into()) };
    let known: Option<Vec<Written>> = written.into_iter().collect();
    let Some(written) = known else {
        return Err(Failure::new(
            "this Control Plane does not say which change a write has made, so it cannot be waited for",
        )
        .note("What was written is stored.")
        .hint("update kuma-cp, or leave --wait out"));
    };
    wait(client, said, &written, &limit).await
}

/// Sends all documents in one request, and returns a line for each: what was, or would be, done.
async fn change(client: &Client, documents: &[Checked], dry_run: bool) -> Result<(String, Option<Written>), CallError> {
    let bodies: Vec<&Value> = documents.iter().map(|checked| &checked.body).collect();
    let mut request = json!({ "apply": bodies });
    if dry_run {
        request["dryRun"] = true.into();
    }
    let (answer, written) = client.post_change(&["changes"], &request).await?;
    let outcomes = answer.get("outcomes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if outcomes.len() != documents.len() {
        return Err(client.garbled("the answer does not say what was done to each document"));
    }
    let lines = documents.iter().zip(outcomes).map(|(checked, outcome)| {
        let outcome = outcome.get("outcome").and_then(Value::as_str).unwrap_or_default();
        format!("{} {}\n", checked.document.key, if dry_run { would_be(outcome) } else { was(outcome).to_owned() })
    });
    Ok((lines.collect(), written))
}

/// The word for an outcome. An unknown one, of a newer control plane, is printed as it is.
fn was(outcome: &str) -> &str {
    match outcome {
        "updated" => "changed",
        other => other,
    }
}

fn would_be(outcome: &str) -> String {
    match outcome {
        "unchanged" => "would stay as it is".to_owned(),
        other => format!("would be {}", was(other)),
    }
}

/// The failure for a refused request with several documents: each cause names its document and field.
fn refused(refusal: Refusal, documents: &[Checked]) -> Failure {
    let refusal = refusal.map_causes(|field, message| {
        let field = match entry(&field, documents) {
            Some((Checked { place, document, .. }, rest)) => {
                let separator = if rest.is_empty() { "" } else { ", " };
                format!("{place}, {}{separator}{}", document.key, rest.trim_start_matches('.'))
            }
            None => field,
        };
        // A message may refer to another document of the request.
        let named = message.find("apply[").and_then(|at| Some((&message[..at], entry(&message[at..], documents)?)));
        let message = match named {
            Some((before, (Checked { place, .. }, rest))) => format!("{before}{place}{rest}"),
            None => message,
        };
        (field, message)
    });
    refusal.into()
}

/// The document to which `apply[3]` at the beginning of a text refers, and the rest of the text.
fn entry<'a, 'b>(text: &'a str, documents: &'b [Checked]) -> Option<(&'b Checked, &'a str)> {
    let (index, rest) = text.strip_prefix("apply[")?.split_once(']')?;
    Some((documents.get(index.parse::<usize>().ok()?)?, rest))
}

/// Sends documents one after the other, up to the first that is refused. Returns the change of each.
async fn send(client: &Client, documents: &[Checked]) -> Result<Vec<Option<Written>>, Failure> {
    let mut written = Vec::with_capacity(documents.len());
    for (index, checked) in documents.iter().enumerate() {
        let Checked { place, kind, document, body } = checked;
        let mut path = collection(kind, &document.key.mesh)?;
        path.push(segment(&document.key.name)?);
        let failure = match client.put(&path, body).await {
            Ok(change) => {
                written.push(change);
                continue;
            }
            Err(error) => Failure::from(error),
        };
        if documents.len() == 1 {
            return Err(failure);
        }
        let applied: Vec<String> = documents[..index].iter().map(|checked| checked.document.key.to_string()).collect();
        let applied = if applied.is_empty() { "nothing".to_owned() } else { applied.join(", ") };
        let left = documents.len() - index - 1;
        return Err(failure
            .note(format!("This was {place}, {}.", document.key))
            .note(format!("Applied before it: {applied}. Not sent after it: {left}.")));
    }
    Ok(written)
}

/// A dry run for control planes without one: compares the documents with the stored ones. Nothing is written.
async fn preview(client: &Client, documents: &[Checked]) -> Result<String, Failure> {
    let (mut lines, mut failures) = (String::new(), Vec::new());
    // Whether each mesh will exist. The meshes of the input come first.
    let mut meshes: HashMap<&str, bool> = HashMap::new();
    for Checked { place, kind, document, .. } in documents {
        let (mesh, name) = (&*document.key.mesh, &*document.key.name);
        let exists = match (kind.scope, meshes.get(mesh)) {
            (Scope::Global, _) => true,
            (Scope::Mesh, Some(exists)) => *exists,
            (Scope::Mesh, None) => stored(client, &["meshes", segment(mesh)?]).await?.is_some(),
        };
        meshes.insert(mesh, exists);
        if !exists {
            let failure = Failure::new("Could not create a resource (Mesh is not found)");
            let failure = failure.cause("mesh", format!("mesh of name {mesh} is not found"));
            failures.push(failure.note(format!("This was {place}, {}.", document.key)));
            continue;
        }
        let mut path = collection(kind, mesh)?;
        path.push(segment(name)?);
        let what = match stored(client, &path).await? {
            Some(stored) if stored == document.to_json() => "would stay as it is",
            Some(_) => "would be changed",
            None => "would be created",
        };
        lines.push_str(&format!("{} {what}\n", document.key));
    }
    if failures.is_empty() { Ok(lines) } else { Err(Failure::all(failures)) }
}
