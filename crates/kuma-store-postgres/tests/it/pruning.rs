//! Forgetting the past.

use std::collections::BTreeMap;
use std::time::Duration;

use kuma_model::SECRET_KIND;
use kuma_store::{HistoryQuery, Journal as _, Keep, Moment, Position, Since, StoreError, Write};
use kuma_store_postgres::testing::Server;

use super::*;

/// Everything may go but so many commits.
fn keep(commits: u64) -> Keep {
    Keep { age: Duration::ZERO, commits }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_from_the_floor_on_can_still_be_told() {
    let server = Server::start(&[]);
    let config = server.database();
    let store = open(&config).await;
    store.commit(vec![Write::Put(mesh()), Write::Put(document("always", "there"))]).await.expect("a commit");
    let mut states = BTreeMap::new();
    let mut positions = Vec::new();
    for n in 0..40_usize {
        let name = format!("web-{}", n % 7);
        let write = match n % 5 {
            4 => Write::Delete { key: document(&format!("web-{}", (n - 1) % 7), "").key, version: None },
            _ => Write::Put(document(&name, &n.to_string())),
        };
        let made = store.commit(vec![write]).await.expect("a commit");
        states.insert(made.revision, store.read_all().await.expect("an answer").documents);
        positions.push(store.head().position);
    }
    let journal = store.journal();
    let latest = store.head().position.revision;
    assert_eq!(journal.prune(Keep { age: Duration::from_secs(3600), commits: 1 }).await, Ok(0), "all of it is young");
    assert_eq!(journal.prune(keep(1000)).await, Ok(0), "so many are kept");
    for kept in [25, 10, 10, 3, 0] {
        let floor = journal.prune(keep(kept)).await.expect("an answer");
        assert_eq!(floor, latest - kept);
        for (revision, documents) in &states {
            let told = store.at(Moment::Revision(*revision)).await;
            match *revision >= floor {
                true => assert_eq!(told.expect("it is kept").documents, *documents),
                false => assert_eq!(told, Err(StoreError::Forgotten { asked: *revision, floor })),
            }
        }
        let page = store.history(HistoryQuery { limit: 1000, ..HistoryQuery::default() }).await.expect("an answer");
        assert_eq!(page.floor, floor);
        assert_eq!(page.entries.len(), usize::try_from(kept).expect("a number"));
        for position in &positions {
            let since = journal.since(*position).await.expect("an answer");
            match since {
                Since::Commits(_) => assert!(position.revision >= floor),
                Since::Behind => assert!(position.revision < floor),
                Since::Rewound => panic!("{position:?} was there"),
            }
        }
        let stranger = Position { revision: latest, commit: uuid::Uuid::new_v4() };
        assert_eq!(journal.since(stranger).await, Ok(Since::Rewound));
    }
    // What was there long before stays, and nothing but it.
    let rows = "SELECT count(*) = (SELECT count(*) FROM kuma_documents) FROM kuma_changes";
    assert_eq!(server.sql(&config.db_name, rows), "t");
    let rows = "SELECT count(*) FROM kuma_commits c WHERE NOT EXISTS (SELECT FROM kuma_changes h
        WHERE h.revision = c.revision) AND revision < (SELECT floor FROM kuma_schema)";
    assert_eq!(server.sql(&config.db_name, rows), "0");
    let again = open(&config).await;
    assert_eq!(again.read_all().await.expect("it").documents, states[&latest]);
    again.commit(vec![Write::Put(document("new", "a"))]).await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alone_prunes() {
    let server = Server::start(&[]);
    let config = server.database();
    let (one, two) = (open(&config).await, open(&config).await);
    for n in 0..5 {
        one.commit(vec![Write::Put(mesh()), Write::Put(document("web", &n.to_string()))]).await.expect("a commit");
    }
    assert_eq!(one.journal().prune(keep(3)).await, Ok(2));
    assert_eq!(two.journal().prune(keep(0)).await, Ok(2), "the other one does");
    assert_eq!(one.journal().prune(keep(0)).await, Ok(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_secrets_lose_their_text() {
    let server = Server::start(&[]);
    let config = server.database();
    let store = open(&config).await;
    let secret = |text: &str| {
        let key = Key::new(SECRET_KIND, "default", "ca");
        Write::Put(Document { key, spec: json!(text) })
    };
    store.commit(vec![Write::Put(mesh()), secret("one")]).await.expect("a commit");
    let behind = store.head().position;
    store.commit(vec![secret("two")]).await.expect("a commit");
    store.commit(vec![secret("three")]).await.expect("a commit");
    let texts = "SELECT spec FROM kuma_changes WHERE kind = 'Secret' AND spec IS NOT NULL ORDER BY revision";
    let keep = Keep::default();
    store.journal().prune(keep).await.expect("an answer");
    assert_eq!(server.sql(&config.db_name, texts), "\"one\"\n\"two\"\n\"three\"", "others may still have to read them");
    server.sql(&config.db_name, "UPDATE kuma_commits SET at = at - interval '11 min'");
    store.journal().prune(keep).await.expect("an answer");
    assert_eq!(server.sql(&config.db_name, texts), "\"three\"");
    assert_eq!(store.journal().since(behind).await, Ok(Since::Behind), "the text of the second one is not there");
    let again = open(&config).await.read_all().await.expect("an answer");
    assert_eq!(again.documents, store.read_all().await.expect("an answer").documents);
}
