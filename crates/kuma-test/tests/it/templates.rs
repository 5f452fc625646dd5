//! ProxyTemplate: raw resources in real Envoys.

use kuma_test::apps::{Client, Greeter};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, eventually};
use serde_json::{Value, json};

use crate::scene::Scene;

/// A ProxyTemplate for a service.
fn template(service: &str, imports: &[&str], resources: &[&str]) -> Value {
    let resources: Vec<Value> =
        resources.iter().map(|text| json!({"name": "raw-name", "version": "raw-version", "resource": text})).collect();
    json!({
        "type": "ProxyTemplate", "mesh": "default", "name": "pt-1",
        "selectors": [{"match": {"service": service}}],
        "conf": {"imports": imports, "resources": resources},
    })
}

/// The cluster of the documentation's example, with another port.
fn cluster_of_the_documents(port: u16) -> String {
    format!(
        "'@type': type.googleapis.com/envoy.api.v2.Cluster\nconnectTimeout: 5s\nloadAssignment:\n  \
         clusterName: localhost:8443\n  endpoints:\n    - lbEndpoints:\n        - endpoint:\n            \
         address:\n              socketAddress:\n                address: 127.0.0.1\n                \
         portValue: {port}\nname: localhost:8443\ntype: STATIC\n"
    )
}

