//! `POST /rollback`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_cp::documents::MAX_DOCUMENTS;
use kuma_model::{Key, Mesh, Resource as _, SECRET_KIND};
use kuma_store::{Moment, Revision, Stored, Write};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::changes::{Interposed, dataplane, document, log, mesh, post_to};
use crate::client::{Answer, delete, get, put};
use crate::test_api::{TestApi, config};

async fn roll_back(api: &TestApi, request: &Value) -> Answer {
    post_to(api, "/rollback", request.to_string()).await
}

/// The plan of an answer: change, kind and name of each document.
fn lines(plan: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let changes = plan["changes"].as_array().unwrap_or_else(|| panic!("no plan: {plan}"));
    changes.iter().map(|change| ["change", "type", "name"].map(|field| text(&change[field])).join(" ")).collect()
}

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("kuma-revision"), answer.json()["revision"].to_string());
    assert_eq!(answer.header("kuma-epoch"), answer.json()["epoch"].as_str().expect("text"));
    answer.json()
}

async fn head(api: &TestApi) -> Revision {
    api.store.read_all().await.expect("a store").revision
}

async fn write(api: &TestApi, json: &Value) {
    let kind = kuma_model::kind(json["type"].as_str().expect("a type")).expect("a kind");
    let name = json["name"].as_str().expect("a name");
    let path = match json["mesh"].as_str() {
        Some(mesh) => format!("/meshes/{mesh}/{}/{name}", kind.api_path),
        None => format!("/meshes/{name}"),
    };
    let answer = put(&api.router, &path, json.to_string()).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
}

/// Revision 3 with logs `changes` and `goes`; since then one was changed, one went, one came, and a Dataplane too.
async fn changed() -> TestApi {
    let api = TestApi::with_mesh("demo").await;
    write(&api, &log("demo", "changes", "a")).await;
    write(&api, &log("demo", "goes", "a")).await;
    write(&api, &log("demo", "changes", "b")).await;
    assert_eq!(delete(&api.router, "/meshes/demo/traffic-logs/goes").await.status, 200);
    write(&api, &log("demo", "comes", "a")).await;
    write(&api, &dataplane("demo", "web-1")).await;
    assert_eq!(head(&api).await, 7);
    api
}

#[tokio::test]
async fn a_plan_is_told_and_carried_out_in_one_commit() {
    let api = changed().await;
    let plan = ok(&roll_back(&api, &json!({"to": 3, "dryRun": true})).await);
    let expected = ["updated TrafficLog changes", "deleted TrafficLog comes", "created TrafficLog goes"];
    assert_eq!(lines(&plan), expected);
    assert_eq!((&plan["to"], &plan["revision"], &plan["irreversible"]), (&json!(3), &json!(7), &json!([])));
    assert_eq!(plan["changes"][0]["before"], log("demo", "changes", "b"));
    assert_eq!(plan["changes"][0]["after"], log("demo", "changes", "a"));
    assert_eq!(head(&api).await, 7, "nothing was done");

    let done = ok(&roll_back(&api, &json!({"to": 3, "expected": 7})).await);
    assert_eq!((lines(&done), &done["revision"]), (expected.map(str::to_owned).to_vec(), &json!(8)));
    assert_eq!(head(&api).await, 8, "one commit");
    assert_eq!(
        get(&api.router, "/meshes/demo/traffic-logs").await.json()["items"].as_array().expect("a list").len(),
        2
    );
    assert_eq!(get(&api.router, "/meshes/demo/dataplanes/web-1").await.status, 200, "Dataplanes stay");

    // Once more, there is nothing to do; and it can be taken back itself.
    let again = ok(&roll_back(&api, &json!({"to": "3"})).await);
    assert_eq!((lines(&again), &again["revision"]), (vec![], &json!(8)));
    assert_eq!(lines(&ok(&roll_back(&api, &json!({"to": 7})).await)).len(), 3);
    assert_eq!(get(&api.router, "/diff?from=7").await.json()["items"], json!([]));
}

