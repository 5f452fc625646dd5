//! Promises about commits that are made only if something is true.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("a commit that expects a head is refused at any other", |store| head(store).boxed()),
    Check::new("a commit that expects versions is refused at any others", |store| versions(store).boxed()),
    Check::new("what is expected is looked at before the first write", |store| before_writes(store).boxed()),
    Check::new("of writers that expect one head exactly one succeeds", |store| concurrent_heads(store).boxed()),
    Check::new("a document that is expected stays until the commit is made", |store| {
        concurrent_versions(store).boxed()
    }),
    Check::new("the epoch stays while the history goes on", |store| epoch(store).boxed()),
];

async fn refused_if(store: &dyn Store, expected: Vec<Expect>, writes: Vec<Write>) -> StoreError {
    store.commit_if(expected, writes).await.expect_err("something is expected that is not true")
}

fn version(key: Key, version: Option<u64>) -> Expect {
    Expect::Version { key, version }
}

async fn head(store: Arc<dyn Store>) {
    let put = |text: &str| vec![Write::Put(document("default", "web", text))];
    store.commit_if(vec![Expect::Head(0)], vec![Write::Create(mesh("default"))]).await.expect("it is empty");
    let first = commit(&*store, put("a")).await.revision;
    let before = read_all(&*store).await;
    for expected in [0, first - 1, first + 1, Revision::MAX] {
        let moved = StoreError::HeadMoved { expected, actual: first };
        // Also when there is nothing to write, and when what is written is there already.
        for writes in [put("b"), put("a"), vec![]] {
            assert_eq!(refused_if(&*store, vec![Expect::Head(expected)], writes).await, moved);
        }
        assert_eq!(refused_if(&*store, vec![Expect::Head(first), Expect::Head(expected)], put("b")).await, moved);
    }
    assert_eq!(read_all(&*store).await, before);
    let looked = store.commit_if(vec![Expect::Head(first)], vec![]).await.expect("it is the head");
    assert_eq!(looked, Committed { revision: first, outcomes: vec![] });

    // What changes nothing, and insights, leave the head where it is.
    commit(&*store, put("a")).await;
    store.put_insights(vec![insight("default", "web", "1")]).await.expect("an insight");
    let second = store.commit_if(vec![Expect::Head(first)], put("b")).await.expect("it is the head");
    assert!(second.revision > first);
}

async fn versions(store: Arc<dyn Store>) {
    let (web, db) = (key("default", "web"), key("default", "db"));
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    let before = read_all(&*store).await;
    let other = || vec![Write::Put(document("default", "api", "x"))];
    for (key, expected, error) in [
        (&web, Some(1), StoreError::Conflict { key: web.clone(), expected: 1, actual: 2 }),
        (&web, Some(3), StoreError::Conflict { key: web.clone(), expected: 3, actual: 2 }),
        (&web, None, StoreError::AlreadyExists(web.clone())),
        (&db, Some(1), StoreError::NotFound(db.clone())),
    ] {
        for writes in [other(), vec![]] {
            assert_eq!(refused_if(&*store, vec![version(key.clone(), expected)], writes).await, error);
        }
    }
    assert_eq!(read_all(&*store).await, before);
    let all = vec![version(web, Some(2)), version(db, None), version(Key::mesh("default"), Some(1))];
    store.commit_if(all, other()).await.expect("all of it is true");
}

async fn before_writes(store: Arc<dyn Store>) {
    let web = key("default", "web");
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let writes =
        vec![Write::Put(document("default", "web", "b")), Write::Delete { key: web.clone(), version: Some(2) }];
    store.commit_if(vec![version(web.clone(), Some(1))], writes).await.expect("version 1 is stored");
    let create = || vec![Write::Create(document("default", "web", "a"))];
    store.commit_if(vec![version(web.clone(), None)], create()).await.expect("it is not there");
    // A write that cannot be made is still refused.
    let error = refused_if(&*store, vec![version(web.clone(), Some(1))], create()).await;
    assert_eq!(error, StoreError::AlreadyExists(web));
}

async fn concurrent_heads(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 10;
    let start = commit(&*store, [Write::Create(mesh("default"))]).await.revision;
    let mut head = start;
    for _ in 0..ROUNDS {
        let writers = (0..WRITERS).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                // Each writes a document of its own: it is the head alone that they have in common.
                let write = Write::Put(document("default", &format!("web-{writer}"), &head.to_string()));
                match store.commit_if(vec![Expect::Head(head)], vec![write]).await {
                    Ok(committed) => Some(committed.revision),
                    Err(StoreError::HeadMoved { expected, actual }) => {
                        assert!(expected == head && actual > head);
                        None
                    }
                    Err(other) => panic!("{other}"),
                }
            })
        });
        let mut made = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            made.extend(writer.await.expect("a writer that ends"));
        }
        assert_eq!(made.len(), 1, "{made:?}");
        head = made[0];
    }
}

async fn concurrent_versions(store: Arc<dyn Store>) {
    const ROUNDS: usize = 25;
    let (needed, user) = (key("default", "needed"), key("default", "user"));
    commit(&*store, [Write::Create(mesh("default"))]).await;
    for _ in 0..ROUNDS {
        commit(&*store, [Write::Put(document("default", "needed", "a"))]).await;
        let current = get(&*store, &needed).await.expect("it was written").version;
        let (one, two) = (store.clone(), store.clone());
        let (expected, deleted, unused) = (needed.clone(), needed.clone(), user.clone());
        let uses = tokio::spawn(async move {
            let write = Write::Put(document("default", "user", "a"));
            one.commit_if(vec![version(expected, Some(current))], vec![write]).await.is_ok()
        });
        let deletes = tokio::spawn(async move {
            let write = Write::Delete { key: deleted, version: Some(current) };
            two.commit_if(vec![version(unused, None)], vec![write]).await.is_ok()
        });
        let made = (uses.await.expect("it ends"), deletes.await.expect("it ends"));
        assert!(made == (true, false) || made == (false, true), "one of the two is made: {made:?}");
        let there = (get(&*store, &user).await.is_some(), get(&*store, &needed).await.is_none());
        assert_eq!(there, made);
        if there.0 {
            commit(&*store, [Write::Delete { key: user.clone(), version: None }]).await;
        }
    }
}

async fn epoch(store: Arc<dyn Store>) {
    let epoch = store.epoch();
    // It is a header of HTTP.
    assert!((4..=40).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{epoch:?}");
    commit(&*store, [Write::Create(mesh("default"))]).await;
    commit(&*store, [Write::DeleteMesh { mesh: "default".into() }]).await;
    assert_eq!(store.epoch(), epoch);
}