/// The listener of the documentation's example, with another port and response.
fn listener_of_the_documents(port: u16) -> String {
    format!(
        r#"
        '@type': type.googleapis.com/envoy.api.v2.Listener
        name: inbound:127.0.0.1:{port}
        address:
          socket_address: {{address: 127.0.0.1, port_value: {port}}}
        filter_chains:
        - filters:
          - name: envoy.http_connection_manager
            config:
              route_config:
                virtual_hosts:
                - routes:
                  - match: {{prefix: "/stats/prometheus"}}
                    direct_response: {{status: 200, body: {{inline_string: "raw"}}}}
                  domains: ["*"]
                  name: envoy_admin
              codec_type: AUTO
              http_filters:
                name: envoy.router
              stat_prefix: stats
        "#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resources_of_the_documents_serve() {
    let scene = Scene::start().await;
    let port = free_port();
    let cluster = cluster_of_the_documents(scene.redis.port);
    let listener = listener_of_the_documents(port);
    scene.cp.apply(&template("web", &["default-proxy"], &[&cluster, &listener])).await;

    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://127.0.0.1:{port}/stats/prometheus");
    let body = eventually("the raw listener answers", || async { http.get(&url).send().await.ok()?.text().await.ok() });
    assert_eq!(body.await, "raw");
    assert!(scene.web_proxy.config_dump().await.contains("localhost:8443"));
    assert!(!scene.redis_proxy.config_dump().await.contains("localhost:8443"), "redis has no template");
    scene.open().await;

    scene.cp.delete("/meshes/default/proxytemplates/pt-1").await;
    eventually("the raw listener is gone", || async { http.get(&url).send().await.is_err().then_some(()) }).await;
    scene.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_cluster_takes_the_place_of_a_generated_one() {
    let scene = Scene::start().await;
    let other = Greeter::start().await;
    let (redis_before, other_before) = (scene.redis.accepted(), other.accepted());
    let cluster = format!(
        "{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: redis, type: STATIC, connect_timeout: 1s,
           load_assignment: {{cluster_name: redis, endpoints: [{{lb_endpoints: [{{endpoint: {{address:
             {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}}}",
        other.port
    );
    scene.cp.apply(&template("web", &["default-proxy"], &[&cluster])).await;
    eventually("redis is reached where the template says", || async {
        Client::connect(scene.outbound).await;
        (other.accepted() > other_before).then_some(())
    })
    .await;

    scene.cp.delete("/meshes/default/proxytemplates/pt-1").await;
    let while_replaced = scene.redis.accepted();
    assert!(while_replaced >= redis_before);
    eventually("redis is reached where it is", || async {
        Client::connect(scene.outbound).await?;
        (scene.redis.accepted() > while_replaced).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_imports_a_proxy_has_only_what_is_given() {
    let scene = Scene::start().await;
    scene.cp.apply(&template("web", &[], &[&cluster_of_the_documents(scene.redis.port)])).await;
    eventually("web's own listeners are gone", || async {
        Client::connect(scene.outbound).await.is_none().then_some(())
    })
    .await;
    assert!(scene.web_proxy.config_dump().await.contains("localhost:8443"));
    scene.cp.delete("/meshes/default/proxytemplates/pt-1").await;
    scene.open().await;
}

/// A resource that only a running Envoy can refuse: the error is reported for that proxy, which keeps its
/// configuration; other proxies are not affected.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_envoy_refuses_hurts_nobody_else() {
    let scene = Scene::start().await;
    let mut long_lived = scene.open().await;
    // The message is valid, but the file with the certificate does not exist.
    let listener = format!(
        "{{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: broken,
           address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}},
           filter_chains: [{{transport_socket: {{name: tls, typed_config: {{
             '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
             common_tls_context: {{tls_certificates: [{{certificate_chain: {{filename: /does/not/exist}},
               private_key: {{filename: /does/not/exist}}}}]}}}}}},
             filters: [{{name: tcp, typed_config: {{
               '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy,
               stat_prefix: a, cluster: redis}}}}]}}]}}",
        free_port()
    );
    scene.cp.apply(&template("web", &["default-proxy"], &[&listener])).await;
    let overview = eventually("the refusal is in the insight", || async {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/web-1").await;
        (rejected(&overview) > 0).then_some(overview)
    })
    .await;
    assert!(overview.to_string().contains("/does/not/exist"), "Envoy's reason is missing: {overview}");
    let overview = scene.cp.get("/meshes/default/dataplanes+insights/redis-1").await;
    assert_eq!(rejected(&overview), 0, "{overview}");
    let web = inspect(&scene.cp, &["inspect", "dataplane", "web-1"]);
    let refused = web.lines().find(|line| line.starts_with("Last refused:")).unwrap_or_else(|| panic!("{web}"));
    assert!(refused.contains("Listener, ") && refused.contains("/does/not/exist"), "{web}");
    let types = |name: &str| web.lines().find(|line| line.starts_with(name)).unwrap_or_default().trim_end().to_owned();
    assert!(types("Listener").ends_with("refused") && types("Cluster ").ends_with("accepted"), "{web}");
    let table = inspect(&scene.cp, &["inspect", "dataplanes", "-o", "wide"]);
    let row = |name: &str| table.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(row("web-1").contains("refused") && row("web-1").contains("/does/not/exist"), "{table}");
    assert!(row("redis-1").contains("accepted") && row("redis-1").ends_with('-'), "{table}");
    assert!(long_lived.echoes().await, "an open connection was cut");
    scene.open().await;

    // Both proxies apply other changes, also the one that has refused a resource.
    let more = free_port();
    let [redis, mut web] = scene.documents();
    let outbound = json!({"interface": format!(":{more}"), "service": "redis"});
    web["networking"]["outbound"].as_array_mut().expect("outbounds").push(outbound);
    scene.cp.apply(&redis).await;
    scene.cp.apply(&web).await;
    eventually("the new outbound works", || Client::connect(more)).await;
    assert!(long_lived.echoes().await, "an open connection was cut");
}

#[test]
fn kumactl_names_the_resource_and_the_field() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cp = runtime.block_on(ControlPlane::start());
    let bad = "'@type': type.googleapis.com/envoy.api.v2.Cluster\nname: c\nconnectTimeout: soon\n";
    let document = template("web", &["default-proxy"], &[&cluster_of_the_documents(1), bad]);
    let output = cp.kumactl(&["apply", "-f", "-"], &document.to_string());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let says = "conf.resources[1].resource: native Envoy resource is not valid: connect_timeout: expected a duration";
    assert!(errors.contains(says), "{errors}");
}

fn inspect(cp: &ControlPlane, arguments: &[&str]) -> String {
    let output = cp.kumactl(arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// How many responses a proxy has refused.
fn rejected(overview: &Value) -> u64 {
    let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array().cloned().unwrap_or_default();
    let count = |subscription: &Value| {
        let count = &subscription["status"]["total"]["responsesRejected"];
        count.as_str().and_then(|text| text.parse::<u64>().ok()).or_else(|| count.as_u64()).unwrap_or(0)
    };
    subscriptions.iter().map(count).sum()
}
