//! Compares documents with the stored ones.

use serde_json::{Value, json};

use super::read::Checked;
use super::{collection, segment};
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::unified::{is_coloured, unified};

/// What applying documents would change, in the format of `diff -u`. Empty if all are stored as they are.
pub(super) async fn differences(client: &Client, documents: &[Checked]) -> Result<String, Failure> {
    let mut items = Vec::new();
    for Checked { kind, document, .. } in documents {
        let (mesh, name) = (&*document.key.mesh, &*document.key.name);
        let mut path = collection(kind, mesh)?;
        path.push(segment(name)?);
        let (before, after) = (stored(client, &path).await?, document.to_json());
        if before.as_ref() != Some(&after) {
            // As the control plane gives the differences between two revisions.
            items.push(json!({"type": kind.name, "mesh": mesh, "name": name, "before": before, "after": after}));
        }
    }
    unified(&items, "stored", "given", is_coloured())
}

/// The stored document.
pub(super) async fn stored(client: &Client, path: &[&str]) -> Result<Option<Value>, Failure> {
    match client.get(path, &[]).await {
        Ok(stored) => Ok(Some(stored)),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
