//! `kumactl manage`: the CAs of meshes.
//!
//! Keys are read from files and sent to the admin server. They are never printed, and the server never returns them.

use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use kuma_model::Ca;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::segment;
use crate::admin;
use crate::cli::{
    AddCertificate, BuiltinCa, BuiltinCertificates, DeleteCertificate, KeyPairFiles, ListCertificates, ManageCa,
    Output, ProvidedCa, ProvidedCertificates, Rotate, RotateProvided,
};
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::output::{Format, json_text, sorted, yaml};
use crate::session::Session;
use crate::table::table;

/// Header of the table of certificates.
const COLUMNS: [&str; 7] =
    ["ID", "COMMON NAME", "SERIAL NUMBER", "NOT VALID BEFORE", "NOT VALID AFTER", "SHA-1 FINGERPRINT", "STATE"];

/// Largest number of proxies' names in a note.
const NAMED: usize = 5;

/// Runs a command about a CA.
pub(super) async fn run(session: &Session, command: ManageCa) -> Result<String, Failure> {
    match command {
        ManageCa::Provided(ProvidedCa::Certificates(command)) => match command {
            ProvidedCertificates::Add(arguments) => add(session, arguments).await,
            ProvidedCertificates::Delete(arguments) => delete(session, Ca::Provided, arguments).await,
            ProvidedCertificates::List(arguments) => list(session, Ca::Provided, arguments).await,
            ProvidedCertificates::Rotate(RotateProvided { pair, rotate: arguments }) => {
                rotate(session, Ca::Provided, Some(pair), arguments).await
            }
        },
        ManageCa::Builtin(BuiltinCa::Certificates(command)) => match command {
            BuiltinCertificates::Delete(arguments) => delete(session, Ca::Builtin, arguments).await,
            BuiltinCertificates::List(arguments) => list(session, Ca::Builtin, arguments).await,
            BuiltinCertificates::Rotate(arguments) => rotate(session, Ca::Builtin, None, arguments).await,
        },
    }
}

/// Adds the certificate of a provided CA.
async fn add(session: &Session, arguments: AddCertificate) -> Result<String, Failure> {
    let AddCertificate { pair } = arguments;
    let body = read(&pair)?;
    let answer = client_for_keys(session).await?.post(&path(session, Ca::Provided, &["certificates"])?, &body).await;
    let answer = answer.map_err(|error| match error {
        CallError::Refused(refusal) if refusal.is_conflict() => Failure::from(refusal)
            .hint("`kumactl manage ca provided certificates rotate` replaces the one that there is"),
        error => error.into(),
    })?;
    Ok(format!("added certificate \"{}\"\n", id(&answer)?))
}

/// Begins to replace the certificate that signs.
async fn rotate(session: &Session, ca: Ca, pair: Option<KeyPairFiles>, arguments: Rotate) -> Result<String, Failure> {
    let mut body = match &pair {
        Some(pair) => read(pair)?,
        None => json!({}),
    };
    if let Some(wait) = arguments.wait {
        body["wait"] = wait.into();
    }
    let client = if pair.is_some() { client_for_keys(session).await? } else { client(session).await? };
    let answer = client.post(&path(session, ca, &["rotation"])?, &body).await;
    let answer = answer.map_err(|error| match error {
        CallError::Refused(refusal) if refusal.is_not_found() && ca == Ca::Provided => Failure::from(refusal)
            .hint("there is no certificate yet: `kumactl manage ca provided certificates add` adds one"),
        error => error.into(),
    })?;
    Ok(format!("added certificate \"{}\", which signs once every proxy trusts it\n", id(&answer)?))
}

/// Deletes a certificate.
async fn delete(session: &Session, ca: Ca, arguments: DeleteCertificate) -> Result<String, Failure> {
    let DeleteCertificate { id, force } = arguments;
    let query: &[(&str, String)] = if force { &[("force", "true".to_owned())] } else { &[] };
    let path = path(session, ca, &["certificates", segment(&id)?])?;
    client(session).await?.delete_with(&path, query).await?;
    Ok(format!("removed certificate \"{id}\"\n"))
}

