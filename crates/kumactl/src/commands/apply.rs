//! `kumactl apply`: creates or changes resources.
//!
//! The whole input is read, rendered, parsed and checked before the first document is sent, so that a mistake in the last one does not leave
//! the first ones applied. The checks are those of the control plane, out of the same crate.

use kuma_model::Scope;

use super::read::{Checked, read};
use super::{collection, segment};
use crate::cli::Apply;
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::session::Session;

/// Applies. Silent when all went well.
pub(super) async fn run(session: &Session, arguments: Apply) -> Result<String, Failure> {
    let Apply { input, dry_run } = arguments;
    let mut documents = read(input).await?;
    // What belongs to a mesh is refused while the mesh is not there. The sort keeps the order otherwise.
    documents.sort_by_key(|checked| checked.kind.scope != Scope::Global);
    if dry_run {
        return preview(&session.api()?, &documents).await;
    }
    send(&session.writer().await?, &documents).await?;
    Ok(String::new())
}

/// Sends documents one after the other, up to the first that is refused.
async fn send(client: &Client, documents: &[Checked]) -> Result<(), Failure> {
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
                .note(format!("This was {place}, {}.", document.key))
                .note(format!("Applied before it: {applied}. Not sent after it: {left}.")));
        }
    }
    Ok(())
}

/// What applying would do, told by what is there now. Nothing is sent.
async fn preview(client: &Client, documents: &[Checked]) -> Result<String, Failure> {
    let mut lines = String::new();
    for Checked { kind, document, .. } in documents {
        let mut path = collection(kind, &document.key.mesh)?;
        path.push(segment(&document.key.name)?);
        let what = match client.get(&path, &[]).await {
            Ok(stored) if stored == document.to_json() => "would stay as it is",
            Ok(_) => "would be changed",
            Err(CallError::Refused(refusal)) if refusal.is_not_found() => "would be created",
            Err(error) => return Err(error.into()),
        };
        lines.push_str(&format!("{} {what}\n", document.key));
    }
    Ok(lines)
}
