//! `store`: where documents are kept.

use std::path::PathBuf;

use go_duration::GoDuration;
use kuma_store::Keep;
use serde::{Deserialize, Serialize};

use super::{parse, rules::Rules, secret::Secret};

/// Where documents are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreConfig {
    /// Used when `type` is `file`.
    pub file: FileStore,
    /// The commits of the past.
    pub history: History,
    /// Used when `type` is `kubernetes`.
    pub kubernetes: KubernetesStore,
    /// Used when `type` is `postgres`.
    pub postgres: PostgresStore,
    /// File with the keys that secrets are sealed with; empty: they are stored as they are.
    pub secrets_key_file: PathBuf,
    /// Which store is used.
    #[serde(rename = "type")]
    pub store_type: StoreType,
}

/// `store.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum StoreType {
    /// Documents live as long as the process.
    #[default]
    Memory,
    /// Documents live in a file, of one control plane.
    File,
    /// Documents live in PostgreSQL.
    Postgres,
    /// Documents are Kubernetes resources.
    Kubernetes,
}

impl TryFrom<String> for StoreType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "memory" => Ok(Self::Memory),
            "file" => Ok(Self::File),
            "postgres" => Ok(Self::Postgres),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err("Type should be either file, postgres, kubernetes or memory"),
        }
    }
}

/// `store.file`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FileStore {
    /// The file; empty: `store.db` in the state folder.
    pub path: PathBuf,
}

/// `store.history`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    /// How long commits are kept.
    pub keep: GoDuration,
}

impl Default for History {
    fn default() -> Self {
        Self { keep: GoDuration::from_secs(720 * 3600) }
    }
}

impl History {
    /// What the store is to keep.
    pub fn keep(&self) -> Keep {
        Keep { age: self.keep.get(), ..Keep::default() }
    }
}

/// `store.kubernetes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesStore {
    /// Namespace of the control plane.
    pub system_namespace: String,
}

impl Default for KubernetesStore {
    fn default() -> Self {
        Self { system_namespace: "kuma-system".into() }
    }
}

/// `store.postgres`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresStore {
    /// Seconds to wait for a connection.
    #[serde(deserialize_with = "parse::count")]
    pub connection_timeout: u32,
    /// Name of the database.
    pub db_name: String,
    /// Host name or address of the server; of several, the one that can be written to.
    pub host: String,
    /// Connections open at once; 0 = no limit.
    #[serde(deserialize_with = "parse::count")]
    pub max_open_connections: u32,
    /// Password of `user`.
    pub password: Secret,
    /// File with the password, in place of `password`.
    pub password_file: PathBuf,
    /// Port of the server. The documented default is 15432, not PostgreSQL's own 5432.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
    /// How the connection is secured.
    pub tls: PostgresTls,
    /// User to connect as.
    pub user: String,
}

impl Default for PostgresStore {
    fn default() -> Self {
        Self {
            connection_timeout: 5,
            db_name: "kuma".into(),
            host: "127.0.0.1".into(),
            max_open_connections: 0,
            password: Secret::new("kuma"),
            password_file: PathBuf::new(),
            port: 15432,
            tls: PostgresTls::default(),
            user: "kuma".into(),
        }
    }
}

/// `store.postgres.tls`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresTls {
    /// Path of the CA that the server's certificate is checked against.
    pub ca_path: String,
    /// Path of the client certificate.
    pub cert_path: String,
    /// Path of the client key.
    pub key_path: String,
    /// How much of the server's certificate is checked.
    pub mode: TlsMode,
}

/// `store.postgres.tls.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "String")]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disable,
    /// TLS, with any server.
    VerifyNone,
    /// The certificate must come from the CA.
    VerifyCa,
    /// The certificate must come from the CA and name the host.
    VerifyFull,
}

impl TryFrom<String> for TlsMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "disable" => Ok(Self::Disable),
            "verifyNone" => Ok(Self::VerifyNone),
            "verifyCa" => Ok(Self::VerifyCa),
            "verifyFull" => Ok(Self::VerifyFull),
            _ => Err("invalid mode. Available modes: disable, verifyNone, verifyCa, verifyFull".into()),
        }
    }
}

impl StoreConfig {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        rules.positive(self.history.keep, "store.history.keep", "Keep must be positive");
        match self.store_type {
            StoreType::Memory | StoreType::File => {}
            StoreType::Kubernetes => rules.require(
                !self.kubernetes.system_namespace.is_empty(),
                "store.kubernetes.systemNamespace",
                "SystemNamespace should not be empty",
            ),
            StoreType::Postgres => self.postgres.check(rules),
        }
    }
}

impl PostgresStore {
    /// The servers of `host`, which is a list with commas.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.host.split(',').map(str::trim).filter(|host| !host.is_empty())
    }

    fn check(&self, rules: &mut Rules<'_>) {
        // The file is read at every connection.
        let has_password = !self.password.expose().is_empty() || !self.password_file.as_os_str().is_empty();
        for (key, is_set, message) in [
            ("store.postgres.host", self.hosts().next().is_some(), "Host should not be empty"),
            ("store.postgres.user", !self.user.is_empty(), "User should not be empty"),
            ("store.postgres.password", has_password, "Password should not be empty"),
            ("store.postgres.dbName", !self.db_name.is_empty(), "DbName should not be empty"),
        ] {
            rules.require(is_set, key, message);
        }
        let PostgresTls { ca_path, cert_path, key_path, mode } = &self.tls;
        rules.require(
            !key_path.is_empty() || cert_path.is_empty(),
            "store.postgres.tls.keyPath",
            "KeyPath cannot be empty when CertPath is provided",
        );
        rules.require(
            !cert_path.is_empty() || key_path.is_empty(),
            "store.postgres.tls.certPath",
            "CertPath cannot be empty when KeyPath is provided",
        );
        rules.require(
            !ca_path.is_empty() || !matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull),
            "store.postgres.tls.caPath",
            "CAPath cannot be empty",
        );
    }
}
