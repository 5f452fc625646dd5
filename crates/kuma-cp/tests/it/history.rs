//! The past: `GET /history`, `?at=`, `GET /diff`.

use std::sync::Arc;

use kuma_model::SECRET_KIND;
use kuma_store::{Cause, MemoryStore, Proposal, Write};
use serde_json::{Value, json};

use crate::changes::{dataplane, document, log, mesh};
use crate::client::{Answer, delete, get, put};
use crate::test_api::{TestApi, config};

/// Revision 1: the mesh; 2: a log into a; 3: into b; 4: it goes; 5: another mesh with a Dataplane.
async fn past() -> TestApi {
    let api = TestApi::with_mesh("demo").await;
    let path = "/meshes/demo/traffic-logs/log-1";
    assert_eq!(put(&api.router, path, log("demo", "log-1", "a").to_string()).await.status, 201);
    assert_eq!(put(&api.router, path, log("demo", "log-1", "b").to_string()).await.status, 200);
    assert_eq!(delete(&api.router, path).await.status, 200);
    let writes = [mesh("other"), dataplane("other", "web-1")].map(|json| Write::Put(document(&json)));
    let cause = Cause { author: "CN=ada".into(), via: "kumactl/1".into(), note: "more room".into() };
    let proposal = Proposal { writes: writes.into(), cause, ..Proposal::default() };
    assert_eq!(api.store.propose(proposal).await.expect("a store").revision, 5);
    api
}

