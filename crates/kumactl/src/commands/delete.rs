//! `kumactl delete <kind> <name>`.

use super::{collection, segment};
use crate::cli::Delete;
use crate::client::CallError;
use crate::failure::Failure;
use crate::session::Session;

/// Deletes one resource.
pub(super) async fn run(session: &Session, arguments: Delete) -> Result<String, Failure> {
    let Delete { kind, name } = arguments;
    let mut path = collection(kind, &session.mesh)?;
    path.push(segment(&name)?);
    match session.writer().await?.delete(&path).await {
        Ok(()) => Ok(format!("deleted {} \"{name}\"\n", kind.name)),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => {
            Err(Failure::new(format!("there is no {} with name \"{name}\"", kind.name)))
        }
        Err(error) => Err(Failure::from(error).context(format!("failed to delete {} \"{name}\"", kind.name))),
    }
}
