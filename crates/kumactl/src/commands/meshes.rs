//! Warnings about meshes that do not exist: the control plane returns an empty list for such a mesh, and issues tokens
//! for it.

use kuma_model::{Kind, Scope};

use crate::client::{CallError, Client};
use crate::failure::Failure;

/// Largest number of names in a message.
const MOST: usize = 10;

/// A message, if the mesh does not exist. `None` if it exists or the control plane does not tell.
pub(super) async fn missing(client: &Client, mesh: &str) -> Option<String> {
    if !is_missing(client, &["meshes", mesh]).await {
        return None;
    }
    let meshes = client.list(&["meshes"], &[]).await.unwrap_or_default();
    let names: Vec<&str> = meshes.iter().filter_map(|mesh| mesh.get("name")?.as_str()).collect();
    let there_are = match names.len() {
        0 => "there is none at all".to_owned(),
        1..=MOST => format!("there is {}", names.join(", ")),
        more => format!("there are {more} others"),
    };
    Some(format!("there is no Mesh with name {mesh:?}; {there_are}"))
}

/// Warns on stderr if the mesh does not exist.
pub(super) async fn warn_of_missing(client: &Client, mesh: &str) {
    if let Some(missing) = missing(client, mesh).await {
        eprintln!("Warning: {missing}");
    }
}

/// Adds a note to a failure if its reason is that the mesh does not exist.
pub(super) async fn explained(failure: Failure, client: &Client, kind: &Kind, mesh: &str) -> Failure {
    match kind.scope {
        Scope::Global => failure,
        Scope::Mesh => match missing(client, mesh).await {
            Some(missing) => failure.hint(missing),
            None => failure,
        },
    }
}

/// Whether the control plane answers that a path does not exist.
pub(super) async fn is_missing(client: &Client, path: &[&str]) -> bool {
    matches!(client.get(path, &[]).await, Err(CallError::Refused(refusal)) if refusal.is_not_found())
}
