//! What each setting is for, in one sentence. `kuma-cp run -h` and docs/configuration.md show it beside the default.

/// Path of a setting -> its sentence. Ordered by path; a test holds it to what can be set.
pub(super) const DESCRIPTIONS: &[(&str, &str)] = &[
    ("adminServer.apis.dataplaneToken.enabled", "Whether the admin server issues dataplane tokens (POST /tokens)."),
    ("adminServer.local.port", "Port of the admin server for this machine, plain HTTP on 127.0.0.1."),
    (
        "adminServer.public.clientCertsDir",
        "Folder whose *.pem files are the client certificates that are let in; it is read again when it changes, and \
         nobody is let in while it is empty.",
    ),
    ("adminServer.public.enabled", "Whether other machines reach the admin server, by TLS with client certificates."),
    ("adminServer.public.interface", "Address that the public admin server listens on."),
    ("adminServer.public.port", "Port of the public admin server; 0 = that of adminServer.local.port."),
    ("adminServer.public.tlsCertFile", "File with the certificate of the public admin server, PEM."),
    ("adminServer.public.tlsKeyFile", "File with the key of the public admin server, PEM."),
    (
        "apiServer.allowRemoteWrites",
        "Whether the HTTP API takes writes from other machines without a client certificate: whoever may write \
         Dataplanes can give any proxy any identity.",
    ),
    (
        "apiServer.corsAllowedDomains",
        "Origins whose web pages may read answers of the HTTP API, exact or as regular expressions.",
    ),
    ("apiServer.port", "Port of the HTTP API."),
    ("apiServer.readOnly", "Whether the HTTP API refuses every write."),
    ("bootstrapServer.params.adminAccessLogPath", "File that Envoy's admin interface logs its requests to."),
    ("bootstrapServer.params.adminAddress", "IP address of Envoy's admin interface."),
    (
        "bootstrapServer.params.adminPort",
        "Port of Envoy's admin interface where kuma-dp asks for none; 0 = no admin interface.",
    ),
    (
        "bootstrapServer.params.xdsConnectTimeout",
        "How long Envoy waits for a connection to the control plane before it tries again.",
    ),
    (
        "bootstrapServer.params.xdsHost",
        "Host of the control plane as Envoys reach it; empty = general.advertisedHostname.",
    ),
    ("bootstrapServer.params.xdsPort", "Port of the xDS server as Envoys reach it; 0 = xdsServer.grpcPort."),
    ("bootstrapServer.port", "Port that kuma-dp asks for Envoy's bootstrap configuration."),
    ("dataplaneTokenServer.enabled", "Deprecated, use adminServer.apis.dataplaneToken.enabled."),
    ("dataplaneTokenServer.local.port", "Deprecated, use adminServer.local.port."),
    ("dataplaneTokenServer.public.clientCertsDir", "Deprecated, use adminServer.public.clientCertsDir."),
    ("dataplaneTokenServer.public.enabled", "Deprecated, use adminServer.public.enabled."),
    ("dataplaneTokenServer.public.interface", "Deprecated, use adminServer.public.interface."),
    ("dataplaneTokenServer.public.port", "Deprecated, use adminServer.public.port."),
    ("dataplaneTokenServer.public.tlsCertFile", "Deprecated, use adminServer.public.tlsCertFile."),
    ("dataplaneTokenServer.public.tlsKeyFile", "Deprecated, use adminServer.public.tlsKeyFile."),
    ("defaults.mesh", "The Mesh `default`, as YAML, that is created if there is none at the start."),
    ("discovery.universal.pollingInterval", "Has no effect, kept for old files: nothing is polled."),
    ("environment", "Where the mesh runs: universal (kubernetes is not supported by this version)."),
    (
        "general.advertisedHostname",
        "Host name or IP address under which proxies and tools on other machines reach this control plane.",
    ),
    (
        "general.workDir",
        "Folder for the keys that proxies trust, which must outlive the process; ~ is the home folder.",
    ),
    ("guiServer.apiServerUrl", "URL of the HTTP API that web pages read from; empty = this control plane's own."),
    ("guiServer.port", "Port of the web pages; 0 lets the system choose."),
    (
        "monitoringAssignmentServer.assignmentRefreshInterval",
        "Has no effect, kept for old files: changes are pushed when they happen.",
    ),
    ("monitoringAssignmentServer.grpcPort", "Port that Prometheus learns what to scrape from."),
    ("reports.enabled", "Has no effect, kept for old files: nothing about your use is ever sent anywhere."),
    (
        "runtime.kubernetes.admissionServer.address",
        "IP address that the admission webhook listens on, with environment kubernetes; empty = all.",
    ),
    (
        "runtime.kubernetes.admissionServer.certDir",
        "Folder with tls.crt and tls.key of the admission webhook, with environment kubernetes.",
    ),
    ("runtime.kubernetes.admissionServer.port", "Port of the admission webhook, with environment kubernetes."),
    (
        "sdsServer.dataplaneCertValidity",
        "Life of the certificates that proxies identify themselves with, at least 10s; they are renewed between half \
         and two thirds of it.",
    ),
    ("sdsServer.grpcPort", "Port of the secret discovery service, for Envoys that are configured by hand."),
    (
        "sdsServer.tlsCertFile",
        "File with the certificate of the SDS and xDS servers, PEM; empty = the control plane issues itself one.",
    ),
    ("sdsServer.tlsKeyFile", "File with the key that goes with sdsServer.tlsCertFile, PEM."),
    (
        "store.file.path",
        "File that documents are kept in, with store.type file; empty = store.db in general.workDir. It is an SQLite \
         database on a local disk.",
    ),
    (
        "store.history.keep",
        "How long the changes of the past are kept; the latest 1,000 are kept in any case. With store.type memory they \
         end with the process.",
    ),
    ("store.kubernetes.systemNamespace", "Namespace of the control plane, with store.type kubernetes."),
    ("store.postgres.connectionTimeout", "Seconds to wait for a connection to PostgreSQL."),
    ("store.postgres.dbName", "Name of the PostgreSQL database."),
    (
        "store.postgres.host",
        "Host of PostgreSQL, or several, separated by commas: the one that can be written to is used.",
    ),
    (
        "store.postgres.maxOpenConnections",
        "Most connections to PostgreSQL at a time; 0 = three, which is as many as are used.",
    ),
    ("store.postgres.password", "Password of store.postgres.user; it is never shown."),
    (
        "store.postgres.passwordFile",
        "File with the password of store.postgres.user, in place of store.postgres.password; it is read at every \
         connection.",
    ),
    ("store.postgres.port", "Port of PostgreSQL."),
    ("store.postgres.tls.caPath", "File with the CA that the certificate of PostgreSQL is checked against, PEM."),
    ("store.postgres.tls.certPath", "File with the client certificate for PostgreSQL, PEM."),
    ("store.postgres.tls.keyPath", "File with the key of the client certificate for PostgreSQL, PEM."),
    (
        "store.postgres.tls.mode",
        "How connections to PostgreSQL are secured: disable, verifyNone, verifyCa or verifyFull.",
    ),
    ("store.postgres.user", "User of the PostgreSQL database."),
    (
        "store.secretsKeyFile",
        "File with keys that seal secrets in a file or in PostgreSQL, a line for each: an id, a space and 32 random \
         bytes in base64. The first one seals, all open; empty = secrets are stored as they are.",
    ),
    (
        "store.type",
        "Where documents are kept: memory, until the process ends; file, in a file on this machine; postgres, in a \
         database that several control planes share (kubernetes is not supported by this version).",
    ),
    (
        "xdsServer.dataplaneConfigurationRefreshInterval",
        "Has no effect, kept for old files: changes are pushed when they happen.",
    ),
    (
        "xdsServer.dataplaneStatusFlushInterval",
        "How often DataplaneInsights that have changed are written to the store.",
    ),
    ("xdsServer.diagnosticsPort", "Port of /healthy, /ready and /metrics."),
    ("xdsServer.grpcPort", "Port of the server that Envoys get their configuration from."),
];

#[cfg(test)]
mod tests {
    use super::DESCRIPTIONS;
    use crate::config::reference::settings;

    #[test]
    fn every_description_belongs_to_a_setting() {
        let description: Vec<&str> = DESCRIPTIONS.iter().map(|(path, _)| *path).collect();
        let keys: Vec<String> = settings().into_iter().map(|setting| setting.key).collect();
        assert_eq!(description, keys);
    }
}
