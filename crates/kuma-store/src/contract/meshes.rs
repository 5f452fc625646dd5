//! Promises about meshes and what is in them.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("nothing goes into a mesh that does not exist", |store| mesh_missing(store).boxed()),
    Check::new("a mesh takes all that is in it along", |store| cascade(store).boxed()),
    Check::new("what belongs to no mesh survives every mesh", |store| no_mesh(store).boxed()),
    Check::new("no document outlives its mesh however commits race", |store| mesh_race(store).boxed()),
];

async fn mesh_missing(store: Arc<dyn Store>) {
    let missing = StoreError::MeshNotFound("default".into());
    let inside = [document("default", "web", "a"), secret("default", "builtinca.default")];
    for document in &inside {
        assert_eq!(refused(&*store, [Write::Create(document.clone())]).await, missing);
        assert_eq!(refused(&*store, [Write::Put(document.clone())]).await, missing);
    }
    assert_eq!(read_all(&*store).await, (0, State::new()));

    commit(&*store, [Write::Create(mesh("default"))]).await;
    commit(&*store, inside.iter().cloned().map(Write::Put)).await;
    let last = [Write::DeleteMesh { mesh: "default".into() }, Write::Put(inside[0].clone())];
    assert_eq!(refused(&*store, last).await, missing);
    let moved = [
        Write::Create(mesh("other")),
        Write::Put(document("default", "db", "a")),
        Write::DeleteMesh { mesh: "default".into() },
    ];
    commit(&*store, moved).await;
    assert_eq!(refused(&*store, [Write::Put(inside[0].clone())]).await, missing);
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
        store.put_insights(vec![insight(name, "web", "1")]).await.unwrap();
    }
    let before = read_all(&*store).await.0;
    let committed = commit(&*store, [Write::DeleteMesh { mesh: "default".into() }]).await;
    assert_eq!(committed.outcomes, [Outcome::Deleted]);

    assert_eq!(names(&*store, KIND, None).await, ["defaul/db", "defaul/web", "default-2/db", "default-2/web"]);
    assert_eq!(names(&*store, SECRET_KIND, None).await, ["defaul/ca", "default-2/ca"]);
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["defaul/web", "default-2/web"]);
    assert_eq!(names(&*store, Mesh::KIND, None).await, ["defaul/defaul", "default-2/default-2"]);

    // It is one commit, and names all that is gone.
    let gone = next_commit(&mut store.changes(before)).await;
    assert_eq!(gone.revision, committed.revision);
    let expected = [key("default", "db"), key("default", "web"), Key::mesh("default"), secret("default", "ca").key];
    assert_eq!(texts(&gone), expected.map(|key| (key, None)));

    // A plain deletion of the Mesh is no way around it.
    assert!(matches!(
        refused(&*store, [Write::Delete { key: Key::mesh("defaul"), version: Some(2) }]).await,
        StoreError::Conflict { expected: 2, actual: 1, .. }
    ));
    commit(&*store, [Write::Delete { key: Key::mesh("defaul"), version: Some(1) }]).await;
    assert_eq!(names(&*store, KIND, None).await, ["default-2/db", "default-2/web"]);
}

async fn no_mesh(store: Arc<dyn Store>) {
    let own = secret(NO_MESH, "dataplane-token-signing-key");
    commit(&*store, [Write::Create(own.clone())]).await;
    commit(&*store, [Write::Create(mesh("default")), Write::Create(secret("default", "ca"))]).await;
    commit(&*store, [Write::DeleteMesh { mesh: "default".into() }]).await;
    assert_eq!(get(&*store, &own.key).await.map(|stored| stored.document()), Some(own.clone()));
    assert_eq!(names(&*store, SECRET_KIND, None).await, ["/dataplane-token-signing-key"]);
    assert_eq!(names(&*store, SECRET_KIND, Some(NO_MESH)).await, ["/dataplane-token-signing-key"]);
    commit(&*store, [Write::Delete { key: own.key, version: Some(1) }]).await;
}

async fn mesh_race(store: Arc<dyn Store>) {
    commit(&*store, [Write::Create(mesh("default"))]).await;
    let flip = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                commit(&*store, [Write::DeleteMesh { mesh: "default".into() }]).await;
                tokio::task::yield_now().await;
                commit(&*store, [Write::Create(mesh("default"))]).await;
                tokio::task::yield_now().await;
            }
            commit(&*store, [Write::DeleteMesh { mesh: "default".into() }]).await;
        })
    };
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let name = format!("{writer}-{round}");
                match store.commit(vec![Write::Put(document("default", &name, "a"))]).await {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error, StoreError::MeshNotFound("default".into())),
                }
                store.put_insights(vec![insight("default", &name, "a")]).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    for task in writers.collect::<Vec<_>>().into_iter().chain([flip]) {
        task.await.expect("a task that ends");
    }
    assert!(names(&*store, KIND, None).await.is_empty());
    assert!(names(&*store, DataplaneInsight::KIND, None).await.is_empty());
    assert!(read_all(&*store).await.1.is_empty());
}
