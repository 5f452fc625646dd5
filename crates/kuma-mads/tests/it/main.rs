//! One Dataplane in all formats for Prometheus.

use kuma_mads::v1alpha1::MonitoringAssignment;
use kuma_mads::{Assignment, file_sd, v1};
use kuma_model::{Resource, decode_spec, text};
use prost::Message as _;

fn spec<R: Resource>(yaml: &str) -> R {
    decode_spec(&text::parse_documents(yaml).expect("YAML")[0]).expect("a spec")
}

fn backend() -> Assignment {
    let dataplane = "
        networking:
          inbound:
          - {interface: '10.0.0.1:80:8080', tags: {service: backend, version: v1, kuma.io/zone: east}}
          - {interface: '10.0.0.1:81:8081', tags: {service: backend-admin, version: v2}}";
    let mesh = spec("metrics: {prometheus: {}}");
    Assignment::new("default", &mesh, "backend-01", &spec(dataplane)).expect("something to scrape")
}

#[test]
fn v1alpha1() {
    let encoded = MonitoringAssignment::from(&backend()).encoded();
    let decoded = MonitoringAssignment::decode(encoded.as_slice()).expect("a message");
    insta::assert_debug_snapshot!(decoded);
}

#[test]
fn v1() {
    let backend = backend();
    let answer = v1::DiscoveryResponse {
        version_info: "7",
        resources: vec![(&backend).into()],
        type_url: v1::TYPE_URL,
        nonce: "n",
    };
    insta::assert_json_snapshot!(answer);
}

#[test]
fn file_sd() {
    insta::assert_snapshot!(file_sd::text(&[MonitoringAssignment::from(&backend())]));
}
