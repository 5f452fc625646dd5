//! ProxyTemplates are checked by Envoy's own messages when they are applied.

use crate::client::{get, put};
use crate::test_api::TestApi;

/// A ProxyTemplate of these resources, as the body of a request.
fn template(resources: &[&str]) -> String {
    let resources: Vec<_> =
        resources.iter().map(|text| serde_json::json!({"name": "n", "version": "v", "resource": text})).collect();
    serde_json::json!({
        "type": "ProxyTemplate", "mesh": "demo", "name": "t",
        "selectors": [{"match": {"service": "web"}}],
        "conf": {"imports": ["default-proxy"], "resources": resources},
    })
    .to_string()
}

#[tokio::test]
async fn a_resource_that_envoy_would_not_take_is_refused_by_its_place() {
    let api = TestApi::with_mesh("demo").await;
    let path = "/meshes/demo/proxytemplates/t";
    let good = "'@type': type.googleapis.com/envoy.api.v2.Cluster\nname: c\nconnectTimeout: 5s\ntype: STATIC\n";
    let bad = "'@type': type.googleapis.com/envoy.api.v2.Cluster\nconnectTimeout: 0s\nname: c\n";
    let unknown =
        "'@type': type.googleapis.com/envoy.config.listener.v3.Listener\nname: l\nfilter_chains: [{filter: []}]\n";
    let answer = put(&api.router, path, template(&[good, bad, unknown])).await;
    let prefix = "native Envoy resource is not valid";
    assert_eq!(
        answer.error(),
        (
            400,
            format!(
                "Could not create a resource | Resource is not valid \
                 | conf.resources[1].resource: {prefix}: connect_timeout: must be greater than 0s \
                 | conf.resources[2].resource: {prefix}: filter_chains[0].filter: unknown field of \
                 envoy.config.listener.v3.FilterChain; did you mean \"filters\"?"
            )
        )
    );
    assert_eq!(get(&api.router, path).await.status, 404);

    assert_eq!(put(&api.router, path, template(&[good])).await.status, 201);
    let stored = get(&api.router, path).await.text().to_owned();
    assert!(stored.contains("envoy.api.v2.Cluster"), "it is kept as it was written: {stored}");
    assert_eq!(put(&api.router, path, template(&[good, bad])).await.status, 400);
    assert_eq!(get(&api.router, path).await.text(), stored);
}
