//! `kumactl get <kind> [<name>]`: resources as they were applied.

use kuma_model::{Kind, Scope};
use serde_json::Value;

use super::watch::watch;
use super::{collection, document, meshes, past, segment, show, show_one};
use crate::cli::{AtFlag, Get, Output};
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::output::Format;
use crate::session::Session;
use crate::table::table;

/// Lists the resources of a kind, or shows one.
pub(super) async fn run(session: &Session, arguments: Get) -> Result<String, Failure> {
    let Get { kind, name, watch: go_on, at: AtFlag { at }, output: Output { format } } = arguments;
    let mut path = collection(kind, &session.mesh)?;
    if let Some(name) = &name {
        path.push(segment(name)?);
    }
    let client = session.api()?;
    let read = async || match &name {
        Some(name) => one(&client, kind, &session.mesh, &path, name, at.as_deref()).await.map(|item| vec![item]),
        None => list(&client, kind, &path, at.as_deref()).await,
    };
    let show = |items: Vec<Value>| print(kind, items, format, name.is_some());
    if go_on {
        return watch(read, show).await;
    }
    let items = read().await?;
    if items.is_empty() && kind.scope == Scope::Mesh && at.is_none() {
        meshes::warn_of_missing(&client, &session.mesh).await;
    }
    show(items)
}

async fn list(client: &Client, kind: &Kind, path: &[&str], at: Option<&str>) -> Result<Vec<Value>, Failure> {
    let items = async { client.items(read(client, path, at).await?) };
    items.await.map_err(|error| Failure::from(error).context(format!("failed to list {}", plural(kind.name))))
}

async fn one(
    client: &Client,
    kind: &Kind,
    mesh: &str,
    path: &[&str],
    name: &str,
    at: Option<&str>,
) -> Result<Value, Failure> {
    match (read(client, path, at).await, at) {
        (Ok(item), _) => Ok(item),
        (Err(CallError::Refused(refusal)), None) if refusal.is_not_found() => {
            let failure = Failure::new(format!("there is no {} with name \"{name}\"", kind.name));
            Err(meshes::explained(failure, client, kind, mesh).await)
        }
        (Err(CallError::Refused(refusal)), Some(at)) if refusal.is_not_found() => {
            Err(Failure::new(format!("there was no {} with name \"{name}\" at {at}", kind.name)))
        }
        (Err(error), _) => Err(Failure::from(error).context(format!("failed to get {} \"{name}\"", kind.name))),
    }
}

async fn read(client: &Client, path: &[&str], at: Option<&str>) -> Result<Value, CallError> {
    match at {
        Some(at) => past::read(client, path, at).await.map(|(answer, _)| answer),
        None => client.get(path, &[]).await,
    }
}

fn print(kind: &Kind, mut items: Vec<Value>, format: Format, single: bool) -> Result<String, Failure> {
    let rows = |items: &[Value]| {
        let rows: Vec<Vec<String>> = items.iter().map(|item| kind.row(&document(kind, item))).collect();
        table(&kind.titles(), &rows)
    };
    match &mut items[..] {
        [item] if single => show_one(kind, item.take(), format, rows),
        _ => show(kind, items, format, rows),
    }
}

/// `Mesh` gives `Meshes`, `Dataplane` gives `Dataplanes`.
fn plural(name: &str) -> String {
    if name.ends_with("sh") { format!("{name}es") } else { format!("{name}s") }
}
