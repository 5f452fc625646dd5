//! Several meshes, gateways, and proxies of several services: their identities, and that meshes are isolated.

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use serde_json::json;

use crate::scene::Scene;

async fn refused(port: u16, what: &str) {
    eventually(what, || async { Client::connect(port).await.is_none().then_some(()) }).await;
}

/// `web-1` and `redis-1`, which exist in each mesh.
struct InMesh {
    redis: Greeter,
    inbound: u16,
    outbound: u16,
    stolen: u16,
    _proxies: [Dataplane; 2],
}

impl InMesh {
    /// Starts them. web also has an outbound to the service `stolen`, which does not exist yet.
    async fn start(cp: &ControlPlane, name: &str) -> InMesh {
        let redis = Greeter::start().await;
        let (inbound, outbound, stolen) = (free_port(), free_port(), free_port());
        cp.apply(&mesh(name, true)).await;
        cp.apply(&permission(name, "everything", "*", "*")).await;
        cp.apply(&dataplane(name, "redis-1", "redis", (inbound, redis.port), &[])).await;
        let outbounds = [(outbound, "redis"), (stolen, "stolen")];
        cp.apply(&dataplane(name, "web-1", "web", (free_port(), redis.port), &outbounds)).await;
        let proxies = [Dataplane::start(cp, name, "redis-1"), Dataplane::start(cp, name, "web-1")];
        for proxy in &proxies {
            proxy.live().await;
        }
        eventually("web reaches the redis of its mesh", || Client::connect(outbound)).await;
        InMesh { redis, inbound, outbound, stolen, _proxies: proxies }
    }
}

