//! Whose reports about a Dataplane count: those of unauthenticated clients have no effect, on any stream.

use std::collections::HashMap;
use std::time::Duration;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::value::Kind;
use kuma_cp::presence::ABSENCE;
use kuma_wire::lifecycle::{METHOD, Report, State};
use kuma_xds::server::Service;
use kuma_xds::{DeltaDiscoveryRequest, Node, ResourceType};
use prost::Message as _;
use serde_json::{Value, json};

use crate::grpc::{Call, Grpc, patiently};
use crate::running::TestControlPlane;

/// Of the Dataplanes.
const HOME: [u8; 4] = [127, 0, 0, 1];
/// Of somebody else.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 5];

struct World {
    cp: TestControlPlane,
    http: reqwest::Client,
}

impl World {
    /// A mesh with these Dataplanes.
    async fn start(mesh: Value, dataplanes: &[&str]) -> World {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let world = World { cp: TestControlPlane::start(&[]).await, http };
        world.put("/meshes/default", mesh).await;
        for name in dataplanes {
            world.write(name).await;
        }
        world
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.cp.running.addresses.api.port())
    }

    async fn put(&self, path: &str, document: Value) {
        let answer = self.http.put(self.url(path)).json(&document).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    async fn write(&self, name: &str) {
        let inbound = json!([{"interface": "127.0.0.1:10080:80", "tags": {"service": name}}]);
        let document =
            json!({"type": "Dataplane", "mesh": "default", "name": name, "networking": {"inbound": inbound}});
        self.put(&format!("/meshes/default/dataplanes/{name}"), document).await;
    }

    async fn delete(&self, name: &str) {
        let path = format!("/meshes/default/dataplanes/{name}");
        assert!(self.http.delete(self.url(&path)).send().await.expect("an answer").status().is_success());
    }

    async fn token(&self, name: &str) -> String {
        let url = format!("http://127.0.0.1:{}/tokens", self.cp.running.addresses.admin.port());
        let request = json!({"mesh": "default", "name": name});
        self.http.post(url).json(&request).send().await.expect("an answer").text().await.expect("a token")
    }

    async fn connect(&self, from: [u8; 4], token: Option<&str>) -> Grpc {
        let state = self.cp.folder.path().join("state");
        // Tokens travel over TLS; strangers spare themselves the trouble.
        let folder = token.map(|_| state.as_path());
        Grpc::connect_from(from, self.cp.running.addresses.xds.port(), folder).await
    }

    async fn call(&self, from: [u8; 4], path: &str, token: Option<&str>) -> Call {
        self.connect(from, token).await.call(path, token).await
    }

    async fn ads(&self, from: [u8; 4], name: &str, token: Option<&str>) -> Call {
        let call = self.call(from, Service::ADS.delta, token).await;
        call.ask(&format!("default.{name}"), ResourceType::Cluster, &["*"]).await;
        call
    }

    async fn reports(&self, from: [u8; 4], name: &str, token: Option<&str>, states: &[State]) -> Call {
        let call = self.call(from, METHOD, token).await;
        for state in states {
            report(&call, name, *state, "one").await;
        }
        call
    }

    async fn insight(&self, name: &str) -> Value {
        let path = format!("/meshes/default/dataplanes+insights/{name}");
        let answer = self.http.get(self.url(&path)).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["dataplaneInsight"].clone()
    }

    async fn has_left(&self, name: &str) -> bool {
        !self.insight(name).await["departure"].is_null()
    }

    async fn leaves(&self, name: &str) {
        patiently(async {
            while !self.has_left(name).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn subscriptions(&self, name: &str) -> Vec<Value> {
        self.insight(name).await["subscriptions"].as_array().cloned().unwrap_or_default()
    }
}

async fn report(call: &Call, name: &str, state: State, instance: &str) {
    let (mesh, name, instance) = ("default".into(), name.into(), instance.into());
    call.send(&Report { mesh, name, state: state as i32, detail: String::new(), instance }).await;
}

fn mesh(mtls: bool) -> Value {
    json!({"type": "Mesh", "name": "default", "mtls": {"enabled": mtls, "ca": {"builtin": {}}}})
}

/// Every kind of stream, with every kind of proof, from everywhere, in meshes with and without mTLS.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_speak_for_a_dataplane_has_an_effect() {
    for mtls in [false, true] {
        let world = World::start(mesh(mtls), &["web-1", "other"]).await;
        let (right, foreign) = (world.token("web-1").await, world.token("other").await);
        for (proof, token) in
            [("no", None), ("bad", Some("nonsense")), ("foreign", Some(&*foreign)), ("right", Some(&*right))]
        {
            for from in [HOME, ELSEWHERE] {
                let speaks = proof == "right" || proof == "no" && !mtls && from == HOME;
                let what = format!("mTLS {mtls}, {proof} token, from {from:?}");
                // A Dataplane about which nothing is known.
                world.delete("web-1").await;
                world.write("web-1").await;
                for variant in [Service::ADS.delta, Service::ADS.stream] {
                    let call = world.call(from, variant, token).await;
                    match variant == Service::ADS.delta {
                        true => call.ask("default.web-1", ResourceType::Cluster, &["*"]).await,
                        false => call.ask_sotw("default.web-1", ResourceType::Cluster, &["*"]).await,
                    }
                    call.outcome().await;
                    let subscriptions = world.subscriptions("web-1").await;
                    let is_good = |one: &Value| one["status"]["warnings"].is_null();
                    assert_eq!(subscriptions.iter().any(is_good), speaks, "{what}, {variant}: {subscriptions:?}");
                    // Where anybody may have the configuration, one can see who has it.
                    let is_shown = speaks || proof == "no" && !mtls;
                    assert_eq!(!subscriptions.is_empty(), is_shown, "{what}, {variant}: {subscriptions:?}");
                }
                for states in [&[State::Draining][..], &[State::EnvoyExited], &[State::Running, State::Draining]] {
                    world.delete("web-1").await;
                    world.write("web-1").await;
                    world.reports(from, "web-1", token, states).await.outcome().await;
                    assert_eq!(world.has_left("web-1").await, speaks, "{what}, {states:?}");
                }
            }
        }
        world.cp.running.stop().await;
    }
}

/// A stranger who says that a proxy runs does not keep its endpoints when it drains.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_counts_whatever_a_stranger_says_beside_it() {
    for (mtls, from) in [(true, HOME), (false, HOME), (false, ELSEWHERE)] {
        let world = World::start(mesh(mtls), &["redis-1"]).await;
        let token = world.token("redis-1").await;
        let stranger = world.call(from, METHOD, None).await;
        report(&stranger, "redis-1", State::Running, "a stranger").await;
        let own = world.reports(HOME, "redis-1", Some(&token), &[State::Running, State::Draining]).await;
        world.leaves("redis-1").await;
        drop((stranger, own));
        world.cp.running.stop().await;
    }
}

/// After a restart of the control plane a stranger may be the first one to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_comes_first_does_not_vouch_for_himself() {
    let world = World::start(mesh(false), &["redis-1"]).await;
    let stream = world.ads(ELSEWHERE, "redis-1", None).await;
    let stranger = world.reports(ELSEWHERE, "redis-1", None, &[State::Running, State::Draining]).await;
    assert_eq!(stranger.outcome().await, None, "it is heard, and counts for nothing");
    assert!(!world.has_left("redis-1").await);
    // It is where its Dataplane is, and without a token too.
    let own = world.reports(HOME, "redis-1", None, &[State::Running, State::Draining]).await;
    world.leaves("redis-1").await;
    drop((stream, own));
    world.cp.running.stop().await;
}

