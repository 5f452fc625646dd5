//! HealthCheck: a dead instance gets no connections, and gets them again when it is back, also with only two instances.

use std::time::Duration;

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use serde_json::{Value, json};

use crate::instances::Instance;

/// `web` with an outbound to a `redis` of two instances.
struct Pair {
    cp: ControlPlane,
    one: Instance,
    two: Instance,
    outbound: u16,
    web: Dataplane,
}

impl Pair {
    async fn start() -> Pair {
        let cp = ControlPlane::start().await;
        let (one, two, outbound) = (Instance::start().await, Instance::start().await, free_port());
        cp.apply(&one.document("default", "redis-1", &json!({"service": "redis"}))).await;
        cp.apply(&two.document("default", "redis-2", &json!({"service": "redis"}))).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), one.port), &[(outbound, "redis")])).await;
        let web = Dataplane::start(&cp, "default", "web-1");
        web.live().await;
        eventually("web reaches redis", || Client::connect(outbound)).await;
        Pair { cp, one, two, outbound, web }
    }

    async fn check(&self, conf: Value) {
        let policy = json!({
            "type": "HealthCheck", "mesh": "default", "name": "web-to-redis",
            "sources": [{"match": {"service": "web"}}],
            "destinations": [{"match": {"service": "redis"}}],
            "conf": conf,
        });
        self.cp.apply(&policy).await;
        eventually("the check has arrived", || async {
            let dump = self.web.config_dump().await;
            (dump.contains("\"health_checks\"") || dump.contains("\"outlier_detection\"")).then_some(())
        })
        .await;
    }

    /// How many of this number of connections fail.
    async fn failures(&self, connections: usize) -> usize {
        let mut failures = 0;
        for _ in 0..connections {
            let works = match Client::connect(self.outbound).await {
                Some(mut client) => client.echoes().await,
                None => false,
            };
            failures += usize::from(!works);
        }
        failures
    }

    async fn healthy(&self, count: u64) {
        eventually(&format!("{count} instances are healthy"), || async {
            (self.web.stat("cluster.redis.membership_healthy").await == count).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_check_takes_out_a_dead_instance_and_brings_it_back() {
    let mut pair = Pair::start().await;
    let mut open = Client::connect(pair.outbound).await.expect("a connection from before");
    pair.check(
        json!({"activeChecks": {"interval": "200ms", "timeout": "1s", "unhealthyThreshold": 2, "healthyThreshold": 1}}),
    )
    .await;
    pair.healthy(2).await;
    assert_eq!(pair.failures(20).await, 0);
    assert!(open.echoes().await, "the check reset an open connection");
    drop(open);

    pair.one.die().await;
    pair.healthy(1).await;
    assert_eq!(pair.failures(100).await, 0, "a dead instance got connections");
    pair.one.come_back().await;
    pair.healthy(2).await;
    let before = pair.one.served();
    assert_eq!(pair.failures(20).await, 0);
    eventually("the instance that came back serves", || async { (pair.one.served() > before).then_some(()) }).await;

    // Without a healthy instance none is dialled: by default Envoy would use the dead ones.
    pair.one.die().await;
    pair.two.die().await;
    pair.healthy(0).await;
    assert_eq!(pair.failures(5).await, 5);
    assert_eq!(pair.web.stat("cluster.redis.lb_healthy_panic").await, 0);
    pair.two.come_back().await;
    pair.healthy(1).await;
    assert_eq!(pair.failures(20).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passive_check_ejects_an_instance_for_the_penalty() {
    let mut pair = Pair::start().await;
    pair.check(json!({"passiveChecks": {"unhealthyThreshold": 3, "penaltyInterval": "3s"}})).await;
    pair.healthy(2).await;
    pair.one.die().await;
    // Three failures in a row eject the instance.
    eventually("the dead instance is ejected", || async {
        pair.failures(2).await;
        (pair.web.stat("cluster.redis.outlier_detection.ejections_active").await == 1).then_some(())
    })
    .await;
    assert_eq!(pair.failures(50).await, 0, "an ejected instance got connections");
    pair.one.come_back().await;
    let before = pair.one.served();
    eventually("the penalty is over, and the instance serves again", || async {
        assert_eq!(pair.failures(2).await, 0);
        (pair.one.served() > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_endpoint_any_more_is_none_even_if_its_checks_succeed() {
    let pair = Pair::start().await;
    pair.check(
        json!({"activeChecks": {"interval": "200ms", "timeout": "1s", "unhealthyThreshold": 2, "healthyThreshold": 1}}),
    )
    .await;
    pair.healthy(2).await;
    pair.cp.delete("/meshes/default/dataplanes/redis-1").await;
    pair.healthy(1).await;
    let before = pair.one.accepted();
    assert_eq!(pair.failures(20).await, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.one.accepted(), before, "an instance without a Dataplane is dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_is_that_of_the_service_that_a_route_leads_to() {
    let mut pair = Pair::start().await;
    let outbound = free_port();
    // web's connections to `cache` are routed to redis: the health check of redis applies.
    let web = dataplane(
        "default",
        "web-1",
        "web",
        (free_port(), pair.one.port),
        &[(pair.outbound, "redis"), (outbound, "cache")],
    );
    pair.cp.apply(&web).await;
    pair.cp
        .apply(&json!({
            "type": "TrafficRoute", "mesh": "default", "name": "cache-is-redis",
            "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "cache"}}],
            "conf": [{"weight": 1, "destination": {"service": "redis"}}],
        }))
        .await;
    pair.check(
        json!({"activeChecks": {"interval": "200ms", "timeout": "1s", "unhealthyThreshold": 1, "healthyThreshold": 1}}),
    )
    .await;
    eventually("web reaches redis as cache", || Client::connect(outbound)).await;
    pair.healthy(2).await;
    pair.two.die().await;
    pair.healthy(1).await;
    for _ in 0..20 {
        assert!(Client::connect(outbound).await.is_some(), "a dead instance got a connection");
    }
}

/// With real proxies and mTLS: a check makes a whole TLS handshake with the instance's Envoy.
#[tokio::test(flavor = "multi_thread")]
async fn under_mtls_a_proxy_that_is_killed_costs_nothing_and_comes_back() {
    let cp = ControlPlane::start().await;
    let (one, two) = (Greeter::start().await, Greeter::start().await);
    let outbound = free_port();
    cp.apply(&mesh("default", true)).await;
    cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), one.port), &[])).await;
    cp.apply(&dataplane("default", "redis-2", "redis", (free_port(), two.port), &[])).await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), one.port), &[(outbound, "redis")])).await;
    cp.apply(&json!({
        "type": "HealthCheck", "mesh": "default", "name": "web-to-redis",
        "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "*"}}],
        "conf": {"activeChecks": {"interval": "200ms", "timeout": "1s", "unhealthyThreshold": 1,
            "healthyThreshold": 1}},
    }))
    .await;
    let start = async |name: &str| {
        let proxy = Dataplane::start(&cp, "default", name);
        proxy.live().await;
        proxy
    };
    let (killed, _other, web) = (start("redis-1").await, start("redis-2").await, start("web-1").await);
    let works_with = async |count: u64| {
        eventually(&format!("{count} instances are healthy"), || async {
            (web.stat("cluster.redis.membership_healthy").await == count).then_some(())
        })
        .await;
        for connection in 0..50 {
            assert!(Client::connect(outbound).await.is_some(), "connection {connection} failed with {count} healthy");
        }
    };
    works_with(2).await;
    // This kills kuma-dp, and Envoy ends with it.
    drop(killed);
    works_with(1).await;
    let before = one.accepted();
    let _again = start("redis-1").await;
    works_with(2).await;
    assert!(one.accepted() > before);
}
