//! Promises about writing and reading back.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("an empty store is at revision 0", |store| {
        empty(store).boxed()
    }),
    Check::new("a document is read back as written", |store| {
        read_back(store).boxed()
    }),
    Check::new("create refuses what exists", |store| create(store).boxed()),
    Check::new(
        "update replaces the version it names and no other",
        |store| update(store).boxed(),
    ),
    Check::new("put writes whether it exists or not", |store| {
        put(store).boxed()
    }),
    Check::new(
        "delete removes the version it names and no other",
        |store| delete(store).boxed(),
    ),
    Check::new(
        "a document that is created again starts at version 1",
        |store| created_again(store).boxed(),
    ),
    Check::new("what says the same is not written", |store| {
        unchanged(store).boxed()
    }),
    Check::new("a commit is stored whole or not at all", |store| {
        all_or_nothing(store).boxed()
    }),
    Check::new("a write sees the ones before it in its commit", |store| {
        one_after_the_other(store).boxed()
    }),
    Check::new("lists are complete and ordered by mesh and name", |store| {
        lists(store).boxed()
    }),
    Check::new("nothing goes into a mesh that does not exist", |store| {
        mesh_missing(store).boxed()
    }),
    Check::new("a mesh takes all that is in it along", |store| {
        cascade(store).boxed()
    }),
    Check::new("what belongs to no mesh survives every mesh", |store| {
        no_mesh(store).boxed()
    }),
    Check::new("of writers of one version exactly one succeeds", |store| {
        concurrent_writers(store).boxed()
    }),
    Check::new(
        "no document outlives its mesh however commits race",
        |store| mesh_race(store).boxed(),
    ),
    Check::new(
        "insights are read, listed and deleted like documents",
        |store| insights(store).boxed(),
    ),
];

async fn empty(store: Arc<dyn Store>) {
    assert_eq!(read_all(&*store).await, (0, State::new()));
    assert_eq!(get(&*store, &key("default", "web")).await, None);
    assert!(names(&*store, KIND, None).await.is_empty());
    assert_eq!(
        commit(&*store, []).await,
        Committed {
            revision: 0,
            outcomes: vec![]
        }
    );
}

async fn read_back(store: Arc<dyn Store>) {
    let spec = json!({
        "text": "ünïcode \u{0} \"quoted\" \\ / \n", "number": 0.5, "large": u64::MAX, "small": i64::MIN, "null": null,
        "empty": {"object": {}, "array": []}, "nested": [[[{"deep": true}]]],
    });
    let written = Document {
        key: key("default", "web-1_a"),
        spec,
    };
    commit(
        &*store,
        [
            Write::Create(mesh("default")),
            Write::Create(written.clone()),
        ],
    )
    .await;
    let stored = get(&*store, &written.key).await.expect("the document");
    assert_eq!(stored.document, written);
    assert_eq!(stored.version, 1);
    assert_eq!(stored.created, stored.modified);
    assert_eq!(
        store.list(KIND, Some("default")).await.unwrap(),
        vec![stored.clone()]
    );
    assert_eq!(read_all(&*store).await.1.get(&written.key), Some(&stored));
}

async fn create(store: Arc<dyn Store>) {
    let web = document("default", "web", "a");
    let committed = commit(
        &*store,
        [Write::Create(mesh("default")), Write::Create(web.clone())],
    )
    .await;
    assert_eq!(committed.outcomes, [Outcome::Created, Outcome::Created]);
    assert_eq!(
        refused(&*store, [Write::Create(web.clone())]).await,
        StoreError::AlreadyExists(web.key.clone())
    );
    // Keys differ by mesh and by kind too.
    let other = Document {
        key: Key::new("TrafficLog", "default", "web"),
        spec: json!({}),
    };
    commit(
        &*store,
        [
            Write::Create(mesh("other")),
            Write::Create(document("other", "web", "a")),
            Write::Create(other),
        ],
    )
    .await;
}