/// A ProxyTemplate of mesh one that forwards two ports of web to other addresses, with web's certificate and without
/// verification of the server.
fn forcing(ways: [(u16, u16); 2]) -> serde_json::Value {
    let mut resources = Vec::new();
    for (from, to) in ways {
        let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        let sds = json!({"name": "identity_cert", "sds_config": {"ads": {}, "resource_api_version": "V3"}});
        let endpoint = json!({"endpoint": {"address": address(to)}});
        resources.push(json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": format!("to-{to}"), "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": format!("to-{to}"), "endpoints": [{"lb_endpoints": [endpoint]}]},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"tls_certificate_sds_secret_configs": [sds]},
            }},
        }));
        let proxy = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "forced", "cluster": format!("to-{to}"),
        });
        resources.push(json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": format!("from-{from}"), "address": address(from),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
        }));
    }
    let resources = resources.iter().enumerate().map(
        |(index, resource)| json!({"name": format!("r{index}"), "version": "1", "resource": resource.to_string()}),
    );
    json!({
        "type": "ProxyTemplate", "mesh": "one", "name": "forcing",
        "selectors": [{"match": {"service": "web"}}],
        "conf": {"imports": ["default-proxy"], "resources": resources.collect::<Vec<_>>()},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn meshes_with_the_same_names_have_nothing_in_common() {
    let mut cp = ControlPlane::start().await;
    let one = InMesh::start(&cp, "one").await;
    let two = InMesh::start(&cp, "two").await;
    let before = (one.redis.accepted(), two.redis.accepted());
    for _ in 0..10 {
        Client::connect(one.outbound).await.expect("one's redis");
    }
    assert_eq!((one.redis.accepted() - before.0, two.redis.accepted() - before.1), (10, 0));

    // A Dataplane in mesh one has the address of redis in mesh two. Proxies of mesh one get the endpoint, but the TLS
    // handshake fails.
    let thief = dataplane("one", "thief", "stolen", (two.inbound, two.redis.port), &[]);
    cp.apply(&thief).await;
    let dialled = two.redis.accepted();
    for _ in 0..20 {
        assert!(Client::connect(one.stolen).await.is_none(), "a certificate of mesh one opened a door of mesh two");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(two.redis.accepted(), dialled, "the application of mesh two was dialled");
    Client::connect(two.outbound).await.expect("two is well");

    // That was web's proxy, which verified the server. A client that verifies nothing but shows its certificate is
    // refused by redis of mesh two, and admitted by redis of mesh one.
    let forced = [(free_port(), &two), (free_port(), &one)];
    cp.apply(&forcing(forced.map(|(port, target)| (port, target.inbound)))).await;
    let [(to_two, _), (to_one, _)] = forced;
    eventually("one's redis admits it", || Client::connect(to_one)).await;
    let dialled = two.redis.accepted();
    for _ in 0..10 {
        assert!(Client::connect(to_two).await.is_none(), "a certificate of mesh one opened a door of mesh two");
    }
    assert_eq!(two.redis.accepted(), dialled, "the application of mesh two was dialled");

    // A token of mesh one is not valid in mesh two: kuma-dp reports that and does not start.
    let token = cp.token_file("one", "web-1");
    let token = token.to_str().expect("UTF-8");
    let mut impostor = Dataplane::start_with(&cp, "two", "web-1", &["--dataplane-token-file", token]);
    impostor.process().prints("is of Dataplane \"web-1\" of mesh \"one\"").await;
    assert!(!impostor.process().wait(std::time::Duration::from_secs(40)).success());
    assert!(cp.process().is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_dials_and_is_not_dialled() {
    let scene = Scene::start().await;
    let outbound = free_port();
    let gateway = json!({
        "type": "Dataplane", "mesh": "default", "name": "edge-1",
        "networking": {
            "gateway": {"tags": {"service": "edge", "region": "eu"}},
            "outbound": [{"interface": format!(":{outbound}"), "service": "redis"}],
        },
    });
    scene.cp.apply(&gateway).await;
    scene.cp.apply(&mesh("default", true)).await;
    scene.cp.apply(&permission("default", "edge-to-redis", "edge", "redis")).await;
    let proxy = Dataplane::start(&scene.cp, "default", "edge-1");
    proxy.live().await;
    eventually("the gateway reaches redis", || Client::connect(outbound)).await;
    scene.closed().await;
    assert!(!proxy.config_dump().await.contains("inbound:"), "a gateway has no inbound");

    // Policies match its tags.
    scene
        .cp
        .apply(&json!({
            "type": "TrafficRoute", "mesh": "default", "name": "stop",
            "sources": [{"match": {"service": "edge", "region": "eu"}}],
            "destinations": [{"match": {"service": "redis"}}],
            "conf": [{"weight": 0, "destination": {"service": "redis"}}],
        }))
        .await;
    refused(outbound, "the gateway's traffic is stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_two_services_is_both() {
    let scene = Scene::start().await;
    let outbound = free_port();
    let kong = json!({
        "type": "Dataplane", "mesh": "default", "name": "kong-1",
        "networking": {
            "inbound": [
                {"interface": format!("127.0.0.1:{}:{}", free_port(), scene.redis.port), "tags": {"service": "kong"}},
                {"interface": format!("127.0.0.1:{}:{}", free_port(), scene.redis.port),
                    "tags": {"service": "kong-admin"}},
            ],
            "outbound": [{"interface": format!(":{outbound}"), "service": "redis"}],
        },
    });
    scene.cp.apply(&kong).await;
    scene.cp.apply(&mesh("default", true)).await;
    let proxy = Dataplane::start(&scene.cp, "default", "kong-1");
    proxy.live().await;
    refused(outbound, "nothing is permitted").await;
    for source in ["kong-admin", "kong"] {
        scene.cp.apply(&permission("default", "it", source, "redis")).await;
        eventually(&format!("it is {source}"), || Client::connect(outbound)).await;
        scene.cp.apply(&permission("default", "it", "konga", "redis")).await;
        refused(outbound, "it is not konga").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_dial_one_inbound_may_not_dial_the_next() {
    let scene = Scene::start().await;
    let (public, admin) = (free_port(), free_port());
    let (to_public, to_admin) = (free_port(), free_port());
    let inbound = |port: u16, service: &str| {
        json!({"interface": format!("127.0.0.1:{port}:{}", scene.redis.port),
        "tags": {"service": service}})
    };
    scene
        .cp
        .apply(&json!({
            "type": "Dataplane", "mesh": "default", "name": "kong-1",
            "networking": {"inbound": [inbound(public, "kong"), inbound(admin, "kong-admin")]},
        }))
        .await;
    let [_, mut web] = scene.documents();
    for (port, service) in [(to_public, "kong"), (to_admin, "kong-admin")] {
        let outbounds = web["networking"]["outbound"].as_array_mut().expect("a list");
        outbounds.push(json!({"interface": format!(":{port}"), "service": service}));
    }
    scene.cp.apply(&web).await;
    scene.cp.apply(&mesh("default", true)).await;
    let proxy = Dataplane::start(&scene.cp, "default", "kong-1");
    proxy.live().await;
    for (permitted, open, closed) in [("kong", to_public, to_admin), ("kong-admin", to_admin, to_public)] {
        scene.cp.apply(&permission("default", "it", "web", permitted)).await;
        eventually(&format!("web reaches {permitted}"), || Client::connect(open)).await;
        refused(closed, "the other one is closed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_no_wider_than_the_tags_of_its_destination() {
    let scene = Scene::start().await;
    let [mut redis, _] = scene.documents();
    redis["networking"]["inbound"][0]["tags"] = json!({"service": "redis", "version": "5.0"});
    scene.cp.apply(&redis).await;
    scene.cp.apply(&mesh("default", true)).await;
    let permit = |tags: serde_json::Value| {
        json!({
            "type": "TrafficPermission", "mesh": "default", "name": "it",
            "sources": [{"match": {"service": "web"}}], "destinations": [{"match": tags}],
        })
    };
    scene.cp.apply(&permit(json!({"service": "redis", "version": "5.0"}))).await;
    scene.open().await;
    scene.cp.apply(&permit(json!({"service": "redis", "version": "6.0"}))).await;
    scene.closed().await;
    scene.cp.apply(&permit(json!({"service": "redis", "version": "*"}))).await;
    scene.open().await;
    scene.cp.apply(&permit(json!({"service": "redis", "region": "*"}))).await;
    scene.closed().await;

    // A source is identified by its certificate, which holds the service only: other tags are refused, not ignored.
    let response = scene
        .cp
        .put(&json!({
            "type": "TrafficPermission", "mesh": "default", "name": "it",
            "sources": [{"match": {"service": "web", "region": "eu"}}],
            "destinations": [{"match": {"service": "redis"}}],
        }))
        .await;
    assert_eq!(response.status().as_u16(), 400);
    let text = response.text().await.unwrap_or_default();
    assert!(text.contains("sources[0].match[\\\"region\\\"]"), "{text}");
}
