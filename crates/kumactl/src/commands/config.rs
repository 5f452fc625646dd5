//! `kumactl config`: the known control planes, and the active one.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::admin_tls;
use crate::cli::{AddControlPlane, Config, ControlPlanes};
use crate::client::{CallError, Client};
use crate::config::{AdminApi, Configuration, Context, Credentials, parse_address};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::table::table;

/// Time for the check whether an address is that of a control plane.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command of `config`.
pub(super) async fn run(session: &Session, command: Config) -> Result<String, Failure> {
    match command {
        Config::View => view(session),
        Config::ControlPlanes(ControlPlanes::Add(arguments)) => add(session, arguments).await,
        Config::ControlPlanes(ControlPlanes::List) => list(session),
        Config::ControlPlanes(ControlPlanes::Remove { name }) => remove(session, &name),
        Config::ControlPlanes(ControlPlanes::Switch { name }) => switch(session, &name),
    }
}

fn view(session: &Session) -> Result<String, Failure> {
    let text = output::yaml(&session.configuration()?);
    let text = text.map_err(|error| Failure::new(format!("could not write YAML: {error}")))?;
    // The empty line at the end is part of the documented output.
    Ok(format!("{text}\n"))
}

fn list(session: &Session) -> Result<String, Failure> {
    let configuration = session.configuration()?;
    let active = configuration.active().map(|active| active.name).ok();
    let row = |control_plane: &crate::config::ControlPlane| {
        let mark = if active == Some(control_plane.name.as_str()) { "*" } else { "" };
        vec![mark.to_owned(), control_plane.name.clone(), control_plane.coordinates.api_server.url.clone()]
    };
    let rows: Vec<Vec<String>> = configuration.control_planes.iter().map(row).collect();
    Ok(table(&["ACTIVE", "NAME", "ADDRESS"], &rows))
}

async fn add(session: &Session, arguments: AddControlPlane) -> Result<String, Failure> {
    let AddControlPlane { name, address, overwrite, admin_client_cert, admin_client_key, admin_server_cert } =
        arguments;
    let invalid = |reason: String| Failure::new(format!("Control Plane configuration is not valid: {reason}"));
    if name.trim().is_empty() {
        return Err(invalid("the name must not be empty".to_owned()));
    }
    parse_address(&address).map_err(invalid)?;
    let mut configuration = session.config_file.load_or_begin()?;
    if configuration.control_plane(&name).is_some() && !overwrite {
        return Err(Failure::new(format!(
            "Control Plane with name {name:?} already exists. Use --overwrite to replace an existing one."
        )));
    }
    let admin_api = AdminApi {
        client_cert: absolute(admin_client_cert),
        client_key: absolute(admin_client_key),
        server_cert: absolute(admin_server_cert),
    };
    check_files(&admin_api)?;
    probe(&address, session.log).await?;
    let context = Context {
        control_plane: name.clone(),
        credentials: Some(Credentials { admin_api: Some(admin_api) }),
        defaults: None,
        name: name.clone(),
    };
    configuration.put(&address, context);
    session.config_file.save(&configuration)?;
    Ok(format!("added Control Plane {name:?}\n{}", active(&configuration)))
}

fn remove(session: &Session, name: &str) -> Result<String, Failure> {
    let mut configuration = session.configuration()?;
    if !configuration.remove(name) {
        return Err(unknown(name));
    }
    session.config_file.save(&configuration)?;
    Ok(format!("removed Control Plane {name:?}\n{}", active(&configuration)))
}

fn switch(session: &Session, name: &str) -> Result<String, Failure> {
    let mut configuration = session.configuration()?;
    if !configuration.switch(name) {
        return Err(unknown(name));
    }
    session.config_file.save(&configuration)?;
    Ok(active(&configuration))
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("there is no Control Plane with name {name:?}"))
        .hint("`kumactl config control-planes list` shows those there are")
}

/// The line that names the active control plane.
fn active(configuration: &Configuration) -> String {
    match configuration.active() {
        Ok(active) => format!("switched active Control Plane to {:?}\n", active.name),
        Err(_) => "there is no active Control Plane left. Use `kumactl config control-planes add` to add a Control \
            Plane and make it active\n"
            .to_owned(),
    }
}

/// An absolute path: later commands may run in other folders.
fn absolute(path: Option<String>) -> String {
    let path = path.unwrap_or_default();
    match std::path::absolute(&path) {
        Ok(absolute) if !path.is_empty() => absolute.display().to_string(),
        _ => path,
    }
}

/// Fails for unusable files, and warns of a key that other users can read.
fn check_files(admin_api: &AdminApi) -> Result<(), Failure> {
    let AdminApi { client_cert, client_key, server_cert: _ } = admin_api;
    for path in [client_cert, client_key].into_iter().filter(|path| !path.is_empty()) {
        let file = std::fs::File::open(path).and_then(|file| file.metadata());
        let metadata = file.map_err(|error| Failure::new(format!("could not read {path:?}: {error}")))?;
        if path == client_key && metadata.permissions().mode() & 0o077 != 0 {
            eprintln!("Warning: the key in {path:?} can be read by other users of this machine; `chmod 600` it");
        }
    }
    if admin_api.is_empty() { Ok(()) } else { admin_tls::client_config(admin_api).map(drop) }
}

/// Checks that an address is that of a control plane.
async fn probe(address: &str, log: bool) -> Result<(), Failure> {
    match Client::new(address, PROBE_TIMEOUT, log)?.get(&[], &[]).await {
        Ok(index) if index.get("tagline").and_then(Value::as_str) == Some("Kuma") => Ok(()),
        Ok(_) => Err(Failure::new("provided address is not valid Kuma Control Plane API Server")),
        Err(CallError::Unreachable { reason, .. }) => {
            Err(Failure::new(format!("could not connect to the Control Plane API Server: {reason}")))
        }
        Err(CallError::Refused(refusal)) => Err(Failure::new("Control Plane API Server is not responding")
            .note(format!("{address} answers {}", refusal.status))),
        Err(CallError::Garbled { reason, .. }) => Err(Failure::new(format!(
            "could not unmarshal body from the Control Plane API Server. Provided address is not valid Kuma Control \
             Plane API Server: {reason}"
        ))),
    }
}
