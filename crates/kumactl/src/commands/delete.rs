//! `kumactl delete <kind> <name>` and `kumactl delete -f <file>`.

use kuma_model::{Kind, Scope};

use super::apply::finish;
use super::read::{Checked, read};
use super::{Outcome, collection, meshes, segment};
use crate::cli::{Delete, NoteFlag, Wait, WaitFlag};
use crate::client::{CallError, Client, Written};
use crate::failure::Failure;
use crate::session::Session;

/// Runs `delete`.
pub(super) async fn run(session: &Session, arguments: Delete) -> Result<Outcome, Failure> {
    let Delete { kind, name, input, note: NoteFlag { note }, wait: WaitFlag { wait } } = arguments;
    let (Some(kind), Some(name)) = (kind, name) else {
        let documents = read(input).await?;
        return all(&session.writer().await?.with_note(note), documents, wait).await;
    };
    let client = session.writer().await?.with_note(note);
    let (line, written) = delete(&client, kind, &session.mesh, &name).await?;
    finish(&client, line, vec![written], wait).await
}

/// Deletes the documents of an input in the reverse order of `apply`, since deleting a Mesh also deletes all that is in
/// it. Documents that do not exist are reported at the end; the others are deleted all the same.
async fn all(client: &Client, mut documents: Vec<Checked>, wait: Option<Wait>) -> Result<Outcome, Failure> {
    documents.sort_by_key(|checked| checked.kind.scope == Scope::Global);
    let (mut deleted, mut written, mut failures) = (String::new(), Vec::new(), Vec::new());
    for checked in &documents {
        match delete(client, checked.kind, &checked.document.key.mesh, &checked.document.key.name).await {
            Ok((line, change)) => {
                deleted.push_str(&line);
                written.push(change);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return finish(client, deleted, written, wait).await;
    }
    print!("{deleted}");
    Err(Failure::all(failures))
}

async fn delete(client: &Client, kind: &Kind, mesh: &str, name: &str) -> Result<(String, Option<Written>), Failure> {
    let mut path = collection(kind, mesh)?;
    path.push(segment(name)?);
    match client.delete(&path).await {
        Ok(written) => Ok((format!("deleted {} \"{name}\"\n", kind.name), written)),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => {
            let failure = Failure::new(format!("there is no {} with name \"{name}\"", kind.name));
            Err(meshes::explained(failure, client, kind, mesh).await)
        }
        Err(error) => Err(Failure::from(error).context(format!("failed to delete {} \"{name}\"", kind.name))),
    }
}
