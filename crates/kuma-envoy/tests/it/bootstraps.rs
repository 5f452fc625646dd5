//! The bootstrap, printed and checked by Envoy.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use kuma_envoy::{BootstrapParams, bootstrap};
use kuma_test::envoy_binary;

fn params<'a>(ca: &'a str) -> BootstrapParams<'a> {
    BootstrapParams {
        mesh: "default",
        name: "redis-1",
        service: "redis",
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 30001))),
        admin_access_log_path: "/dev/null",
        xds_servers: &[("kuma-cp.example", 5678)],
        xds_connect_timeout: Duration::from_secs(1),
        xds_ca_pem: ca,
        token_path: Some("/run/kuma/token"),
        access_log_socket: "/run/kuma/access-log.sock",
        max_connections: None,
    }
}

fn bare(ca: &str) -> BootstrapParams<'_> {
    BootstrapParams { service: "", admin: None, xds_servers: &[("::1", 5678)], token_path: None, ..params(ca) }
}

fn several(ca: &str) -> BootstrapParams<'_> {
    let xds_servers = &[("b.example", 5678), ("a.example", 5679), ("192.0.2.1", 5678), ("a.example", 5678)];
    BootstrapParams { xds_servers, token_path: None, ..params(ca) }
}

#[test]
fn several_xds_servers() {
    let bootstrap = bootstrap(&several("certificate of the xDS CA"));
    insta::assert_yaml_snapshot!(bootstrap["static_resources"]["clusters"][0]);
}

#[test]
fn complete() {
    insta::assert_yaml_snapshot!(bootstrap(&params("certificate of the xDS CA")));
}

#[test]
fn without_token_and_admin_server() {
    insta::assert_yaml_snapshot!(bootstrap(&bare("certificate of the xDS CA")));
}

#[test]
fn a_real_envoy_accepts_them() {
    let ca = kuma_ca::XdsCa::generate(SystemTime::now()).expect("a CA");
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "token").expect("a token file");
    let token = token.to_str().expect("a path in UTF-8");
    let complete = BootstrapParams { token_path: Some(token), ..params(ca.cert_pem()) };
    let ip = BootstrapParams { xds_servers: &[("192.0.2.1", 5678)], ..complete };
    for params in [complete, ip, several(ca.cert_pem()), bare(ca.cert_pem())] {
        let file = folder.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap(&params).to_string()).expect("a bootstrap file");
        let output = Command::new(envoy_binary())
            .args(["--mode", "validate", "-l", "warning", "-c"])
            .arg(&file)
            .output()
            .expect("Envoy starts");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{params:?}:\n{log}");
        // A deprecated or unknown field is a warning.
        assert!(!log.contains("[warning]"), "{params:?}:\n{log}");
    }
}
