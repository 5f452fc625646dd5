//! TrafficRoute: connections are distributed by weight, and a change of the weights closes none.

use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};
use serde_json::{Value, json};

use crate::instances::Instance;

/// `web` with an outbound to `redis`, which has two versions, and another service.
struct Scene {
    cp: ControlPlane,
    old: Instance,
    new: Instance,
    other: Instance,
    outbound: u16,
    web: Dataplane,
}

impl Scene {
    async fn start() -> Scene {
        let cp = ControlPlane::start().await;
        let (old, new, other) = (Instance::start().await, Instance::start().await, Instance::start().await);
        let outbound = free_port();
        cp.apply(&old.document("default", "old", &json!({"service": "redis", "version": "1.0"}))).await;
        cp.apply(&new.document("default", "new", &json!({"service": "redis", "version": "2.0"}))).await;
        cp.apply(&other.document("default", "other", &json!({"service": "valkey"}))).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), old.port), &[(outbound, "redis")])).await;
        let web = Dataplane::start(&cp, "default", "web-1");
        web.live().await;
        eventually("web reaches redis", || Client::connect(outbound)).await;
        Scene { cp, old, new, other, outbound, web }
    }

    /// Applies a route for redis, and waits until Envoy has it.
    async fn route(&self, conf: Value) {
        let before = self.updates().await;
        let route = json!({
            "type": "TrafficRoute", "mesh": "default", "name": "redis",
            "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "redis"}}],
            "conf": conf,
        });
        self.cp.apply(&route).await;
        eventually("the route has arrived", || async { (self.updates().await > before).then_some(()) }).await;
    }

    /// How often Envoy has applied a changed split.
    async fn updates(&self) -> u64 {
        self.web.stats("extension_config_discovery.*config_reload$").await.values().sum()
    }

    /// Makes this number of connections. Returns how many each instance gets (old, new, other), and how many fail.
    async fn shares(&self, connections: usize) -> ([usize; 3], usize) {
        let accepted = || [&self.old, &self.new, &self.other].map(Instance::accepted);
        let before = accepted();
        let mut failed = 0;
        for _ in 0..connections {
            failed += usize::from(Client::connect(self.outbound).await.is_none());
        }
        let after = accepted();
        ([0, 1, 2].map(|index| after[index] - before[index]), failed)
    }
}

fn version(weight: u32, version: &str) -> Value {
    json!({"weight": weight, "destination": {"service": "redis", "version": version}})
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_shared_out_by_weight() {
    let scene = Scene::start().await;
    let mut open = Client::connect(scene.outbound).await.expect("a connection from before");

    // The sum of weights need not be 100.
    scene.route(json!([version(3, "1.0"), version(9, "2.0")])).await;
    let ([old, new, other], failed) = scene.shares(400).await;
    assert_eq!((old + new, other, failed), (400, 0, 0));
    // The expected number is 100, with a standard deviation of 9.
    assert!((50..150).contains(&old), "{old} of 400 went where a quarter should");

    scene.route(json!([version(0, "1.0"), version(7, "2.0")])).await;
    assert_eq!(scene.shares(50).await, ([0, 50, 0], 0), "weight 0 gets nothing");

    // A tag that only has to exist, and a version that no instance has.
    scene.route(json!([version(1, "*")])).await;
    let ([old, new, _], failed) = scene.shares(40).await;
    assert!(old > 0 && new > 0 && old + new == 40 && failed == 0, "{old} {new} {failed}");
    scene.route(json!([version(1, "3.0")])).await;
    assert_eq!(scene.shares(5).await, ([0, 0, 0], 5));

    scene.route(json!([{"weight": 1, "destination": {"service": "valkey"}}])).await;
    assert_eq!(scene.shares(20).await, ([0, 0, 20], 0), "another service");

    assert!(open.echoes().await, "a change of the route cut a connection");
}

/// Each swap removes the clusters of the previous route and adds others.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_swaps_under_load_lose_no_request() {
    let scene = Scene::start().await;
    let load = Load::start_with(scene.outbound, 1000, 1000);
    let splits = [
        json!([version(100, "1.0")]),
        json!([version(1, "1.0"), version(1, "2.0")]),
        json!([version(0, "1.0"), version(3, "2.0")]),
        json!([version(1, "*"), {"weight": 1, "destination": {"service": "valkey"}}]),
        json!([{"weight": 1, "destination": {"service": "valkey"}}]),
    ];
    let begun = scene.updates().await;
    let mut swaps = 0;
    // Until enough requests were made, however long that takes.
    while swaps < 200 || load.done() < 20_000 {
        scene.route(splits[swaps % splits.len()].clone()).await;
        swaps += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (rate, taken) = (load.rate(), scene.updates().await - begun);
    let requests = load.end().await;
    println!("{swaps} swaps, {requests} requests at {rate:.0} a second, none lost");
    assert_eq!(taken, swaps as u64, "each swap was on the proxy");
    for (name, instance) in [("1.0", &scene.old), ("2.0", &scene.new), ("valkey", &scene.other)] {
        assert!(instance.accepted() > 1000, "{name} has had {} connections", instance.accepted());
    }
    let refused = scene.web.stats("(update_rejected|config_fail|config_conflict|upstream_cx_connect_fail)$").await;
    assert!(refused.values().all(|&count| count == 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_weights_0_traffic_stops_and_nothing_is_refused() {
    let scene = Scene::start().await;
    let mut open = Client::connect(scene.outbound).await.expect("a connection from before");
    scene.route(json!([version(0, "1.0"), version(0, "2.0")])).await;
    assert_eq!(scene.shares(10).await, ([0, 0, 0], 10));
    assert!(open.echoes().await, "stopping the traffic cut a connection that was open");
    scene.route(json!([version(1, "1.0"), version(0, "2.0")])).await;
    assert_eq!(scene.shares(10).await, ([10, 0, 0], 0));
    scene.cp.delete("/meshes/default/traffic-routes/redis").await;
    eventually("without a route both versions serve", || async {
        let ([old, new, _], _) = scene.shares(4).await;
        (old > 0 && new > 0).then_some(())
    })
    .await;

    let refused = scene.web.stats("(update_rejected|config_fail|config_conflict)$").await;
    assert!(refused.values().all(|&count| count == 0), "{refused:?}");
    let overview = eventually("the insight is written", || async {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/web-1").await;
        overview["dataplaneInsight"]["subscriptions"][0]["status"]["total"]["responsesAcknowledged"]
            .is_string()
            .then_some(overview)
    })
    .await;
    let total = &overview["dataplaneInsight"]["subscriptions"][0]["status"]["total"];
    assert!(total["responsesRejected"].is_null() || total["responsesRejected"] == "0", "{overview}");
}
