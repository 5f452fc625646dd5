//! The sections of the servers that talk to people, tools and proxies.

use std::net::IpAddr;

use go_duration::GoDuration;
use serde::{Deserialize, Serialize};

use super::{parse, rules::Rules};
use crate::http::cors::Origins;

/// `apiServer`: the HTTP API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiServer {
    /// Whether writes are taken from other machines too. Whoever may write Dataplanes can give any proxy any
    /// identity, so this is off by default.
    pub allow_remote_writes: bool,
    /// Origins whose scripts may read answers: exact, or regular expressions.
    pub cors_allowed_domains: Vec<String>,
    /// 0 lets the system choose.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
    /// Refuses every write.
    pub read_only: bool,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self { allow_remote_writes: false, cors_allowed_domains: vec![".*".into()], port: 5681, read_only: false }
    }
}

impl ApiServer {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        if let Err(message) = Origins::new(&self.cors_allowed_domains) {
            rules.require(false, "apiServer.corsAllowedDomains", &message);
        }
    }
}

/// `bootstrapServer`: what Envoys start with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BootstrapServer {
    /// What is put into every bootstrap configuration.
    pub params: BootstrapParams,
    /// 0 lets the system choose.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
}

impl Default for BootstrapServer {
    fn default() -> Self {
        Self { params: BootstrapParams::default(), port: 5682 }
    }
}

/// `bootstrapServer.params`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BootstrapParams {
    /// File that Envoy's admin interface logs its requests to.
    pub admin_access_log_path: String,
    /// Address of Envoy's admin interface.
    pub admin_address: String,
    /// Port of Envoy's admin interface where kuma-dp asks for none; 0 = no admin interface.
    #[serde(deserialize_with = "parse::port")]
    pub admin_port: u16,
    /// How long Envoy waits for a connection to the control plane.
    pub xds_connect_timeout: GoDuration,
    /// Host of the control plane as Envoys see it; empty = `general.advertisedHostname`.
    pub xds_host: String,
    /// Port of the xDS server as Envoys see it; 0 = `xdsServer.grpcPort`.
    #[serde(deserialize_with = "parse::port")]
    pub xds_port: u16,
}

impl Default for BootstrapParams {
    fn default() -> Self {
        Self {
            admin_access_log_path: "/dev/null".into(),
            admin_address: "127.0.0.1".into(),
            admin_port: 0,
            xds_connect_timeout: GoDuration::from_secs(1),
            xds_host: String::new(),
            xds_port: 0,
        }
    }
}

impl BootstrapServer {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        let address = &self.params.admin_address;
        let message = match address.is_empty() {
            true => "AdminAddress cannot be empty",
            false => "AdminAddress should be a valid IP address",
        };
        rules.require(address.parse::<IpAddr>().is_ok(), "bootstrapServer.params.adminAddress", message);
        rules.require(
            !self.params.admin_access_log_path.is_empty(),
            "bootstrapServer.params.adminAccessLogPath",
            "AdminAccessLogPath cannot be empty",
        );
    }
}

/// `xdsServer`: the server that Envoys get their configuration from, and the diagnostics port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct XdsServer {
    /// Kept and shown for compatibility: changes are pushed when they happen, nothing is polled.
    pub dataplane_configuration_refresh_interval: GoDuration,
    /// How often changed DataplaneInsights are written to the store.
    pub dataplane_status_flush_interval: GoDuration,
    /// Port of `/healthy` and `/ready`. It is in this section for historical reasons.
    #[serde(deserialize_with = "parse::port")]
    pub diagnostics_port: u16,
    /// Port of the aggregated discovery service.
    #[serde(deserialize_with = "parse::port")]
    pub grpc_port: u16,
}

impl Default for XdsServer {
    fn default() -> Self {
        Self {
            dataplane_configuration_refresh_interval: GoDuration::from_secs(1),
            dataplane_status_flush_interval: GoDuration::from_secs(1),
            diagnostics_port: 5680,
            grpc_port: 5678,
        }
    }
}

impl XdsServer {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        rules.positive(
            self.dataplane_configuration_refresh_interval,
            "xdsServer.dataplaneConfigurationRefreshInterval",
            "DataplaneConfigurationRefreshInterval must be positive",
        );
        rules.positive(
            self.dataplane_status_flush_interval,
            "xdsServer.dataplaneStatusFlushInterval",
            "DataplaneStatusFlushInterval must be positive",
        );
    }
}

/// `sdsServer`: certificates over TLS.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SdsServer {
    /// Life of the certificates that proxies identify themselves with. They are renewed between half and two thirds of
    /// it, so a control plane may be away for a third without harm.
    pub dataplane_cert_validity: GoDuration,
    /// Port of the secret discovery service.
    #[serde(deserialize_with = "parse::port")]
    pub grpc_port: u16,
    /// Path of the server's certificate; empty = one is issued by the control plane's own CA.
    pub tls_cert_file: String,
    /// Path of the server's key.
    pub tls_key_file: String,
}

impl Default for SdsServer {
    fn default() -> Self {
        Self {
            dataplane_cert_validity: GoDuration::from_secs(24 * 3600),
            grpc_port: 5677,
            tls_cert_file: String::new(),
            tls_key_file: String::new(),
        }
    }
}

impl SdsServer {
    /// Shorter lives would keep the control plane busy with nothing but renewals, and clocks are not that exact.
    const SHORTEST_VALIDITY: GoDuration = GoDuration::from_secs(10);

    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        rules.require(
            self.dataplane_cert_validity >= Self::SHORTEST_VALIDITY,
            "sdsServer.dataplaneCertValidity",
            "DataplaneCertValidity must be at least 10s",
        );
        rules.require(
            !self.tls_cert_file.is_empty() || self.tls_key_file.is_empty(),
            "sdsServer.tlsCertFile",
            "TlsCertFile cannot be empty if TlsKeyFile has been set",
        );
        rules.require(
            !self.tls_key_file.is_empty() || self.tls_cert_file.is_empty(),
            "sdsServer.tlsKeyFile",
            "TlsKeyFile cannot be empty if TlsCertFile has been set",
        );
    }
}

/// `monitoringAssignmentServer`: tells Prometheus what to scrape.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MonitoringAssignmentServer {
    /// Kept and shown for compatibility: nothing is polled.
    pub assignment_refresh_interval: GoDuration,
    /// Port of the monitoring assignment discovery service.
    #[serde(deserialize_with = "parse::port")]
    pub grpc_port: u16,
}

impl Default for MonitoringAssignmentServer {
    fn default() -> Self {
        Self { assignment_refresh_interval: GoDuration::from_secs(1), grpc_port: 5676 }
    }
}

impl MonitoringAssignmentServer {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        rules.positive(
            self.assignment_refresh_interval,
            "monitoringAssignmentServer.assignmentRefreshInterval",
            "AssignmentRefreshInterval must be positive",
        );
    }
}

/// `guiServer`: the web pages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GuiServer {
    /// The HTTP API that the pages read from; empty = this control plane's own.
    pub api_server_url: String,
    /// 0 lets the system choose.
    #[serde(deserialize_with = "parse::port")]
    pub port: u16,
}

impl Default for GuiServer {
    fn default() -> Self {
        Self { api_server_url: String::new(), port: 5683 }
    }
}

impl GuiServer {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        let url = &self.api_server_url;
        let valid = url.is_empty() || url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        rules.require(valid, "guiServer.apiServerUrl", "ApiServerUrl should be a valid absolute http URL");
    }
}
