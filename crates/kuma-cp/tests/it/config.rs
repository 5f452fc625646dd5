//! Where settings come from, and what is said about wrong ones.

use std::path::{Path, PathBuf};

use kuma_cp::config::{Config, ConfigError, ENV, Environment, Loaded, StoreType, TlsMode, build, load};
use serde_json::Value;

fn env(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn from_env(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    build(None, env(variables))
}

fn from_file(text: &str) -> Result<Loaded, ConfigError> {
    build(Some(("kuma.yaml", text)), [])
}

fn mistakes(result: Result<Loaded, ConfigError>) -> Vec<String> {
    match result {
        Err(ConfigError::Invalid(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
        Ok(_) => Vec::new(),
    }
}

/// Paths of all leaves of the tree.
fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, out);
            }
        }
        _ => out.push(path.to_string()),
    }
}

fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |node, key| node.get(key))
}

#[test]
fn defaults_are_the_documented_ones() {
    let loaded = from_env(&[]).expect("no settings are fine");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
    insta::assert_snapshot!(format!("{:#}", loaded.config.to_json()));
    let compact = loaded.config.to_json().to_string();
    assert!(!compact.contains('\n') && compact.contains(r#""password":"*****""#), "{compact}");
}

#[test]
fn keys_are_alphabetical_at_every_level() {
    fn check(value: &Value) {
        if let Value::Object(fields) = value {
            let keys: Vec<&String> = fields.keys().collect();
            assert!(keys.is_sorted(), "{keys:?}");
            fields.values().for_each(check);
        }
    }
    check(&Config::default().to_json());
}

#[test]
fn every_setting_has_a_variable_and_every_variable_a_setting() {
    let defaults = Config::default().to_json();
    let mut paths = Vec::new();
    leaves(&defaults, "", &mut paths);
    for path in &paths {
        assert!(ENV.iter().any(|(_, known)| known == path), "{path} has no variable");
    }
    for (variable, path) in ENV {
        assert!(paths.iter().any(|known| known == path), "{variable} stands for {path}, which does not exist");
        assert_eq!(ENV.iter().filter(|(other, _)| other == variable).count(), 1, "{variable} is there twice");
    }
}

#[test]
fn every_variable_sets_its_value() {
    for (variable, path) in ENV {
        let default = at(&Config::default().to_json(), path).cloned().expect("exists");
        let (text, expected): (&str, Value) = match (&default, *path) {
            (_, "environment") => ("universal", "universal".into()),
            (_, "store.type") => ("memory", "memory".into()),
            (_, "store.postgres.tls.mode") => ("verifyNone", "verifyNone".into()),
            (_, "store.postgres.password") => ("0123", "*****".into()),
            (_, "bootstrapServer.params.adminAddress") => ("127.0.0.2", "127.0.0.2".into()),
            (_, "guiServer.apiServerUrl") => ("http://api:1", "http://api:1".into()),
            (_, "defaults.mesh") => ("mtls: {enabled: true}", "mtls: {enabled: true}".into()),
            (_, "dataplaneTokenServer.public.enabled" | "adminServer.public.enabled") => ("false", false.into()),
            (_, "sdsServer.tlsCertFile" | "sdsServer.tlsKeyFile") => ("", "".into()),
            (Value::Bool(default), _) if *default => ("false", false.into()),
            (Value::Bool(_), _) => ("true", true.into()),
            (Value::Number(_), _) => ("4711", 4711.into()),
            (Value::Array(_), _) => {
                ("https://a.example, https://b.example", serde_json::json!(["https://a.example", "https://b.example"]))
            }
            (Value::String(default), _) if default == "1s" => ("1m30s", "1m30s".into()),
            (_, "sdsServer.dataplaneCertValidity" | "store.history.keep") => ("90s", "1m30s".into()),
            (Value::String(_), _) => ("text", "text".into()),
            other => panic!("no example for {other:?}"),
        };
        let loaded = from_env(&[(variable, text)]).unwrap_or_else(|error| panic!("{variable}={text}: {error}"));
        assert_eq!(at(&loaded.config.to_json(), path), Some(&expected), "{variable}={text}");
    }
}

#[test]
fn wrong_values_are_reported_with_their_variable() {
    for (variable, value, message) in [
        ("KUMA_XDS_SERVER_GRPC_PORT", "abc", r#"not a valid value: "abc": expected a whole number"#),
        ("KUMA_XDS_SERVER_GRPC_PORT", "", r#"not a valid value: "": expected a whole number"#),
        ("KUMA_API_SERVER_PORT", "65536", r#"not a valid value: "65536": must be in the range [0, 65535]"#),
        ("KUMA_API_SERVER_PORT", "-1", r#"not a valid value: "-1": must be in the range [0, 65535]"#),
        ("KUMA_API_SERVER_READ_ONLY", "", r#"not a valid value: "": expected true or false"#),
        ("KUMA_API_SERVER_READ_ONLY", "maybe", r#"not a valid value: "maybe": expected true or false"#),
        ("KUMA_ENVIRONMENT", "vm", r#"not a valid value: "vm": Environment should be either kubernetes or universal"#),
        (
            "KUMA_STORE_TYPE",
            "redis",
            r#"not a valid value: "redis": Type should be either file, postgres, kubernetes or memory"#,
        ),
        (
            "KUMA_XDS_SERVER_DATAPLANE_STATUS_FLUSH_INTERVAL",
            "1",
            r#"not a valid value: "1": expected a duration such as 1s, 500ms or 1m30s"#,
        ),
        ("KUMA_XDS_SERVER_DATAPLANE_STATUS_FLUSH_INTERVAL", "0s", "DataplaneStatusFlushInterval must be positive"),
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_CONNECT_TIMEOUT", "-1s", r#"not a valid value: "-1s": cannot be negative"#),
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ADDRESS", "", "AdminAddress cannot be empty"),
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ADDRESS", "host", "AdminAddress should be a valid IP address"),
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_ACCESS_LOG_PATH", "", "AdminAccessLogPath cannot be empty"),
        ("KUMA_SDS_SERVER_DATAPLANE_CERT_VALIDITY", "9.9s", "DataplaneCertValidity must be at least 10s"),
        (
            "KUMA_SDS_SERVER_TLS_CERT_FILE",
            "/c",
            "sdsServer.tlsKeyFile: TlsKeyFile cannot be empty if TlsCertFile has been set",
        ),
        (
            "KUMA_SDS_SERVER_TLS_KEY_FILE",
            "/k",
            "sdsServer.tlsCertFile: TlsCertFile cannot be empty if TlsKeyFile has been set",
        ),
        ("KUMA_GUI_SERVER_API_SERVER_URL", "api", "ApiServerUrl should be a valid absolute http URL"),
        ("KUMA_API_SERVER_CORS_ALLOWED_DOMAINS", "(", r#""(" is neither an origin nor a regular expression"#),
        ("KUMA_GENERAL_ADVERTISED_HOSTNAME", "a/b", "AdvertisedHostname should be a host name or an IP address"),
        (
            "KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_PORT",
            "99999",
            r#"not a valid value: "99999": must be in the range [0, 65535]"#,
        ),
        ("KUMA_DEFAULTS_MESH", "[]", "Mesh is not valid: expected a mapping"),
    ] {
        let expected = if message.contains("Server.") { message.to_string() } else { format!("{variable}: {message}") };
        assert_eq!(mistakes(from_env(&[(variable, value)])), [expected]);
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let file = "apiServer:\n  port: many\nxdsServer:\n  grpcPort: 70000\n";
    let variables =
        env(&[("KUMA_GUI_SERVER_PORT", "x"), ("KUMA_STORE_TYPE", "postgres"), ("KUMA_STORE_POSTGRES_HOST", "")]);
    let error = build(Some(("kuma.yaml", file)), variables).expect_err("all wrong").to_string();
    insta::assert_snapshot!(error);
}

#[test]
fn public_admin_needs_its_files() {
    let found = mistakes(from_env(&[("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "true")]));
    assert_eq!(
        found,
        [
            "adminServer.public.tlsCertFile: TlsCertFile cannot be empty if server is enabled",
            "adminServer.public.tlsKeyFile: TlsKeyFile cannot be empty if server is enabled",
            "adminServer.public.interface: Interface cannot be empty if server is enabled",
        ]
    );
}

#[test]
fn postgres_settings_are_checked_when_they_are_used() {
    let variables = [
        ("KUMA_STORE_POSTGRES_USER", ""),
        ("KUMA_STORE_POSTGRES_PASSWORD", ""),
        ("KUMA_STORE_POSTGRES_DB_NAME", ""),
        ("KUMA_STORE_POSTGRES_TLS_MODE", "verifyCa"),
        ("KUMA_STORE_POSTGRES_TLS_CERT_PATH", "/c"),
    ];
    let loaded = from_env(&variables).expect("nobody uses them");
    assert_eq!(loaded.config.store.postgres.tls.mode, TlsMode::VerifyCa);
    let mut used = variables.to_vec();
    used.push(("KUMA_STORE_TYPE", "postgres"));
    assert_eq!(
        mistakes(from_env(&used)),
        [
            "KUMA_STORE_POSTGRES_USER: User should not be empty",
            "KUMA_STORE_POSTGRES_PASSWORD: Password should not be empty",
            "KUMA_STORE_POSTGRES_DB_NAME: DbName should not be empty",
            "store.postgres.tls.keyPath: KeyPath cannot be empty when CertPath is provided",
            "store.postgres.tls.caPath: CAPath cannot be empty",
        ]
    );
}

#[test]
fn kubernetes_settings_are_checked_when_they_are_used() {
    let found = mistakes(from_env(&[
        ("KUMA_ENVIRONMENT", "kubernetes"),
        ("KUMA_STORE_TYPE", "kubernetes"),
        ("KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE", ""),
    ]));
    assert_eq!(
        found,
        [
            "KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE: SystemNamespace should not be empty",
            "runtime.kubernetes.admissionServer.certDir: CertDir should not be empty",
        ]
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let file =
        "general:\n  advertisedHostname: from-file\napiServer: {port: 1, corsAllowedDomains: [https://a.example]}\n";
    let loaded = build(Some(("kuma.yaml", file)), env(&[("KUMA_API_SERVER_PORT", "2")])).expect("fine");
    assert_eq!(loaded.config.general.advertised_hostname, "from-file");
    assert_eq!(loaded.config.api_server.port, 2);
    assert_eq!(loaded.config.api_server.cors_allowed_domains, ["https://a.example"]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn texts_stay_texts_in_the_file() {
    let loaded = from_file("store: {postgres: {password: 0123, user: true, port: \"5432\"}}").expect("fine");
    let postgres = &loaded.config.store.postgres;
    assert_eq!((postgres.password.expose(), postgres.user.as_str(), postgres.port), ("0123", "true", 5432));
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "---\n", "# nothing\n", "apiServer:\n", "apiServer: ~\nstore: {type: null}\n"] {
        assert_eq!(from_file(text).expect("fine").config, Config::default(), "{text:?}");
    }
}

#[test]
fn wrong_files_are_reported_with_their_place() {
    for (text, expected) in [
        ("apiServer:\n  port: x\n", "kuma.yaml:2:9: apiServer.port: not a valid value: \"x\": expected a whole number"),
        ("apiServer: 5681\n", "kuma.yaml:1:12: apiServer: expected a mapping"),
        ("apiServer:\n  port: [1]\n", "kuma.yaml:2:9: apiServer.port: expected a single value"),
        ("apiServer:\n  port: 1\n  port: 2\n", "kuma.yaml:3:3: apiServer.port: is set twice"),
        ("- a\n", "kuma.yaml:1:1: expected a mapping of sections"),
        ("apiServer: &a {port: 1}\nguiServer: *a\n", "kuma.yaml:2:12: guiServer: aliases are not supported here"),
        (
            "a: 1\n---\nb: 1\n",
            "Failed to parse configuration from file \"kuma.yaml\": line 3, column 1: expected a single document",
        ),
    ] {
        assert_eq!(mistakes(from_file(text)), [expected], "{text}");
    }
    let broken = mistakes(from_file("apiServer:\n  port: [1\nx: }"));
    assert!(broken[0].starts_with("Failed to parse configuration from file \"kuma.yaml\": line "), "{broken:?}");
    let deep = mistakes(from_file(&format!("{}x", "- ".repeat(10_000))));
    assert!(deep[0].contains("nested too deeply"), "{deep:?}");
}

#[test]
fn what_is_unknown_is_ignored_and_said() {
    let file = "apiServer:\n  prot: 1\nweather: nice\n";
    let variables = env(&[
        ("KUMA_API_SERVER_PROT", "1"),
        ("KUMA_DATAPLANE_NAME", "of kuma-dp"),
        ("KUMA_DATAPLANE_TOKEN_SERVER_PORT", "1"),
        ("PATH", "/bin"),
    ]);
    let loaded = build(Some(("kuma.yaml", file)), variables).expect("fine");
    assert_eq!(loaded.config, Config::default());
    insta::assert_snapshot!(loaded.warnings.join("\n"));
}

#[test]
fn the_deprecated_section_replaces_admin_server_whole() {
    let loaded = from_env(&[
        ("KUMA_DATAPLANE_TOKEN_SERVER_LOCAL_PORT", "1111"),
        ("KUMA_ADMIN_SERVER_APIS_DATAPLANE_TOKEN_ENABLED", "false"),
    ])
    .expect("fine");
    let admin = &loaded.config.admin_server;
    assert_eq!((admin.local.port, admin.apis.dataplane_token.enabled), (1111, true));
    assert!(loaded.warnings[0].contains("dataplaneTokenServer is deprecated"), "{:?}", loaded.warnings);

    let disabled = from_env(&[("KUMA_DATAPLANE_TOKEN_SERVER_ENABLED", "false")]).expect("fine");
    assert!(!disabled.config.admin_server.apis.dataplane_token.enabled);

    let found = mistakes(from_env(&[
        ("KUMA_DATAPLANE_TOKEN_SERVER_ENABLED", "false"),
        ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_ENABLED", "true"),
        ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_TLS_CERT_FILE", "c"),
        ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_TLS_KEY_FILE", "k"),
        ("KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_INTERFACE", "0.0.0.0"),
    ]));
    assert_eq!(
        found,
        ["KUMA_DATAPLANE_TOKEN_SERVER_PUBLIC_ENABLED: Public.Enabled cannot be true when server is disabled."]
    );
}

#[test]
fn open_settings_are_filled_in() {
    let mut config = from_env(&[("KUMA_GENERAL_ADVERTISED_HOSTNAME", "kuma"), ("KUMA_STORE_TYPE", "postgres")])
        .expect("fine")
        .config;
    config.xds_server.grpc_port = 1;
    config.api_server.port = 2;
    config.admin_server.local.port = 3;
    config.complete();
    let params = &config.bootstrap_server.params;
    assert_eq!((params.xds_host.as_str(), params.xds_port), ("kuma", 1));
    assert_eq!(config.admin_server.public.port, 3);
    assert_eq!(config.gui_server.api_server_url, "http://localhost:2");
    assert_eq!((config.store.store_type, config.environment), (StoreType::Postgres, Environment::Universal));

    let mut set = from_env(&[
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_HOST", "lb"),
        ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_PORT", "9"),
        ("KUMA_GUI_SERVER_API_SERVER_URL", "https://api"),
    ])
    .expect("fine")
    .config;
    set.complete();
    assert_eq!((set.bootstrap_server.params.xds_host.as_str(), set.bootstrap_server.params.xds_port), ("lb", 9));
    assert_eq!(set.gui_server.api_server_url, "https://api");
}

#[test]
fn the_work_folder_is_below_the_home() {
    let home = Path::new("/home/kuma");
    let folder = |text: &str, home| {
        let mut config = Config::default();
        config.general.work_dir = text.into();
        config.work_dir(home)
    };
    assert_eq!(Config::default().work_dir(Some(home)), Ok(PathBuf::from("/home/kuma/.kuma")));
    assert_eq!(folder("~", Some(home)), Ok(home.to_owned()));
    assert_eq!(folder("/var/lib/kuma", None), Ok(PathBuf::from("/var/lib/kuma")));
    assert_eq!(folder("~other/x", Some(home)), Ok(PathBuf::from("~other/x")));
    let error = folder("~/x", None).expect_err("no home");
    assert!(error.contains("KUMA_GENERAL_WORK_DIR") && error.contains("HOME"), "{error}");
}

#[test]
fn the_default_mesh_comes_from_either_variable() {
    let mesh =
        |variables: &[(&str, &str)]| from_env(variables).expect("fine").config.defaults.mesh_document().expect("valid");
    let document = mesh(&[]);
    assert_eq!(
        document.to_json(),
        serde_json::json!({"type": "Mesh", "name": "default", "mtls": {"ca": {"builtin": {}}}})
    );
    let both =
        mesh(&[("DEFAULTS_MESH", "{}"), ("KUMA_DEFAULTS_MESH", "type: Other\nname: other\nmtls: {enabled: true}")]);
    assert_eq!((both.key.name.as_ref(), &both.spec["mtls"]["enabled"]), ("default", &Value::Bool(true)));
    assert_eq!(mesh(&[("DEFAULTS_MESH", "mtls: {enabled: true}")]).spec["mtls"]["enabled"], true);
    let wrong = mistakes(from_env(&[("KUMA_DEFAULTS_MESH", "logging: {defaultBackend: none}")]));
    assert!(wrong[0].starts_with("KUMA_DEFAULTS_MESH: Mesh is not valid: logging.defaultBackend: "), "{wrong:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let missing = temp.path().join("missing.yaml");
    let error = load(Some(&missing), []).expect_err("missing");
    assert_eq!(error.to_string(), format!("Failed to access configuration file {missing:?}"));
    let binary = temp.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).expect("writes");
    let error = load(Some(&binary), []).expect_err("not text");
    assert_eq!(error.to_string(), format!("Failed to read configuration from file {binary:?}"));
    let good = temp.path().join("good.yaml");
    std::fs::write(&good, "apiServer: {port: 7}").expect("writes");
    assert_eq!(load(Some(&good), []).expect("fine").config.api_server.port, 7);
}
