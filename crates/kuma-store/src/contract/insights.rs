//! Promises about what proxies have reported.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("insights are read, listed and deleted like documents", |store| insights(store).boxed()),
    Check::new("insights have no revision and wake nobody", |store| outside_history(store).boxed()),
];

async fn insights(store: Arc<dyn Store>) {
    commit(&*store, [Write::Create(mesh("default"))]).await;
    let batch = vec![insight("default", "web", "1"), insight("gone", "web", "1"), insight("default", "db", "1")];
    store.put_insights(batch).await.expect("one of a mesh that is gone is dropped");
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["default/db", "default/web"]);
    assert_eq!(names(&*store, DataplaneInsight::KIND, Some("default")).await, ["default/db", "default/web"]);

    store.put_insights(vec![insight("default", "web", "2"), insight("default", "db", "1")]).await.unwrap();
    let web = get(&*store, &insight_key("default", "web")).await.unwrap();
    assert_eq!((web.document(), web.version), (insight("default", "web", "2"), 2));
    assert_eq!(get(&*store, &insight_key("default", "db")).await.unwrap().version, 1);

    let other = document("default", "web", "a");
    let error = store.put_insights(vec![insight("default", "web", "3"), other.clone()]).await;
    assert_eq!(error, Err(StoreError::NotAnInsight(other.key)));
    assert_eq!(get(&*store, &insight_key("default", "web")).await.unwrap().document(), insight("default", "web", "2"));

    let outcome = commit(
        &*store,
        [
            Write::Put(insight("default", "web", "4")),
            Write::Delete { key: insight_key("default", "db"), version: None },
        ],
    )
    .await;
    assert_eq!(outcome.outcomes, [Outcome::Updated { version: 3 }, Outcome::Deleted]);
    assert_eq!(names(&*store, DataplaneInsight::KIND, None).await, ["default/web"]);
    let missing = refused(&*store, [Write::Put(insight("gone", "web", "1"))]).await;
    assert_eq!(missing, StoreError::MeshNotFound("gone".into()));
    store.put_insights(vec![]).await.unwrap();
}

async fn outside_history(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let before = read_all(&*store).await;
    let mut changes = store.changes(before.0);
    for n in 0..100 {
        store.put_insights(vec![insight("default", "web", &n.to_string())]).await.unwrap();
    }
    let alone = commit(&*store, [Write::Put(insight("default", "web", "by commit"))]).await;
    assert_eq!(alone.revision, before.0);
    assert_eq!(read_all(&*store).await, before);
    let early = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
    assert!(early.is_err(), "nobody is woken: {early:?}");

    let last = commit(
        &*store,
        [Write::Put(insight("default", "web", "with it")), Write::Put(document("default", "web", "b"))],
    )
    .await;
    let seen = next_commit(&mut changes).await;
    assert_eq!(seen.revision, last.revision);
    assert_eq!(texts(&seen), [(key("default", "web"), Some(document("default", "web", "b").spec))]);
}
