//! A whole control plane in this process, on ports that the system chooses.

use std::path::Path;
use std::time::{Duration, SystemTime};

use kuma_ca::{Leaf, LeafRequest, Root, XdsCa};
use kuma_cp::config;
use kuma_cp::run::{self, Running};
use reqwest::{Client, ClientBuilder, Identity};

/// A control plane, and the folder that its files are in.
pub(crate) struct TestControlPlane {
    pub(crate) running: Running,
    pub(crate) folder: tempfile::TempDir,
    /// The CA of the admin server's certificate, PEM.
    pub(crate) admin_ca: String,
}

/// Where the client certificates are, in a folder made by [`folder`].
pub(crate) const CLIENTS: &str = "clients";

impl TestControlPlane {
    /// With the public admin server on the same port as the local one, and these further variables.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> TestControlPlane {
        let (folder, admin_ca) = folder();
        let running = start(folder.path(), variables).await.expect("it starts");
        TestControlPlane { running, folder, admin_ca }
    }

    /// Lets the holder of `certificate` in.
    pub(crate) fn admit(&self, file: &str, certificate: &str) {
        std::fs::write(self.folder.path().join(CLIENTS).join(file), certificate).expect("writes");
    }

    /// The URL of a path of the admin server over TLS.
    pub(crate) fn admin(&self, path: &str) -> String {
        let port = self.running.addresses.public_admin.expect("it is on").port();
        format!("https://localhost:{port}{path}")
    }

    /// A client that trusts the admin server, with a certificate or none.
    pub(crate) fn client(&self, identity: Option<&Leaf>) -> Client {
        builder(&self.admin_ca, identity).build().expect("a client")
    }
}

pub(crate) fn builder(ca: &str, identity: Option<&Leaf>) -> ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(ca.as_bytes()).expect("a certificate");
    let builder = Client::builder().no_proxy().tls_certs_only([ca]);
    match identity {
        Some(leaf) => {
            let pem = format!("{}{}", leaf.chain_pem, leaf.key_pem.expose());
            builder.identity(Identity::from_pem(pem.as_bytes()).expect("an identity"))
        }
        None => builder,
    }
}

/// A folder with a certificate for the admin server; and the CA of that.
pub(crate) fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now();
    let ca = XdsCa::generate(now).expect("a CA");
    let server = ca.issue_server(&["localhost"], &[], Duration::from_secs(3600), now).expect("a certificate");
    std::fs::create_dir(folder.path().join(CLIENTS)).expect("a folder");
    std::fs::write(folder.path().join("server.pem"), &server.chain_pem).expect("writes");
    std::fs::write(folder.path().join("server.key"), server.key_pem.expose()).expect("writes");
    (folder, ca.cert_pem().to_owned())
}

/// Starts a control plane with the files of a folder. Later variables win.
pub(crate) async fn start(folder: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Running> {
    let path = |name: &str| folder.join(name).display().to_string();
    let own = [
        ("KUMA_GENERAL_WORK_DIR", path("state")),
        ("KUMA_XDS_SERVER_GRPC_PORT", "0".into()),
        ("KUMA_XDS_SERVER_DIAGNOSTICS_PORT", "0".into()),
        ("KUMA_SDS_SERVER_GRPC_PORT", "0".into()),
        ("KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT", "0".into()),
        ("KUMA_API_SERVER_PORT", "0".into()),
        ("KUMA_BOOTSTRAP_SERVER_PORT", "0".into()),
        ("KUMA_ADMIN_SERVER_LOCAL_PORT", "0".into()),
        ("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "true".into()),
        ("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "0.0.0.0".into()),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", path("server.pem")),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", path("server.key")),
        ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", path(CLIENTS)),
    ];
    let mut all = std::collections::BTreeMap::from(own.map(|(name, value)| (name.to_owned(), value)));
    all.extend(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    run::start(config::build(None, all)?.config, None).await
}

/// A CA that clients' certificates are made from.
pub(crate) fn root() -> Root {
    Root::generate("clients", SystemTime::now() - Duration::from_secs(30 * 24 * 3600)).expect("a CA")
}

/// A certificate that was issued so long ago, and lives a day.
pub(crate) fn certificate(root: &Root, name: &str, age: Duration) -> Leaf {
    let services = std::collections::BTreeSet::from([name]);
    let now = SystemTime::now() - age;
    let request = LeafRequest { mesh: "clients", services: &services, validity: Duration::from_secs(24 * 3600), now };
    root.issue(&request).expect("a certificate")
}
