//! Rules of xDS that only a real Envoy can verify: what is sent, in which order, and what is not sent.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use kuma_test::apps::{Client, Greeter, bytes_from};
use kuma_test::documents::{dataplane, mesh, permission, route};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};
use serde_json::{Value, json};

use crate::scene::Scene;

/// A cluster without its endpoints warms for 15 s. With them it is ready at once.
const FAR_BELOW_THE_STALL: Duration = Duration::from_secs(8);

/// xDS requires "make before break": a resource is sent before the listener that refers to it, and removed after.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_swapped_under_load_costs_no_request() {
    let cp = ControlPlane::start().await;
    let (blue, green) = (Greeter::start().await, Greeter::start().await);
    let (blue_inbound, green_inbound, web_inbound, outbound) = (free_port(), free_port(), free_port(), free_port());
    // One proxy with two inbounds of different services.
    cp.apply(&json!({
        "type": "Dataplane", "mesh": "default", "name": "colours", "networking": {"inbound": [
            {"interface": format!("127.0.0.1:{blue_inbound}:{}", blue.port), "tags": {"service": "blue"}},
            {"interface": format!("127.0.0.1:{green_inbound}:{}", green.port), "tags": {"service": "green"}},
        ]},
    }))
    .await;
    cp.apply(&dataplane("default", "web-1", "web", (web_inbound, blue.port), &[(outbound, "blue")])).await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&permission("default", "everything", "*", "*")).await;
    let colours = Dataplane::start(&cp, "default", "colours");
    let web = Dataplane::start(&cp, "default", "web-1");
    colours.live().await;
    web.live().await;
    eventually("web reaches blue", || Client::connect(outbound)).await;

    let load = Load::start(outbound);
    for swap in 0..200 {
        let (service, target) = if swap % 2 == 0 { ("green", &green) } else { ("blue", &blue) };
        let before = target.accepted();
        cp.apply(&route("default", "web-to-colour", "web", "blue", &[(100, service)])).await;
        // Each swap takes effect before the next one.
        eventually(&format!("swap {swap} to {service}"), async || (target.accepted() > before).then_some(())).await;
    }
    let requests = load.end().await;
    assert!(requests >= 200, "{requests} requests are too few to see anything");
    assert_eq!(rejected(&web).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_clusters_do_not_wait_for_their_endpoints() {
    let scene = Scene::start().await;
    scene.cp.apply(&permission("default", "everything", "*", "*")).await;
    // mTLS changes every cluster of a service, and none of their endpoints.
    for round in 0..6 {
        let modified = scene.web_proxy.stat("cluster_manager.cluster_modified").await;
        scene.cp.apply(&mesh("default", round % 2 == 0)).await;
        eventually("Envoy has taken the changed cluster", async || {
            (scene.web_proxy.stat("cluster_manager.cluster_modified").await > modified).then_some(())
        })
        .await;
        warm(&scene.web_proxy).await;
        scene.open().await;
    }
    // A cluster that is added, with endpoints and without.
    let [_, mut web] = scene.documents();
    for service in ["redis", "nobody"] {
        let added = scene.web_proxy.stat("cluster_manager.cluster_added").await;
        let (outbounds, port) = (web["networking"]["outbound"].as_array_mut().expect("a list"), free_port());
        outbounds.push(json!({"interface": format!(":{port}"), "service": service}));
        // Another split of the same service, which needs another cluster.
        scene.cp.apply(&route("default", "by-version", "web", "redis", &[(1, "redis"), (1, "other")])).await;
        scene.cp.apply(&web).await;
        eventually("Envoy has taken the new cluster", async || {
            (scene.web_proxy.stat("cluster_manager.cluster_added").await > added).then_some(())
        })
        .await;
        warm(&scene.web_proxy).await;
    }
    // Only endpoints change: the cluster stays, and traffic follows.
    scene.cp.delete("/meshes/default/traffic-routes/by-version").await;
    let moved = free_port();
    let redis = dataplane("default", "redis-1", "redis", (moved, scene.redis.port), &[]);
    scene.cp.apply(&redis).await;
    eventually("redis listens elsewhere", || Client::connect(moved)).await;
    scene.open().await;
    warm(&scene.web_proxy).await;
}

async fn warm(proxy: &Dataplane) {
    let warm = async {
        while proxy.stat("cluster_manager.warming_clusters").await != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(FAR_BELOW_THE_STALL, warm).await.is_ok(), "a cluster waits for its endpoints");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_refuses_is_reported_and_tried_again_alone() {
    let cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    // Another process has the port.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let good = free_port();
    let document = |port: u16| {
        json!({
            "type": "Dataplane", "mesh": "default", "name": "redis-1", "networking": {"inbound": [
                {"interface": format!("127.0.0.1:{good}:{}", app.port), "tags": {"service": "redis"}},
                {"interface": format!("127.0.0.1:{port}:{}", app.port), "tags": {"service": "redis-admin"}},
            ]},
        })
    };
    cp.apply(&document(port)).await;
    let proxy = Dataplane::start(&cp, "default", "redis-1");
    let status = eventually("the refusal is reported", async || {
        let status = status(&cp, "redis-1").await?;
        status["total"].get("responsesRejected").is_some().then_some(status)
    })
    .await;
    assert_eq!(status["total"]["responsesRejected"], "1", "{status}");
    assert_eq!(status["lds"]["responsesRejected"], "1", "{status}");
    let rejection = &status["lastRejection"];
    assert_eq!(rejection["type"], "type.googleapis.com/envoy.config.listener.v3.Listener");
    let message = rejection["message"].as_str().expect("a reason");
    assert!(message.contains(&port.to_string()) && message.contains("ddress already in use"), "{message}");
    assert!(rejection["time"].is_string(), "{rejection}");

    // The valid resources of the refused response are live.
    proxy.live().await;
    eventually("the other inbound works", || Client::connect(good)).await;

    // It is tried again after 1 s, 2 s and so on, and nothing else is sent.
    let sent = async || {
        let status = status_of(&cp, "redis-1").await;
        (count(&status["total"]["responsesSent"]), count(&status["lds"]["responsesSent"]))
    };
    let before = sent().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = sent().await;
    let (total, listeners) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(total, listeners, "something else was sent");
    assert!((1..=4).contains(&listeners), "{listeners} attempts within 6 s");

    // A change is sent, and solves the problem.
    let free = free_port();
    cp.apply(&document(free)).await;
    eventually("the mended inbound works", || Client::connect(free)).await;
    let status = eventually("the change is accepted", async || {
        let status = status_of(&cp, "redis-1").await;
        let lds = &status["lds"];
        let [sent, acked, refused] =
            ["responsesSent", "responsesAcknowledged", "responsesRejected"].map(|field| count(&lds[field]));
        (sent == acked + refused && status.get("refused").is_none()).then_some(status)
    })
    .await;
    assert_eq!(count(&status["total"]["responsesRejected"]), 1 + listeners, "{status}");
    assert_eq!(status["lastRejection"]["message"], message, "what was refused last stays to be read");
    assert!(Client::connect(good).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_while_nothing_changes() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    scene.open().await;
    for (proxy, name) in [(&scene.web_proxy, "web-1"), (&scene.redis_proxy, "redis-1")] {
        steady(&scene.cp, proxy, name).await;
    }
    let now = async || {
        let web = sent_and_taken(&scene.cp, &scene.web_proxy, "web-1").await;
        (web, sent_and_taken(&scene.cp, &scene.redis_proxy, "redis-1").await)
    };
    let before = now().await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.open().await;
    }
    // Writing the same document again changes nothing either.
    scene.cp.apply(&mesh("default", true)).await;
    for document in scene.documents() {
        scene.cp.apply(&document).await;
    }
    // A permission that concerns no connected proxy.
    scene.cp.apply(&permission("default", "others", "a", "b")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(now().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_give_the_same_versions() {
    let app = Greeter::start().await;
    let (inbound, outbound) = (free_port(), free_port());
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0]] {
        let cp = ControlPlane::start().await;
        let documents = [
            dataplane("default", "redis-1", "redis", (inbound, app.port), &[(outbound, "redis")]),
            dataplane("default", "redis-2", "redis", (free_port(), app.port), &[]),
            permission("default", "everything", "*", "*"),
        ];
        for index in order {
            // The second instance listens on a port of its own each time, so it is left out of the comparison.
            if index != 1 {
                cp.apply(&documents[index]).await;
            }
        }
        let mut proxy = Dataplane::start(&cp, "default", "redis-1");
        proxy.live().await;
        eventually("redis reaches itself", || Client::connect(outbound)).await;
        seen.push(proxy.versions().await);
        proxy.process().kill();
        eventually("its port is free again", async || TcpListener::bind(("127.0.0.1", inbound)).ok().map(drop)).await;
    }
    assert!(seen[0].len() >= 4, "listeners, clusters and endpoints have versions: {:?}", seen[0]);
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_calls_services_and_listens_for_none() {
    let scene = Scene::start().await;
    let cp = &scene.cp;
    let outbound = free_port();
    cp.apply(&json!({
        "type": "Dataplane", "mesh": "default", "name": "gateway-1", "networking": {
            "address": "127.0.0.1",
            "gateway": {"tags": {"service": "gateway"}},
            "outbound": [{"interface": format!(":{outbound}"), "service": "redis"}],
        },
    }))
    .await;
    let gateway = Dataplane::start(cp, "default", "gateway-1");
    gateway.live().await;
    eventually("the gateway reaches redis", || Client::connect(outbound)).await;
    let dump = gateway.config_dump().await;
    assert!(!dump.contains("\"inbound:"), "a gateway has an inbound listener");

    // Its identity is that of its tags.
    cp.apply(&mesh("default", true)).await;
    cp.apply(&permission("default", "gateway-to-redis", "gateway", "redis")).await;
    scene.closed_to_plain_text().await;
    eventually("the gateway reaches redis over TLS", || Client::connect(outbound)).await;
    scene.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_exist_holds_up_nothing_and_may_come_later() {
    let cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    let (inbound, outbound, redis_inbound) = (free_port(), free_port(), free_port());
    cp.apply(&dataplane("default", "web-1", "web", (inbound, app.port), &[(outbound, "redis")])).await;
    let web = Dataplane::start(&cp, "default", "web-1");
    tokio::time::timeout(FAR_BELOW_THE_STALL, web.live()).await.expect("Envoy waits for a service that does not exist");
    assert!(Client::connect(inbound).await.is_some(), "its inbound works");
    warm(&web).await;
    assert_eq!(bytes_from(outbound).await, b"");
    let connection = tokio::time::timeout(Duration::from_secs(5), Client::connect(outbound)).await;
    assert!(connection.expect("the connection is reset, not kept waiting").is_none());

    cp.apply(&dataplane("default", "redis-1", "redis", (redis_inbound, app.port), &[])).await;
    let redis = Dataplane::start(&cp, "default", "redis-1");
    redis.live().await;
    eventually("web reaches redis once it exists", || Client::connect(outbound)).await;
    // redis is deleted again.
    cp.delete("/meshes/default/dataplanes/redis-1").await;
    eventually("web is refused when redis is gone", async || Client::connect(outbound).await.is_none().then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_on_ipv6_in_the_form_of_address_and_port() {
    let cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    let (inbound, web_inbound, outbound) = (free_port(), free_port(), free_port());
    cp.apply(&json!({
        "type": "Dataplane", "mesh": "default", "name": "redis-1", "networking": {
            "address": "::1",
            "inbound": [{"port": inbound, "servicePort": app.port, "tags": {"service": "redis"}}],
        },
    }))
    .await;
    cp.apply(&json!({
        "type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {
            "address": "::1",
            "inbound": [{"port": web_inbound, "servicePort": app.port, "tags": {"service": "web"}}],
            "outbound": [{"port": outbound, "service": "redis"}],
        },
    }))
    .await;
    let redis = Dataplane::start(&cp, "default", "redis-1");
    let web = Dataplane::start(&cp, "default", "web-1");
    redis.live().await;
    web.live().await;
    let address = format!("[::1]:{inbound}").parse().expect("an address");
    eventually("redis answers on IPv6", async || Client::connect_to(address).await.ok()).await;
    assert!(Client::connect(inbound).await.is_none(), "it listens on its address alone");
    eventually("web reaches redis over IPv6", || Client::connect(outbound)).await;
    cp.apply(&permission("default", "everything", "*", "*")).await;
    cp.apply(&mesh("default", true)).await;
    eventually("plain text is refused", async || Client::connect_to(address).await.is_err().then_some(())).await;
    eventually("web reaches redis over IPv6 and TLS", || Client::connect(outbound)).await;
    assert_eq!(rejected(&web).await, BTreeMap::new());
    assert_eq!(rejected(&redis).await, BTreeMap::new());
}

/// The status of a proxy's stream in its insight.
async fn status(cp: &ControlPlane, name: &str) -> Option<Value> {
    let overview = cp.get(&format!("/meshes/default/dataplanes+insights/{name}")).await;
    let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array()?;
    Some(subscriptions.last()?["status"].clone())
}

async fn status_of(cp: &ControlPlane, name: &str) -> Value {
    status(cp, name).await.expect("the proxy is connected")
}

fn count(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.parse().expect("a number"))
}

/// The counts of what a proxy has been sent, from the control plane and from Envoy.
async fn sent_and_taken(cp: &ControlPlane, proxy: &Dataplane, name: &str) -> (Value, BTreeMap<String, u64>) {
    let mut taken =
        proxy.stats(r"\.(update_success|update_attempt|update_rejected|update_failure|config_reload)$").await;
    // Envoy counts DNS updates of the control plane's name in the same way.
    taken.retain(|name, _| !name.starts_with("cluster.ads_cluster."));
    (status_of(cp, name).await, taken)
}

/// Waits until all updates in progress have arrived and been acknowledged.
async fn steady(cp: &ControlPlane, proxy: &Dataplane, name: &str) -> (Value, BTreeMap<String, u64>) {
    eventually("the proxy has all there is for it", async || {
        let before = sent_and_taken(cp, proxy, name).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = sent_and_taken(cp, proxy, name).await;
        (before == after).then_some(after)
    })
    .await
}

/// Envoy's counters of refused configuration that are not 0.
async fn rejected(proxy: &Dataplane) -> BTreeMap<String, u64> {
    let mut counters = proxy.stats(r"\.update_rejected$").await;
    counters.retain(|_, count| *count > 0);
    counters
}