async fn json_of(api: &TestApi, path: &str) -> Value {
    let answer = get(&api.router, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Revisions of a page of the history.
fn revisions(page: &Value) -> Vec<u64> {
    page["items"].as_array().expect("a list").iter().map(|item| item["revision"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn the_history_tells_what_was_changed_by_whom_and_why() {
    let api = past().await;
    let page = json_of(&api, "/history").await;
    assert_eq!(revisions(&page), [5, 4, 3, 2, 1]);
    assert_eq!((&page["floor"], &page["next"]), (&json!(0), &Value::Null));
    let last = &page["items"][0];
    assert_eq!(
        (&last["author"], &last["via"], &last["note"]),
        (&json!("CN=ada"), &json!("kumactl/1"), &json!("more room"))
    );
    assert_eq!(
        last["changes"],
        json!([
            {"type": "Dataplane", "mesh": "other", "name": "web-1", "change": "created", "version": 1},
            {"type": "Mesh", "name": "other", "change": "created", "version": 1},
        ])
    );
    assert_eq!(last["id"].as_str().expect("text").len(), 36);
    let times: Vec<jiff::Timestamp> = page["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["time"].as_str().expect("text").parse().expect("a time"))
        .collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let changes: Vec<&Value> =
        page["items"].as_array().expect("a list")[1..4].iter().map(|item| &item["changes"][0]).collect();
    let line = |change: &&Value| format!("{} {} {}", change["change"], change["name"], change["version"]);
    assert_eq!(
        changes.iter().map(line).collect::<Vec<_>>(),
        [r#""deleted" "log-1" null"#, r#""updated" "log-1" 2"#, r#""created" "log-1" 1"#]
    );
    // Of the CA, no more than that there is one.
    let first = page["items"][4]["changes"].as_array().expect("a list").clone();
    assert_eq!(
        first,
        [
            json!({"type": "Mesh", "name": "demo", "change": "created", "version": 1}),
            json!({"type": SECRET_KIND, "mesh": "demo", "change": "created", "version": 1}),
        ]
    );
}

#[tokio::test]
async fn the_history_is_asked_by_document_and_time_and_in_pages() {
    let api = past().await;
    for (query, expected) in [
        ("mesh=demo", vec![4, 3, 2, 1]),
        ("type=Mesh", vec![5, 1]),
        ("type=Secret", vec![1]),
        ("mesh=demo&type=TrafficLog&name=log-1", vec![4, 3, 2]),
        ("name=log-2", vec![]),
        ("since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z", vec![]),
        ("since=2020-01-01T00:00:00%2B01:00", vec![5, 4, 3, 2, 1]),
        ("before=3", vec![2, 1]),
    ] {
        assert_eq!(revisions(&json_of(&api, &format!("/history?{query}")).await), expected, "{query}");
    }
    let mut next = "/history?mesh=demo&limit=3".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = json_of(&api, &next).await;
        pages.push(revisions(&page));
        match page["next"].as_str() {
            Some(url) => url.clone_into(&mut next),
            None => break,
        }
    }
    assert_eq!(pages, [vec![4, 3, 2], vec![1]]);
    for (query, wrong) in [
        ("limit=0", "limit: must be a number in the range [1, 1000]"),
        ("limit=1001", "limit: must be a number in the range [1, 1000]"),
        ("since=yesterday", "since: must be a time such as 2026-11-30T14:00:00Z"),
        ("until=7", "until: must be a time such as 2026-11-30T14:00:00Z"),
        ("mesh=UPPER", "mesh: invalid characters"),
        ("name=", "name: cannot be empty"),
        ("type=DataplaneInsight", "type: must be one of Mesh, Dataplane, HealthCheck"),
        ("before=x", "before: must be a revision, which is a whole number"),
        ("colour=red", "colour: unknown parameter; there are mesh, type"),
    ] {
        let (status, error) = get(&api.router, &format!("/history?{query}")).await.error();
        assert!(status == 400 && error.contains(&format!("| {wrong}")), "{query}: {status} {error}");
    }
}

fn at(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("kuma-revision")
}

#[tokio::test]
async fn documents_are_shown_as_they_were() {
    let api = past().await;
    let path = "/meshes/demo/traffic-logs/log-1";
    for (revision, backend) in [(2, "a"), (3, "b")] {
        let answer = get(&api.router, &format!("{path}?at={revision}")).await;
        assert_eq!(at(&answer), revision.to_string());
        assert_eq!(answer.header("kuma-epoch"), &*api.store.epoch());
        assert_eq!(answer.json(), log("demo", "log-1", backend));
    }
    for revision in [0, 1, 4, 5] {
        assert_eq!(get(&api.router, &format!("{path}?at={revision}")).await.status, 404, "{revision}");
    }
    let names = async |path: &str| -> Vec<String> {
        let items = json_of(&api, path).await["items"].as_array().expect("a list").clone();
        items.iter().map(|item| item["name"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(names("/meshes?at=0").await, [""; 0]);
    assert_eq!(names("/meshes?at=4").await, ["demo"]);
    assert_eq!(names("/meshes?at=5").await, ["demo", "other"]);
    assert_eq!(names("/meshes?at=5&size=1&offset=1").await, ["other"]);
    assert_eq!(names("/meshes/demo/traffic-logs?at=3").await, ["log-1"]);
    assert_eq!(names("/meshes/other/traffic-logs?at=3").await, [""; 0]);
    assert_eq!(names("/meshes/other/dataplanes?at=5").await, ["web-1"]);
    assert_eq!(at(&get(&api.router, "/meshes?at=latest").await), "5");
    assert_eq!(at(&get(&api.router, "/meshes?at=2020-01-01T00:00:00Z").await), "0", "before the first commit");

    // A time is that of the last commit before it.
    let page = json_of(&api, "/history").await;
    let time = page["items"][2]["time"].as_str().expect("text").to_owned();
    let answer = get(&api.router, &format!("{path}?at={time}")).await;
    // Another commit may have been made in the same microsecond.
    assert!(at(&answer) >= "3", "{time}");
}

#[tokio::test]
async fn what_is_no_moment_of_the_past_is_told() {
    let api = past().await;
    let refused = async |path: &str, status: u16, expected: &str| {
        let (found, error) = get(&api.router, path).await.error();
        assert!(found == status && error.contains(expected), "{path}: {found} {error}");
    };
    for path in ["/meshes", "/meshes/demo", "/meshes/demo/traffic-logs", "/meshes/demo/traffic-logs/log-1"] {
        refused(&format!("{path}?at=6"), 400, "at: there is no revision 6: the latest one is 5").await;
        refused(&format!("{path}?at=soon"), 400, "at: must be a revision such as 412").await;
        refused(&format!("{path}?at=2999-01-01T00:00:00Z"), 400, "at: is in the future; the latest revision is 5")
            .await;
    }
    refused("/meshes/demo/dataplane-insights?at=1", 400, "at: there is no history of what proxies report").await;
    refused("/meshes/demo/dataplanes%2Binsights?at=1", 400, "at: there is no history of what proxies report").await;
    refused("/diff?from=6", 400, "from: there is no revision 6").await;
    refused("/diff?from=1&to=6", 400, "to: there is no revision 6").await;
    refused("/diff", 400, "from: is missing").await;
    refused("/diff?from=1&mesh=UPPER&colour=red", 400, "mesh: invalid").await;
    refused("/diff?from=x&size=0", 400, "size: must be a number").await;
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_gone() {
    let api = TestApi::over(Arc::new(MemoryStore::with_history(2)), &config(&[]));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(put(&api.router, &format!("/meshes/{name}"), mesh(name).to_string()).await.status, 201);
    }
    let page = json_of(&api, "/history").await;
    assert_eq!((revisions(&page), &page["floor"]), (vec![4, 3], &json!(2)));
    assert_eq!(at(&get(&api.router, "/meshes?at=2").await), "2");
    for (path, field) in [
        ("/meshes?at=1", "at"),
        ("/meshes/a?at=2020-01-01T00:00:00Z", "at"),
        ("/diff?from=1", "from"),
        ("/diff?from=2&to=1", "to"),
    ] {
        let (status, error) = get(&api.router, path).await.error();
        assert_eq!(status, 410, "{path}");
        assert!(error.contains("the oldest revision whose state is known is 2"), "{error}");
        assert!(error.contains(&format!("{field}: must be 2 or later")), "{error}");
    }
}

#[tokio::test]
async fn two_states_are_compared() {
    let api = past().await;
    let lines = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().expect("a list");
        items.iter().map(|item| format!("{} {} {}", item["change"], item["type"], item["name"])).collect()
    };
    let changed = json_of(&api, "/diff?from=2&to=3").await;
    assert_eq!((&changed["from"], &changed["to"]), (&json!(2), &json!(3)));
    assert_eq!(
        changed["items"],
        json!([{
            "type": "TrafficLog", "mesh": "demo", "name": "log-1", "change": "updated",
            "before": log("demo", "log-1", "a"), "after": log("demo", "log-1", "b"),
        }])
    );
    let back = json_of(&api, "/diff?from=3&to=2").await;
    assert_eq!(back["items"][0]["after"], log("demo", "log-1", "a"));
    let since = get(&api.router, "/diff?from=3").await;
    assert_eq!(at(&since), "5");
    assert_eq!(
        lines(&since.json()),
        [r#""created" "Dataplane" "web-1""#, r#""created" "Mesh" "other""#, r#""deleted" "TrafficLog" "log-1""#]
    );
    assert_eq!(since.json()["items"][0]["before"], Value::Null);
    assert_eq!(since.json()["items"][2]["after"], Value::Null);
    assert_eq!(lines(&json_of(&api, "/diff?from=3&mesh=demo").await), [r#""deleted" "TrafficLog" "log-1""#]);
    // Written and gone in between; and CAs are in no comparison.
    assert_eq!(lines(&json_of(&api, "/diff?from=0&to=4").await), [r#""created" "Mesh" "demo""#]);
    assert_eq!(lines(&json_of(&api, "/diff?from=5").await), [""; 0]);

    let page = json_of(&api, "/diff?from=3&size=2").await;
    assert_eq!((lines(&page).len(), &page["total"]), (2, &json!(3)));
    let next = page["next"].as_str().expect("a URL").to_owned();
    put(&api.router, "/meshes/later", mesh("later").to_string()).await;
    let rest = json_of(&api, &next).await;
    assert_eq!((lines(&rest).len(), &rest["to"], &rest["next"]), (1, &json!(5), &Value::Null), "of the same states");
}

#[tokio::test]
async fn secrets_are_in_no_answer_about_the_past() {
    let api = past().await;
    let key = kuma_model::Key::new(SECRET_KIND, "demo", "made-up");
    let spec = json!({"value": "hunter2"});
    api.store.commit(vec![Write::Put(kuma_model::Document { key: key.clone(), spec })]).await.expect("a store");
    api.store.commit(vec![Write::Delete { key, version: None }]).await.expect("a store");
    for path in ["/history", "/diff?from=0", "/diff?from=5&to=6", "/meshes?at=6"] {
        let answer = get(&api.router, path).await;
        assert_eq!(answer.status, 200);
        for hidden in ["hunter2", "made-up", "PRIVATE"] {
            assert!(!answer.text().contains(hidden), "{path} tells {hidden}");
        }
    }
    assert_eq!(revisions(&json_of(&api, "/history?type=Secret").await), [7, 6, 1]);
}