/// Lists the certificates of a CA. A rotation in progress is reported on stderr.
async fn list(session: &Session, ca: Ca, arguments: ListCertificates) -> Result<String, Failure> {
    let ListCertificates { output: Output { format } } = arguments;
    let client = client(session).await?;
    let certificates = match client.get(&path(session, ca, &["certificates"])?, &[]).await? {
        Value::Array(certificates) => certificates,
        _ => return Err(Failure::new("the answer is not a list of certificates")),
    };
    match format {
        Format::Json => return Ok(json_text(&Value::Array(certificates))),
        Format::Yaml => {
            let text = yaml(&sorted(Value::Array(certificates)));
            return text.map_err(|error| Failure::new(format!("could not write YAML: {error}")));
        }
        Format::Name => return Ok(certificates.iter().map(|entry| format!("{}\n", text(entry, "id"))).collect()),
        Format::Table | Format::Wide => {}
    }
    let rows = certificates.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    if certificates.len() > 1 {
        let status = client.get(&path(session, ca, &["rotation"])?, &[]).await?;
        eprintln!("{}", note(&status));
    }
    Ok(table(&COLUMNS, &rows))
}

/// What a rotation waits for, in a line.
fn note(status: &Value) -> String {
    let waits = match text(status, "phase") {
        "introducing" => "the next certificate signs once every proxy trusts it",
        "replacing" => "the old certificate is trusted until no proxy shows what it has signed",
        _ => return "no rotation is under way".to_owned(),
    };
    let count = |field: &str| status.pointer(&format!("/proxies/{field}")).and_then(Value::as_u64).unwrap_or(0);
    let names = |field: &str| {
        let names = status.pointer(&format!("/proxies/{field}")).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).take(NAMED).collect::<Vec<_>>().join(", ")
    };
    let mut note = format!("rotating: {waits}");
    if status.get("waitsForMesh").and_then(Value::as_bool) == Some(true) {
        return format!(
            "{note}; it goes on when the Mesh is applied: the control plane was started anew and does not know \
             whether mTLS is on"
        );
    }
    if count("waiting") > 0 {
        note = format!("{note}; {} connected, such as {}, not yet", count("waiting"), names("waitingFor"));
    }
    if count("away") > 0 {
        note = format!(
            "{note}; {} away, such as {}, waited for until {}",
            count("away"),
            names("awayNames"),
            text(status, "until")
        );
    }
    note
}

/// The cells of one certificate.
fn row(entry: &Value) -> Result<Vec<String>, Failure> {
    let unreadable = || Failure::new(format!("the certificate {:?} can't be read", text(entry, "id")));
    let (_, pem) = x509_parser::pem::parse_x509_pem(text(entry, "cert").as_bytes()).map_err(|_| unreadable())?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|_| unreadable())?;
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let validity = certificate.validity();
    let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &pem.contents);
    Ok(vec![
        text(entry, "id").to_owned(),
        common_name.unwrap_or_default().to_owned(),
        certificate.tbs_certificate.serial.to_string(),
        moment(validity.not_before.timestamp()),
        moment(validity.not_after.timestamp()),
        fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        text(entry, "state").to_owned(),
    ])
}

/// A time in UTC, in Go's format.
fn moment(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => seconds.to_string(),
    }
}

async fn client(session: &Session) -> Result<Client, Failure> {
    admin::client(session.configuration()?.active()?, session.log).await
}

async fn client_for_keys(session: &Session) -> Result<Client, Failure> {
    admin::client_for_keys(session.configuration()?.active()?, session.log).await
}

/// A path below a CA of the mesh in use.
fn path<'a>(session: &'a Session, ca: Ca, rest: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    let mut path = vec!["meshes", segment(&session.mesh)?, "ca", ca.name()];
    path.extend(rest);
    Ok(path)
}

fn read(files: &KeyPairFiles) -> Result<Value, Failure> {
    Ok(json!({ "cert": content(&files.cert_file)?, "key": content(&files.key_file)? }))
}

fn content(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::new(format!("could not read {}: {error}", path.display())))
}

/// The id in the answer to a change.
fn id(answer: &str) -> Result<String, Failure> {
    let answer: Option<Value> = serde_json::from_str(answer).ok();
    let id = answer.as_ref().map(|answer| text(answer, "id").to_owned()).filter(|id| !id.is_empty());
    id.ok_or_else(|| Failure::new("the answer has no id of a certificate"))
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}
