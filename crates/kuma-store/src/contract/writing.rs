//! Promises about writing and reading back.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("an empty store is at revision 0", |store| empty(store).boxed()),
    Check::new("a document is read back as written", |store| read_back(store).boxed()),
    Check::new("create refuses what exists", |store| create(store).boxed()),
    Check::new("update replaces the version it names and no other", |store| update(store).boxed()),
    Check::new("put writes whether it exists or not", |store| put(store).boxed()),
    Check::new("delete removes the version it names and no other", |store| delete(store).boxed()),
    Check::new("a document that is created again starts at version 1", |store| created_again(store).boxed()),
    Check::new("what says the same is not written", |store| unchanged(store).boxed()),
    Check::new("a commit is stored whole or not at all", |store| all_or_nothing(store).boxed()),
    Check::new("a write sees the ones before it in its commit", |store| one_after_the_other(store).boxed()),
    Check::new("lists are complete and ordered by mesh and name", |store| lists(store).boxed()),
    Check::new("of writers of one version exactly one succeeds", |store| concurrent_writers(store).boxed()),
];

async fn empty(store: Arc<dyn Store>) {
    assert_eq!(read_all(&*store).await, (0, State::new()));
    assert_eq!(get(&*store, &key("default", "web")).await, None);
    assert!(names(&*store, KIND, None).await.is_empty());
    assert_eq!(commit(&*store, []).await, Committed { revision: 0, outcomes: vec![] });
}

async fn read_back(store: Arc<dyn Store>) {
    let spec = json!({
        "text": "ünïcode \u{0} \"quoted\" \\ / \n", "number": 0.5, "large": u64::MAX, "small": i64::MIN, "null": null,
        "empty": {"object": {}, "array": []}, "nested": [[[{"deep": true}]]],
    });
    let written = Document { key: key("default", "web-1_a"), spec };
    commit(&*store, [Write::Create(mesh("default")), Write::Create(written.clone())]).await;
    let stored = get(&*store, &written.key).await.expect("the document");
    assert_eq!(stored.document(), written);
    assert_eq!(stored.version, 1);
    assert_eq!(stored.created, stored.modified);
    assert_eq!(store.list(KIND, Some("default")).await.unwrap(), vec![stored.clone()]);
    assert_eq!(read_all(&*store).await.1.get(&written.key), Some(&stored));
}

async fn create(store: Arc<dyn Store>) {
    let web = document("default", "web", "a");
    let committed = commit(&*store, [Write::Create(mesh("default")), Write::Create(web.clone())]).await;
    assert_eq!(committed.outcomes, [Outcome::Created, Outcome::Created]);
    assert_eq!(refused(&*store, [Write::Create(web.clone())]).await, StoreError::AlreadyExists(web.key.clone()));
    // Keys differ by mesh and by kind too.
    let other = Document { key: Key::new("TrafficLog", "default", "web"), spec: json!({}) };
    commit(&*store, [Write::Create(mesh("other")), Write::Create(document("other", "web", "a")), Write::Create(other)])
        .await;
}

async fn update(store: Arc<dyn Store>) {
    let web = key("default", "web");
    let update = |text: &str, version| [Write::Update { document: document("default", "web", text), version }];
    commit(&*store, [Write::Create(mesh("default"))]).await;
    assert_eq!(refused(&*store, update("b", 1)).await, StoreError::NotFound(web.clone()));

    commit(&*store, [Write::Create(document("default", "web", "a"))]).await;
    let created = get(&*store, &web).await.unwrap();
    assert_eq!(commit(&*store, update("b", 1)).await.outcomes, [Outcome::Updated { version: 2 }]);
    let updated = get(&*store, &web).await.unwrap();
    assert_eq!((updated.document(), updated.version), (document("default", "web", "b"), 2));
    assert_eq!(updated.created, created.created);
    assert!(updated.modified >= created.modified);

    for expected in [0, 1, 3] {
        let conflict = StoreError::Conflict { key: web.clone(), expected, actual: 2 };
        assert_eq!(refused(&*store, update("c", expected)).await, conflict);
        assert_eq!(
            refused(&*store, update("b", expected)).await,
            conflict,
            "the version counts even if the text is equal"
        );
    }
    assert_eq!(get(&*store, &web).await.unwrap(), updated);
}

async fn put(store: Arc<dyn Store>) {
    let put = |text: &str| [Write::Put(document("default", "web", text))];
    assert_eq!(commit(&*store, [Write::Put(mesh("default"))]).await.outcomes, [Outcome::Created]);
    assert_eq!(commit(&*store, put("a")).await.outcomes, [Outcome::Created]);
    assert_eq!(commit(&*store, put("b")).await.outcomes, [Outcome::Updated { version: 2 }]);
    assert_eq!(get(&*store, &key("default", "web")).await.unwrap().document(), document("default", "web", "b"));
}

