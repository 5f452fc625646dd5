//! Promises of stores that several processes have open: each check gets two handles on one empty store.

use kuma_model::{DEPARTURE_KIND, KINDS};

use super::*;

/// One promise of two handles on one store.
#[derive(Clone, Copy, Debug)]
pub struct SharedCheck {
    /// What is promised.
    pub name: &'static str,
    run: fn(Handles) -> BoxFuture<'static, ()>,
}

/// Two handles on one store, each as a process of its own would have it.
pub type Handles = [Arc<dyn Store>; 2];

const CHECKS: &[SharedCheck] = &[
    check("two handles know that they have one store", |handles| identity(handles).boxed()),
    check("what is written to one handle is read from the other at once", |handles| read_writes(handles).boxed()),
    check("each handle tells the other's commits in their order", |handles| told(handles).boxed()),
    check("documents of every kind are told, also of those that no API serves", |handles| every_kind(handles).boxed()),
    check("of writers of one version exactly one succeeds", |handles| one_winner(handles).boxed()),
    check("what a commit expects, and what it refuses, is what all have written", |handles| refusals(handles).boxed()),
    check("what the other handle has replaced is not taken for unchanged", |handles| unchanged(handles).boxed()),
    check("many writers on both handles lose nothing", |handles| many_writers(handles).boxed()),
    check("a Mesh is not deleted beside a document that is put into it", |handles| mesh_and_document(handles).boxed()),
    check("reports of two processes are kept apart and told together", |handles| insights(handles).boxed()),
    check("no report stays of a mesh that is deleted meanwhile", |handles| no_orphans(handles).boxed()),
    check("both handles tell the same past", |handles| past(handles).boxed()),
];

const fn check(name: &'static str, run: fn(Handles) -> BoxFuture<'static, ()>) -> SharedCheck {
    SharedCheck { name, run }
}

/// Runs every check on a store of its own, and reports all that fail. `make` makes an empty store.
///
/// # Panics
/// When a promise is broken, after all have been tried. What was wrong is on standard error.
pub async fn run<F>(make: impl Fn() -> F)
where
    F: Future<Output = Handles>,
{
    let mut failed = Vec::new();
    for check in CHECKS {
        let outcome = AssertUnwindSafe(async { (check.run)(make().await).await }).catch_unwind().await;
        if outcome.is_err() {
            failed.push(check.name);
        }
    }
    assert!(failed.is_empty(), "the store breaks {} promises: {failed:#?}", failed.len());
}

async fn every_kind([a, b]: Handles) {
    let kinds =
        KINDS.iter().map(|kind| kind.name).filter(|kind| *kind != DataplaneInsight::KIND && *kind != Mesh::KIND);
    let kinds: Vec<_> = kinds.chain([SECRET_KIND, DEPARTURE_KIND]).collect();
    let document =
        |kind: &&'static str| Document { key: Key::new(kind, "default", "web"), spec: json!({"kind": kind}) };
    commit(&*a, [Write::Put(mesh("default"))].into_iter().chain(kinds.iter().map(document).map(Write::Put))).await;
    let told = next_commit(&mut b.changes(0)).await;
    let (_, state) = read_all(&*b).await;
    for document in kinds.iter().map(document) {
        assert_eq!(state.get(&document.key).map(|stored| stored.document()), Some(document.clone()));
        assert!(told.changes.iter().any(|(key, _)| *key == document.key), "{}", document.key);
    }
}

async fn identity([a, b]: Handles) {
    assert_eq!(a.head(), b.head());
    assert_eq!(a.epoch(), b.epoch());
    commit(&*a, [Write::Put(mesh("default"))]).await;
    read_all(&*b).await;
    assert_eq!(a.head(), b.head());
    assert_eq!(a.head().position.revision, 1);
}

async fn read_writes([a, b]: Handles) {
    commit(&*a, [Write::Put(mesh("default"))]).await;
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let expected = document("default", "web", &n.to_string());
        let revision = commit(&**writer, [Write::Put(expected.clone())]).await.revision;
        let read = match n % 3 {
            0 => get(&**reader, &expected.key).await,
            1 => reader.list(KIND, Some("default")).await.expect("an answer").pop(),
            _ => {
                let (latest, mut state) = read_all(&**reader).await;
                assert_eq!(latest, revision);
                state.remove(&expected.key)
            }
        };
        assert_eq!(read.map(|stored| (stored.document(), stored.version)), Some((expected, n + 1)));
    }
}

