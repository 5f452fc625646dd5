//! A real Envoy accepts the configuration in the files of `tests/golden`.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime};

use kuma_ca::{LeafRequest, Root, XdsCa};
use kuma_envoy::names::IDENTITY_CERT;
use kuma_envoy::{BootstrapParams, bootstrap};
use kuma_test::envoy_binary;
use serde_json::{Map, Value, json};

use crate::golden::cases;

/// Fields that are used although Envoy warns that they may change.
const EXPECTED: [&str; 1] = ["'envoy.config.core.v3.Http1ProtocolOptions.allow_custom_methods'"];

/// Envoy fetches nothing when it validates, so references are replaced by the resources.
#[test]
fn envoy_accepts_every_golden_file() {
    let root = Root::generate("default", SystemTime::now()).expect("a root");
    let leaf = root.issue(&LeafRequest {
        mesh: "default",
        services: &BTreeSet::from(["web"]),
        validity: Duration::from_secs(3600),
        now: SystemTime::now(),
    });
    let leaf = leaf.expect("a leaf");
    let identity = json!({"name": IDENTITY_CERT, "tls_certificate": {
        "certificate_chain": {"inline_string": leaf.chain_pem},
        "private_key": {"inline_string": leaf.key_pem.expose()},
    }});
    let xds_ca = XdsCa::generate(SystemTime::now()).expect("a CA");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bootstrap.json");
    for case in cases() {
        for (proxy, resources) in case.proxies(root.cert_pem()) {
            let mut bootstrap = self_contained(base(xds_ca.cert_pem()), &resources);
            append(&mut bootstrap["static_resources"]["secrets"], identity.clone());
            std::fs::write(&file, bootstrap.to_string()).expect("a bootstrap file");
            let output = Command::new(envoy_binary())
                .args(["--mode", "validate", "-l", "warning", "-c"])
                .arg(&file)
                .output()
                .expect("Envoy starts");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}/{proxy}.yaml:\n{log}", case.name);
            // A deprecated or unknown field is a warning.
            let is_unexpected =
                |line: &&str| line.contains("[warning]") && !EXPECTED.iter().any(|field| line.contains(field));
            let unexpected: Vec<&str> = log.lines().filter(is_unexpected).collect();
            assert!(unexpected.is_empty(), "{}/{proxy}.yaml:\n{}", case.name, unexpected.join("\n"));
        }
    }
}

/// The bootstrap of every proxy.
fn base(xds_ca: &str) -> Value {
    bootstrap(&BootstrapParams {
        mesh: "default",
        name: "a-proxy",
        service: "a-service",
        admin: None,
        admin_access_log_path: "/dev/null",
        xds_servers: &[("localhost", 5678)],
        xds_connect_timeout: Duration::from_secs(1),
        xds_ca_pem: xds_ca,
        token_path: None,
        access_log_socket: "/run/kuma/access-log.sock",
        max_connections: None,
    })
}

/// The bootstrap with these resources as static ones.
fn self_contained(mut bootstrap: Value, resources: &Value) -> Value {
    let by_name = |list: &str| -> Map<String, Value> {
        let all = resources[list].as_array().into_iter().flatten();
        let name = |one: &Value| one.get("name").or(one.get("cluster_name")).and_then(Value::as_str).map(str::to_owned);
        all.filter_map(|one| Some((name(one)?, one.clone()))).collect()
    };
    let (endpoints, configs, routes) = (by_name("endpoints"), by_name("extension_configs"), by_name("routes"));
    for list in ["clusters", "listeners", "secrets"] {
        for resource in resources[list].as_array().into_iter().flatten() {
            let mut resource = resource.clone();
            if let Some(assignment) = resource["name"].as_str().and_then(|name| endpoints.get(name)) {
                resource["load_assignment"] = assignment.clone();
                resource["type"] = "STATIC".into();
                resource.as_object_mut().expect("a resource").remove("eds_cluster_config");
            }
            put_in_place(&mut resource, &configs, &routes);
            append(&mut bootstrap["static_resources"][list], resource);
        }
    }
    bootstrap
}

fn append(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = vec![item].into(),
    }
}

/// Replaces references to filters, routes and secrets by these.
fn put_in_place(value: &mut Value, configs: &Map<String, Value>, routes: &Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            if fields.remove("config_discovery").is_some() {
                let name = fields["name"].as_str().expect("a filter's name");
                let config = configs.get(name).unwrap_or_else(|| panic!("the filter {name} has no configuration"));
                let config = config["typed_config"].clone();
                fields.insert("typed_config".to_owned(), config);
            }
            if let Some(reference) = fields.remove("rds") {
                let name = reference["route_config_name"].as_str().expect("a name of routes");
                let config = routes.get(name).unwrap_or_else(|| panic!("there are no routes {name}"));
                fields.insert("route_config".to_owned(), config.clone());
            }
            // Without a config source, a secret is one of the bootstrap's static secrets.
            fields.remove("sds_config");
            // Envoy must not write files on this machine.
            let is_file_log = fields
                .get("@type")
                .is_some_and(|name| name.as_str().is_some_and(|name| name.ends_with(".FileAccessLog")));
            if is_file_log {
                fields.insert("path".to_owned(), "/dev/null".into());
            }
            fields.values_mut().for_each(|value| put_in_place(value, configs, routes));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| put_in_place(value, configs, routes)),
        _ => {}
    }
}
