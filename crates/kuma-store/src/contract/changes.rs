//! Promises about revisions and changes.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("revisions grow and changes follow them", |store| order(store).boxed()),
    Check::new("changes begin after the revision they are asked for", |store| since(store).boxed()),
    Check::new("a revision that was never given is a gap", |store| future(store).boxed()),
    Check::new("every reader gets every change", |store| many_readers(store).boxed()),
    Check::new("a reader that waits is woken", |store| woken(store).boxed()),
    Check::new("a slow reader gets all or a gap, never a hole", |store| slow_reader(store).boxed()),
    Check::new("what starts from read_all misses nothing while others write", |store| nothing_missed(store).boxed()),
    Check::new("a whole commit is seen or nothing of it", |store| no_half_commits(store).boxed()),
    Check::new("changes lead from one read_all to any later one", |store| replay(store).boxed()),
];

async fn order(store: Arc<dyn Store>) {
    let mut changes = store.changes(0);
    let mut revisions = vec![0];
    revisions.push(commit(&*store, [Write::Put(mesh("default"))]).await.revision);
    for text in ["a", "b", "c"] {
        revisions.push(commit(&*store, [Write::Put(document("default", "web", text))]).await.revision);
        assert_eq!(read_all(&*store).await.0, revisions[revisions.len() - 1]);
    }
    revisions.push(commit(&*store, [Write::Delete { key: key("default", "web"), version: None }]).await.revision);
    assert_eq!(revisions, (0..=5).collect::<Vec<_>>(), "revisions have no hole");

    let mut seen = vec![];
    for expected in &revisions[1..] {
        let commit = next_commit(&mut changes).await;
        assert_eq!(commit.revision, *expected);
        seen.extend(
            commit
                .changes
                .iter()
                .map(|(key, stored)| (key.name.to_string(), stored.as_ref().map(|stored| stored.version))),
        );
    }
    let expected = [("default", Some(1)), ("web", Some(1)), ("web", Some(2)), ("web", Some(3)), ("web", None)];
    assert_eq!(seen, expected.map(|(name, version)| (name.to_string(), version)));
}

async fn since(store: Arc<dyn Store>) {
    let first = commit(&*store, [Write::Put(mesh("default"))]).await.revision;
    let second = commit(&*store, [Write::Put(document("default", "web", "a"))]).await.revision;
    let third = commit(&*store, [Write::Put(document("default", "web", "b"))]).await.revision;
    for (since, expected) in [(0, first), (first, second), (second, third)] {
        assert_eq!(next_commit(&mut store.changes(since)).await.revision, expected, "since {since}");
    }
    let mut changes = store.changes(third);
    let fourth = commit(&*store, [Write::Put(document("default", "web", "c"))]).await.revision;
    assert_eq!(next_commit(&mut changes).await.revision, fourth);
}

async fn future(store: Arc<dyn Store>) {
    let revision = commit(&*store, [Write::Put(mesh("default"))]).await.revision;
    let mut changes = store.changes(revision + 1000);
    assert_eq!(next(&mut changes).await, Change::Gap(Gap::Behind));
    let end = tokio::time::timeout(PATIENCE, changes.next()).await;
    assert_eq!(end.expect("an end in time"), None, "the stream ends after a gap");
}

async fn many_readers(store: Arc<dyn Store>) {
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let mut changes = store.changes(0);
            tokio::spawn(async move {
                let mut seen = vec![];
                for _ in 0..21 {
                    seen.push(next_commit(&mut changes).await);
                }
                seen
            })
        })
        .collect();
    commit(&*store, [Write::Put(mesh("default"))]).await;
    for n in 0..20 {
        commit(&*store, [Write::Put(document("default", "web", &n.to_string()))]).await;
    }
    let mut all = vec![];
    for reader in readers {
        all.push(reader.await.expect("a reader that ends"));
    }
    assert!(all.iter().all(|seen| *seen == all[0]));
}

async fn woken(store: Arc<dyn Store>) {
    let mut changes = store.changes(0);
    let waiting = tokio::spawn(async move { next_commit(&mut changes).await });
    // The reader waits by now, or is about to: both must do.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let revision = commit(&*store, [Write::Put(mesh("default"))]).await.revision;
    assert_eq!(waiting.await.expect("a reader that is woken").revision, revision);
}