async fn told([a, b]: Handles) {
    let mut streams = [a.changes(0), b.changes(0)];
    commit(&*a, [Write::Put(mesh("default"))]).await;
    for n in 0..20 {
        let writer = if n % 2 == 0 { &b } else { &a };
        commit(&**writer, [Write::Put(document("default", "web", &n.to_string()))]).await;
    }
    // Nobody asks: a commit of the other handle comes by itself.
    let mut seen = [vec![], vec![]];
    for (stream, seen) in streams.iter_mut().zip(&mut seen) {
        for revision in 1..=21 {
            let commit = next_commit(stream).await;
            assert_eq!(commit.revision, revision);
            seen.push(commit);
        }
    }
    assert_eq!(seen[0], seen[1], "ids, times and texts, too");
}

async fn one_winner([a, b]: Handles) {
    commit(&*a, [Write::Put(mesh("default")), Write::Put(document("default", "web", "0"))]).await;
    for version in 1..=40 {
        let write = |text: &str| vec![Write::Update { document: document("default", "web", text), version }];
        let (left, right) = (format!("a{version}"), format!("b{version}"));
        let (first, second) = tokio::join!(a.commit(write(&left)), b.commit(write(&right)));
        let winner = match (&first, &second) {
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
                let expected =
                    StoreError::Conflict { key: key("default", "web"), expected: version, actual: version + 1 };
                assert_eq!(*error, expected);
                if first.is_ok() { left } else { right }
            }
            both => panic!("exactly one succeeds: {both:?}"),
        };
        for store in [&a, &b] {
            let stored = get(&**store, &key("default", "web")).await.expect("it is there");
            assert_eq!(stored.document(), document("default", "web", &winner));
        }
    }
}

async fn refusals([a, b]: Handles) {
    let web = document("default", "web", "a");
    let first = commit(&*a, [Write::Put(mesh("default")), Write::Put(web.clone())]).await.revision;
    assert_eq!(refused(&*b, [Write::Create(web.clone())]).await, StoreError::AlreadyExists(web.key.clone()));
    let looked = b.commit_if(vec![Expect::Head(first)], vec![]).await;
    assert_eq!(looked.map(|committed| committed.revision), Ok(first));
    let second = commit(&*b, [Write::Put(document("default", "web", "b"))]).await.revision;
    let moved = a.commit_if(vec![Expect::Head(first)], vec![Write::Put(document("default", "db", "x"))]).await;
    assert_eq!(moved, Err(StoreError::HeadMoved { expected: first, actual: second }));
    let expected = Expect::Version { key: web.key.clone(), version: Some(1) };
    let conflict = a.commit_if(vec![expected], vec![]).await;
    assert_eq!(conflict, Err(StoreError::Conflict { key: web.key.clone(), expected: 1, actual: 2 }));
    commit(&*b, [Write::DeleteMesh { mesh: "default".into() }]).await;
    let gone = refused(&*a, [Write::Put(document("default", "db", "x"))]).await;
    assert_eq!(gone, StoreError::MeshNotFound("default".into()));
    let gone = refused(&*a, [Write::Delete { key: web.key.clone(), version: None }]).await;
    assert_eq!(gone, StoreError::NotFound(web.key));
}

async fn unchanged([a, b]: Handles) {
    let [old, new] = ["old", "new"].map(|text| document("default", "web", text));
    commit(&*a, [Write::Put(mesh("default")), Write::Put(old.clone())]).await;
    assert_eq!(get(&*b, &old.key).await.map(|stored| stored.document()), Some(old.clone()));
    commit(&*a, [Write::Put(new)]).await;
    // The other handle may still know the old text, and is told to store just that.
    let committed = commit(&*b, [Write::Put(old.clone())]).await;
    assert_eq!(committed.outcomes, [Outcome::Updated { version: 3 }]);
    assert_eq!(get(&*a, &old.key).await.map(|stored| stored.document()), Some(old));
}

