//! Listeners that conflict on one machine are refused when they are applied, and services whose names are those of our
//! own clusters are reached.

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, HttpApp, HttpClient, eventually};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_be_called_like_one_of_our_clusters() {
    let cp = ControlPlane::start().await;
    let own = Greeter::start().await;
    let admin = format!("localhost:{}", own.port);
    let services = ["ads_cluster", "access_log_sink", "pass_through", "kuma:nowhere", "kuma:envoy:admin", &admin];
    let (mut outbounds, mut apps) = (Vec::new(), Vec::new());
    for (index, service) in services.into_iter().enumerate() {
        let app = Greeter::start().await;
        // The instance needs no proxy: the test is about the client's.
        let document = dataplane("default", &format!("app-{index}"), service, (app.port, free_port()), &[]);
        cp.apply(&document).await;
        outbounds.push((free_port(), service));
        apps.push(app);
    }
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), own.port), &outbounds)).await;
    let web = Dataplane::start(&cp, "default", "web-1");
    web.live().await;
    for (app, (outbound, service)) in apps.iter().zip(&outbounds) {
        eventually(&format!("web reaches {service}"), || Client::connect(*outbound)).await;
        assert!(app.accepted() > 0, "the connection to {service} went elsewhere");
    }
    assert_eq!(own.accepted(), 0, "web's own application was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_called_like_the_application_behind_it_gets_its_requests() {
    let cp = ControlPlane::start().await;
    let (own, app) = (HttpApp::start("own").await, HttpApp::start("app").await);
    let (service, outbound) = (format!("localhost:{}", own.port), free_port());
    let http = |name: &str, service: &str, ports, outbounds: &[(u16, &str)]| {
        let mut document = dataplane("default", name, service, ports, outbounds);
        document["networking"]["inbound"][0]["tags"]["protocol"] = json!("http");
        document
    };
    cp.apply(&http("app-1", &service, (app.port, free_port()), &[])).await;
    cp.apply(&http("web-1", "web", (free_port(), own.port), &[(outbound, &service)])).await;
    let web = Dataplane::start(&cp, "default", "web-1");
    web.live().await;
    eventually("a request is answered", || async {
        let mut client = HttpClient::connect(outbound).await?;
        (client.get("/").await.ok()?.status == 200).then_some(())
    })
    .await;
    assert_eq!((own.requests(), app.requests() > 0), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_on_all_addresses_is_reached_at_that_of_its_machine() {
    let cp = ControlPlane::start().await;
    let redis = Greeter::start().await;
    let (inbound, outbound) = (free_port(), free_port());
    let mut document = json!({"type": "Dataplane", "mesh": "default", "name": "redis-1", "networking": {
        "address": "127.0.0.2",
        "inbound": [{"address": "0.0.0.0", "port": inbound, "servicePort": redis.port, "tags": {"service": "redis"}}],
    }});
    cp.apply(&document).await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), redis.port), &[(outbound, "redis")])).await;
    let redis_proxy = Dataplane::start(&cp, "default", "redis-1");
    let web = Dataplane::start(&cp, "default", "web-1");
    redis_proxy.live().await;
    web.live().await;
    eventually("web reaches redis", || Client::connect(outbound)).await;
    let endpoint = format!("redis::127.0.0.2:{inbound}::");
    assert!(web.admin_page("/clusters").await.contains(&endpoint), "{}", web.admin_page("/clusters").await);
    // The endpoint follows a change of the document.
    document["networking"]["address"] = json!("127.0.0.3");
    cp.apply(&document).await;
    let endpoint = format!("redis::127.0.0.3:{inbound}::");
    eventually("the new address is dialled", || async {
        web.admin_page("/clusters").await.contains(&endpoint).then_some(())
    })
    .await;
    eventually("web reaches redis", || Client::connect(outbound)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clashes_is_refused_with_its_place_and_changes_nothing() {
    let cp = ControlPlane::start().await;
    let before = cp.get("/meshes/default/dataplanes").await;
    let inbound = json!([{"port": 80, "servicePort": 8080, "tags": {"service": "web"}}]);
    let outbound = |interface: &str| json!({"interface": interface, "service": "redis"});
    let cases = [
        (
            json!({"address": "10.0.0.1", "inbound": inbound, "outbound": [outbound(":1"), outbound("0.0.0.0:1")]}),
            "networking.outbound[1].interface",
            "0.0.0.0:1 is already used by networking.outbound[0]",
        ),
        (
            json!({"address": "10.0.0.1", "inbound": inbound, "transparentProxying": {"redirectPort": 80}}),
            "networking.transparentProxying.redirectPort",
            "0.0.0.0:80 is already used by networking.inbound[0]",
        ),
        (
            json!({"address": "10.0.0.1", "inbound": inbound, "outbound": [outbound(":8080")]}),
            "networking.outbound[0].interface",
            "127.0.0.1:8080 is already used by the application of networking.inbound[0]",
        ),
        (
            json!({"inbound": [{"interface": "127.0.0.1:80:80", "tags": {"service": "web"}}]}),
            "networking.inbound[0].interface",
            "127.0.0.1:80 is already used by the application of networking.inbound[0]: \
             the proxy would connect to itself without end",
        ),
        (
            json!({"inbound": [{"interface": "239.0.0.1:80:8080", "tags": {"service": "web"}}]}),
            "networking.inbound[0].interface",
            "239.0.0.1 is a multicast address, and nothing can listen there",
        ),
    ];
    for (networking, field, message) in cases {
        let document = json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": networking});
        let answer = cp.put(&document).await;
        assert_eq!(answer.status().as_u16(), 400, "{document}");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["causes"], json!([{"field": field, "message": message}]), "{document}");
    }
    assert_eq!(cp.get("/meshes/default/dataplanes").await, before, "something was stored");
}
