//! Walks the table of who may do what, with every kind of credential, on the ports of a whole control plane.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::Method;
use kuma_ca::{Leaf, TokenVerifier};
use kuma_cp::access::{Port, Proof, RULES, Rule};
use kuma_cp::ads::Ads;
use kuma_cp::departures::Departures;
use kuma_cp::insights::Insights;
use kuma_cp::metrics::Metrics;
use kuma_cp::{admin, api, bootstrap, diagnostics, mads, run};
use kuma_engine::{Engine, Settings, is_of_this_machine};
use kuma_model::{KINDS, Scope};
use kuma_xds::grpc::Code;
use kuma_xds::server::Service;
use kuma_xds::{DiscoveryRequest, ResourceType};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::grpc::Grpc;
use crate::running::{TestControlPlane, certificate, root};

/// What somebody shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Credential {
    None,
    Bad,
    /// Good for somebody else.
    Foreign,
    Expired,
    Right,
}

const ALL: [Credential; 5] =
    [Credential::None, Credential::Bad, Credential::Foreign, Credential::Expired, Credential::Right];

struct World {
    cp: TestControlPlane,
    plain: reqwest::Client,
    certificates: Vec<(Credential, Leaf)>,
    tokens: Vec<(Credential, String)>,
}

impl World {
    async fn start() -> World {
        let cp = TestControlPlane::start(&[]).await;
        let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
        let root = root();
        let new = |name, age| certificate(&root, name, Duration::from_secs(age));
        let certificates = vec![
            (Credential::Bad, new("bad", 0)),
            // Signed by one whose certificate is let in.
            (Credential::Foreign, new("foreign", 0)),
            (Credential::Expired, new("expired", 2 * 24 * 3600)),
            (Credential::Right, new("right", 0)),
        ];
        cp.admit("root.pem", root.cert_pem());
        cp.admit("expired.pem", &certificates[2].1.chain_pem);
        cp.admit("right.pem", &certificates[3].1.chain_pem);
        let mut world = World { cp, plain, certificates, tokens: Vec::new() };
        world.put("/meshes/default", json!({"type": "Mesh", "name": "default", "mtls": {"enabled": true}})).await;
        let inbound = json!([{"interface": "127.0.0.1:10080:80", "tags": {"service": "web"}}]);
        let dataplane =
            json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {"inbound": inbound}});
        world.put("/meshes/default/dataplanes/web-1", dataplane).await;
        let root = kuma_ca::Root::generate("default", std::time::SystemTime::now()).expect("a root");
        let pair = json!({"cert": root.cert_pem(), "key": root.key_pem().expose()});
        let added = world.url(Port::Admin, "/meshes/default/ca/provided/certificates");
        let added = world.plain.post(added).json(&pair).send().await.expect("an answer");
        assert!(added.status().is_success());
        let right = world.token("web-1").await;
        world.tokens = vec![
            (Credential::Bad, "nonsense".to_owned()),
            (Credential::Foreign, world.token("web-2").await),
            (Credential::Expired, world.expired(&right)),
            (Credential::Right, right),
        ];
        world
    }

    fn url(&self, port: Port, path: &str) -> String {
        let addresses = self.cp.running.addresses;
        let address = match port {
            Port::Admin => addresses.admin,
            Port::Diagnostics => addresses.diagnostics,
            Port::Api => addresses.api,
            Port::Bootstrap => addresses.bootstrap,
            Port::Mads => addresses.mads,
            Port::PublicAdmin => return self.cp.admin(path),
            Port::Sds | Port::Xds => unreachable!("these are gRPC"),
        };
        format!("http://127.0.0.1:{}{path}", address.port())
    }

    async fn put(&self, path: &str, document: serde_json::Value) {
        let answer = self.plain.put(self.url(Port::Api, path)).json(&document).send().await.expect("an answer");
        assert!(answer.status().is_success());
    }

    async fn token(&self, name: &str) -> String {
        let request = self.plain.post(self.url(Port::Admin, "/tokens")).json(&json!({"mesh": "default", "name": name}));
        request.send().await.expect("an answer").text().await.expect("a token")
    }

    /// A token that was good once, with everything else right.
    fn expired(&self, token: &str) -> String {
        let pem = std::fs::read(self.cp.folder.path().join("state/dataplane-token-signing-key.pem")).expect("a key");
        let key = jsonwebtoken::EncodingKey::from_rsa_pem(&pem).expect("a key");
        let header = token.split('.').next().expect("a header");
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("a header");
        let header = serde_json::from_slice(&header).expect("a header");
        let claims = json!({"Name": "web-1", "Mesh": "default", "iat": 1, "exp": 2});
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }

    /// Whether a request is let in; what comes of it then does not matter.
    async fn is_let_in(&self, rule: &Rule, method: &Method, credential: Credential) -> bool {
        match rule.port {
            Port::Sds => self.rpc_is_let_in(rule, self.cp.running.addresses.sds.port(), credential).await,
            Port::Xds => self.rpc_is_let_in(rule, self.cp.running.addresses.xds.port(), credential).await,
            Port::Mads if rule.path.starts_with("/kuma.") => self.assignments_are_told(rule).await,
            Port::PublicAdmin => {
                let identity = self.certificates.iter().find(|(one, _)| *one == credential).map(|(_, leaf)| leaf);
                self.http_is_let_in(&self.cp.client(identity), rule, method, &[]).await
            }
            _ => {
                let headers: &[(&str, &str)] = match credential {
                    // Without a word it would be from this machine; a proxy in between tells that it is not.
                    Credential::None => &[("x-forwarded-for", "192.0.2.1")],
                    Credential::Bad => &[("host", "rebound.example")],
                    Credential::Foreign => &[("origin", "http://evil.example")],
                    Credential::Expired => &[("sec-fetch-site", "cross-site")],
                    Credential::Right => &[],
                };
                self.http_is_let_in(&self.plain, rule, method, headers).await
            }
        }
    }

    async fn http_is_let_in(
        &self,
        client: &reqwest::Client,
        rule: &Rule,
        method: &Method,
        headers: &[(&str, &str)],
    ) -> bool {
        let path = filled(rule.path).remove(0);
        let method = method.as_str().parse().expect("a method");
        let request = client.request(method, self.url(rule.port, &path)).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        match request.body("{}").send().await {
            Ok(answer) => {
                let status = answer.status();
                // The path is there, and neither the mesh nor the revision is.
                let names_nothing = path.contains("nobody") || rule.path.contains("{revision}");
                assert!(status != 404 || names_nothing, "{} {path} is not there", rule.path);
                if status == 404 && rule.path.contains("{revision}") && rule.methods.contains(&Method::GET) {
                    let body = client.get(self.url(rule.port, &path)).send().await;
                    let body = body.expect("an answer").text().await.expect("text");
                    assert!(body.contains("is not a revision"), "{path} is answered as no path: {body}");
                }
                assert!(status != 405 && !status.is_server_error(), "{} {path}: {status}", rule.path);
                status != 401 && status != 403
            }
            Err(_) => {
                assert_eq!(rule.port, Port::PublicAdmin, "{path} answers nothing");
                false
            }
        }
    }

    /// Nothing that is shown makes a difference there.
    async fn assignments_are_told(&self, rule: &Rule) -> bool {
        let mut grpc = Grpc::connect(self.cp.running.addresses.mads.port(), None).await;
        let call = grpc.call(rule.path, None).await;
        call.send(&DiscoveryRequest::default()).await;
        call.outcome().await.is_none()
    }

    async fn rpc_is_let_in(&self, rule: &Rule, port: u16, credential: Credential) -> bool {
        let token = self.tokens.iter().find(|(one, _)| *one == credential).map(|(_, token)| token.as_str());
        let mut grpc = Grpc::connect(port, Some(&self.cp.folder.path().join("state"))).await;
        let call = grpc.call(rule.path, token).await;
        let secret = rule.port == Port::Sds;
        if rule.path == kuma_wire::lifecycle::METHOD {
            call.report("default", "web-1").await;
        } else if rule.path == Service::SECRETS.delta || rule.path == Service::ADS.delta {
            let resource_type = if secret { ResourceType::Secret } else { ResourceType::Cluster };
            call.ask("default.web-1", resource_type, if secret { &["mesh_ca"] } else { &["*"] }).await;
        } else {
            let resource_type = if secret { ResourceType::Secret } else { ResourceType::Cluster };
            call.ask_sotw("default.web-1", resource_type, if secret { &["mesh_ca"] } else { &["*"] }).await;
        }
        match call.outcome().await {
            None => true,
            Some((code, message)) => {
                let refused = [Code::Unauthenticated as u16, Code::PermissionDenied as u16].contains(&code);
                assert!(refused || code == 0, "{} {credential:?}: {code} {message}", rule.path);
                !refused
            }
        }
    }
}