async fn slow_reader(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default"))]).await;
    let (revision, mut state) = read_all(&*store).await;
    let mut changes = store.changes(revision);
    let mut revisions = vec![];
    for n in 0..3000 {
        revisions.push(
            commit(&*store, [Write::Put(document("default", &format!("web-{}", n % 7), &n.to_string()))])
                .await
                .revision,
        );
    }
    let mut expected = revisions.iter();
    loop {
        match next(&mut changes).await {
            Change::Commit(commit) => {
                assert_eq!(Some(&commit.revision), expected.next(), "no hole");
                apply(&mut state, &commit);
                if expected.len() == 0 {
                    break;
                }
            }
            Change::Gap(_) => {
                state = read_all(&*store).await.1;
                break;
            }
        }
    }
    assert_eq!(state, read_all(&*store).await.1);
}

async fn nothing_missed(store: Arc<dyn Store>) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 100;
    commit(&*store, [Write::Put(mesh("default"))]).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let name = format!("{writer}-{}", round % 5);
                    commit(&*store, [Write::Put(document("default", &name, &round.to_string()))]).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..8)
        .map(|reader| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..reader {
                    tokio::task::yield_now().await;
                }
                let (revision, mut state) = read_all(&*store).await;
                let mut changes = store.changes(revision);
                // Each writer's last text is known, so the reader knows when it has seen everything.
                let done = |state: &State| {
                    let last = (0..WRITERS).flat_map(|writer| (ROUNDS - 5..ROUNDS).map(move |round| (writer, round)));
                    last.into_iter().all(|(writer, round)| {
                        let expected = document("default", &format!("{writer}-{}", round % 5), &round.to_string());
                        state.get(&expected.key).is_some_and(|stored| stored.document() == expected)
                    })
                };
                while !done(&state) {
                    let commit = next_commit(&mut changes).await;
                    for (key, stored) in &commit.changes {
                        let before = state.get(key).map_or(0, |stored| stored.version);
                        assert_eq!(stored.as_ref().map(|stored| stored.version), Some(before + 1), "{key}");
                    }
                    apply(&mut state, &commit);
                }
                state
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer that ends");
    }
    let (_, expected) = read_all(&*store).await;
    for reader in readers {
        assert_eq!(reader.await.expect("a reader that ends"), expected);
    }
}

async fn no_half_commits(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default"))]).await;
    let pair = |n: u32| ["left", "right"].map(|name| Write::Put(document("default", name, &n.to_string())));
    let (start, _) = read_all(&*store).await;
    commit(&*store, pair(0)).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 1..200 {
                commit(&*store, pair(n)).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let equal = |left: &Stored, right: &Stored| assert_eq!(left.spec(), right.spec(), "one commit wrote both");
    while !writer.is_finished() {
        let (_, state) = read_all(&*store).await;
        equal(&state[&key("default", "left")], &state[&key("default", "right")]);
        let list = store.list(KIND, Some("default")).await.unwrap();
        equal(&list[0], &list[1]);
        tokio::task::yield_now().await;
    }
    writer.await.expect("a writer that ends");
    let mut changes = store.changes(start);
    for _ in 0..200 {
        let commit = next_commit(&mut changes).await;
        assert_eq!(commit.changes.len(), 2);
    }
}

async fn replay(store: Arc<dyn Store>) {
    for seed in 1..=5 {
        let mut random = Random(seed);
        let (revision, mut state) = read_all(&*store).await;
        let mut changes = store.changes(revision);
        let mut committed = vec![];
        for _ in 0..100 {
            let before = read_all(&*store).await;
            let writes = (0..random.below(4)).map(|_| random.write()).collect();
            match store.commit(writes).await {
                Ok(Committed { revision, .. }) if revision > before.0 => committed.push(revision),
                Ok(_) | Err(_) => assert_eq!(read_all(&*store).await, before),
            }
        }
        assert!(!committed.is_empty());
        for revision in committed {
            let commit = next_commit(&mut changes).await;
            assert_eq!(commit.revision, revision);
            apply(&mut state, &commit);
        }
        assert_eq!(state, read_all(&*store).await.1, "seed {seed}");
    }
}

/// Numbers without a pattern that a check would notice, the same in every run (Marsaglia's xorshift).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(super) fn write(&mut self) -> Write {
        let mesh_name = ["a", "b"][self.below(2) as usize];
        let name = ["web", "db", "api"][self.below(3) as usize];
        let document = document(mesh_name, name, &self.below(3).to_string());
        let version = self.below(4);
        match self.below(11) {
            0..=2 => Write::Put(mesh(mesh_name)),
            3 => Write::DeleteMesh { mesh: mesh_name.into() },
            4 => Write::Create(document),
            5 => Write::Update { document, version },
            6 => Write::Delete { key: document.key, version: (version > 0).then_some(version) },
            _ => Write::Put(document),
        }
    }
}
