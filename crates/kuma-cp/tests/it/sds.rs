//! Secrets for Envoys that are configured by hand.

use std::time::Duration;

use envoy_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use kuma_xds::ResourceType;
use kuma_xds::grpc::Code;
use kuma_xds::server::Service;
use prost::Message as _;
use serde_json::{Value, json};

use crate::grpc::{Call, Grpc};
use crate::running::TestControlPlane;

struct World {
    cp: TestControlPlane,
    http: reqwest::Client,
}

impl World {
    /// A mesh `default` with mTLS, or without, and a Dataplane `web-1` in it.
    async fn start(mtls: bool, variables: &[(&str, &str)]) -> World {
        let cp = TestControlPlane::start(variables).await;
        let world = World { cp, http: reqwest::Client::builder().no_proxy().build().expect("a client") };
        world.mtls(mtls).await;
        world.service("web").await;
        world
    }

    async fn put(&self, path: &str, document: Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.cp.running.addresses.api.port());
        let answer = self.http.put(url).json(&document).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    async fn mtls(&self, enabled: bool) {
        let mesh = json!({"type": "Mesh", "name": "default", "mtls": {"enabled": enabled, "ca": {"builtin": {}}}});
        self.put("/meshes/default", mesh).await;
    }

    async fn service(&self, service: &str) {
        let inbound = json!({"interface": "127.0.0.1:10080:80", "tags": {"service": service}});
        let dataplane =
            json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {"inbound": [inbound]}});
        self.put("/meshes/default/dataplanes/web-1", dataplane).await;
    }

    async fn token(&self, name: &str) -> String {
        let url = format!("http://127.0.0.1:{}/tokens", self.cp.running.addresses.admin.port());
        let request = json!({"mesh": "default", "name": name});
        self.http.post(url).json(&request).send().await.expect("an answer").text().await.expect("a token")
    }

    async fn call(&self, token: Option<&str>) -> Call {
        let state = self.cp.folder.path().join("state");
        let mut grpc = Grpc::connect(self.cp.running.addresses.sds.port(), Some(&state)).await;
        grpc.call(Service::SECRETS.delta, token).await
    }
}

/// Name and content of each secret of a response.
fn secrets(response: &DeltaDiscoveryResponse) -> Vec<(String, Secret)> {
    let decode = |any: &envoy_api::Any| Secret::decode(&any.value[..]).expect("a secret");
    response
        .resources
        .iter()
        .map(|entry| (entry.name.clone(), decode(entry.resource.as_ref().expect("a body"))))
        .collect()
}

/// The identity in a response that has nothing else, PEM.
fn chain(response: &DeltaDiscoveryResponse) -> String {
    let secrets = secrets(response);
    let [(name, Secret { r#type: Some(secret::Type::TlsCertificate(certificate)), .. })] = &secrets[..] else {
        panic!("not just an identity: {secrets:?}")
    };
    assert_eq!(name, "identity_cert");
    let source = certificate.certificate_chain.as_ref().and_then(|source| source.specifier.as_ref());
    match source.expect("a chain") {
        envoy_api::envoy::config::core::v3::data_source::Specifier::InlineBytes(bytes) => {
            String::from_utf8(bytes.to_vec()).expect("PEM")
        }
        envoy_api::envoy::config::core::v3::data_source::Specifier::InlineString(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn uris(chain: &str) -> Vec<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    let names = certificate.subject_alternative_name().expect("readable").expect("names");
    names.value.general_names.iter().map(|name| name.to_string()).collect()
}

#[tokio::test]
async fn a_token_opens_the_two_secrets_of_its_dataplane() {
    let world = World::start(false, &[]).await;
    let token = world.token("web-1").await;
    let mut call = world.call(Some(&token)).await;
    call.ask("default.web-1", ResourceType::Secret, &["mesh_ca", "identity_cert"]).await;
    // Unanswered until the mesh has mTLS; the stream stays.
    world.mtls(true).await;
    let response = call.receive().await.expect("secrets");
    let names: Vec<String> = secrets(&response).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["identity_cert", "mesh_ca"]);
    call.acknowledge(&response).await;
    // What it is called changes, and so does its certificate, on the open stream.
    world.service("shop").await;
    let renewed = call.receive().await.expect("a new identity");
    assert!(uris(&chain(&renewed))[0].contains("spiffe://default/shop"), "{:?}", uris(&chain(&renewed)));
    world.cp.running.stop().await;
}

#[tokio::test]
async fn an_identity_is_renewed_on_the_open_stream() {
    let world = World::start(true, &[("KUMA_SDS_SERVER_DATAPLANE_CERT_VALIDITY", "10s")]).await;
    let token = world.token("web-1").await;
    let mut call = world.call(Some(&token)).await;
    call.ask("default.web-1", ResourceType::Secret, &["identity_cert"]).await;
    let first = call.receive().await.expect("an identity");
    call.acknowledge(&first).await;
    let second =
        tokio::time::timeout(Duration::from_secs(60), call.receive()).await.expect("in time").expect("another");
    assert_ne!(chain(&first), chain(&second));
    world.cp.running.stop().await;
}

#[tokio::test]
async fn whoever_has_no_right_is_refused() {
    let world = World::start(true, &[]).await;
    let own = world.token("web-1").await;
    let denied = Code::PermissionDenied as u16;
    let unauthenticated = Code::Unauthenticated as u16;
    for (token, node, names, code) in [
        (None, "default.web-1", &["mesh_ca"][..], unauthenticated),
        (Some("nonsense"), "default.web-1", &["mesh_ca"], unauthenticated),
        (Some(own.as_str()), "default.web-2", &["mesh_ca"], denied),
        (Some(&own), "other.web-1", &["mesh_ca"], denied),
        (Some(&own), "default.web-1", &["allowed:inbound:127.0.0.1:10080"], denied),
        (Some(&own), "default.web-1", &["mesh_ca", "other"], denied),
        (Some(&own), "default.web-1", &["*"], denied),
    ] {
        let mut call = world.call(token).await;
        call.ask(node, ResourceType::Secret, names).await;
        let (outcome, message) = call.receive().await.expect_err("nothing is given");
        assert_eq!(outcome, code, "{node} {names:?}: {message}");
        assert!(!message.contains(own.as_str()));
    }
    // In plain text not even a good token helps.
    let mut grpc = Grpc::connect(world.cp.running.addresses.sds.port(), None).await;
    let mut call = grpc.call(Service::SECRETS.delta, Some(&own)).await;
    assert_eq!(call.receive().await.expect_err("nothing").0, unauthenticated);
    // Nothing else is here.
    for path in ["/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", Service::ADS.delta] {
        let mut call = grpc.call(path, Some(&own)).await;
        assert_eq!(call.receive().await.expect_err("nothing").0, Code::Unimplemented as u16, "{path}");
    }
    world.cp.running.stop().await;
}
