//! An Envoy that is configured by hand, as docs/sds.md describes.

use std::process::Command;

use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Process, envoy_binary, eventually};
use serde_json::json;

use crate::scene::{shown_certificate, uris};

const DOCUMENT: &str = include_str!("../../../../docs/sds.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_envoy_gets_its_identity_and_the_next_one() {
    let cp = ControlPlane::start_with(&[("KUMA_SDS_SERVER_DATAPLANE_CERT_VALIDITY", "10s")]).await;
    let mesh =
        |enabled: bool| json!({"type": "Mesh", "name": "default", "mtls": {"enabled": enabled, "ca": {"builtin": {}}}});
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[])).await;
    let token = std::fs::read_to_string(cp.token_file("default", "web-1")).expect("a token");
    // Users copy the CA from a bootstrap. The file here also holds the key, which Envoy ignores.
    let ca = std::fs::read_to_string(cp.folder().join("state/xds-ca.pem")).expect("a CA");
    let end = "-----END CERTIFICATE-----\n";
    let ca_file = cp.folder().join("kuma-ca.pem");
    std::fs::write(&ca_file, &ca[..ca.find(end).expect("a certificate") + end.len()]).expect("writes");
    let bootstrap = reqwest::Client::builder().no_proxy().build().expect("a client");
    let bootstrap =
        bootstrap.post(format!("{}/bootstrap", cp.bootstrap_url())).body(r#"{"mesh": "default", "name": "web-1"}"#);
    let bootstrap = bootstrap.send().await.expect("an answer").text().await.expect("a text");
    assert!(bootstrap.contains("trusted_ca") || bootstrap.contains("trustedCa"), "{bootstrap}");

    let port = free_port();
    let yaml = DOCUMENT.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let mut configuration = yaml.to_owned();
    for (placeholder, value) in [
        ("8443", port.to_string()),
        ("5677", cp.sds_port().to_string()),
        ("kuma-ca.pem", ca_file.display().to_string()),
        ("TOKEN", token),
    ] {
        assert_eq!(configuration.matches(placeholder).count(), 1, "{placeholder}");
        configuration = configuration.replace(placeholder, &value);
    }
    let path = cp.folder().join("envoy.yaml");
    std::fs::write(&path, configuration).expect("writes");
    let mut command = Command::new(envoy_binary());
    command.arg("-c").arg(&path).args(["--disable-hot-restart", "--use-dynamic-base-id", "--concurrency", "1"]);
    let _envoy = Process::start("envoy", &mut command, cp.folder());

    // It waits until the mesh has mTLS, and needs no restart for that.
    cp.apply(&mesh(true)).await;
    let first = eventually("Envoy shows a certificate", || shown_certificate(port)).await;
    assert_eq!(uris(&first), ["spiffe://default/web"]);
    eventually("Envoy shows the next certificate", || async {
        shown_certificate(port).await.filter(|shown| *shown != first)
    })
    .await;
}
