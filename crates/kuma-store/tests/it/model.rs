//! Random commits against a model: the promises of `Store` in their simplest form.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt};
use kuma_model::{Document, Key};
use kuma_store::{Change, Contents, MemoryStore, Outcome, Store, Write};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Text and version by key.
type Model = BTreeMap<Key, (Value, u64)>;

fn any_key() -> impl Strategy<Value = Key> {
    let meshes = proptest::sample::select(vec!["a", "b", ""]);
    let kinds = proptest::sample::select(vec!["Dataplane", "HealthCheck", "Secret"]);
    let names = proptest::sample::select(vec!["x", "y"]);
    prop_oneof![
        1 => proptest::sample::select(vec!["a", "b"]).prop_map(Key::mesh),
        3 => (kinds, meshes, names).prop_map(|(kind, mesh, name)| Key::new(kind, mesh, name)),
    ]
}

fn any_write() -> impl Strategy<Value = Write> {
    let document = || (any_key(), 0..3).prop_map(|(key, text)| Document { key, spec: json!({"text": text}) });
    prop_oneof![
        3 => document().prop_map(Write::Put),
        2 => document().prop_map(Write::Create),
        2 => (document(), 1u64..4).prop_map(|(document, version)| Write::Update { document, version }),
        1 => (any_key(), proptest::option::of(1u64..3)).prop_map(|(key, version)| Write::Delete { key, version }),
        1 => proptest::sample::select(vec!["a", "b"]).prop_map(|mesh| Write::DeleteMesh { mesh: mesh.into() }),
    ]
}

/// The model after `writes`, with their outcomes, or `None` if they are to be refused.
fn apply(model: &Model, writes: &[Write]) -> Option<(Model, Vec<Outcome>)> {
    let mut model = model.clone();
    let mut outcomes = vec![];
    let mut replace = |model: &mut Model, document: &Document| {
        let entry = model.get(&document.key).cloned();
        let (version, outcome) = match entry {
            None => (1, Outcome::Created),
            Some((text, version)) if text == document.spec => (version, Outcome::Unchanged { version }),
            Some((_, version)) => (version + 1, Outcome::Updated { version: version + 1 }),
        };
        model.insert(document.key.clone(), (document.spec.clone(), version));
        outcomes.push(outcome);
    };
    let mut deleted = vec![];
    for (index, write) in writes.iter().enumerate() {
        match write {
            Write::Create(document) if model.contains_key(&document.key) => return None,
            Write::Update { document, version }
                if model.get(&document.key).is_none_or(|(_, stored)| stored != version) =>
            {
                return None;
            }
            Write::Create(document) | Write::Put(document) | Write::Update { document, .. } => {
                replace(&mut model, document)
            }
            Write::Delete { key, version } => {
                let (_, stored) = model.get(key)?;
                if version.is_some_and(|version| version != *stored) {
                    return None;
                }
                delete(&mut model, key);
                deleted.push(index);
            }
            Write::DeleteMesh { mesh } => {
                model.get(&Key::mesh(mesh))?;
                delete(&mut model, &Key::mesh(mesh));
                deleted.push(index);
            }
        }
    }
    for index in deleted {
        outcomes.insert(index, Outcome::Deleted);
    }
    let homeless = model.keys().any(|key| !key.mesh.is_empty() && !model.contains_key(&Key::mesh(&key.mesh)));
    (!homeless).then_some((model, outcomes))
}

fn delete(model: &mut Model, key: &Key) {
    match key.kind {
        "Mesh" => model.retain(|other, _| other.mesh != key.mesh),
        _ => drop(model.remove(key)),
    }
}

async fn check(commits: Vec<Vec<Write>>, history: usize) {
    let store = MemoryStore::with_history(history);
    let mut model = Model::new();
    // What a reader knows that follows from the beginning; it reads only now and then.
    let mut known = Model::new();
    let mut changes = store.changes(0);
    let mut revision = 0;

    for (index, writes) in commits.into_iter().enumerate() {
        let expected = apply(&model, &writes);
        let got = store.commit(writes.clone()).await;
        match (expected, got) {
            (None, Err(_)) => {}
            (Some((after, outcomes)), Ok(committed)) => {
                assert_eq!(committed.outcomes, outcomes, "{writes:?}");
                let differs = after != model;
                // A document that was deleted and written again may end as it was.
                assert!(
                    committed.revision == revision + 1 || (committed.revision == revision && !differs),
                    "{writes:?}"
                );
                revision = committed.revision;
                model = after;
            }
            (expected, got) => panic!("{writes:?}: expected {expected:?}, got {got:?}"),
        }

        let Contents { revision: read, documents, .. } = store.read_all().await.unwrap();
        assert_eq!(read, revision);
        let all: Model = documents.iter().map(|stored| (stored.key.clone(), (stored.spec(), stored.version))).collect();
        assert_eq!(all, model);

        if index % 5 == 4 {
            while let Some(Some(change)) = changes.next().now_or_never() {
                match change {
                    Change::Commit(commit) => {
                        for (key, stored) in &commit.changes {
                            match stored {
                                Some(stored) => known.insert(key.clone(), (stored.spec(), stored.version)),
                                None => known.remove(key),
                            };
                        }
                    }
                    Change::Gap(_) => {
                        known = all.clone();
                        changes = store.changes(read);
                    }
                }
            }
            assert_eq!(known, all);
        }
    }
    for kind in ["Mesh", "Dataplane", "HealthCheck", "Secret"] {
        let listed: Vec<_> = store.list(kind, None).await.unwrap().iter().map(|stored| stored.key.clone()).collect();
        let expected: Vec<_> = model.keys().filter(|key| key.kind == kind).cloned().collect();
        assert_eq!(listed, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_commits_do_what_the_model_does(commits in vec(vec(any_write(), 0..4), 0..60), history in 1usize..40) {
        check(commits, history).now_or_never().expect("a store in memory never waits");
    }
}