async fn delete(store: Arc<dyn Store>) {
    let web = key("default", "web");
    let delete = |version| [Write::Delete { key: key("default", "web"), version }];
    commit(&*store, [Write::Create(mesh("default"))]).await;
    assert_eq!(refused(&*store, delete(None)).await, StoreError::NotFound(web.clone()));
    assert_eq!(refused(&*store, delete(Some(1))).await, StoreError::NotFound(web.clone()));

    commit(&*store, [Write::Put(document("default", "web", "a"))]).await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    let conflict = StoreError::Conflict { key: web.clone(), expected: 1, actual: 2 };
    assert_eq!(refused(&*store, delete(Some(1))).await, conflict);
    assert_eq!(commit(&*store, delete(Some(2))).await.outcomes, [Outcome::Deleted]);
    assert_eq!(get(&*store, &web).await, None);

    commit(&*store, [Write::Put(document("default", "web", "a"))]).await;
    assert_eq!(commit(&*store, delete(None)).await.outcomes, [Outcome::Deleted]);
    assert!(names(&*store, KIND, None).await.is_empty());
    assert_eq!(
        refused(&*store, [Write::DeleteMesh { mesh: "other".into() }]).await,
        StoreError::NotFound(Key::mesh("other"))
    );
}

async fn created_again(store: Arc<dyn Store>) {
    let web = key("default", "web");
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    commit(&*store, [Write::Delete { key: web.clone(), version: None }]).await;
    commit(&*store, [Write::Create(document("default", "web", "c"))]).await;
    assert_eq!(get(&*store, &web).await.unwrap().version, 1);
}

async fn unchanged(store: Arc<dyn Store>) {
    let web = document("default", "web", "a");
    let first = commit(&*store, [Write::Put(mesh("default")), Write::Put(web.clone())]).await;
    let before = get(&*store, &web.key).await;
    let reordered = |first: &str, second: &str| {
        let both = BTreeMap::from([("a", json!(1)), ("b", json!({"c": []}))]);
        let spec =
            Value::Object([first, second].map(|name| (name.to_string(), both[name].clone())).into_iter().collect());
        Write::Put(Document { key: key("default", "api"), spec })
    };
    let second = commit(&*store, [reordered("a", "b")]).await;

    let same = Outcome::Unchanged { version: 1 };
    for write in [
        Write::Put(web.clone()),
        Write::Update { document: web.clone(), version: 1 },
        reordered("b", "a"),
        Write::Put(mesh("default")),
    ] {
        let committed = commit(&*store, [write]).await;
        assert_eq!(committed, Committed { revision: second.revision, outcomes: vec![same] });
    }
    assert_eq!(get(&*store, &web.key).await, before);
    assert_eq!(read_all(&*store).await.0, second.revision);
    assert!(second.revision > first.revision);

    // In one commit with something new, only that is written.
    let mixed = commit(&*store, [Write::Put(web.clone()), Write::Put(document("default", "db", "x"))]).await;
    assert_eq!(mixed.outcomes, [same, Outcome::Created]);
    let mut changes = store.changes(second.revision);
    let commit = next_commit(&mut changes).await;
    assert_eq!(texts(&commit).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key("default", "db")]);
}

async fn all_or_nothing(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let before = read_all(&*store).await;
    let good = || {
        vec![
            Write::Create(mesh("new")),
            Write::Create(document("new", "db", "a")),
            Write::Put(document("default", "web", "b")),
            Write::Put(document("default", "api", "b")),
            Write::DeleteMesh { mesh: "default".into() },
        ]
    };
    let bad = [
        Write::Create(mesh("new")),
        Write::Update { document: document("default", "web", "c"), version: 7 },
        Write::Delete { key: key("default", "nothing"), version: None },
        Write::Put(document("nowhere", "web", "a")),
    ];
    for bad in bad {
        // In front, so that the deletion of the mesh is not what it fails for, and behind.
        for front in [true, false] {
            let mut writes = good();
            if front {
                writes.pop();
            }
            writes.insert(if front { 1 } else { writes.len() }, bad.clone());
            if let Ok(committed) = store.commit(writes).await {
                panic!("{bad:?} was accepted: {committed:?}");
            }
            assert_eq!(read_all(&*store).await, before, "after {bad:?}");
        }
    }
    commit(&*store, good()).await;
}

