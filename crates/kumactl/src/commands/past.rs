//! Shared by the commands that read earlier states.

use serde_json::Value;

use crate::client::{CallError, Client};
use crate::failure::Failure;

/// Reads a path at an earlier state, and returns the revision of that state as well.
pub(super) async fn read(client: &Client, path: &[&str], at: &str) -> Result<(Value, u64), CallError> {
    match client.get_with_revision(path, &[("at", at.to_owned())]).await? {
        (answer, Some(revision)) => Ok((answer, revision)),
        // An older control plane ignores `at`.
        (_, None) => {
            Err(client.garbled("its answer has no revision; it may be an older version, which has no history"))
        }
    }
}

/// The failure of a request. An older control plane does not have these paths.
pub(super) fn failure(error: CallError, attempt: &str) -> Failure {
    match error {
        CallError::Refused(refusal) if refusal.status == 404 => Failure::from(refusal)
            .context(attempt)
            .hint("this Control Plane may be an older version, which has no history; update kuma-cp"),
        // Its title says what failed.
        CallError::Refused(refusal) => refusal.into(),
        error => Failure::from(error).context(attempt),
    }
}