async fn update(store: Arc<dyn Store>) {
    let web = key("default", "web");
    let update = |text: &str, version| {
        [Write::Update {
            document: document("default", "web", text),
            version,
        }]
    };
    commit(&*store, [Write::Create(mesh("default"))]).await;
    assert_eq!(
        refused(&*store, update("b", 1)).await,
        StoreError::NotFound(web.clone())
    );

    commit(&*store, [Write::Create(document("default", "web", "a"))]).await;
    let created = get(&*store, &web).await.unwrap();
    assert_eq!(
        commit(&*store, update("b", 1)).await.outcomes,
        [Outcome::Updated { version: 2 }]
    );
    let updated = get(&*store, &web).await.unwrap();
    assert_eq!(
        (&updated.document, updated.version),
        (&document("default", "web", "b"), 2)
    );
    assert_eq!(updated.created, created.created);
    assert!(updated.modified >= created.modified);

    for expected in [0, 1, 3] {
        let conflict = StoreError::Conflict {
            key: web.clone(),
            expected,
            actual: 2,
        };
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
    assert_eq!(
        commit(&*store, [Write::Put(mesh("default"))])
            .await
            .outcomes,
        [Outcome::Created]
    );
    assert_eq!(commit(&*store, put("a")).await.outcomes, [Outcome::Created]);
    assert_eq!(
        commit(&*store, put("b")).await.outcomes,
        [Outcome::Updated { version: 2 }]
    );
    assert_eq!(
        get(&*store, &key("default", "web")).await.unwrap().document,
        document("default", "web", "b")
    );
}

async fn delete(store: Arc<dyn Store>) {
    let web = key("default", "web");
    let delete = |version| {
        [Write::Delete {
            key: key("default", "web"),
            version,
        }]
    };
    commit(&*store, [Write::Create(mesh("default"))]).await;
    assert_eq!(
        refused(&*store, delete(None)).await,
        StoreError::NotFound(web.clone())
    );
    assert_eq!(
        refused(&*store, delete(Some(1))).await,
        StoreError::NotFound(web.clone())
    );

    commit(&*store, [Write::Put(document("default", "web", "a"))]).await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    let conflict = StoreError::Conflict {
        key: web.clone(),
        expected: 1,
        actual: 2,
    };
    assert_eq!(refused(&*store, delete(Some(1))).await, conflict);
    assert_eq!(
        commit(&*store, delete(Some(2))).await.outcomes,
        [Outcome::Deleted]
    );
    assert_eq!(get(&*store, &web).await, None);

    commit(&*store, [Write::Put(document("default", "web", "a"))]).await;
    assert_eq!(
        commit(&*store, delete(None)).await.outcomes,
        [Outcome::Deleted]
    );
    assert!(names(&*store, KIND, None).await.is_empty());
    assert_eq!(
        refused(
            &*store,
            [Write::DeleteMesh {
                mesh: "other".into()
            }]
        )
        .await,
        StoreError::NotFound(Key::mesh("other"))
    );
}

async fn created_again(store: Arc<dyn Store>) {
    let web = key("default", "web");
    commit(
        &*store,
        [
            Write::Put(mesh("default")),
            Write::Put(document("default", "web", "a")),
        ],
    )
    .await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    commit(
        &*store,
        [Write::Delete {
            key: web.clone(),
            version: None,
        }],
    )
    .await;
    commit(&*store, [Write::Create(document("default", "web", "c"))]).await;
    assert_eq!(get(&*store, &web).await.unwrap().version, 1);
}

async fn unchanged(store: Arc<dyn Store>) {
    let web = document("default", "web", "a");
    let first = commit(
        &*store,
        [Write::Put(mesh("default")), Write::Put(web.clone())],
    )
    .await;
    let before = get(&*store, &web.key).await;
    let reordered = |first: &str, second: &str| {
        let both = BTreeMap::from([("a", json!(1)), ("b", json!({"c": []}))]);
        let spec = Value::Object(
            [first, second]
                .map(|name| (name.to_string(), both[name].clone()))
                .into_iter()
                .collect(),
        );
        Write::Put(Document {
            key: key("default", "api"),
            spec,
        })
    };
    let second = commit(&*store, [reordered("a", "b")]).await;

    let same = Outcome::Unchanged { version: 1 };
    for write in [
        Write::Put(web.clone()),
        Write::Update {
            document: web.clone(),
            version: 1,
        },
        reordered("b", "a"),
        Write::Put(mesh("default")),
    ] {
        let committed = commit(&*store, [write]).await;
        assert_eq!(
            committed,
            Committed {
                revision: second.revision,
                outcomes: vec![same]
            }
        );
    }
    assert_eq!(get(&*store, &web.key).await, before);
    assert_eq!(read_all(&*store).await.0, second.revision);
    assert!(second.revision > first.revision);

    // In one commit with something new, only that is written.
    let mixed = commit(
        &*store,
        [
            Write::Put(web.clone()),
            Write::Put(document("default", "db", "x")),
        ],
    )
    .await;
    assert_eq!(mixed.outcomes, [same, Outcome::Created]);
    let mut changes = store.changes(second.revision);
    let commit = next_commit(&mut changes).await;
    assert_eq!(
        texts(&commit)
            .into_iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>(),
        [key("default", "db")]
    );
}

async fn all_or_nothing(store: Arc<dyn Store>) {
    commit(
        &*store,
        [
            Write::Put(mesh("default")),
            Write::Put(document("default", "web", "a")),
        ],
    )
    .await;
    let before = read_all(&*store).await;
    let good = || {
        vec![
            Write::Create(mesh("new")),
            Write::Create(document("new", "db", "a")),
            Write::Put(document("default", "web", "b")),
            Write::Put(document("default", "api", "b")),
            Write::DeleteMesh {
                mesh: "default".into(),
            },
        ]
    };
    let bad = [
        Write::Create(mesh("new")),
        Write::Update {
            document: document("default", "web", "c"),
            version: 7,
        },
        Write::Delete {
            key: key("default", "nothing"),
            version: None,
        },
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
            Write::Update {
                document: web("b"),
                version: 1,
            },
            Write::Put(web("b")),
            Write::Create(document("default", "gone", "a")),
            Write::Delete {
                key: key("default", "gone"),
                version: Some(1),
            },
            Write::Create(mesh("short")),
            Write::Create(document("short", "web", "a")),
            Write::DeleteMesh {
                mesh: "short".into(),
            },
        ],
    )
    .await;
    let updated = [
        Outcome::Updated { version: 2 },
        Outcome::Unchanged { version: 2 },
    ];
    assert_eq!(committed.outcomes[2..4], updated);
    let (_, state) = read_all(&*store).await;
    assert_eq!(
        state.keys().cloned().collect::<Vec<_>>(),
        [key("default", "web"), Key::mesh("default")]
    );

    // One commit is one change, which has each document once and nothing that came and went.
    let mut changes = store.changes(0);
    let seen = next_commit(&mut changes).await;
    assert_eq!(seen.revision, committed.revision);
    assert_eq!(
        texts(&seen),
        [
            (key("default", "web"), Some(web("b").spec)),
            (Key::mesh("default"), Some(json!({})))
        ]
    );

    let twice = [
        Write::Create(document("default", "db", "a")),
        Write::Create(document("default", "db", "a")),
    ];
    assert_eq!(
        refused(&*store, twice).await,
        StoreError::AlreadyExists(key("default", "db"))
    );

    // A mesh that is made anew holds only what was put into it after.
    commit(
        &*store,
        [
            Write::DeleteMesh {
                mesh: "default".into(),
            },
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
        let create = meshes
            .iter()
            .map(|mesh| Write::Create(document(mesh, name, "x")));
        commit(&*store, create).await;
    }
    let other = Document {
        key: Key::new("TrafficRoute", "a", "web"),
        spec: json!({}),
    };
    commit(
        &*store,
        [
            Write::Create(other),
            Write::Create(secret("a", "builtinca.a")),
        ],
    )
    .await;

    let mut expected: Vec<_> = meshes
        .iter()
        .flat_map(|mesh| dataplanes.map(|name| (mesh, name)))
        .collect();
    expected.sort_unstable();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(mesh, name)| format!("{mesh}/{name}"))
        .collect();
    assert_eq!(names(&*store, KIND, None).await, expected);
    assert_eq!(names(&*store, KIND, Some("a")).await, expected[..5]);
    assert_eq!(names(&*store, KIND, Some("b")).await, expected[15..]);
    assert!(names(&*store, KIND, Some("nowhere")).await.is_empty());
    assert!(names(&*store, "HealthCheck", None).await.is_empty());
    assert_eq!(
        names(&*store, Mesh::KIND, None).await,
        ["a/a", "a-b/a-b", "a_b/a_b", "b/b"]
    );
    assert_eq!(
        names(&*store, SECRET_KIND, Some("a")).await,
        ["a/builtinca.a"]
    );
    assert_eq!(read_all(&*store).await.1.len(), 4 + 20 + 2);
}

