//! Dataplanes with what their proxies reported.

use kuma_model::{DataplaneInsight, Subscription};
use serde_json::{Value, json};

use crate::client::{delete, get, put};
use crate::test_api::TestApi;

async fn with_dataplanes() -> TestApi {
    let api = TestApi::with_mesh("demo").await;
    for (name, networking) in [
        (
            "web-1",
            json!({"inbound": [
                {"interface": "127.0.0.1:1:2", "tags": {"service": "web", "version": "v1"}},
                {"interface": "127.0.0.1:3:4", "tags": {"service": "metrics", "version": "v2"}},
            ]}),
        ),
        (
            "web-2",
            json!({"inbound": [{"interface": "127.0.0.1:5:6", "tags": {"service": "web.default.svc:80",
                "version": "v2"}}]}),
        ),
        ("gate", json!({"gateway": {"tags": {"service": "gate"}}})),
    ] {
        let body = json!({"type": "Dataplane", "mesh": "demo", "name": name, "networking": networking});
        assert_eq!(put(&api.router, &format!("/meshes/demo/dataplanes/{name}"), body.to_string()).await.status, 201);
    }
    api
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("items").iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_proxy_that_never_connected() {
    let api = with_dataplanes().await;
    let one = get(&api.router, "/meshes/demo/dataplanes+insights/gate").await.json();
    let dataplane = json!({"networking": {"gateway": {"tags": {"service": "gate"}}}});
    assert_eq!(
        one,
        json!({"type": "DataplaneOverview", "mesh": "demo", "name": "gate", "dataplane": dataplane,
            "dataplaneInsight": {}})
    );
    let list = get(&api.router, "/meshes/demo/dataplanes+insights").await.json();
    assert_eq!(names(&list), ["gate", "web-1", "web-2"]);
    assert_eq!(
        list["items"][0],
        json!({"type": "DataplaneOverview", "mesh": "demo", "name": "gate", "dataplane": dataplane})
    );
    let missing = get(&api.router, "/meshes/demo/dataplanes+insights/none").await;
    assert_eq!(missing.error(), (404, "Could not retrieve a dataplane overview | Not found".into()));
}

#[tokio::test]
async fn what_is_known_now_wins_over_what_is_stored() {
    let api = with_dataplanes().await;
    let body =
        json!({"type": "DataplaneInsight", "mesh": "demo", "name": "web-1", "subscriptions": [{"id": "stored"}]});
    assert_eq!(put(&api.router, "/meshes/demo/dataplane-insights/web-1", body.to_string()).await.status, 201);
    let id = async |path: &str, at: &str| get(&api.router, path).await.json().pointer(at).cloned();
    let stored = Some(Value::from("stored"));
    assert_eq!(id("/meshes/demo/dataplanes+insights/web-1", "/dataplaneInsight/subscriptions/0/id").await, stored);
    assert_eq!(id("/meshes/demo/dataplanes+insights", "/items/1/dataplaneInsight/subscriptions/0/id").await, stored);

    let subscription = Subscription { id: "live".into(), ..Subscription::default() };
    let insight = DataplaneInsight { subscriptions: vec![subscription], departure: None };
    api.live.0.lock().expect("no panic").insert(("demo".into(), "web-1".into()), insight);
    let live = Some(Value::from("live"));
    assert_eq!(id("/meshes/demo/dataplanes+insights/web-1", "/dataplaneInsight/subscriptions/0/id").await, live);
    assert_eq!(id("/meshes/demo/dataplanes+insights", "/items/1/dataplaneInsight/subscriptions/0/id").await, live);
    assert_eq!(id("/meshes/demo/dataplane-insights/web-1", "/subscriptions/0/id").await, live);

    assert_eq!(delete(&api.router, "/meshes/demo/dataplanes/web-1").await.status, 200);
    assert_eq!(get(&api.router, "/meshes/demo/dataplane-insights/web-1").await.status, 404, "goes with its Dataplane");
}

#[tokio::test]
async fn filters() {
    let api = with_dataplanes().await;
    for (query, expected) in [
        ("", vec!["gate", "web-1", "web-2"]),
        ("tag=service:web", vec!["web-1"]),
        ("tag=service:web&tag=version:v1", vec!["web-1"]),
        ("tag=service:web&tag=version:v2", vec![]),
        ("tag=version:*", vec!["web-1", "web-2"]),
        ("tag=service:gate", vec!["gate"]),
        ("tag=service:web.default.svc:80", vec!["web-2"]),
        ("tag=service%3Aweb.default.svc%3A80&other=1", vec!["web-2"]),
        ("tag=none:x", vec![]),
    ] {
        let list = get(&api.router, &format!("/meshes/demo/dataplanes+insights?{query}")).await.json();
        assert_eq!(names(&list), expected, "{query}");
    }
    for (query, message) in [
        ("tag=service", "\"service\" is not in the form KEY:VALUE"),
        ("tag=:x", "\":x\" is not in the form KEY:VALUE"),
        ("tag=a:", "\"a:\" is not in the form KEY:VALUE"),
        ("tag=a:1&tag=a:2", "tag \"a\" is asked for with two values"),
    ] {
        let answer = get(&api.router, &format!("/meshes/demo/dataplanes+insights?{query}")).await;
        let expected = format!("Could not retrieve dataplane overviews | Resource is not valid | tag: {message}");
        assert_eq!(answer.error(), (400, expected), "{query}");
    }
}
