//! `environment`, `runtime` and the small sections that go with them.

use std::net::IpAddr;

use go_duration::GoDuration;
use serde::{Deserialize, Serialize};

use super::{parse, rules::Rules};

/// `environment`: where the mesh runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Environment {
    /// Virtual machines, containers, anything; documents come through the HTTP API.
    #[default]
    Universal,
    /// Kubernetes; documents are its resources.
    Kubernetes,
}

impl Environment {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Universal => "universal",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl TryFrom<String> for Environment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "universal" => Ok(Self::Universal),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err("Environment should be either kubernetes or universal"),
        }
    }
}

/// `general`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct General {
    /// Name under which proxies and tools on other machines reach this control plane.
    pub advertised_hostname: String,
    /// Folder for what must outlive the process: the keys that proxies trust. A leading `~` is the home folder.
    pub work_dir: String,
}

impl Default for General {
    fn default() -> Self {
        Self { advertised_hostname: "localhost".into(), work_dir: "~/.kuma".into() }
    }
}

impl General {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        // The name goes into URLs of the catalog and into certificates.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let name = &self.advertised_hostname;
        rules.require(
            !name.is_empty() && name.chars().all(plain),
            "general.advertisedHostname",
            "AdvertisedHostname should be a host name or an IP address",
        );
        rules.require(!self.work_dir.is_empty(), "general.workDir", "WorkDir should not be empty");
    }
}

/// `runtime`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// Used when `environment` is `kubernetes`.
    pub kubernetes: KubernetesRuntime,
}

/// `runtime.kubernetes`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesRuntime {
    /// The admission webhook.
    pub admission_server: AdmissionServer,
}

/// `runtime.kubernetes.admissionServer`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionServer {
    /// Address to listen on; empty = all.
    pub address: String,
    /// Folder with `tls.crt` and `tls.key`.
    pub cert_dir: String,
    /// 0 lets the system choose.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
}

impl Default for AdmissionServer {
    fn default() -> Self {
        Self { address: String::new(), cert_dir: String::new(), port: 5443 }
    }
}

impl AdmissionServer {
    pub(super) fn check(&self, environment: Environment, rules: &mut Rules<'_>) {
        if environment != Environment::Kubernetes {
            return;
        }
        rules.require(
            self.address.is_empty() || self.address.parse::<IpAddr>().is_ok(),
            "runtime.kubernetes.admissionServer.address",
            "Address must be either empty or a valid IPv4/IPv6 address",
        );
        rules.require(
            !self.cert_dir.is_empty(),
            "runtime.kubernetes.admissionServer.certDir",
            "CertDir should not be empty",
        );
    }
}

/// `reports`. The field is kept; there is no place to report to in this program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Reports {
    /// Has no effect.
    pub enabled: bool,
}

impl Default for Reports {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `discovery`. Shown because the documented answer of `/config` has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Discovery {
    /// `discovery.universal`.
    pub universal: UniversalDiscovery,
}

/// `discovery.universal`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UniversalDiscovery {
    /// Kept and shown for compatibility: nothing is polled.
    pub polling_interval: GoDuration,
}

impl Default for UniversalDiscovery {
    fn default() -> Self {
        Self { polling_interval: GoDuration::from_secs(1) }
    }
}
