//! `POST /changes`, and the revisions that writes are answered with.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::body::Body;
use futures_util::stream::BoxStream;
use http::Method;
use kuma_ca::{MeshRoots, Root};
use kuma_cp::api::{MAX_BODY, MAX_DOCUMENTS};
use kuma_cp::documents::{Change as DocumentChange, Documents, Refusal};
use kuma_cp::mesh_ca::{self, ChangeRefused, FreshRoots, KeptRoots, MeshCas};
use kuma_cp::state_folder::StateFolder;
use kuma_model::{Ca, DataplaneInsight, Document, Key, Resource as _, SECRET_KIND};
use kuma_store::{
    Cause, Change, Committed, Contents, Head, HistoryPage, HistoryQuery, MemoryStore, Moment, Proposal, Revision,
    Store, StoreFuture, Stored, Write,
};
use serde_json::{Value, json};

use crate::client::{Answer, delete, get, put, request, send};
use crate::test_api::{Away, TestApi, config};

/// A store on which somebody else writes just before a commit.
pub(crate) struct Interposed {
    inner: MemoryStore,
    first: Mutex<Vec<Vec<Write>>>,
}

impl Interposed {
    pub(crate) fn new() -> Arc<Interposed> {
        Arc::new(Interposed { inner: MemoryStore::new(), first: Mutex::default() })
    }

    /// Before each of the next commits that write something, one of these is made.
    pub(crate) fn before_commits(&self, writes: Vec<Vec<Write>>) {
        *self.first.lock().expect("no panic") = writes.into_iter().rev().collect();
    }
}

impl Store for Interposed {
    fn propose(&self, proposal: Proposal) -> StoreFuture<'_, Committed> {
        let first = if proposal.writes.is_empty() { None } else { self.first.lock().expect("no panic").pop() };
        Box::pin(async move {
            if let Some(first) = first {
                self.inner.commit(first).await.expect("the other writer is in order");
            }
            self.inner.propose(proposal).await
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>> {
        self.inner.get(key)
    }

    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>> {
        self.inner.list(kind, mesh)
    }

    fn read_all(&self) -> StoreFuture<'_, Contents> {
        self.inner.read_all()
    }

    fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        self.inner.changes(since)
    }

    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()> {
        self.inner.put_insights(insights)
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        self.inner.remove_insights(keys)
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        self.inner.history(query)
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, Contents> {
        self.inner.at(moment)
    }

    fn head(&self) -> Head {
        self.inner.head()
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn accept(&self) -> StoreFuture<'_, ()> {
        self.inner.accept()
    }

    fn epoch(&self) -> Arc<str> {
        self.inner.epoch()
    }

    fn durable(&self) -> bool {
        self.inner.durable()
    }
}

pub(crate) fn mesh(name: &str) -> Value {
    json!({"type": "Mesh", "name": name})
}

pub(crate) fn log(mesh: &str, name: &str, backend: &str) -> Value {
    let any = json!([{"match": {"service": "*"}}]);
    let conf = json!({"backend": backend});
    json!({"type": "TrafficLog", "mesh": mesh, "name": name, "sources": any, "destinations": any, "conf": conf})
}

pub(crate) fn dataplane(mesh: &str, name: &str) -> Value {
    let gateway = json!({"gateway": {"tags": {"service": "web"}}});
    json!({"type": "Dataplane", "mesh": mesh, "name": name, "networking": gateway})
}

pub(crate) fn document(json: &Value) -> Document {
    Document::parse(json).expect("it is valid")
}

async fn post(api: &TestApi, body: &Value) -> Answer {
    post_to(api, "/changes", body.to_string()).await
}

pub(crate) async fn post_to(api: &TestApi, path: &str, body: impl Into<Body>) -> Answer {
    let request = request(Method::POST, path).header("content-type", "application/json");
    send(&api.router, request.body(body.into()).expect("a request")).await
}

/// Outcome, kind, mesh and name of each.
fn outcomes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = answer.json()["outcomes"].as_array().expect("a list").clone();
    let line = |one: &Value| ["outcome", "type", "mesh", "name"].map(|field| text(&one[field])).join(" ");
    all.iter().map(line).collect()
}

