//! The modes of TLS, against a server with certificates of several kinds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kuma_store::StoreError;
use kuma_store_postgres::testing::{Server, folder, own};
use kuma_store_postgres::{PostgresTls, TlsMode, migrate};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of its own");
        own(&path);
        path
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn ca(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let (mut params, key) = (named(name, &[]), key());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let text = params.self_signed(&key).expect("a CA").pem();
    (Issuer::new(params, key), text)
}

/// Settings of a server that has this certificate.
fn settings(certificate: &Path, key: &Path, ca: &Path, hba: &Path) -> Vec<String> {
    let path = |name: &str, path: &Path| format!("{name}={}", path.display());
    vec![
        "ssl=on".into(),
        path("ssl_cert_file", certificate),
        path("ssl_key_file", key),
        path("ssl_ca_file", ca),
        path("hba_file", hba),
    ]
}

async fn outcome(config: &PostgresConfig) -> Result<(), String> {
    match migrate(config).await {
        Ok(_) => Ok(()),
        Err(StoreError::Unavailable { reason }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_check_what_they_say() {
    let files = Files { folder: folder() };
    let (issuer, issuer_text) = ca("our CA");
    let (_, other_text) = ca("another CA");
    let (ca, other_ca) = (files.write("ca", &issuer_text), files.write("other-ca", &other_text));
    let server_key = key();
    let certificate = named("db", &["localhost"]).signed_by(&server_key, &issuer).expect("a certificate");
    let certificate = files.write("certificate", &certificate.pem());
    let server_key = files.write("key", &server_key.serialize_pem());
    let client_key = key();
    let client = named("certuser", &[]).signed_by(&client_key, &issuer).expect("a certificate");
    let client = files.write("client", &client.pem());
    let client_key = files.write("client-key", &client_key.serialize_pem());
    let hba = files.write(
        "hba",
        "local all all trust\nhostssl all certuser 127.0.0.1/32 cert\nhostssl all kuma 127.0.0.1/32 scram-sha-256\n",
    );
    let settings = settings(&certificate, &server_key, &ca, &hba);
    let server = Server::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let base = server.database();
    migrate(&PostgresConfig {
        hosts: vec![server.folder().display().to_string()],
        port: server.port(),
        ..base.clone()
    })
    .await
    .expect("over the socket, without a password or TLS");
    server.sql("postgres", "CREATE ROLE certuser LOGIN IN ROLE kuma");

    let (port, name, address) = (server.port(), "localhost", "127.0.0.1");
    use TlsMode::{Disable, VerifyCa, VerifyFull, VerifyNone};
    let with_client = Some((&client, &client_key));
    for (what, mode, host, ca, client, user, refusal) in [
        ("no TLS where it is wanted", Disable, name, None, None, "kuma", "no encryption"),
        ("any certificate", VerifyNone, name, None, None, "kuma", ""),
        ("any certificate, also with a CA at hand", VerifyNone, name, Some(&other_ca), None, "kuma", ""),
        ("no CA", VerifyCa, name, None, None, "kuma", "there is no CA"),
        ("the right CA", VerifyCa, name, Some(&ca), None, "kuma", ""),
        ("the right CA, another name", VerifyCa, address, Some(&ca), None, "kuma", ""),
        ("the wrong CA", VerifyCa, name, Some(&other_ca), None, "kuma", "UnknownIssuer"),
        ("the right name", VerifyFull, name, Some(&ca), None, "kuma", ""),
        ("another name", VerifyFull, address, Some(&ca), None, "kuma", "not valid for name \"127.0.0.1\""),
        ("the wrong CA, the right name", VerifyFull, name, Some(&other_ca), None, "kuma", "UnknownIssuer"),
        ("a client certificate", VerifyFull, name, Some(&ca), with_client, "certuser", ""),
        (
            "none where one is wanted",
            VerifyFull,
            name,
            Some(&ca),
            None,
            "certuser",
            "requires a valid client certificate",
        ),
        ("a client certificate for somebody else", VerifyNone, name, None, with_client, "kuma", ""),
    ] {
        let (cert, key) = client.map(|(cert, key)| (cert.clone(), key.clone())).unzip();
        let tls = PostgresTls { mode, ca: ca.cloned(), cert, key };
        let hosts = vec![format!("{host}:{port}")];
        let outcome = outcome(&PostgresConfig { hosts, user: user.into(), tls, ..base.clone() }).await;
        match (refusal, &outcome) {
            ("", Ok(())) => {}
            (expected, Err(reason)) if !expected.is_empty() && reason.contains(expected) => {}
            _ => panic!("{what}: {outcome:?}"),
        }
    }

    // Files are named when they are not what they should be.
    for (ca, cert, expected) in [
        (files.folder.path().join("missing"), None, "missing: "),
        (server_key.clone(), None, "key: there is no certificate in it"),
        (ca.clone(), Some((client_key.clone(), client_key.clone())), "client-key: there is no certificate in it"),
        (ca.clone(), Some((client.clone(), server_key.clone())), "client: "),
    ] {
        let (cert, key) = cert.unzip();
        let tls = PostgresTls { mode: VerifyFull, ca: Some(ca), cert, key };
        let reason = outcome(&PostgresConfig { tls, ..base.clone() }).await.expect_err("a file is wrong");
        assert!(reason.contains(expected), "{reason}");
    }
}

/// The usual certificate of a server signs itself and is trusted as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signs_itself_may_be_trusted() {
    let (_, other_text) = ca("another CA");
    // As `openssl req -x509` makes one, by its common name; and one with names, that is no CA.
    for (common_name, names, is_ca) in [("localhost", &[][..], true), ("db", &["localhost"][..], false)] {
        let files = Files { folder: folder() };
        let mut params = named(common_name, names);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = key();
        let certificate = files.write("certificate", &params.self_signed(&key).expect("a certificate").pem());
        let key = files.write("key", &key.serialize_pem());
        let other = files.write("other", &other_text);
        let hba = files.write("hba", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
        let settings = settings(&certificate, &key, &certificate, &hba);
        let server = Server::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
        let base = server.database();
        for (mode, host, ca, works) in [
            (TlsMode::VerifyCa, "localhost", &certificate, true),
            (TlsMode::VerifyCa, "127.0.0.1", &certificate, true),
            (TlsMode::VerifyCa, "localhost", &other, false),
            (TlsMode::VerifyFull, "localhost", &certificate, true),
            (TlsMode::VerifyFull, "127.0.0.1", &certificate, false),
        ] {
            let tls = PostgresTls { mode, ca: Some(ca.clone()), cert: None, key: None };
            let hosts = vec![format!("{host}:{}", server.port())];
            let outcome = outcome(&PostgresConfig { hosts, tls, ..base.clone() }).await;
            assert_eq!(outcome.is_ok(), works, "{common_name} {mode:?} {host}: {outcome:?}");
        }
    }
}
