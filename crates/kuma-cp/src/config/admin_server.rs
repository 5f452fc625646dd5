//! `adminServer`, and the deprecated `dataplaneTokenServer` that stands for it in old configurations.

use serde::{Deserialize, Serialize};

use super::{parse, rules::Rules};

/// The server for administrative tasks, such as issuing dataplane tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminServer {
    /// Which parts of it are switched on.
    pub apis: AdminApis,
    /// The listener for this machine alone.
    pub local: LocalAdmin,
    /// The listener for other machines: TLS with client certificates.
    pub public: PublicAdmin,
}

/// `adminServer.apis`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminApis {
    /// Issuing of dataplane tokens.
    pub dataplane_token: DataplaneTokenApi,
}

/// `adminServer.apis.dataplaneToken`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DataplaneTokenApi {
    /// Whether `POST /tokens` exists.
    pub enabled: bool,
}

impl Default for DataplaneTokenApi {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// The plain HTTP listener on 127.0.0.1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalAdmin {
    /// 0 lets the system choose.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
}

impl Default for LocalAdmin {
    fn default() -> Self {
        Self { port: 5679 }
    }
}

/// The mutual-TLS listener.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicAdmin {
    /// Folder whose `*.pem` files are the client certificates that are let in.
    pub client_certs_dir: String,
    /// Whether the listener exists.
    pub enabled: bool,
    /// Address to listen on.
    pub interface: String,
    /// 0 = the port of the local listener.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
    /// Path of the server's certificate.
    pub tls_cert_file: String,
    /// Path of the server's key.
    pub tls_key_file: String,
}

impl PublicAdmin {
    pub(super) fn check(&self, at: &str, rules: &mut Rules<'_>) {
        if !self.enabled {
            return;
        }
        for (key, value, message) in [
            ("tlsCertFile", &self.tls_cert_file, "TlsCertFile cannot be empty if server is enabled"),
            ("tlsKeyFile", &self.tls_key_file, "TlsKeyFile cannot be empty if server is enabled"),
            ("interface", &self.interface, "Interface cannot be empty if server is enabled"),
        ] {
            rules.require(!value.is_empty(), &format!("{at}.{key}"), message);
        }
    }
}

/// The name of `adminServer` before it had other tasks than tokens. Any value that differs from the default replaces
/// the whole of `adminServer`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DataplaneTokenServer {
    /// Whether tokens are issued.
    pub enabled: bool,
    /// As `adminServer.local`.
    pub local: LocalAdmin,
    /// As `adminServer.public`.
    pub public: PublicAdmin,
}

impl Default for DataplaneTokenServer {
    fn default() -> Self {
        Self { enabled: true, local: LocalAdmin::default(), public: PublicAdmin::default() }
    }
}

impl DataplaneTokenServer {
    /// What the deprecated section means, if it was used at all.
    pub(super) fn replacement(&self) -> Option<AdminServer> {
        let Self { enabled, local, public } = self;
        (*self != Self::default()).then(|| AdminServer {
            apis: AdminApis { dataplane_token: DataplaneTokenApi { enabled: *enabled } },
            local: local.clone(),
            public: public.clone(),
        })
    }

    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        rules.require(
            self.enabled || !self.public.enabled,
            "dataplaneTokenServer.public.enabled",
            "Public.Enabled cannot be true when server is disabled.",
        );
        self.public.check("dataplaneTokenServer.public", rules);
    }
}