/// The revision and the epoch of an answer, which its body says too if it has one.
fn at(answer: &Answer) -> (u64, String) {
    let revision = answer.header("kuma-revision").parse().unwrap_or_else(|_| panic!("no revision: {answer:?}"));
    let epoch = answer.header("kuma-epoch").to_owned();
    assert!(epoch.len() >= 4, "{epoch:?}");
    if answer.status == 200 && !answer.body.is_empty() {
        assert_eq!(
            (answer.json()["revision"].as_u64(), answer.json()["epoch"].as_str()),
            (Some(revision), Some(&*epoch))
        );
    }
    (revision, epoch)
}

async fn state(api: &TestApi) -> (Revision, Vec<Arc<Stored>>) {
    let Contents { revision, documents, .. } = api.store.read_all().await.expect("a store");
    (revision, documents)
}

#[tokio::test]
async fn writes_are_answered_with_their_revision() {
    let api = TestApi::with_mesh("demo").await;
    let path = "/meshes/demo/traffic-logs/log-1";
    let first = put(&api.router, path, log("demo", "log-1", "a").to_string()).await;
    let (revision, epoch) = at(&first);
    assert_eq!((first.status.as_u16(), revision), (201, state(&api).await.0));
    assert_eq!(&*epoch, &*api.store.epoch());
    let same = put(&api.router, path, log("demo", "log-1", "a").to_string()).await;
    assert_eq!((same.status.as_u16(), at(&same)), (200, (revision, epoch.clone())), "the head, which has not moved");
    let changed = put(&api.router, path, log("demo", "log-1", "b").to_string()).await;
    assert_eq!(at(&changed), (revision + 1, epoch.clone()));
    let other = put(&api.router, "/meshes/other", mesh("other").to_string()).await;
    assert_eq!(at(&other), (revision + 2, epoch.clone()));
    assert_eq!(at(&put(&api.router, path, log("demo", "log-1", "b").to_string()).await).0, revision + 2);
    assert_eq!(at(&delete(&api.router, path).await), (revision + 3, epoch.clone()));
    assert_eq!(at(&delete(&api.router, "/meshes/demo").await), (revision + 4, epoch));
    // What is refused has changed nothing, and reads are of no revision.
    for answer in [delete(&api.router, path).await, get(&api.router, "/meshes/other").await] {
        assert_eq!(answer.header("kuma-revision"), "");
    }
    assert_ne!(TestApi::new().store.epoch(), api.store.epoch());
}

#[tokio::test]
async fn several_documents_are_one_commit() {
    let api = TestApi::with_mesh("old").await;
    put(&api.router, "/meshes/old/traffic-logs/stays", log("old", "stays", "a").to_string()).await;
    put(&api.router, "/meshes/old/traffic-logs/goes", log("old", "goes", "a").to_string()).await;
    put(&api.router, "/meshes/old/traffic-logs/changes", log("old", "changes", "a").to_string()).await;
    let before = state(&api).await.0;
    let request = json!({
        // What is in a mesh may come before it.
        "apply": [
            log("new", "log-1", "a"), dataplane("new", "web-1"), mesh("new"), log("old", "changes", "b"),
            log("old", "stays", "a"), mesh("old"),
        ],
        "delete": [{"type": "TrafficLog", "mesh": "old", "name": "goes"}],
    });
    let answer = post(&api, &request).await;
    assert_eq!(
        outcomes(&answer),
        [
            "created TrafficLog new log-1",
            "created Dataplane new web-1",
            "created Mesh - new",
            "updated TrafficLog old changes",
            "unchanged TrafficLog old stays",
            "unchanged Mesh - old",
            "deleted TrafficLog old goes",
        ]
    );
    let (revision, all) = state(&api).await;
    assert_eq!((at(&answer).0, revision), (before + 1, before + 1), "one commit");
    assert_eq!(all.len(), 5 + 3, "with a CA for the new mesh: {all:#?}");
    assert_eq!(get(&api.router, "/meshes/new/traffic-logs/log-1").await.json(), log("new", "log-1", "a"));

    // The same once more, without the deletion, changes nothing and uses no revision.
    let again = post(&api, &json!({"apply": request["apply"]})).await;
    assert!(outcomes(&again).iter().all(|outcome| outcome.starts_with("unchanged ")), "{}", again.text());
    assert_eq!(at(&again).0, revision);
    for nothing in [json!({}), json!({"apply": [], "delete": null, "expected": null, "dryRun": null})] {
        let answer = post(&api, &nothing).await;
        assert_eq!((outcomes(&answer), at(&answer).0), (vec![], revision));
    }
}

