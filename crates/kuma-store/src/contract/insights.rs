//! Promises about what proxies have reported.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("insights are read, listed and removed", |store| insights(store).boxed()),
    Check::new("insights go with their Dataplane and their Mesh", |store| go_along(store).boxed()),
    Check::new("insights have no revision and wake nobody", |store| outside_history(store).boxed()),
];

async fn put(store: &dyn Store, insights: impl IntoIterator<Item = Document>) {
    store.put_insights(insights.into_iter().collect()).await.expect("insights are stored");
}

async fn insights(store: Arc<dyn Store>) {
    commit(&*store, [Write::Create(mesh("default"))]).await;
    let batch = [insight("default", "web", "1"), insight("gone", "web", "1"), insight("default", "db", "1")];
    put(&*store, batch).await;
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["default/db", "default/web"]);
    assert_eq!(names(&*store, DataplaneInsight::KIND, Some("default")).await, ["default/db", "default/web"]);
    assert_eq!(names(&*store, DataplaneInsight::KIND, Some("gone")).await, [] as [&str; 0]);

    // Of two in one batch the later one counts.
    put(&*store, [insight("default", "web", "2"), insight("default", "db", "1"), insight("default", "web", "3")]).await;
    let web = get(&*store, &insight_key("default", "web")).await.expect("it is there");
    assert_eq!(web.document(), insight("default", "web", "3"));

    let other = document("default", "web", "a");
    let not_an_insight = Err(StoreError::NotAnInsight(other.key.clone()));
    assert_eq!(store.put_insights(vec![insight("default", "web", "4"), other.clone()]).await, not_an_insight);
    let keys = vec![insight_key("default", "web"), other.key];
    assert_eq!(store.remove_insights(keys).await, not_an_insight);
    let web = get(&*store, &insight_key("default", "web")).await.expect("it is there");
    assert_eq!(web.document(), insight("default", "web", "3"));

    let key = insight_key("default", "web");
    let by_commit = [
        Write::Put(insight("default", "web", "4")),
        Write::Create(insight("default", "new", "4")),
        Write::Update { document: insight("default", "web", "4"), version: 1 },
        Write::Delete { key: key.clone(), version: None },
    ];
    for write in by_commit {
        let key = write.key().expect("it names one").clone();
        assert_eq!(refused(&*store, [write]).await, StoreError::AnInsight(key));
    }
    store.remove_insights(vec![key.clone(), insight_key("default", "missing")]).await.expect("removed");
    assert_eq!(get(&*store, &key).await, None);
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["default/db"]);
    put(&*store, []).await;
}

async fn go_along(store: Arc<dyn Store>) {
    for name in ["a", "b"] {
        let documents = [mesh(name), document(name, "web", "1"), document(name, "db", "1")];
        commit(&*store, documents.map(Write::Put)).await;
        put(&*store, [insight(name, "web", "1"), insight(name, "db", "1")]).await;
    }
    commit(&*store, [Write::Put(document("a", "web", "2"))]).await;
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["a/db", "a/web", "b/db", "b/web"]);
    commit(&*store, [Write::Delete { key: key("a", "web"), version: None }]).await;
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["a/db", "b/db", "b/web"]);
    commit(&*store, [Write::DeleteMesh { mesh: "b".into() }]).await;
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["a/db"]);
    commit(&*store, [Write::Put(mesh("b")), Write::Put(document("b", "web", "1"))]).await;
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["a/db"], "nothing comes back");
}

async fn outside_history(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let before = read_all(&*store).await;
    let mut changes = store.changes(before.0);
    for n in 0..100 {
        put(&*store, [insight("default", "web", &n.to_string())]).await;
    }
    store.remove_insights(vec![insight_key("default", "web")]).await.expect("removed");
    assert_eq!(read_all(&*store).await, before);
    let early = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
    assert!(early.is_err(), "nobody is woken: {early:?}");

    put(&*store, [insight("default", "web", "1")]).await;
    let last = commit(&*store, [Write::Delete { key: key("default", "web"), version: None }]).await;
    let seen = next_commit(&mut changes).await;
    assert_eq!(seen.revision, last.revision);
    assert_eq!(texts(&seen), [(key("default", "web"), None)], "its insight is no part of it");
}
