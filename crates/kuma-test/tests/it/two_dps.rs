//! Two kuma-dps for one Dataplane, by mistake: when one ends, the other stays an endpoint.

use kuma_test::apps::Client;
use kuma_test::{Dataplane, eventually};
use rustix::process::Signal;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_leaves_the_other_one_its_endpoint() {
    let mut scene = Scene::start().await;
    let mut second = Dataplane::start(&scene.cp, "default", "redis-1");
    eventually("kuma-cp says that there are two", async || scene.cp.output().contains("2 kuma-dps run").then_some(()))
        .await;
    second.process().signal(Signal::TERM);
    second.process().wait(std::time::Duration::from_secs(30));
    eventually("kuma-cp has heard its end", async || scene.cp.output().contains("the endpoints stay").then_some(()))
        .await;
    for request in 0..100 {
        assert!(Client::connect(scene.outbound).await.is_some(), "request {request} failed");
    }
    assert_eq!(scene.web_proxy.stat("cluster.redis.membership_total").await, 1);

    // The report of the last one counts.
    scene.redis_proxy.process().signal(Signal::TERM);
    eventually("web knows no instance any more", async || {
        (scene.web_proxy.stat("cluster.redis.membership_total").await == 0).then_some(())
    })
    .await;
}