/// A Dataplane may be written after its proxy has come, as after a restart with the memory store.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_its_dataplane_is_heard_when_that_is_there() {
    let world = World::start(mesh(false), &[]).await;
    let stream = world.ads(HOME, "late", None).await;
    let own = world.reports(HOME, "late", None, &[State::Running]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.write("late").await;
    patiently(async {
        while world.subscriptions("late").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    report(&own, "late", State::Draining, "one").await;
    world.leaves("late").await;
    drop(stream);
    world.cp.running.stop().await;
}

/// Streams of Dataplanes that do not exist are no proxies whose loss would mean that the network is at fault.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_nobody_do_not_keep_a_dead_proxy() {
    let world = World::start(mesh(false), &["redis-1", "web-1"]).await;
    let (redis, web) = (world.token("redis-1").await, world.token("web-1").await);
    let mut stay = Vec::new();
    let mut connections = Vec::new();
    for (name, token) in [("web-1", &web), ("redis-1", &redis)] {
        let mut grpc = world.connect(HOME, Some(token)).await;
        let mut stream = grpc.call(Service::ADS.delta, Some(token)).await;
        stream.ask(&format!("default.{name}"), ResourceType::Cluster, &["*"]).await;
        stream.receive().await.expect("clusters");
        let reports = grpc.call(METHOD, Some(token)).await;
        report(&reports, name, State::Running, "one").await;
        connections.push(grpc);
        stay.push((stream, reports));
    }
    let strangers = async {
        loop {
            for number in 0..5 {
                let (mesh, name) = ("nowhere".to_owned(), format!("nobody-{number}"));
                let ads = world.call(HOME, Service::ADS.delta, None).await;
                ads.ask(&format!("{mesh}.{name}"), ResourceType::Cluster, &["*"]).await;
                let reports = world.call(HOME, METHOD, None).await;
                let state = State::Running as i32;
                reports.send(&Report { mesh, name, state, detail: String::new(), instance: "one".into() }).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let killed = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        connections[1].kill();
        tokio::time::sleep(ABSENCE).await;
        world.leaves("redis-1").await;
    };
    tokio::select! {
        () = strangers => {}
        () = killed => {}
    }
    drop(stay);
    world.cp.running.stop().await;
}

/// A stranger's word about Envoy's admin port would lead Prometheus, and others, to a port of his choice.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_is_that_of_who_may_speak() {
    let with_metrics = |port: u16| {
        let prometheus = json!({"port": port, "path": "/metrics"});
        json!({"type": "Mesh", "name": "default", "metrics": {"prometheus": prometheus}})
    };
    let world = World::start(with_metrics(5670), &["web-1"]).await;
    let open = async |from: [u8; 4], port: &str| {
        let fields = HashMap::from([(
            "dataplane.admin.port".to_owned(),
            envoy_api::Value { kind: Some(Kind::StringValue(port.to_owned())) },
        )]);
        let metadata = envoy_api::Struct { fields: fields.into_iter().collect() };
        let call = world.call(from, Service::ADS.delta, None).await;
        call.send(&DeltaDiscoveryRequest {
            node: Some(Node {
                id: "default.web-1".to_owned(),
                metadata: Some(metadata.encode_to_vec()),
                ..Node::default()
            }),
            type_url: ResourceType::Cluster.type_url().to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..DeltaDiscoveryRequest::default()
        })
        .await;
        call
    };
    let mut own = open(HOME, "30001").await;
    own.receive().await.expect("clusters");
    let mut stranger = open(ELSEWHERE, "5432").await;
    stranger.receive().await.expect("clusters");
    world.put("/meshes/default", with_metrics(5671)).await;
    let mut again = open(HOME, "30001").await;
    let clusters = again.receive().await.expect("clusters").resources;
    let clusters = clusters.iter().filter_map(|one| Cluster::decode(&*one.resource.as_ref()?.value).ok());
    let text = format!("{:?}", clusters.collect::<Vec<_>>());
    assert!(text.contains("PortValue(30001)") && !text.contains("PortValue(5432)"), "{text}");
    drop((own, stranger));
    world.cp.running.stop().await;
}

/// Who is refused leaves no trace on whom he said he was.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_changes_no_insight() {
    let world = World::start(mesh(true), &["web-1"]).await;
    let token = world.token("web-1").await;
    let mut own = world.ads(HOME, "web-1", Some(&token)).await;
    own.receive().await.expect("clusters");
    let before = world.subscriptions("web-1").await;
    assert_eq!(before.len(), 1);
    for from in [HOME, ELSEWHERE] {
        let (code, _) = world.ads(from, "web-1", None).await.outcome().await.expect("it is refused");
        assert_eq!(code, 16);
    }
    let after = world.subscriptions("web-1").await;
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]), "{after:?}");
    world.cp.running.stop().await;
}

/// What is no name reaches neither the log nor anything else.
#[tokio::test(flavor = "multi_thread")]
async fn reports_are_of_one_dataplane_with_a_proper_name() {
    let world = World::start(mesh(false), &["web-1"]).await;
    for name in ["web-1\nINFO issued a dataplane token", "\u{1b}[31m", "", "../x", "\u{202e}1-bew"] {
        let call = world.call(HOME, METHOD, None).await;
        report(&call, name, State::Running, "one").await;
        assert_eq!(call.outcome().await.map(|(code, _)| code), Some(3), "{name:?}");
    }
    let call = world.reports(HOME, "web-1", None, &[State::Running]).await;
    report(&call, "web-2", State::Running, "one").await;
    assert_eq!(call.outcome().await.map(|(code, _)| code), Some(3), "of another one");
    world.cp.running.stop().await;
}
