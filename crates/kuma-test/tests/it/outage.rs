//! A control plane without its database: proxies go on, start and get what they need, under load.
//!
//! `KUMA_TEST_OUTAGE` is the length of the outage in seconds, `KUMA_TEST_PROXIES` the number of proxies that are
//! called.

use std::time::{Duration, Instant};

use kuma_test::apps::Client;
use kuma_test::documents::{dataplane, permission};
use kuma_test::ports::free_port;
use kuma_test::{Dataplane, Load, eventually};

use crate::database::{Database, setting};
use crate::fleet::Fleet;
use crate::stores::secured;

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_mesh_goes_on_and_proxies_start() {
    let mut database = Database::new();
    let fleet = Fleet::start_in(secured(&database.env()).await, setting("KUMA_TEST_PROXIES", 3)).await;
    let (scene, cp) = (&fleet.scene, &fleet.scene.cp);
    cp.apply(&permission("default", "billing-to-redis", "billing", "redis")).await;
    let outbounds = [free_port(), free_port()];
    let documents = ["billing-1", "late-1"].into_iter().zip(outbounds).map(|(name, outbound)| {
        dataplane("default", name, "billing", (free_port(), free_port()), &[(outbound, "redis")])
    });
    for document in documents {
        cp.apply(&document).await;
    }
    let mut billing = Dataplane::start(cp, "default", "billing-1");
    billing.live().await;
    eventually("billing reaches redis", || Client::connect(outbounds[0])).await;
    let (list, changes) = (cp.get("/meshes/default/dataplanes").await, fleet.changes().await);

    let load = Load::start(scene.outbound);
    let begun = Instant::now();
    database.server.stop();
    let another = permission("default", "another", "*", "another");
    let refused = cp.put(&another).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(cp.get("/meshes/default/dataplanes").await, list);
    // One starts again after it was killed, and one starts that nobody has seen before.
    billing.process().kill();
    let proxies = [Dataplane::start(cp, "default", "billing-1"), Dataplane::start(cp, "default", "late-1")];
    for (proxy, outbound) in proxies.iter().zip(outbounds) {
        proxy.live().await;
        eventually("it reaches redis", || Client::connect(outbound)).await;
    }
    println!("proxies that started without a database were in use after {:?}", begun.elapsed());
    let outage = Duration::from_secs(setting("KUMA_TEST_OUTAGE", 15));
    while begun.elapsed() < outage {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for outbound in outbounds {
            assert!(Client::connect(outbound).await.is_some(), "after {:?}", begun.elapsed());
        }
        assert_eq!(ready(cp.diagnostics_url()).await, 200);
        assert_eq!(cp.put(&another).await.status(), 503);
    }

    database.server.start_again();
    eventually("documents can be written", async || cp.put(&another).await.status().is_success().then_some(())).await;
    cp.delete("/meshes/default/traffic-permissions/billing-to-redis").await;
    for outbound in outbounds {
        let refused = async || Client::connect(outbound).await.is_none().then_some(());
        eventually("a change after the outage takes effect", refused).await;
    }
    assert_eq!(fleet.changes().await, changes, "an endpoint left or came");
    let requests = load.end().await;
    println!("{requests} requests were answered in {:?}, of which {outage:?} without a database", begun.elapsed());
}

async fn ready(diagnostics: String) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    client.get(format!("{diagnostics}/ready")).send().await.expect("an answer").status().as_u16()
}
