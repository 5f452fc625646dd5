//! `kumactl history`: lists the changes of resources.

use serde::Deserialize;
use serde_json::Value;

use super::past::failure;
use crate::cli::{Form, History};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{json_list, yaml_list};
use crate::session::Session;
use crate::table::table;

/// The largest number of entries of one request.
const PAGE: u64 = 1000;

/// The number of changes per commit that a table lists.
const NAMED: usize = 3;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    revision: u64,
    time: String,
    author: String,
    via: String,
    note: String,
    changes: Vec<Change>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    change: String,
    #[serde(rename = "type")]
    kind: String,
    mesh: String,
    name: String,
}

/// Runs `history`.
pub(super) async fn run(session: &Session, arguments: History) -> Result<String, Failure> {
    let History { kind, name, since, until, limit, form } = arguments;
    let client = session.api()?;
    let mut query = vec![("limit", limit.min(PAGE).to_string())];
    let optional = [
        ("mesh", session.only_mesh.clone()),
        ("type", kind.map(|kind| kind.name.to_owned())),
        ("name", name),
        ("since", since.map(|time| time.to_string())),
        ("until", until.map(|time| time.to_string())),
    ];
    query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let (items, more) = read(&client, query, limit).await?;
    if more {
        eprintln!("Note: only the latest {limit} are shown; use --limit to see more");
    }
    match form {
        Form::Json => Ok(json_list(items)),
        Form::Yaml => yaml_list(items).map_err(|error| Failure::new(format!("could not write YAML: {error}"))),
        Form::Table => {
            let rows: Vec<Vec<String>> =
                items.into_iter().map(|item| row(&serde_json::from_value(item).unwrap_or_default())).collect();
            Ok(table(&["REVISION", "TIME", "AUTHOR", "VIA", "CHANGES", "NOTE"], &rows))
        }
    }
}

/// The latest `limit` entries, and whether there are older ones.
async fn read(
    client: &Client,
    mut query: Vec<(&'static str, String)>,
    limit: u64,
) -> Result<(Vec<Value>, bool), Failure> {
    let mut all = Vec::new();
    loop {
        let page = client.get(&["history"], &query).await;
        let mut page = page.map_err(|error| failure(error, "failed to list the history"))?;
        let more = page.get("next").is_some_and(|next| !next.is_null());
        let items = client.items(page.take())?;
        let last = items.last().and_then(|item| item.get("revision")?.as_u64());
        all.extend(items);
        let left = limit.saturating_sub(all.len() as u64);
        match last.filter(|_| more && left > 0) {
            Some(last) => {
                query.retain(|(name, _)| !matches!(*name, "before" | "limit"));
                query.extend([("before", last.to_string()), ("limit", left.min(PAGE).to_string())]);
            }
            None => return Ok((all, more)),
        }
    }
}

fn row(entry: &Entry) -> Vec<String> {
    let Entry { revision, time, author, via, note, changes } = entry;
    // The other formats have fractions of seconds.
    let time = time.parse::<jiff::Timestamp>().map_or_else(|_| time.clone(), |time| format!("{time:.0}"));
    vec![revision.to_string(), time, author.clone(), via.clone(), summary(changes), note.clone()]
}

/// Such as `updated TrafficLog demo/log-1, deleted Dataplane demo/web-1`.
fn summary(changes: &[Change]) -> String {
    let one = |Change { change, kind, mesh, name }: &Change| {
        let place: Vec<&str> = [mesh.as_str(), name.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        format!("{change} {kind} {}", place.join("/"))
    };
    let mut named: Vec<String> = changes.iter().take(NAMED).map(one).collect();
    if changes.len() > NAMED {
        named.push(format!("{} more", changes.len() - NAMED));
    }
    named.join(", ")
}
