//! Several handles on one database.

use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_model::{Document, Key};
use kuma_store::{Change, HistoryQuery, Journal as _, Peer, StoreError, Write};
use kuma_store_postgres::testing::Server;
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_what_the_other_wrote() {
    let server = Server::start(&[]);
    for connections in [0, 1, 2] {
        let config = PostgresConfig { max_open_connections: connections, ..server.database() };
        let (one, two) = (open(&config).await, open(&config).await);
        let mut changes = two.changes(0);
        for n in 0..20 {
            let writes = vec![Write::Put(mesh()), Write::Put(document("web", &n.to_string()))];
            let made = one.commit(writes).await.expect("a commit");
            assert_eq!(made.revision, n + 1);
            let seen = tokio::time::timeout(Duration::from_secs(30), changes.next()).await.expect("in time");
            assert!(matches!(seen, Some(Change::Commit(commit)) if commit.revision == n + 1));
            let read = two.get(&document("web", "").key).await.expect("an answer").expect("it is there");
            assert_eq!(read.document(), document("web", &n.to_string()));
        }
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", config.db_name);
        let expected = if connections == 0 { 6 } else { 2 * connections };
        assert_eq!(server.sql("postgres", &sql), expected.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_replace_one_version_one_wins() {
    const WRITERS: u64 = 6;
    let server = Server::start(&[]);
    let config = server.database();
    let mut stores = Vec::new();
    for _ in 0..WRITERS {
        stores.push(open(&config).await);
    }
    stores[0].commit(vec![Write::Put(mesh()), Write::Create(document("web", "first"))]).await.expect("a commit");
    for version in 1..=20 {
        let writers = stores.iter().enumerate().map(|(writer, store)| {
            let (store, text) = (store.clone(), format!("{writer} {version}"));
            tokio::spawn(async move {
                store.commit(vec![Write::Update { document: document("web", &text), version }]).await
            })
        });
        let mut won = 0;
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.expect("it ends") {
                Ok(committed) => {
                    assert_eq!(committed.revision, version + 1, "what is refused uses no number");
                    won += 1;
                }
                Err(error) => assert!(matches!(error, StoreError::Conflict { .. }), "{error}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_two_do_not_touch_each_other() {
    let server = Server::start(&[]);
    let config = server.database();
    let (one, two) = (open(&config).await, open(&config).await);
    one.commit(vec![Write::Put(mesh())]).await.expect("a commit");
    let key = Key::new("DataplaneInsight", "default", "web");
    let insight = |id: &str| {
        let spec = json!({"subscriptions": [{"id": id, "connectTime": id}]});
        vec![Document { key: key.clone(), spec }]
    };
    for n in 0..3 {
        one.put_insights(insight(&format!("one {n}"))).await.expect("a report");
        two.put_insights(insight(&format!("two {n}"))).await.expect("a report");
    }
    for store in [&one, &two] {
        let read = store.get(&key).await.expect("an answer").expect("it is there").spec();
        let ids: Vec<_> = read["subscriptions"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, ["one 2", "two 2"]);
    }

    // While a mesh is deleted and made again, reports come: none is left of a mesh that is not there.
    let reports = tokio::spawn({
        let (two, key) = (two.clone(), key.clone());
        async move {
            for n in 0..200 {
                let spec = json!({"subscriptions": [{"id": n.to_string()}]});
                two.put_insights(vec![Document { key: key.clone(), spec }]).await.expect("a report");
            }
        }
    });
    for _ in 0..20 {
        one.commit(vec![Write::DeleteMesh { mesh: "default".into() }]).await.expect("a commit");
        one.commit(vec![Write::Put(mesh())]).await.expect("a commit");
    }
    one.commit(vec![Write::DeleteMesh { mesh: "default".into() }]).await.expect("a commit");
    reports.await.expect("it ends");
    assert_eq!(one.get(&key).await.expect("an answer"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_alive_and_holds_a_lease_is_told_by_the_clock_of_the_database() {
    let server = Server::start(&[]);
    let config = server.database();
    let store = open(&config).await;
    let journal = store.journal();
    assert_eq!(journal.lease("ca", "one").await, Ok(true));
    assert_eq!(journal.lease("ca", "two").await, Ok(false));
    assert_eq!(journal.lease("ca", "one").await, Ok(true));
    assert_eq!(journal.lease("other", "two").await, Ok(true));
    server.sql(&config.db_name, "UPDATE kuma_leases SET until = clock_timestamp() - interval '1 ms'");
    assert_eq!(journal.lease("ca", "two").await, Ok(true));
    assert_eq!(journal.lease("ca", "one").await, Ok(false));
    // A new holder is a new epoch.
    assert_eq!(server.sql(&config.db_name, "SELECT epoch FROM kuma_leases WHERE name = 'ca'"), "2");

    journal.heartbeat("one", "{}").await.expect("an answer");
    let names = |peers: &[Peer]| -> Vec<(String, String, bool)> {
        let told = |one: &Peer| (one.instance.to_string(), one.about.to_string(), one.is_alive);
        peers.iter().map(told).collect()
    };
    let told = journal.heartbeat("two", "{\"a\": 1}").await.expect("an answer");
    assert_eq!(names(&told), [("one".into(), "{}".into(), true), ("two".into(), "{\"a\": 1}".into(), true)]);
    let age = |age: &str| {
        server
            .sql(&config.db_name, &format!("UPDATE kuma_instances SET seen = seen - interval '{age}' WHERE id = 'one'"))
    };
    age("16 s");
    let told = journal.heartbeat("two", "").await.expect("an answer");
    assert_eq!(names(&told), [("one".into(), "{}".into(), false), ("two".into(), "".into(), true)]);

    // What was reported by one that is long gone goes with it.
    store.commit(vec![Write::Put(mesh())]).await.expect("a commit");
    let reports = "INSERT INTO kuma_insights SELECT 'default', 'web', i, now(), '{}'
        FROM unnest(ARRAY['one', 'two']) i";
    server.sql(&config.db_name, reports);
    age("1 hour");
    let told = journal.heartbeat("two", "").await.expect("an answer");
    assert_eq!(names(&told), [("two".into(), "".into(), true)]);
    assert_eq!(server.sql(&config.db_name, "SELECT instance FROM kuma_insights"), "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_a_kind_that_is_not_known_are_left_alone() {
    let server = Server::start(&[]);
    let config = server.database();
    let (old, mut changes) = {
        let store = open(&config).await;
        store.commit(vec![Write::Put(mesh())]).await.expect("a commit");
        let changes = store.changes(1);
        (store, changes)
    };
    server.sql(
        &config.db_name,
        "INSERT INTO kuma_commits VALUES (2, gen_random_uuid(), now(), '', '', '');
         INSERT INTO kuma_changes VALUES (2, 'FaultInjection', 'default', 'all', 1, now(), '{}');
         INSERT INTO kuma_documents VALUES ('FaultInjection', 'default', 'all', 2, 1, now(), now(), '{}')",
    );
    let next = tokio::time::timeout(Duration::from_secs(30), changes.next()).await.expect("in time");
    assert!(matches!(next, Some(Change::Commit(commit)) if commit.revision == 2 && commit.changes.is_empty()));
    let made = old.commit(vec![Write::Put(document("web", "a"))]).await.expect("a commit");
    assert_eq!(made.revision, 3);
    let new = open(&config).await;
    let documents = new.read_all().await.expect("an answer").documents;
    assert_eq!(documents, old.read_all().await.expect("an answer").documents);
    assert_eq!(new.history(HistoryQuery { limit: 9, ..HistoryQuery::default() }).await.expect("it").entries.len(), 3);
    assert_eq!(server.sql(&config.db_name, "SELECT count(*) FROM kuma_documents WHERE kind = 'FaultInjection'"), "1");
}