async fn mesh_missing(store: Arc<dyn Store>) {
    let missing = StoreError::MeshNotFound("default".into());
    let inside = [
        document("default", "web", "a"),
        secret("default", "builtinca.default"),
    ];
    for document in &inside {
        assert_eq!(
            refused(&*store, [Write::Create(document.clone())]).await,
            missing
        );
        assert_eq!(
            refused(&*store, [Write::Put(document.clone())]).await,
            missing
        );
    }
    assert_eq!(read_all(&*store).await, (0, State::new()));

    commit(&*store, [Write::Create(mesh("default"))]).await;
    commit(&*store, inside.iter().cloned().map(Write::Put)).await;
    let last = [
        Write::DeleteMesh {
            mesh: "default".into(),
        },
        Write::Put(inside[0].clone()),
    ];
    assert_eq!(refused(&*store, last).await, missing);
    let moved = [
        Write::Create(mesh("other")),
        Write::Put(document("default", "db", "a")),
        Write::DeleteMesh {
            mesh: "default".into(),
        },
    ];
    commit(&*store, moved).await;
    assert_eq!(
        refused(&*store, [Write::Put(inside[0].clone())]).await,
        missing
    );
}

async fn cascade(store: Arc<dyn Store>) {
    let fill = |name: &str| {
        [
            Write::Create(mesh(name)),
            Write::Create(document(name, "web", "a")),
            Write::Create(document(name, "db", "a")),
            Write::Create(secret(name, "ca")),
        ]
    };
    for name in ["default", "default-2", "defaul"] {
        commit(&*store, fill(name)).await;
        store
            .put_insights(vec![insight(name, "web", "1")])
            .await
            .unwrap();
    }
    let before = read_all(&*store).await.0;
    let committed = commit(
        &*store,
        [Write::DeleteMesh {
            mesh: "default".into(),
        }],
    )
    .await;
    assert_eq!(committed.outcomes, [Outcome::Deleted]);

    assert_eq!(
        names(&*store, KIND, None).await,
        ["defaul/db", "defaul/web", "default-2/db", "default-2/web"]
    );
    assert_eq!(
        names(&*store, SECRET_KIND, None).await,
        ["defaul/ca", "default-2/ca"]
    );
    assert_eq!(
        names(&*store, DataplaneInsight::KIND, None).await,
        ["defaul/web", "default-2/web"]
    );
    assert_eq!(
        names(&*store, Mesh::KIND, None).await,
        ["defaul/defaul", "default-2/default-2"]
    );

    // It is one commit, and names all that is gone.
    let gone = next_commit(&mut store.changes(before)).await;
    assert_eq!(gone.revision, committed.revision);
    let expected = [
        key("default", "db"),
        key("default", "web"),
        Key::mesh("default"),
        secret("default", "ca").key,
    ];
    assert_eq!(texts(&gone), expected.map(|key| (key, None)));

    // A plain deletion of the Mesh is no way around it.
    assert!(matches!(
        refused(
            &*store,
            [Write::Delete {
                key: Key::mesh("defaul"),
                version: Some(2)
            }]
        )
        .await,
        StoreError::Conflict {
            expected: 2,
            actual: 1,
            ..
        }
    ));
    commit(
        &*store,
        [Write::Delete {
            key: Key::mesh("defaul"),
            version: Some(1),
        }],
    )
    .await;
    assert_eq!(
        names(&*store, KIND, None).await,
        ["default-2/db", "default-2/web"]
    );
}

