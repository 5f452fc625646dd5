//! Several servers: which one is used, and what happens when it is not the same any more.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_store::{Change, Gap, Stored, Write};
use kuma_store_postgres::testing::Server;
use tokio::time::{sleep, timeout};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Waits until the standby has all that the server has.
async fn caught_up(server: &Server, standby: &Server) {
    let at = server.sql("postgres", "SELECT pg_current_wal_lsn()");
    for _ in 0..600 {
        if standby.sql("postgres", &format!("SELECT pg_last_wal_replay_lsn() >= '{at}'")) == "t" {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the standby does not follow");
}

/// A standby takes the place of the server without having its last commits. We notice, whether it is behind what we
/// know or has other commits of the same numbers, and keep what we know.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_commits_is_noticed() {
    for round in 0..rounds(2) {
        let mut server = Server::start(&[]);
        let config = server.database();
        let mut standby = server.standby(&[]);
        // The standby comes first, and takes no writes.
        let hosts = vec![standby.address(), server.address()];
        let config = PostgresConfig { hosts, ..config };
        let lost: Arc<Mutex<Vec<Arc<Stored>>>> = Arc::default();
        let told = lost.clone();
        let on_rewound = Box::new(move |documents| *told.lock().expect("not poisoned") = documents);
        let store = open_with(&config, Options { on_rewound, ..Options::default() }).await;
        store.commit(vec![Write::Put(mesh())]).await.expect("a commit");
        for n in 0..5 {
            store.commit(vec![Write::Put(document(&format!("kept-{n}"), "a"))]).await.expect("a commit");
        }
        caught_up(&server, &standby).await;
        standby.stop();
        for n in 0..5 {
            store.commit(vec![Write::Put(document(&format!("lost-{n}"), "a"))]).await.expect("a commit");
        }
        let before = store.read_all().await.expect("an answer");
        let (mut changes, epoch) = (store.changes(before.revision), store.epoch());
        server.stop();
        standby.start_again();
        standby.promote();
        // Every other time somebody else has written before we are back, as many as were lost or more.
        if round % 2 == 1 {
            let other = open(&PostgresConfig { hosts: vec![standby.address()], ..config.clone() }).await;
            for n in 0..5 + round % 3 {
                other.commit(vec![Write::Put(document(&format!("new-{n}"), "a"))]).await.expect("a commit");
            }
        }
        let change = timeout(LONG, changes.next()).await.expect("it is noticed");
        assert_eq!(change, Some(Change::Gap(Gap::Rewound)), "round {round}");
        let after = store.read_all().await.expect("an answer");
        assert!(!after.complete);
        assert_ne!(store.epoch(), epoch);
        let is_lost = |one: &&Arc<Stored>| one.key.name.starts_with("lost-");
        let missing: Vec<_> = before.documents.iter().filter(is_lost).cloned().collect();
        assert_eq!(*lost.lock().expect("not poisoned"), missing);
        let names = |prefix: &str| after.documents.iter().filter(|one| one.key.name.starts_with(prefix)).count();
        assert_eq!((names("kept-"), names("lost-")), (5, 0));
        let made = store.commit(vec![Write::Put(document("after", "a"))]).await.expect("a commit");
        assert_eq!(made.revision, after.revision + 1);
        assert_eq!(standby.sql(&config.db_name, "SELECT max(revision) FROM kuma_commits"), made.revision.to_string());
    }
}

/// A server that restarts as a standby, as managed ones do: connections stay open or come back, and writes go nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_nothing_is_not_felt() {
    let mut server = Server::start(&[]);
    let standby = server.standby(&[]);
    let config = server.database();
    let config = PostgresConfig { hosts: vec![server.address(), standby.address()], ..config };
    let store = open(&config).await;
    store.commit(vec![Write::Put(mesh()), Write::Put(document("web", "a"))]).await.expect("a commit");
    caught_up(&server, &standby).await;
    let mut changes = store.changes(1);
    server.stop();
    standby.promote();
    loop {
        match timeout(LONG, store.commit(vec![Write::Put(document("web", "b"))])).await.expect("in time") {
            Ok(made) => break assert_eq!(made.revision, 2),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    let change = timeout(LONG, changes.next()).await.expect("in time");
    assert!(matches!(change, Some(Change::Commit(commit)) if commit.revision == 2));
}