#[tokio::test]
async fn only_what_is_named_is_rolled_back() {
    let api = changed().await;
    write(&api, &mesh("other")).await;
    write(&api, &log("other", "comes", "a")).await;
    let plan = async |request: Value| {
        let mut request = request;
        request["dryRun"] = true.into();
        lines(&ok(&roll_back(&api, &request).await))
    };
    assert_eq!(plan(json!({"to": 3, "mesh": "demo"})).await.len(), 3);
    assert_eq!(plan(json!({"to": 3, "types": ["Dataplane"]})).await, ["deleted Dataplane web-1"]);
    assert_eq!(plan(json!({"to": 3, "types": ["HealthCheck"]})).await, [""; 0]);
    assert_eq!(plan(json!({"to": 8, "mesh": "other", "types": []})).await, ["deleted TrafficLog comes"]);
    // A Mesh that goes takes all along, whatever it is.
    write(&api, &dataplane("other", "web-2")).await;
    assert_eq!(
        plan(json!({"to": 7, "types": ["Mesh"]})).await,
        ["deleted Dataplane web-2", "deleted Mesh other", "deleted TrafficLog comes"]
    );
}

#[tokio::test]
async fn what_others_have_changed_since_the_plan_is_not_overwritten() {
    let api = changed().await;
    // What has nothing to do with it may change.
    write(&api, &dataplane("demo", "web-2")).await;
    write(&api, &mesh("other")).await;
    let request = json!({"to": 3, "mesh": "demo", "expected": 7});
    write(&api, &log("demo", "changes", "c")).await;
    let answer = roll_back(&api, &request).await;
    let (status, error) = answer.error();
    assert_eq!(status, 409);
    assert!(error.contains("| expected: the latest revision is 10"), "{error}");
    assert_eq!(answer.header("kuma-revision"), "10");
    let plan = &answer.json()["plan"];
    assert_eq!(plan["revision"], 10);
    assert_eq!(plan["changes"][0]["before"], log("demo", "changes", "c"));
    assert_eq!(head(&api).await, 10);
    // A plan of a revision that never was, or that is forgotten, was seen by nobody.
    assert_eq!(roll_back(&api, &json!({"to": 3, "mesh": "demo", "expected": 99})).await.status, 409);
    // Another document to write is another plan; the same is the same.
    write(&api, &log("demo", "new", "a")).await;
    assert_eq!(roll_back(&api, &json!({"to": 3, "mesh": "demo", "expected": 10})).await.status, 409);
    write(&api, &mesh("third")).await;
    assert_eq!(ok(&roll_back(&api, &json!({"to": 3, "mesh": "demo", "expected": 11})).await)["revision"], 13);
}

