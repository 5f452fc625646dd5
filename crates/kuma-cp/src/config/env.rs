//! Every environment variable of the control plane. No name of a variable stands anywhere else.

/// Variable -> path of the setting. Where two variables set the same value, the later one wins.
pub const ENV: &[(&str, &str)] = &[
    ("KUMA_ENVIRONMENT", "environment"),
    ("KUMA_GENERAL_ADVERTISED_HOSTNAME", "general.advertisedHostname"),
    ("KUMA_GENERAL_WORK_DIR", "general.workDir"),
    ("KUMA_STORE_TYPE", "store.type"),
    ("KUMA_STORE_FILE_PATH", "store.file.path"),
    ("KUMA_STORE_HISTORY_KEEP", "store.history.keep"),
    ("KUMA_STORE_SECRETS_KEY_FILE", "store.secretsKeyFile"),
    ("KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE", "store.kubernetes.systemNamespace"),
    ("KUMA_STORE_POSTGRES_HOST", "store.postgres.host"),
    ("KUMA_STORE_POSTGRES_PORT", "store.postgres.port"),
    ("KUMA_STORE_POSTGRES_USER", "store.postgres.user"),
    ("KUMA_STORE_POSTGRES_PASSWORD", "store.postgres.password"),
    ("KUMA_STORE_POSTGRES_PASSWORD_FILE", "store.postgres.passwordFile"),
    ("KUMA_STORE_POSTGRES_DB_NAME", "store.postgres.dbName"),
    ("KUMA_STORE_POSTGRES_CONNECTION_TIMEOUT", "store.postgres.connectionTimeout"),
    ("KUMA_STORE_POSTGRES_MAX_OPEN_CONNECTIONS", "store.postgres.maxOpenConnections"),
    ("KUMA_STORE_POSTGRES_TLS_MODE", "store.postgres.tls.mode"),
    ("KUMA_STORE_POSTGRES_TLS_CERT_PATH", "store.postgres.tls.certPath"),
    ("KUMA_STORE_POSTGRES_TLS_KEY_PATH", "store.postgres.tls.keyPath"),
    ("KUMA_STORE_POSTGRES_TLS_CA_PATH", "store.postgres.tls.caPath"),
    ("KUMA_BOOTSTRAP_SERVER_PORT", "bootstrapServer.port"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ADDRESS", "bootstrapServer.params.adminAddress"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_PORT", "bootstrapServer.params.adminPort"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ACCESS_LOG_PATH", "bootstrapServer.params.adminAccessLogPath"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_HOST", "bootstrapServer.params.xdsHost"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_PORT", "bootstrapServer.params.xdsPort"),
    ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_CONNECT_TIMEOUT", "bootstrapServer.params.xdsConnectTimeout"),
    ("KUMA_XDS_SERVER_GRPC_PORT", "xdsServer.grpcPort"),
    ("KUMA_XDS_SERVER_DIAGNOSTICS_PORT", "xdsServer.diagnosticsPort"),
    ("KUMA_XDS_SERVER_DATAPLANE_CONFIGURATION_REFRESH_INTERVAL", "xdsServer.dataplaneConfigurationRefreshInterval"),
    ("KUMA_XDS_SERVER_DATAPLANE_STATUS_FLUSH_INTERVAL", "xdsServer.dataplaneStatusFlushInterval"),
    ("KUMA_SDS_SERVER_DATAPLANE_CERT_VALIDITY", "sdsServer.dataplaneCertValidity"),
    ("KUMA_SDS_SERVER_GRPC_PORT", "sdsServer.grpcPort"),
    ("KUMA_SDS_SERVER_TLS_CERT_FILE", "sdsServer.tlsCertFile"),
    ("KUMA_SDS_SERVER_TLS_KEY_FILE", "sdsServer.tlsKeyFile"),
    ("KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT", "monitoringAssignmentServer.grpcPort"),
    (
        "KUMA_MONITORING_ASSIGNMENT_SERVER_ASSIGNMENT_REFRESH_INTERVAL",
        "monitoringAssignmentServer.assignmentRefreshInterval",
    ),
    ("KUMA_ADMIN_SERVER_APIS_DATAPLANE_TOKEN_ENABLED", "adminServer.apis.dataplaneToken.enabled"),
    ("KUMA_ADMIN_SERVER_LOCAL_PORT", "adminServer.local.port"),
    ("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "adminServer.public.enabled"),
    ("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "adminServer.public.interface"),
    ("KUMA_ADMIN_SERVER_PUBLIC_PORT", "adminServer.public.port"),
    ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", "adminServer.public.tlsCertFile"),
    ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", "adminServer.public.tlsKeyFile"),
    ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", "adminServer.public.clientCertsDir"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_ENABLED", "dataplaneTokenServer.enabled"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_LOCAL_PORT", "dataplaneTokenServer.local.port"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_ENABLED", "dataplaneTokenServer.public.enabled"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_INTERFACE", "dataplaneTokenServer.public.interface"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_PORT", "dataplaneTokenServer.public.port"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_TLS_CERT_FILE", "dataplaneTokenServer.public.tlsCertFile"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_TLS_KEY_FILE", "dataplaneTokenServer.public.tlsKeyFile"),
    ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_CLIENT_CERTS_DIR", "dataplaneTokenServer.public.clientCertsDir"),
    ("KUMA_API_SERVER_PORT", "apiServer.port"),
    ("KUMA_API_SERVER_READ_ONLY", "apiServer.readOnly"),
    ("KUMA_API_SERVER_CORS_ALLOWED_DOMAINS", "apiServer.corsAllowedDomains"),
    ("KUMA_API_SERVER_ALLOW_REMOTE_WRITES", "apiServer.allowRemoteWrites"),
    ("KUMA_KUBERNETES_ADMISSION_SERVER_ADDRESS", "runtime.kubernetes.admissionServer.address"),
    ("KUMA_KUBERNETES_ADMISSION_SERVER_PORT", "runtime.kubernetes.admissionServer.port"),
    ("KUMA_KUBERNETES_ADMISSION_SERVER_CERT_DIR", "runtime.kubernetes.admissionServer.certDir"),
    // Old releases read the value without the prefix although the documents named it with one.
    ("DEFAULTS_MESH", "defaults.mesh"),
    ("KUMA_DEFAULTS_MESH", "defaults.mesh"),
    ("KUMA_REPORTS_ENABLED", "reports.enabled"),
    ("KUMA_GUI_SERVER_PORT", "guiServer.port"),
    ("KUMA_GUI_SERVER_API_SERVER_URL", "guiServer.apiServerUrl"),
    ("KUMA_DISCOVERY_UNIVERSAL_POLLING_INTERVAL", "discovery.universal.pollingInterval"),
];

/// Beginnings of variables that belong to the other programs of the project and may stand in the same environment.
const OF_OTHER_PROGRAMS: &[&str] = &[
    "KUMA_CONTROL_PLANE_",
    "KUMA_DATAPLANE_",
    "KUMA_INJECTOR_",
    "KUMA_MONITORING_ASSIGNMENT_CLIENT_",
    "KUMA_PROMETHEUS_",
    "KUMA_BUILD_",
];

/// Whether somebody who sets `variable` probably means this program, which does not know it.
pub(super) fn is_unknown(variable: &str) -> bool {
    let ours = variable.starts_with("KUMA_DATAPLANE_TOKEN_SERVER_");
    variable.starts_with("KUMA_")
        && !ENV.iter().any(|(name, _)| *name == variable)
        && (ours || !OF_OTHER_PROGRAMS.iter().any(|prefix| variable.starts_with(prefix)))
}
