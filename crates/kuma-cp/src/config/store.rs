//! `store`: where documents are kept.

use serde::{Deserialize, Serialize};

use super::{parse, rules::Rules, secret::Secret};

/// Where documents are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreConfig {
    /// Used when `type` is `kubernetes`.
    pub kubernetes: KubernetesStore,
    /// Used when `type` is `postgres`.
    pub postgres: PostgresStore,
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
            "postgres" => Ok(Self::Postgres),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err("Type should be either postgres, kubernetes or memory"),
        }
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
    /// Host name or address of the server.
    pub host: String,
    /// Connections open at once; 0 = no limit.
    #[serde(deserialize_with = "parse::count")]
    pub max_open_connections: u32,
    /// Password of `user`.
    pub password: Secret,
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
        match self.store_type {
            StoreType::Memory => {}
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
    fn check(&self, rules: &mut Rules<'_>) {
        let password = self.password.expose();
        for (key, value, message) in [
            ("store.postgres.host", self.host.as_str(), "Host should not be empty"),
            ("store.postgres.user", &self.user, "User should not be empty"),
            ("store.postgres.password", password, "Password should not be empty"),
            ("store.postgres.dbName", &self.db_name, "DbName should not be empty"),
        ] {
            rules.require(!value.is_empty(), key, message);
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
