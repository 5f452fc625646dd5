//! `kumactl get <kind>`: the resources of a kind, as they were applied.

use super::{collection, document, show};
use crate::cli::{Get, Output};
use crate::failure::Failure;
use crate::session::Session;
use crate::table::table;

/// Lists.
pub(super) async fn run(session: &Session, arguments: Get) -> Result<String, Failure> {
    let Get { kind, output: Output { format } } = arguments;
    let path = collection(kind, &session.mesh)?;
    let items = session.api()?.list(&path, &[]).await;
    let items = items.map_err(|error| Failure::from(error).context(format!("failed to list {}", plural(kind.name))))?;
    show(items, format, |items| {
        let rows: Vec<Vec<String>> = items.iter().map(|item| kind.row(&document(kind, item))).collect();
        table(&kind.titles(), &rows)
    })
}

/// `Mesh` gives `Meshes`, `Dataplane` gives `Dataplanes`.
fn plural(name: &str) -> String {
    if name.ends_with("sh") { format!("{name}es") } else { format!("{name}s") }
}
