//! The commands, one file per verb. Each returns its output for stdout.

mod apply;
mod compare;
mod config;
mod confirm;
mod delete;
mod diff;
mod export;
mod generate;
mod get;
mod history;
mod inspect;
mod install;
mod manage;
mod manual;
mod meshes;
mod past;
mod read;
mod rollback;
mod store;
mod uninstall;
mod wait;
mod watch;

use kuma_model::{Document, Key, Kind, Scope};
use serde_json::Value;

use crate::cli::{Cli, Command, Generate, Inspect, Install, Manage, Store, Uninstall};
use crate::failure::Failure;
use crate::output::{Format, json_list, sorted, yaml, yaml_list};
use crate::session::Session;

/// The output of a command and its exit code.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The output for stdout.
    pub(crate) text: String,
    /// The exit code.
    pub(crate) code: u8,
}

impl From<String> for Outcome {
    fn from(text: String) -> Outcome {
        Outcome { text, code: 0 }
    }
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<Outcome, Failure> {
    let Cli { global, command } = cli;
    // These commands need no control plane.
    let command = match command {
        Command::Version { detailed } => return Ok(kuma_version::text(detailed).into()),
        Command::Completion { shell } => return Ok(manual::completion(shell).into()),
        Command::Man { dir } => return manual::pages(dir.as_deref()).map(Outcome::from),
        Command::Install(Install::TransparentProxy(arguments)) => {
            return install::transparent_proxy(arguments).map(Outcome::from);
        }
        Command::Install(Install::DatabaseSchema(arguments)) => {
            return Ok(install::database_schema(&arguments).to_owned().into());
        }
        Command::Uninstall(Uninstall::TransparentProxy(arguments)) => {
            return uninstall::transparent_proxy(&arguments).map(Outcome::from);
        }
        command => command,
    };
    let session = Session::new(global)?;
    let said = match command {
        Command::Apply(arguments) => return apply::run(&session, arguments).await,
        Command::Delete(arguments) => return delete::run(&session, arguments).await,
        Command::Diff(arguments) => return diff::run(&session, arguments).await,
        Command::Rollback(arguments) => return rollback::run(&session, arguments).await,
        Command::Export(arguments) => export::run(&session, arguments).await,
        Command::History(arguments) => history::run(&session, arguments).await,
        Command::Config(command) => config::run(&session, command).await,
        Command::Generate(Generate::DataplaneToken(arguments)) => generate::dataplane_token(&session, arguments).await,
        Command::Generate(Generate::TlsCertificate(arguments)) => generate::tls_certificate(arguments),
        Command::Get(arguments) => get::run(&session, arguments).await,
        Command::Inspect(Inspect::Dataplanes(arguments)) => inspect::dataplanes(&session, arguments).await,
        Command::Manage(Manage::Ca(command)) => manage::run(&session, command).await,
        Command::Store(Store::Accept(arguments)) => store::accept(&session, arguments).await,
        Command::Inspect(Inspect::Dataplane(arguments)) => inspect::dataplane(&session, arguments).await,
        Command::Version { .. }
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Install(_)
        | Command::Uninstall(_) => Ok(String::new()),
    };
    said.map(Outcome::from)
}

/// Path of a kind's collection in the HTTP API.
fn collection<'a>(kind: &Kind, mesh: &'a str) -> Result<Vec<&'a str>, Failure> {
    match kind.scope {
        Scope::Global => Ok(vec![kind.api_path]),
        Scope::Mesh => Ok(vec!["meshes", segment(mesh)?, kind.api_path]),
    }
}

/// A name as a segment of a path. Fails for names that have a meaning in paths, such as `..`.
fn segment(name: &str) -> Result<&str, Failure> {
    match name {
        "" | "." | ".." => Err(Failure::new(format!("{name:?} is not a name"))),
        name => Ok(name),
    }
}

/// Formats a single item: YAML and JSON as the item itself, so that it can be applied again, the others as a list. For
/// `table` see [`show`].
fn show_one(
    kind: &Kind,
    item: Value,
    format: Format,
    table: impl FnOnce(&[Value]) -> String,
) -> Result<String, Failure> {
    match format {
        Format::Json => Ok(format!("{item:#}\n")),
        Format::Yaml => yaml(&sorted(item)).map_err(|error| Failure::new(format!("could not write YAML: {error}"))),
        Format::Table | Format::Wide | Format::Name => show(kind, vec![item], format, table),
    }
}

/// Formats a list of items. `table` makes the table, which differs between lists.
fn show(
    kind: &Kind,
    items: Vec<Value>,
    format: Format,
    table: impl FnOnce(&[Value]) -> String,
) -> Result<String, Failure> {
    match format {
        Format::Name => Ok(items.iter().map(|item| format!("{}/{}\n", kind.cli_one, name_of(item))).collect()),
        Format::Table | Format::Wide => Ok(table(&items)),
        Format::Json => Ok(json_list(items)),
        Format::Yaml => yaml_list(items).map_err(|error| Failure::new(format!("could not write YAML: {error}"))),
    }
}

fn name_of(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A resource as the API returns it, without validation: an older kumactl has to show the resources of a newer control
/// plane.
fn document(kind: &Kind, item: &Value) -> Document {
    let mut spec = item.as_object().cloned().unwrap_or_default();
    let mut text = |field: &str| match spec.remove(field) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (_, mesh, name) = (text("type"), text("mesh"), text("name"));
    let key = match kind.scope {
        Scope::Global => Key::mesh(&name),
        Scope::Mesh => Key::new(kind.name, &mesh, &name),
    };
    Document { key, spec: Value::Object(spec) }
}