#[tokio::test]
async fn a_writer_in_between_is_seen() {
    let store = Interposed::new();
    let api = TestApi::over(store.clone(), &config(&[]));
    write(&api, &mesh("demo")).await;
    write(&api, &log("demo", "log-1", "a")).await;
    write(&api, &log("demo", "log-1", "b")).await;
    let theirs = |backend: &str| vec![Write::Put(document(&log("demo", "log-1", backend)))];
    store.before_commits(vec![theirs("c")]);
    let answer = roll_back(&api, &json!({"to": 2, "expected": 3})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["plan"]["revision"]), (409, &json!(4)), "{}", answer.text());
    assert_eq!(get(&api.router, "/meshes/demo/traffic-logs/log-1").await.json(), log("demo", "log-1", "c"));
    // Who did not look at a plan wants the past, whatever there is now.
    store.before_commits(vec![theirs("d")]);
    assert_eq!(ok(&roll_back(&api, &json!({"to": 2})).await)["revision"], 6);
    // Others who never stop are given way to.
    let names = ["e", "f", "g", "h", "i", "j", "k"];
    store.before_commits(names.map(theirs).into());
    let (status, error) = roll_back(&api, &json!({"to": 1})).await.error();
    assert!(status == 409 && error.contains("is being changed by others at the same time"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_undone_has_to_be_asked_for() {
    let api = TestApi::with_mesh("demo").await;
    write(&api, &log("demo", "log-1", "a")).await;
    assert_eq!(delete(&api.router, "/meshes/demo").await.status, 200);
    let request = json!({"to": 2, "dryRun": true});
    let plan = ok(&roll_back(&api, &request).await);
    assert_eq!(lines(&plan), ["created Mesh demo", "created TrafficLog log-1"]);
    let reason = plan["irreversible"][0].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("mesh \"demo\" gets a new CA (it was deleted since, together with its CA)"), "{reason}");
    let answer = roll_back(&api, &json!({"to": 2})).await;
    assert_eq!(
        answer.error(),
        (
            409,
            format!(
                "Could not roll back | The rollback cannot be undone. Set force to execute it all the same | \
                 force: {reason}"
            )
        )
    );
    assert_eq!(lines(&answer.json()["plan"]).len(), 2);
    assert_eq!(head(&api).await, 3);
    ok(&roll_back(&api, &json!({"to": 2, "force": true})).await);
    let secrets = api.store.list(SECRET_KIND, Some("demo")).await.expect("a store");
    assert_eq!(secrets.len(), 1, "a CA is there");

    // The other way round: a mesh that has come since.
    write(&api, &dataplane("demo", "web-1")).await;
    let (status, error) = roll_back(&api, &json!({"to": 0})).await.error();
    assert!(
        status == 409
            && error.contains("force: mesh \"demo\", which was created since, is deleted with its CA and a Dataplane"),
        "{error}"
    );
    let done = ok(&roll_back(&api, &json!({"to": 0, "force": true})).await);
    assert_eq!(lines(&done), ["deleted Dataplane web-1", "deleted Mesh demo", "deleted TrafficLog log-1"]);
    assert!(api.store.read_all().await.expect("a store").documents.is_empty());
}

#[tokio::test]
async fn the_rules_of_today_hold() {
    let api = TestApi::with_mesh("demo").await;
    // Written by another program, or before a rule was there.
    let mut bad = document(&log("demo", "bad", "a"));
    bad.spec["sources"] = json!([]);
    api.store.commit(vec![Write::Put(bad)]).await.expect("a store");
    write(&api, &log("demo", "good", "a")).await;
    for name in ["bad", "good"] {
        delete(&api.router, &format!("/meshes/demo/traffic-logs/{name}")).await;
    }
    for request in [json!({"to": 3}), json!({"to": 3, "dryRun": true})] {
        let (status, error) = roll_back(&api, &request).await.error();
        assert_eq!(status, 400);
        assert!(error.contains("| TrafficLog \"bad\" of mesh \"demo\".sources: must have at least one"), "{error}");
    }
    assert_eq!(head(&api).await, 5, "the good one is not there either");

    // A CA that is not there any more cannot be switched to.
    let api = TestApi::with_mesh("demo").await;
    let ca = Key::new(SECRET_KIND, "demo", "providedca.demo");
    let provided = json!({"type": "Mesh", "name": "demo", "mtls": {"ca": {"provided": {}}}});
    api.store.commit(vec![Write::Put(document(&provided))]).await.expect("a store");
    write(&api, &mesh("demo")).await;
    assert!(api.store.get(&ca).await.expect("a store").is_none());
    let (status, error) = roll_back(&api, &json!({"to": 2})).await.error();
    assert_eq!(status, 400);
    assert!(error.contains("Mesh \"demo\".mtls.ca.provided: There is no signing certificate"), "{error}");

    // A policy without its Mesh.
    let api = TestApi::with_mesh("demo").await;
    write(&api, &log("demo", "log-1", "a")).await;
    delete(&api.router, "/meshes/demo").await;
    let (status, error) = roll_back(&api, &json!({"to": 2, "types": ["TrafficLog"]})).await.error();
    assert!(status == 400 && error.contains(".mesh: mesh of name demo is not found"), "{error}");
}

#[tokio::test]
async fn wrong_requests_are_told() {
    let api = changed().await;
    for (request, status, expected) in [
        (json!({}), 400, "to: is missing"),
        (json!({"to": "yesterday"}), 400, "to: must be a revision such as 412"),
        (json!({"to": "latest"}), 400, "to: must be an earlier state"),
        (json!({"to": 8}), 400, "to: there is no revision 8: the latest one is 7"),
        (json!({"to": "2999-01-01T00:00:00Z"}), 400, "to: is in the future; the latest revision is 7"),
        (json!({"to": 3, "mesh": 1}), 400, "mesh: must be the name of a mesh"),
        (json!({"to": 3, "mesh": "nowhere"}), 400, "mesh: mesh of name nowhere is not found, neither now nor then"),
        (json!({"to": 3, "types": "Mesh"}), 400, "types: must be a list"),
        (json!({"to": 3, "types": ["Mesh", "Secret"]}), 400, "types[1]: secrets cannot be rolled back"),
        (json!({"to": 3, "types": ["DataplaneInsight"]}), 400, "types[0]: must be one of Mesh, Dataplane"),
        (json!({"to": 3, "expected": "7"}), 400, "expected: must be a revision, which is a whole number"),
        (json!({"to": 3, "dryRun": "yes"}), 400, "dryRun: must be true or false"),
        (json!({"to": 3, "force": 1}), 400, "force: must be true or false"),
        (json!({"to": 3, "dry_run": true}), 400, "dry_run: unknown field"),
    ] {
        let (found, error) = roll_back(&api, &request).await.error();
        assert!(found == status && error.contains(expected), "{request}: {found} {error}");
    }
    assert_eq!(head(&api).await, 7);
    let read_only = TestApi::with(&[("KUMA_API_SERVER_READ_ONLY", "true")]);
    let (status, error) = roll_back(&read_only, &json!({"to": 0})).await.error();
    assert!(status == 405 && error.contains("read-only"), "{error}");
    assert_eq!(get(&api.router, "/rollback").await.header("allow"), "POST");
}

#[tokio::test]
async fn there_is_a_limit_for_one_rollback() {
    let api = TestApi::with_mesh("demo").await;
    let put = |number: usize| Write::Create(document(&log("demo", &format!("log-{number}"), "a")));
    api.store.commit((0..=MAX_DOCUMENTS).map(put).collect()).await.expect("a store");
    let (status, error) = roll_back(&api, &json!({"to": 1})).await.error();
    assert_eq!(status, 413);
    assert!(error.contains("10001 documents would change, but one rollback changes at most 10000"), "{error}");
    delete(&api.router, "/meshes/demo/traffic-logs/log-0").await;
    assert_eq!(lines(&ok(&roll_back(&api, &json!({"to": 1})).await)).len(), MAX_DOCUMENTS);
}

/// One step of a random past.
#[derive(Clone, Debug)]
enum Step {
    Mesh(bool),
    DeleteMesh,
    Log(&'static str, &'static str),
    DeleteLog(&'static str),
    Dataplane(&'static str),
    DeleteDataplane(&'static str),
}

fn step() -> impl Strategy<Value = (&'static str, Step)> {
    let name = || prop::sample::select(vec!["one", "two"]);
    let what = prop_oneof![
        2 => any::<bool>().prop_map(Step::Mesh),
        1 => Just(Step::DeleteMesh),
        4 => (name(), name()).prop_map(|(name, backend)| Step::Log(name, backend)),
        2 => name().prop_map(Step::DeleteLog),
        2 => name().prop_map(Step::Dataplane),
        1 => name().prop_map(Step::DeleteDataplane),
    ];
    (prop::sample::select(vec!["a", "b"]), what)
}

/// What is refused, such as a log without its mesh, changes nothing.
async fn make(api: &TestApi, mesh: &str, step: &Step) {
    let of_mesh = |rest: &str| format!("/meshes/{mesh}{rest}");
    let log_path = |name: &str| of_mesh(&format!("/traffic-logs/{name}"));
    let dataplane_path = |name: &str| of_mesh(&format!("/dataplanes/{name}"));
    match step {
        Step::Mesh(enabled) => {
            let mtls = json!({"enabled": enabled, "ca": {"builtin": {}}});
            let json = json!({"type": "Mesh", "name": mesh, "mtls": mtls});
            put(&api.router, &of_mesh(""), json.to_string()).await
        }
        Step::DeleteMesh => delete(&api.router, &of_mesh("")).await,
        Step::Log(name, backend) => put(&api.router, &log_path(name), log(mesh, name, backend).to_string()).await,
        Step::DeleteLog(name) => delete(&api.router, &log_path(name)).await,
        Step::Dataplane(name) => put(&api.router, &dataplane_path(name), dataplane(mesh, name).to_string()).await,
        Step::DeleteDataplane(name) => delete(&api.router, &dataplane_path(name)).await,
    };
}

/// The texts of the documents of these kinds, and in this mesh.
fn texts(documents: &[Arc<Stored>], kinds: &[&str], mesh: Option<&str>) -> BTreeMap<Key, Value> {
    let covered =
        |stored: &&Arc<Stored>| kinds.contains(&stored.key.kind) && mesh.is_none_or(|mesh| *stored.key.mesh == *mesh);
    documents.iter().filter(covered).map(|stored| (stored.key.clone(), stored.spec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever has happened, a rollback makes the documents that it covers what they were, and changes what its plan
    /// says and nothing else.
    #[test]
    fn a_rollback_gives_the_state_of_then(
        steps in prop::collection::vec(step(), 1..24),
        to in any::<prop::sample::Index>(),
        dataplanes in any::<bool>(),
        mesh in prop::option::of(prop::sample::select(vec!["a", "b"])),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let api = TestApi::new();
            for (mesh, step) in &steps {
                make(&api, mesh, step).await;
            }
            let before = head(&api).await;
            let to = to.index(usize::try_from(before).expect("a number") + 1) as Revision;
            let then = api.store.at(Moment::Revision(to)).await.expect("a state").documents;
            let now = api.store.read_all().await.expect("a state").documents;
            let mut kinds = vec![Mesh::KIND, "TrafficLog"];
            kinds.extend(dataplanes.then_some("Dataplane"));
            let known = |documents: &[Arc<Stored>]| documents.iter().any(|stored| Some(&*stored.key.mesh) == mesh);
            let mut request = json!({"to": to, "types": kinds, "force": true, "mesh": mesh});
            let answer = roll_back(&api, &request).await;
            if mesh.is_some() && !known(&then) && !known(&now) {
                assert_eq!(answer.status, 400, "{}", answer.text());
                return;
            }
            let plan = ok(&answer);
            let after = api.store.read_all().await.expect("a state");
            assert_eq!(texts(&after.documents, &kinds, mesh), texts(&then, &kinds, mesh));
            let commits = Revision::from(plan["changes"] != json!([]));
            assert_eq!(after.revision, before + commits, "one commit, or none");
            let told = get(&api.router, &format!("/diff?from={before}&to={}", after.revision)).await.json();
            assert_eq!(told["items"], plan["changes"], "what the plan says and nothing else");
            if mesh.is_none() || known(&then) {
                request["dryRun"] = true.into();
                assert_eq!(lines(&ok(&roll_back(&api, &request).await)), [""; 0], "nothing is left to do");
            }
            // Each mesh has its CA.
            for mesh in after.documents.iter().filter(|stored| stored.key.kind == Mesh::KIND) {
                let name = &mesh.key.name;
                assert_eq!(api.store.list(SECRET_KIND, Some(name)).await.expect("a store").len(), 1, "{name}");
            }
        });
    }
}