#[tokio::test]
async fn deletions_do_what_those_of_one_document_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = KeptRoots(Arc::new(StateFolder::open(folder.path().join("state")).expect("opens")));
    let api = TestApi::with_authority(Arc::new(authority));
    let kept = || folder.path().join("state/builtinca.demo").exists();
    let request = json!({"apply": [mesh("demo"), mesh("other"), dataplane("demo", "a"), dataplane("other", "b")]});
    outcomes(&post(&api, &request).await);
    assert!(kept());
    for (mesh, name) in [("demo", "a"), ("other", "b")] {
        let insight = Document { key: Key::new(DataplaneInsight::KIND, mesh, name), spec: json!({}) };
        api.store.put_insights(vec![insight]).await.expect("a store");
    }
    let provided = MeshRoots::new(Root::generate("demo", SystemTime::now()).expect("a root"));
    let provided = mesh_ca::document(Ca::Provided, "demo", Some(&provided));
    api.store.commit(vec![Write::Create(provided)]).await.expect("a store");

    // A Mesh with everything in it; what is named for its own part is told of too. A Dataplane with its insight.
    let request = json!({"delete": [
        {"type": "Mesh", "name": "demo"},
        {"type": "Dataplane", "mesh": "demo", "name": "a"},
        {"type": "Dataplane", "mesh": "other", "name": "b"},
    ]});
    let answer = post(&api, &request).await;
    assert_eq!(outcomes(&answer), ["deleted Mesh - demo", "deleted Dataplane demo a", "deleted Dataplane other b"]);
    assert!(api.store.list(DataplaneInsight::KIND, None).await.expect("a store").is_empty());
    let left: Vec<String> = state(&api).await.1.iter().map(|stored| stored.key.to_string()).collect();
    assert_eq!(left, [r#"Mesh "other""#, r#"Secret "builtinca.other" of mesh "other""#]);
    assert!(!kept(), "the CA is forgotten");

    // With an insight that is named itself.
    outcomes(&post(&api, &json!({"apply": [dataplane("other", "b")]})).await);
    let insight = Key::new(DataplaneInsight::KIND, "other", "b");
    api.store.put_insights(vec![Document { key: insight, spec: json!({}) }]).await.expect("a store");
    let both = ["Dataplane", "DataplaneInsight"].map(|kind| json!({"type": kind, "mesh": "other", "name": "b"}));
    let answer = post(&api, &json!({"delete": both})).await;
    assert_eq!(outcomes(&answer), ["deleted Dataplane other b", "deleted DataplaneInsight other b"]);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_with_its_place() {
    let api = TestApi::with_mesh("demo").await;
    let before = state(&api).await;
    let route = json!({
        "type": "TrafficRoute", "mesh": "demo", "name": "route", "sources": [{"match": {"service": "*"}}],
        "destinations": [{"match": {"service": "*"}}], "conf": [{"weight": "x", "destination": {"service": "a"}}],
    });
    let template = json!({
        "type": "ProxyTemplate", "mesh": "demo", "name": "t", "selectors": [{"match": {"service": "*"}}],
        "conf": {"imports": ["default-proxy"], "resources": [{"name": "a", "version": "1", "resource": "nonsense"}]},
    });
    let provided = json!({"type": "Mesh", "name": "p", "mtls": {"ca": {"provided": {}}}});
    let request = json!({
        "apply": [
            log("demo", "good", "a"),
            log("nowhere", "a", "a"),
            route,
            template,
            provided,
            log("p", "in-it", "a"),
            {"type": "Mash", "name": "UPPER"},
            "text",
            log("demo", "good", "b"),
            log("gone", "in-it", "a"),
            mesh("demo"),
        ],
        "delete": [
            {"type": "TrafficLog", "mesh": "demo", "name": "nothing"},
            {"type": "TrafficLog", "mesh": "demo", "name": "good"},
            {"type": "Mesh", "name": "demo"},
        ],
    });
    put(&api.router, "/meshes/gone", mesh("gone").to_string()).await;
    let mut request = request;
    request["delete"].as_array_mut().expect("a list").push(json!({"type": "Mesh", "name": "gone"}));
    let before_refusal = state(&api).await;
    let answer = post(&api, &request).await;
    assert_eq!(answer.status, 400);
    insta::assert_snapshot!(answer.text());
    assert_eq!(state(&api).await, before_refusal, "nothing is stored");
    assert_ne!(before, before_refusal);
    let dry = post_to(&api, "/changes?dryRun=true", request.to_string()).await;
    assert_eq!(dry.error(), answer.error(), "a dry run refuses the same");

    let absent =
        json!({"delete": [{"type": "TrafficLog", "mesh": "demo", "name": "a"}, {"type": "Mesh", "name": "b"}]});
    let expected = concat!(
        r#"Could not change resources | Not found | delete[0]: TrafficLog "a" of mesh "demo" does not exist | "#,
        r#"delete[1]: Mesh "b" does not exist"#,
    );
    assert_eq!(post(&api, &absent).await.error(), (404, expected.into()));
}

#[tokio::test]
async fn requests_that_make_no_sense() {
    let api = TestApi::with_mesh("demo").await;
    let before = state(&api).await;
    for (path, body, causes) in [
        ("/changes", json!({"aply": []}), "aply: unknown field; there are apply, delete, expected and dryRun"),
        ("/changes", json!({"apply": {}}), "apply: must be a list"),
        ("/changes", json!({"delete": "x"}), "delete: must be a list"),
        ("/changes", json!({"expected": "1"}), "expected: must be a revision, which is a whole number"),
        ("/changes", json!({"expected": -1}), "expected: must be a revision, which is a whole number"),
        ("/changes", json!({"expected": 1.5}), "expected: must be a revision, which is a whole number"),
        ("/changes", json!({"dryRun": "yes"}), "dryRun: must be true or false"),
        ("/changes?dryRun=1", json!({"apply": [mesh("a")]}), "dryRun: must be true or false"),
        ("/changes?dryrun=true", json!({"apply": [mesh("a")]}), "dryrun: unknown parameter; there is dryRun"),
        (
            "/changes",
            json!({"delete": [{}]}),
            "delete[0].type: cannot be empty | delete[0].mesh: cannot be empty | delete[0].name: cannot be empty",
        ),
        ("/changes", json!({"delete": [mesh("demo"), 5]}), "delete[1]: must be an object, not a number"),
        (
            "/changes",
            json!({"delete": [{"type": "Secret", "mesh": "demo", "name": "x"}]}),
            "delete[0].type: unknown kind of resource",
        ),
        (
            "/changes",
            json!({"delete": [log("demo", "a", "b")]}),
            "delete[0].sources: unknown field; there are type, mesh and name | delete[0].destinations: unknown field; \
             there are type, mesh and name | delete[0].conf: unknown field; there are type, mesh and name",
        ),
        (
            "/changes",
            json!({"apply": [mesh("x"), {"type": "Mesh", "name": "y", "z": 1}], "dryRun": 0}),
            "dryRun: must be true or false | apply[1].z: unknown field",
        ),
    ] {
        let expected = format!("Could not change resources | Resource is not valid | {causes}");
        assert_eq!(post_to(&api, path, body.to_string()).await.error(), (400, expected), "{path} {body}");
    }
    for (body, details) in [
        ("", "Body is not valid JSON: line 1, column 0: EOF while parsing a value"),
        ("[]", "Body is not a JSON object"),
    ] {
        let expected = (400, format!("Could not change resources | {details}"));
        assert_eq!(post_to(&api, "/changes", body).await.error(), expected);
    }
    let text = request(Method::POST, "/changes").header("content-type", "text/yaml").body(Body::from("{}"));
    assert_eq!(send(&api.router, text.expect("a request")).await.status, 415);
    for method in [Method::PUT, Method::DELETE] {
        let other = request(method, "/changes").body(Body::empty()).expect("a request");
        let answer = send(&api.router, other).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD, POST"));
    }
    assert_eq!(state(&api).await, before, "nothing is stored");
}

#[tokio::test]
async fn a_request_is_bounded() {
    let api = TestApi::with_mesh("demo").await;
    let logs = |count| (0..count).map(|n| log("demo", &format!("log-{n}"), "a")).collect::<Vec<_>>();
    let deletion = json!([{"type": "Mesh", "name": "demo"}]);
    let too_many = post(&api, &json!({"apply": logs(MAX_DOCUMENTS), "delete": deletion})).await;
    let expected = "Could not change resources | There are 1001 documents in the request, and 1000 are taken at once";
    assert_eq!(too_many.error(), (413, expected.into()));
    let most = post(&api, &json!({"apply": logs(MAX_DOCUMENTS)})).await;
    assert_eq!(outcomes(&most).len(), MAX_DOCUMENTS);
    assert_eq!(at(&most).0, 2, "one commit");
    let large = format!("{{\"apply\": [], \"x\": \"{}\"}}", "x".repeat(MAX_BODY));
    assert_eq!(post_to(&api, "/changes", large).await.status, 413);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = KeptRoots(Arc::new(StateFolder::open(folder.path().join("state")).expect("opens")));
    let api = TestApi::with_authority(Arc::new(authority));
    outcomes(
        &post(&api, &json!({"apply": [mesh("demo"), log("demo", "log-1", "a"), log("demo", "log-2", "a")]})).await,
    );
    let before = state(&api).await;
    let changes = json!({
        "apply": [log("demo", "log-1", "a"), log("demo", "log-2", "b"), log("new", "log-1", "a"), mesh("new")],
        "delete": [],
    });
    let mut in_body = changes.clone();
    in_body["dryRun"] = true.into();
    let in_query = post_to(&api, "/changes?dryRun=true", changes.to_string()).await;
    let in_body = post(&api, &in_body).await;
    for answer in [in_query, in_body] {
        assert_eq!(
            outcomes(&answer),
            [
                "unchanged TrafficLog demo log-1",
                "updated TrafficLog demo log-2",
                "created TrafficLog new log-1",
                "created Mesh - new",
            ]
        );
        assert_eq!(at(&answer).0, before.0, "the latest revision, which is what `expected` takes");
    }
    let deletion = json!({"delete": [{"type": "Mesh", "name": "demo"}], "dryRun": true});
    assert_eq!(outcomes(&post(&api, &deletion).await), ["deleted Mesh - demo"]);
    assert_eq!(state(&api).await, before);
    assert!(!folder.path().join("state/builtinca.new").exists(), "no CA is made");
    assert!(folder.path().join("state/builtinca.demo").exists(), "none is forgotten");
    // What it said comes true.
    assert_eq!(outcomes(&post(&api, &changes).await).len(), 4);
}

#[tokio::test]
async fn a_request_may_be_for_one_revision_alone() {
    let api = TestApi::with_mesh("demo").await;
    let head = state(&api).await.0;
    let with = |expected: u64, backend: &str| json!({"apply": [log("demo", "log-1", backend)], "expected": expected});
    assert_eq!(at(&post(&api, &with(head, "a")).await).0, head + 1);
    for dry_run in [false, true] {
        for expected in [head, head + 2, u64::MAX] {
            let mut body = with(expected, "b");
            body["dryRun"] = dry_run.into();
            let answer = post(&api, &body).await;
            let (status, error) = answer.error();
            let told = format!(
                "Could not change resources | Revision {expected} was expected to be the latest, but {}",
                head + 1
            );
            assert!(status == 409 && error.starts_with(&told), "{error}");
            assert!(error.ends_with(&format!("expected: the latest revision is {}", head + 1)), "{error}");
            assert_eq!(at(&answer).0, head + 1);
        }
    }
    assert_eq!(get(&api.router, "/meshes/demo/traffic-logs/log-1").await.json()["conf"]["backend"], "a");
    // It is what the documents are judged by: who has not seen the deletion is told that, not that nothing is there.
    let deletion = json!({"delete": [{"type": "TrafficLog", "mesh": "demo", "name": "log-1"}], "expected": head + 1});
    assert_eq!(at(&post(&api, &deletion).await).0, head + 2);
    assert_eq!(post(&api, &deletion).await.status, 409);
}

#[tokio::test]
async fn somebody_who_writes_in_between_is_not_overwritten() {
    let store = Interposed::new();
    let api = TestApi::over(store.clone(), &config(&[]));
    outcomes(&post(&api, &json!({"apply": [mesh("demo"), log("demo", "log-1", "a")]})).await);
    let theirs = |backend: &str| vec![Write::Put(document(&log("demo", "log-1", backend)))];

    // With the revision that was seen: refused, whatever was written in between.
    let head = state(&api).await.0;
    store.before_commits(vec![vec![Write::Put(document(&log("demo", "theirs", "a")))]]);
    let answer = post(&api, &json!({"apply": [log("demo", "log-1", "ours")], "expected": head})).await;
    assert_eq!((answer.status.as_u16(), at(&answer).0), (409, head + 1));
    assert_eq!(get(&api.router, "/meshes/demo/traffic-logs/log-1").await.json()["conf"]["backend"], "a");

    // Without: it is tried again on top of theirs, a few times.
    store.before_commits(vec![theirs("b"), theirs("c")]);
    assert_eq!(
        outcomes(&post(&api, &json!({"apply": [log("demo", "log-1", "ours")]})).await),
        ["updated TrafficLog demo log-1"]
    );
    store.before_commits((0..5).map(|n| theirs(&n.to_string())).collect());
    let expected = r#"TrafficLog "log-1" of mesh "demo" is being changed by others at the same time; try again"#;
    let answer = post(&api, &json!({"apply": [log("demo", "log-1", "ours")]})).await;
    assert_eq!(answer.error(), (409, format!("Could not change resources | {expected}")));
    store.before_commits((0..5).map(|n| theirs(&format!("again-{n}"))).collect());
    let answer = put(&api.router, "/meshes/demo/traffic-logs/log-1", log("demo", "log-1", "ours").to_string()).await;
    assert_eq!(answer.error(), (409, format!("Could not update a resource | {expected}")));

    // The mesh goes in between: then it is missing.
    store.before_commits(vec![vec![Write::DeleteMesh { mesh: "demo".into() }]]);
    let answer = post(&api, &json!({"apply": [log("demo", "log-9", "a")]})).await;
    let expected = "Could not change resources | Resource is not valid | apply[0].mesh: mesh of name demo is not found";
    assert_eq!(answer.error(), (400, expected.into()));
}

#[tokio::test]
async fn a_ca_and_its_mesh_rest_on_each_other() {
    let store = Interposed::new();
    // Two control planes on one store: neither sees the lock of the other.
    let documents = Documents::new(store.clone(), Arc::new(FreshRoots));
    let other = MeshCas::new(store.clone(), Arc::new(FreshRoots));
    let root = Root::generate("demo", SystemTime::now()).expect("a root");
    let id = other.add("demo", root, Cause::default()).await.expect("it is the first").id;
    let provided =
        |enabled: bool| json!({"type": "Mesh", "name": "demo", "mtls": {"enabled": enabled, "ca": {"provided": {}}}});
    let secret = mesh_ca::key(Ca::Provided, "demo");
    let without = || vec![Write::Put(mesh_ca::document(Ca::Provided, "demo", None))];

    // The certificate goes while a Mesh that needs it is created.
    store.before_commits(vec![without()]);
    let refused = documents
        .change(vec![DocumentChange::put(provided(true))], None, Cause::default())
        .await
        .expect_err("it has no CA");
    assert!(refused.to_string().contains("There is no signing certificate"), "{refused}");
    assert!(store.get(&Key::mesh("demo")).await.expect("a store").is_none());

    // mTLS is switched on while the certificate is taken away.
    let root = Root::generate("demo", SystemTime::now()).expect("a root");
    assert_ne!(other.add("demo", root, Cause::default()).await.expect("there is none").id, id);
    let id = other.certificates(Ca::Provided, "demo").await.expect("a store").expect("a CA")[0].id.clone();
    documents.change(vec![DocumentChange::put(provided(false))], None, Cause::default()).await.expect("it has a CA");
    store.before_commits(vec![vec![Write::Put(document(&provided(true)))]]);
    let refused = other
        .delete(Ca::Provided, "demo", &id, false, Cause::default())
        .await
        .expect_err("the mesh is at work with it");
    assert!(matches!(refused, ChangeRefused::Store(_)), "{refused}");
    let kept = store.get(&secret).await.expect("a store").expect("a CA").spec();
    assert!(mesh_ca::read(Ca::Provided, &kept).expect("readable").is_some(), "the certificate is still there");
    let refused = other
        .delete(Ca::Provided, "demo", &id, false, Cause::default())
        .await
        .expect_err("the mesh is at work with it");
    assert!(matches!(refused, ChangeRefused::InUse), "{refused}");

    // A conditional deletion of a Mesh is of the one that was looked at.
    store.before_commits(vec![vec![Write::Put(document(&provided(false)))]]);
    let is_on = |stored: Option<&Stored>| stored.is_some_and(|stored| stored.spec()["mtls"]["enabled"] == true);
    let deletion = DocumentChange::delete(Key::mesh("demo")).only_if(is_on);
    let refused = documents.change(vec![deletion], None, Cause::default()).await.expect_err("it has changed");
    assert!(matches!(refused, Refusal::Changes(_)), "{refused}");
    assert!(store.get(&Key::mesh("demo")).await.expect("a store").is_some());
}

/// The warnings in an answer to a write.
fn warnings(answer: &Answer) -> Vec<String> {
    assert!(answer.status.is_success(), "{}", answer.text());
    let all = answer.headers.get_all("warning").iter().map(|value| value.to_str().expect("text"));
    let unquoted = |text: &str| {
        let quoted = text.strip_prefix("299 kuma-cp \"").and_then(|rest| rest.strip_suffix('"'));
        quoted.unwrap_or_else(|| panic!("{text}")).replace("\\\"", "\"")
    };
    all.map(unquoted).collect()
}

#[tokio::test]
async fn a_mesh_that_turns_mtls_off_is_told() {
    let api = TestApi::with_mesh("demo").await;
    let with = |mtls: Value| json!({"type": "Mesh", "name": "demo", "mtls": mtls});
    let on = with(json!({"enabled": true, "ca": {"builtin": {}}}));
    let told = "Mesh \"demo\": this turns mTLS off. A document replaces the whole one before it; to keep mTLS, it \
                needs mtls.enabled: true";
    for (next, expected) in [
        (&on, vec![]),
        (&on, vec![]),
        (&mesh("demo"), vec![told]),
        (&mesh("demo"), vec![]),
        (&on, vec![]),
        (&with(json!({"enabled": false, "ca": {"builtin": {}}})), vec![told]),
    ] {
        let dry = json!({"apply": [next], "dryRun": true});
        assert_eq!(warnings(&post(&api, &dry).await), expected, "{next}");
        assert_eq!(warnings(&put(&api.router, "/meshes/demo", next.to_string()).await), expected, "{next}");
    }
}

#[tokio::test]
async fn policies_without_effect_are_told() {
    let api = TestApi::with_mesh("demo").await;
    let with_backend = |name: &str| {
        let backend = json!({"name": "file", "file": {"path": "/log"}});
        json!({"type": "Mesh", "name": name, "logging": {"backends": [backend]}})
    };
    let told = |name: &str| format!("TrafficLog \"{name}\" logs nothing: the Mesh has no log backend \"file\"");

    let both = json!({"apply": [log("new", "a", "file"), log("demo", "b", "file"), mesh("new")]});
    let expected = [told("a"), told("b")];
    let mut dry = both.clone();
    dry["dryRun"] = true.into();
    assert_eq!(warnings(&post(&api, &dry).await).len(), 2, "each once");
    let mut made = warnings(&post(&api, &both).await);
    made.sort();
    assert_eq!(made, expected);

    // What the request itself writes or deletes counts.
    for request in [
        json!({"apply": [with_backend("new"), log("demo", "c", "file"), with_backend("demo")], "dryRun": true}),
        json!({"apply": [mesh("new")], "delete": [{"type": "TrafficLog", "mesh": "new", "name": "a"}], "dryRun": true}),
        json!({"apply": [with_backend("new"), with_backend("demo")]}),
    ] {
        assert_eq!(warnings(&post(&api, &request).await), Vec::<String>::new(), "{request}");
    }
    assert_eq!(warnings(&put(&api.router, "/meshes/new", mesh("new").to_string()).await), [told("a")]);
    let one = put(&api.router, "/meshes/new/traffic-logs/d", log("new", "d", "file").to_string()).await;
    assert_eq!(warnings(&one), [told("d")]);

    let many: Vec<Value> = (0..30).map(|n| log("new", &format!("log-{n}"), "file")).collect();
    let many = warnings(&post(&api, &json!({"apply": many})).await);
    assert_eq!((many.len(), many[20].as_str()), (21, "10 more policies have no effect for the same reason"));
}

#[tokio::test]
async fn a_lost_ca_and_a_store_that_is_away() {
    let api = TestApi::with_mesh("demo").await;
    let ca = Key::new(SECRET_KIND, "demo", "builtinca.demo");
    api.store.commit(vec![Write::Delete { key: ca, version: None }]).await.expect("a store");
    let (status, error) = post(&api, &json!({"apply": [mesh("other"), mesh("demo")]})).await.error();
    let expected = "Could not change resources | The CA of a mesh is missing | apply[1]: The builtin CA of mesh demo";
    assert!(status == 500 && error.starts_with(expected), "{error}");
    assert_eq!(get(&api.router, "/meshes/other").await.status, 404);

    let away = TestApi::over(Arc::new(Away), &config(&[]));
    for body in
        [json!({"apply": [mesh("a")]}), json!({"apply": [mesh("a"), mesh("b")]}), json!({"delete": [mesh("a")]})]
    {
        for path in ["/changes", "/changes?dryRun=true"] {
            let (status, error) = post_to(&away, path, body.to_string()).await.error();
            let expected = " | The store is unavailable (connection refused). Try again later";
            assert!(status == 503 && error.ends_with(expected), "{error}");
        }
    }
}

#[tokio::test]
async fn where_nothing_may_be_written_there_is_only_to_read() {
    let api = TestApi::with(&[("KUMA_API_SERVER_READ_ONLY", "true")]);
    let answer = post(&api, &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD"));
    assert_eq!(get(&api.router, "/changes").await.json(), json!({"items": []}));
    assert_eq!(get(&api.router, "/catalog").await.json()["apis"].get("changes"), None, "it is not offered");
    let preflight = request(Method::OPTIONS, "/changes")
        .header("origin", "https://gui.example.com")
        .header("access-control-request-method", "POST");
    let answer = send(&api.router, preflight.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.header("access-control-allow-methods"), "GET, HEAD");
}

#[tokio::test]
async fn questions_about_changes_that_make_no_sense() {
    let api = TestApi::new();
    let epoch = api.store.epoch();
    let one = "Could not retrieve a change";
    let list = "Could not retrieve changes";
    let invalid = |title: &str, wrong: &str| (400, format!("{title} | Resource is not valid | {wrong}"));
    let duration = "wait: must be a duration such as \"30s\" or \"1m30s\"";
    for (path, expected) in [
        ("/changes/abc", (404, format!("{one} | \"abc\" is not a revision, which is a whole number"))),
        ("/changes/-1", (404, format!("{one} | \"-1\" is not a revision, which is a whole number"))),
        ("/changes/7", (404, format!("{one} | There is no revision 7: the latest is 0"))),
        ("/changes/7?wait=10", invalid(one, duration)),
        ("/changes/7?wait=-1s", invalid(one, duration)),
        ("/changes/7?wait=", invalid(one, duration)),
        ("/changes/7?all=yes", invalid(one, "all: must be true or false")),
        ("/changes/7?wiat=1s", invalid(one, "wiat: unknown parameter; there are wait, all, epoch")),
        ("/changes?wait=1s", invalid(list, "wait: unknown parameter; there are epoch")),
    ] {
        assert_eq!(get(&api.router, path).await.error(), expected, "{path}");
    }
    let other = get(&api.router, "/changes/7?epoch=another").await;
    let expected = format!(
        "{one} | The revision belongs to epoch \"another\", and the store is at {:?}: it has lost its documents \
         since, or it is another one",
        &*epoch
    );
    assert_eq!(other.error(), (410, expected));
    let header = request(Method::GET, "/changes/7").header("kuma-epoch", "another").body(Body::empty());
    assert_eq!(send(&api.router, header.expect("a request")).await.status, 410);
}
