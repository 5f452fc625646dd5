//! `kumactl delete <kind> <name>` and `kumactl delete -f <file>`.

use kuma_model::{Kind, Scope};

use super::read::read;
use super::{collection, segment};
use crate::cli::Delete;
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::session::Session;

/// Deletes.
pub(super) async fn run(session: &Session, arguments: Delete) -> Result<String, Failure> {
    let Delete { kind, name, input } = arguments;
    let (Some(kind), Some(name)) = (kind, name) else {
        return all(session, read(input).await?).await;
    };
    delete(&session.writer().await?, kind, &session.mesh, &name).await
}

/// Deletes what an input holds, in the opposite order of `apply`: a Mesh takes all that is in it along. What is not there is
/// told at the end, and keeps nothing else.
async fn all(session: &Session, mut documents: Vec<super::read::Checked>) -> Result<String, Failure> {
    documents.sort_by_key(|checked| checked.kind.scope == Scope::Global);
    let client = session.writer().await?;
    let (mut deleted, mut failures) = (String::new(), Vec::new());
    for checked in &documents {
        match delete(&client, checked.kind, &checked.document.key.mesh, &checked.document.key.name).await {
            Ok(line) => deleted.push_str(&line),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return Ok(deleted);
    }
    print!("{deleted}");
    Err(Failure::all(failures))
}

async fn delete(client: &Client, kind: &Kind, mesh: &str, name: &str) -> Result<String, Failure> {
    let mut path = collection(kind, mesh)?;
    path.push(segment(name)?);
    match client.delete(&path).await {
        Ok(()) => Ok(format!("deleted {} \"{name}\"\n", kind.name)),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => {
            Err(Failure::new(format!("there is no {} with name \"{name}\"", kind.name)))
        }
        Err(error) => Err(Failure::from(error).context(format!("failed to delete {} \"{name}\"", kind.name))),
    }
}