async fn one_after_the_other(store: Arc<dyn Store>) {
    let web = |text: &str| document("default", "web", text);
    let committed = commit(
        &*store,
        [
            // Before its mesh: only the end counts.
            Write::Create(web("a")),
            Write::Create(mesh("default")),
            Write::Update { document: web("b"), version: 1 },
            Write::Put(web("b")),
            Write::Create(document("default", "gone", "a")),
            Write::Delete { key: key("default", "gone"), version: Some(1) },
            Write::Create(mesh("short")),
            Write::Create(document("short", "web", "a")),
            Write::DeleteMesh { mesh: "short".into() },
        ],
    )
    .await;
    let updated = [Outcome::Updated { version: 2 }, Outcome::Unchanged { version: 2 }];
    assert_eq!(committed.outcomes[2..4], updated);
    let (_, state) = read_all(&*store).await;
    assert_eq!(state.keys().cloned().collect::<Vec<_>>(), [key("default", "web"), Key::mesh("default")]);

    // One commit is one change, which has each document once and nothing that came and went.
    let mut changes = store.changes(0);
    let seen = next_commit(&mut changes).await;
    assert_eq!(seen.revision, committed.revision);
    assert_eq!(texts(&seen), [(key("default", "web"), Some(web("b").spec)), (Key::mesh("default"), Some(json!({})))]);

    let twice = [Write::Create(document("default", "db", "a")), Write::Create(document("default", "db", "a"))];
    assert_eq!(refused(&*store, twice).await, StoreError::AlreadyExists(key("default", "db")));

    // A mesh that is made anew holds only what was put into it after.
    commit(
        &*store,
        [
            Write::DeleteMesh { mesh: "default".into() },
            Write::Create(mesh("default")),
            Write::Create(document("default", "db", "a")),
        ],
    )
    .await;
    assert_eq!(names(&*store, KIND, None).await, ["default/db"]);
}

async fn lists(store: Arc<dyn Store>) {
    let meshes = ["a", "a-b", "a_b", "b"];
    let dataplanes = ["web", "web-10", "web-2", "web_1", "0"];
    let create = meshes.iter().rev().map(|name| Write::Create(mesh(name)));
    commit(&*store, create).await;
    for name in dataplanes {
        let create = meshes.iter().map(|mesh| Write::Create(document(mesh, name, "x")));
        commit(&*store, create).await;
    }
    let other = Document { key: Key::new("TrafficRoute", "a", "web"), spec: json!({}) };
    commit(&*store, [Write::Create(other), Write::Create(secret("a", "builtinca.a"))]).await;

    let mut expected: Vec<_> = meshes.iter().flat_map(|mesh| dataplanes.map(|name| (mesh, name))).collect();
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|(mesh, name)| format!("{mesh}/{name}")).collect();
    assert_eq!(names(&*store, KIND, None).await, expected);
    assert_eq!(names(&*store, KIND, Some("a")).await, expected[..5]);
    assert_eq!(names(&*store, KIND, Some("b")).await, expected[15..]);
    assert!(names(&*store, KIND, Some("nowhere")).await.is_empty());
    assert!(names(&*store, "HealthCheck", None).await.is_empty());
    assert_eq!(names(&*store, Mesh::KIND, None).await, ["a/a", "a-b/a-b", "a_b/a_b", "b/b"]);
    assert_eq!(names(&*store, SECRET_KIND, Some("a")).await, ["a/builtinca.a"]);
    assert_eq!(read_all(&*store).await.1.len(), 4 + 20 + 2);
}

async fn concurrent_writers(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 25;
    let web = key("default", "web");
    commit(&*store, [Write::Create(mesh("default")), Write::Create(document("default", "web", "start"))]).await;
    let writers = (0..WRITERS).map(|writer| {
        let (store, web) = (store.clone(), web.clone());
        tokio::spawn(async move {
            let (mut acknowledged, mut round) = (0, 0);
            while round < ROUNDS {
                let version = get(&*store, &web).await.unwrap().version;
                tokio::task::yield_now().await;
                let document = document("default", "web", &format!("{writer} {round}"));
                match store.commit(vec![Write::Update { document, version }]).await {
                    Ok(_) => acknowledged += 1,
                    Err(StoreError::Conflict { expected, actual, .. }) => assert!(actual > expected),
                    Err(other) => panic!("{other}"),
                }
                round += 1;
            }
            acknowledged
        })
    });
    let mut acknowledged = 0;
    for writer in writers.collect::<Vec<_>>() {
        acknowledged += writer.await.expect("a writer that ends");
    }
    assert!(acknowledged >= ROUNDS, "someone always succeeds");
    assert_eq!(get(&*store, &web).await.unwrap().version, 1 + acknowledged, "each acknowledged write is one version");
}