async fn no_mesh(store: Arc<dyn Store>) {
    let own = secret(NO_MESH, "dataplane-token-signing-key");
    commit(&*store, [Write::Create(own.clone())]).await;
    commit(
        &*store,
        [
            Write::Create(mesh("default")),
            Write::Create(secret("default", "ca")),
        ],
    )
    .await;
    commit(
        &*store,
        [Write::DeleteMesh {
            mesh: "default".into(),
        }],
    )
    .await;
    assert_eq!(
        get(&*store, &own.key)
            .await
            .map(|stored| stored.document.clone()),
        Some(own.clone())
    );
    assert_eq!(
        names(&*store, SECRET_KIND, None).await,
        ["/dataplane-token-signing-key"]
    );
    assert_eq!(
        names(&*store, SECRET_KIND, Some(NO_MESH)).await,
        ["/dataplane-token-signing-key"]
    );
    commit(
        &*store,
        [Write::Delete {
            key: own.key,
            version: Some(1),
        }],
    )
    .await;
}

async fn concurrent_writers(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 25;
    let web = key("default", "web");
    commit(
        &*store,
        [
            Write::Create(mesh("default")),
            Write::Create(document("default", "web", "start")),
        ],
    )
    .await;
    let writers = (0..WRITERS).map(|writer| {
        let (store, web) = (store.clone(), web.clone());
        tokio::spawn(async move {
            let (mut acknowledged, mut round) = (0, 0);
            while round < ROUNDS {
                let version = get(&*store, &web).await.unwrap().version;
                tokio::task::yield_now().await;
                let document = document("default", "web", &format!("{writer} {round}"));
                match store
                    .commit(vec![Write::Update { document, version }])
                    .await
                {
                    Ok(_) => acknowledged += 1,
                    Err(StoreError::Conflict {
                        expected, actual, ..
                    }) => assert!(actual > expected),
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
    assert_eq!(
        get(&*store, &web).await.unwrap().version,
        1 + acknowledged,
        "each acknowledged write is one version"
    );
}

async fn mesh_race(store: Arc<dyn Store>) {
    commit(&*store, [Write::Create(mesh("default"))]).await;
    let flip = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                commit(
                    &*store,
                    [Write::DeleteMesh {
                        mesh: "default".into(),
                    }],
                )
                .await;
                tokio::task::yield_now().await;
                commit(&*store, [Write::Create(mesh("default"))]).await;
                tokio::task::yield_now().await;
            }
            commit(
                &*store,
                [Write::DeleteMesh {
                    mesh: "default".into(),
                }],
            )
            .await;
        })
    };
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let name = format!("{writer}-{round}");
                match store
                    .commit(vec![Write::Put(document("default", &name, "a"))])
                    .await
                {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error, StoreError::MeshNotFound("default".into())),
                }
                store
                    .put_insights(vec![insight("default", &name, "a")])
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    for task in writers.collect::<Vec<_>>().into_iter().chain([flip]) {
        task.await.expect("a task that ends");
    }
    assert!(names(&*store, KIND, None).await.is_empty());
    assert!(
        names(&*store, DataplaneInsight::KIND, None)
            .await
            .is_empty()
    );
    assert!(read_all(&*store).await.1.is_empty());
}

async fn insights(store: Arc<dyn Store>) {
    commit(&*store, [Write::Create(mesh("default"))]).await;
    let batch = vec![
        insight("default", "web", "1"),
        insight("gone", "web", "1"),
        insight("default", "db", "1"),
    ];
    store
        .put_insights(batch)
        .await
        .expect("one of a mesh that is gone is dropped");
    assert_eq!(
        names(&*store, DataplaneInsight::KIND, None).await,
        ["default/db", "default/web"]
    );
    assert_eq!(
        names(&*store, DataplaneInsight::KIND, Some("default")).await,
        ["default/db", "default/web"]
    );

    store
        .put_insights(vec![
            insight("default", "web", "2"),
            insight("default", "db", "1"),
        ])
        .await
        .unwrap();
    let web = get(&*store, &insight_key("default", "web")).await.unwrap();
    assert_eq!(
        (&web.document, web.version),
        (&insight("default", "web", "2"), 2)
    );
    assert_eq!(
        get(&*store, &insight_key("default", "db"))
            .await
            .unwrap()
            .version,
        1
    );

    let other = document("default", "web", "a");
    let error = store
        .put_insights(vec![insight("default", "web", "3"), other.clone()])
        .await;
    assert_eq!(error, Err(StoreError::NotAnInsight(other.key)));
    assert_eq!(
        get(&*store, &insight_key("default", "web"))
            .await
            .unwrap()
            .document,
        insight("default", "web", "2")
    );

    let outcome = commit(
        &*store,
        [
            Write::Put(insight("default", "web", "4")),
            Write::Delete {
                key: insight_key("default", "db"),
                version: None,
            },
        ],
    )
    .await;
    assert_eq!(
        outcome.outcomes,
        [Outcome::Updated { version: 3 }, Outcome::Deleted]
    );
    assert_eq!(
        names(&*store, DataplaneInsight::KIND, None).await,
        ["default/web"]
    );
    let missing = refused(&*store, [Write::Put(insight("gone", "web", "1"))]).await;
    assert_eq!(missing, StoreError::MeshNotFound("gone".into()));
    store.put_insights(vec![]).await.unwrap();
}