async fn many_writers(handles: Handles) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 40;
    let mut streams = [handles[0].changes(0), handles[1].changes(0)];
    commit(&*handles[0], [Write::Put(mesh("default"))]).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = handles[writer % 2].clone();
            tokio::spawn(async move {
                let mut made = vec![];
                for round in 0..ROUNDS {
                    let own = document("default", &writer.to_string(), &round.to_string());
                    let common = document("default", "common", &format!("{writer} {round}"));
                    made.push(commit(&*store, [Write::Put(own), Write::Put(common)]).await.revision);
                }
                made
            })
        })
        .collect();
    let mut made = vec![1];
    for writer in writers {
        made.extend(writer.await.expect("a writer that ends"));
    }
    made.sort_unstable();
    assert_eq!(made, (1..=(WRITERS * ROUNDS) as u64 + 1).collect::<Vec<_>>(), "each commit has a number of its own");
    let mut states = [State::new(), State::new()];
    for (stream, state) in streams.iter_mut().zip(&mut states) {
        for revision in &made {
            let commit = next_commit(stream).await;
            assert_eq!(commit.revision, *revision);
            apply(state, &commit);
        }
    }
    for store in &handles {
        assert_eq!(read_all(&**store).await, (made.len() as u64, states[0].clone()));
    }
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0][&key("default", "common")].version, (WRITERS * ROUNDS) as u64);
}

async fn mesh_and_document([a, b]: Handles) {
    for n in 0..20 {
        commit(&*a, [Write::Put(mesh("default"))]).await;
        let document = document("default", "web", &n.to_string());
        let (put, deleted) = tokio::join!(
            b.commit(vec![Write::Put(document.clone())]),
            a.commit(vec![Write::DeleteMesh { mesh: "default".into() }]),
        );
        assert!(deleted.is_ok());
        assert!(matches!(&put, Ok(_) | Err(StoreError::MeshNotFound(_))), "{put:?}");
        for store in [&a, &b] {
            assert_eq!(read_all(&**store).await.1, State::new());
        }
    }
}

async fn insights([a, b]: Handles) {
    commit(&*a, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let report = |id: &str, time: &str| Document {
        key: insight_key("default", "web"),
        spec: json!({"subscriptions": [{"id": id, "connectTime": time}]}),
    };
    a.put_insights(vec![report("1", "2020-01-01T00:00:01Z")]).await.expect("stored");
    b.put_insights(vec![report("2", "2020-01-01T00:00:02Z")]).await.expect("stored");
    a.put_insights(vec![report("3", "2020-01-01T00:00:03Z")]).await.expect("stored");
    for store in [&a, &b] {
        let told = get(&**store, &insight_key("default", "web")).await.expect("it is there").spec();
        let ids: Vec<_> = told["subscriptions"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, ["2", "3"], "each process replaces its own report");
        assert_eq!(names(&**store, DataplaneInsight::KIND, None).await, ["default/web"]);
    }
    b.remove_insights(vec![insight_key("default", "web")]).await.expect("removed");
    assert_eq!(get(&*a, &insight_key("default", "web")).await, None, "those of all processes");
    a.put_insights(vec![report("4", "2020-01-01T00:00:04Z")]).await.expect("stored");
    commit(&*b, [Write::Delete { key: key("default", "web"), version: None }]).await;
    assert_eq!(get(&*a, &insight_key("default", "web")).await, None);
}

async fn no_orphans([a, b]: Handles) {
    for _ in 0..10 {
        commit(&*a, [Write::Put(mesh("default"))]).await;
        let reporter = {
            let b = b.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    b.put_insights(vec![insight("default", &n.to_string(), "1")]).await.expect("stored or dropped");
                }
            })
        };
        commit(&*a, [Write::DeleteMesh { mesh: "default".into() }]).await;
        reporter.await.expect("it ends");
        for store in [&a, &b] {
            assert_eq!(names(&**store, DataplaneInsight::KIND, None).await, [] as [&str; 0]);
        }
    }
}

async fn past([a, b]: Handles) {
    let cause = Cause { author: "a".into(), via: "b".into(), note: "c".into() };
    let writes = vec![Write::Put(mesh("default"))];
    a.propose(Proposal { writes, cause, ..Proposal::default() }).await.expect("in order");
    for text in ["a", "b"] {
        commit(&*b, [Write::Put(document("default", "web", text))]).await;
    }
    let query = HistoryQuery { limit: 10, ..HistoryQuery::default() };
    let page = a.history(query.clone()).await.expect("an answer");
    assert_eq!(page.entries.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(b.history(query).await, Ok(page));
    for revision in 0..=3 {
        let [left, right] = [&a, &b].map(|store| store.at(Moment::Revision(revision)));
        let (left, right) = (left.await.expect("known"), right.await.expect("known"));
        assert_eq!((left.revision, left.documents), (right.revision, right.documents));
    }
}