/// The paths that a template stands for.
fn filled(template: &str) -> Vec<String> {
    let template = template.replace("{mesh}", "default").replace("{name}", "nobody");
    let scope = if template.contains("{global}") { Scope::Global } else { Scope::Mesh };
    let kinds = KINDS.iter().filter(|kind| kind.scope == scope);
    let all = kinds.map(|kind| template.replace("{global}", kind.api_path).replace("{kind}", kind.api_path));
    all.collect::<BTreeSet<String>>().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_its_proof() {
    let world = World::start().await;
    for rule in RULES {
        for method in rule.methods {
            for credential in ALL {
                let expected = match rule.proof {
                    Proof::Nothing => true,
                    Proof::ThisMachine | Proof::ClientCertificate | Proof::Token | Proof::TokenUnderMtls => {
                        credential == Credential::Right
                    }
                };
                let let_in = world.is_let_in(rule, method, credential).await;
                assert_eq!(let_in, expected, "{:?} {method} {} with {credential:?}", rule.port, rule.path);
            }
        }
    }
    world.cp.running.stop().await;
}

#[test]
fn every_route_is_in_the_table_and_nothing_else_is() {
    let cancel = CancellationToken::new();
    let started = std::time::SystemTime::UNIX_EPOCH;
    let settings = Settings { complete: false, leaf_validity: Duration::from_secs(3600), started, is_of_this_machine };
    let (engine, metrics) = (Engine::new(settings, Arc::new(()), cancel), Arc::<Metrics>::default());
    let insights = Arc::new(Insights::new("test".to_owned()));
    let departures = Departures::new(engine.clone(), insights.clone(), metrics.clone());
    let (tokens, admin_address) = (Arc::new(TokenVerifier::new([])), std::net::Ipv4Addr::LOCALHOST.into());
    let ads = Arc::new(Ads { engine, insights, departures, tokens, metrics, admin_address });
    let routes = run::xds_routes(&ads);
    let xds = [Service::ADS.stream, Service::ADS.delta].into_iter().chain(routes.paths());
    let served = [
        (Port::Sds, vec![Service::SECRETS.stream, Service::SECRETS.delta]),
        (Port::Xds, xds.collect()),
        (Port::Mads, mads::PATHS.to_vec()),
        (Port::Admin, admin::paths().collect()),
        (Port::PublicAdmin, admin::paths().chain(api::routes::TEMPLATES.iter().copied()).collect()),
        (Port::Diagnostics, diagnostics::PATHS.to_vec()),
        (Port::Api, api::routes::TEMPLATES.to_vec()),
        (Port::Bootstrap, bootstrap::PATHS.to_vec()),
    ];
    let served: BTreeSet<(Port, &str)> =
        served.iter().flat_map(|(port, paths)| paths.iter().map(|path| (*port, *path))).collect();
    let table: BTreeSet<(Port, &str)> = RULES.iter().map(|rule| (rule.port, rule.path)).collect();
    assert_eq!(served, table);
    let distinct: BTreeSet<_> = RULES
        .iter()
        .flat_map(|rule| rule.methods.iter().map(|method| (rule.port, rule.path, method.as_str())))
        .collect();
    assert_eq!(distinct.len(), RULES.iter().map(|rule| rule.methods.len()).sum::<usize>(), "each is said once");
}

#[test]
fn the_templates_are_those_of_the_paths() {
    for template in api::routes::TEMPLATES {
        for path in filled(template) {
            let target = api::routes::find(&path).unwrap_or_else(|| panic!("{path} leads nowhere"));
            assert_eq!(target.template(), *template, "{path}");
        }
    }
}
