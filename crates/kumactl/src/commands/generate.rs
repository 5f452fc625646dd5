//! `kumactl generate`: dataplane tokens and certificates.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::meshes;
use crate::admin;
use crate::certificate::{Holder, SelfSigned, self_signed};
use crate::cli::{CertificateType, DataplaneToken, TlsCertificate};
use crate::failure::Failure;
use crate::session::Session;

/// Prints a token, without a final newline.
pub(super) async fn dataplane_token(session: &Session, arguments: DataplaneToken) -> Result<String, Failure> {
    let DataplaneToken { dataplane, valid_for } = arguments;
    let configuration = session.configuration()?;
    let wanted = admin::WantedToken { name: &dataplane, mesh: &session.mesh, valid_for };
    let token = admin::dataplane_token(configuration.active()?, &wanted, session.log).await?;
    if valid_for.is_some() && !expires(&token) {
        let failure = Failure::new("the Control Plane has issued a token that does not expire, and it is not printed");
        return Err(failure.hint("this Control Plane is older than --valid-for: upgrade it"));
    }
    // A token may be generated before its Dataplane exists. The warning is for mistyped names, which would otherwise
    // only show when the proxy is refused.
    let (client, mesh) = (session.api()?, session.mesh.as_str());
    match meshes::missing(&client, mesh).await {
        Some(missing) => eprintln!("Warning: {missing}. The token is for a Dataplane of a mesh that is still to come"),
        None if meshes::is_missing(&client, &["meshes", mesh, "dataplanes", &dataplane]).await => eprintln!(
            "Warning: there is no Dataplane with name {dataplane:?} in mesh {mesh:?}. The token is for one that is \
             still to come"
        ),
        None => {}
    }
    Ok(token.trim_end().to_owned())
}

/// Whether a token says when it expires.
fn expires(token: &str) -> bool {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|payload| serde_json::from_slice::<serde_json::Value>(&payload).ok());
    claims.is_some_and(|claims| claims["exp"].is_u64())
}

/// Creates a key and a certificate for it, in two new files.
pub(super) fn tls_certificate(arguments: TlsCertificate) -> Result<String, Failure> {
    let TlsCertificate { holder, key_file, cert_file, cp_hostname } = arguments;
    let holder = match (holder, cp_hostname.is_empty()) {
        (CertificateType::Server, false) => Holder::Server(&cp_hostname),
        (CertificateType::Client, true) => Holder::Client,
        (CertificateType::Server, true) => {
            return Err(Failure::new("--cp-hostname has to be specified with \"server\" type"));
        }
        (CertificateType::Client, false) => {
            return Err(Failure::new("--cp-hostname cannot be used with \"client\" type"));
        }
    };
    for (path, flag) in [(&key_file, "--key-file"), (&cert_file, "--cert-file")] {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::new(format!("{} exists already", path.display()))
                .hint(format!("remove it, or name another file with {flag}")));
        }
    }
    let SelfSigned { cert_pem, key_pem } = self_signed(&holder, SystemTime::now())
        .map_err(|reason| Failure::new(format!("could not make a certificate: {reason}")))?;
    write_new(&key_file, &key_pem, 0o400)?;
    write_new(&cert_file, &cert_pem, 0o644)?;
    Ok(format!(
        "Certificates generated\nKey was saved in: {}\nCert was saved in: {}\n",
        key_file.display(),
        cert_file.display()
    ))
}

/// Writes a new file. Fails if the file, or a link of that name, exists.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let failure = Failure::new(format!("could not write {}: {error}", path.display()));
        if error.kind() == ErrorKind::NotFound { failure.hint("make its folder first") } else { failure }
    })
}
