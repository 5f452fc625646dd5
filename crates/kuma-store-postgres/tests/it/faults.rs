//! Connections that break, and servers that crash or stand still.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_store::{Change, Committed, HistoryQuery, Journal as _, Revision, StoreError, Write};
use kuma_store_postgres::Password;
use kuma_store_postgres::testing::{PASSWORD, Server};
use tokio::time::{sleep, timeout};

use super::*;

/// No answer takes this long: calls are given up after 6 s.
const LONG: Duration = Duration::from_secs(30);

/// Commits until it is known that it was made.
async fn create(store: &Arc<JournaledStore<PostgresJournal>>, name: &str) -> Option<Committed> {
    loop {
        match timeout(LONG, store.commit(vec![Write::Create(document(name, "a"))])).await.expect("an answer in time") {
            Ok(committed) => return Some(committed),
            // It was made although its answer was lost.
            Err(StoreError::AlreadyExists(_)) => return None,
            Err(StoreError::Unavailable { .. }) => sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Several write while connections are cut and the server crashes. Each commit is there once, and everybody has seen
/// each of them, in order.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_cut_connections_and_crashes() {
    const WRITERS: usize = 4;
    let each = rounds(300) / WRITERS;
    let mut server = Server::start(&[]);
    let config = server.database();
    let mut stores = Vec::new();
    for _ in 0..WRITERS {
        stores.push(open(&config).await);
    }
    stores[0].commit(vec![Write::Put(mesh())]).await.expect("a commit");
    let last = Revision::try_from(each * WRITERS).expect("a revision") + 1;

    let readers = stores.iter().map(|store| {
        let mut changes = store.changes(0);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < usize::try_from(last).expect("a number") {
                match changes.next().await {
                    Some(Change::Commit(commit)) => seen.push(format!("{}|{}", commit.revision, commit.id)),
                    other => panic!("after {} commits: {other:?}", seen.len()),
                }
            }
            seen
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = stores.iter().cloned().enumerate().map(|(writer, store)| {
        tokio::spawn(async move {
            let mut unanswered = 0;
            for n in 0..each {
                unanswered += usize::from(create(&store, &format!("{writer}-{n}")).await.is_none());
                // As long as there are faults, there is somebody who writes.
                sleep(Duration::from_millis(10)).await;
            }
            unanswered
        })
    });
    let writers: Vec<_> = writers.collect();

    let done = Arc::new(AtomicBool::new(false));
    let faults = std::thread::spawn({
        let (done, database) = (done.clone(), config.db_name.clone());
        move || {
            let mut cuts = 0;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(60));
                cuts += 1;
                if cuts % 12 == 5 { server.crash_and_restart() } else { server.cut(&database) }
            }
            (server, cuts)
        }
    });
    for writer in writers {
        writer.await.expect("it ends");
    }
    done.store(true, Ordering::Relaxed);
    let (server, cuts) = faults.join().expect("it ends");
    assert!(cuts > 5, "{cuts} cuts");
    let rows = server.sql(&config.db_name, "SELECT revision, id FROM kuma_commits ORDER BY revision");
    let rows: Vec<_> = rows.lines().collect();
    assert_eq!(rows.len(), usize::try_from(last).expect("a number"), "each is there, and once");
    for reader in readers {
        assert_eq!(timeout(LONG, reader).await.expect("all in time").expect("it ends"), rows);
    }
    let changes = "SELECT count(*), count(DISTINCT (kind, mesh, name)), max(version) FROM kuma_changes";
    assert_eq!(server.sql(&config.db_name, changes), format!("{last}|{last}|1"));
    let documents = "SELECT count(*) FROM kuma_documents d JOIN kuma_changes c USING (kind, mesh, name, revision)";
    assert_eq!(server.sql(&config.db_name, documents), last.to_string());
}

/// A server that stands still: writes fail in time and reads go on. When it goes on, what it did meanwhile is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_given_up_in_time() {
    let server = Server::start(&[]);
    let config = server.database();
    let (store, other) = (open(&config).await, open(&config).await);
    store.commit(vec![Write::Put(mesh()), Write::Put(document("web", "a"))]).await.expect("a commit");
    server.freeze(true);
    let write = store.commit(vec![Write::Create(document("frozen", "a"))]);
    let refused = timeout(Duration::from_secs(15), write).await.expect("an answer in time");
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(store.away().is_some());
    // In a long outage the next one fails at once.
    let write = store.commit(vec![Write::Create(document("frozen-2", "a"))]);
    assert!(timeout(Duration::from_secs(3), write).await.expect("an answer at once").is_err());
    let read = store.get(&document("web", "").key).await.expect("an answer");
    assert!(read.is_some(), "reads are answered from memory");
    server.freeze(false);

    let made = create(&store, "thawed").await.expect("it is new");
    assert_eq!(store.away(), None);
    assert_eq!(other.read_all().await, store.read_all().await);
    let history = store.history(HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.expect("an answer");
    let revisions: Vec<_> = history.entries.iter().map(|entry| entry.revision).collect();
    let newest = other.read_all().await.expect("an answer").revision;
    assert!(newest >= made.revision);
    assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>());
    let in_table = server.sql(&config.db_name, "SELECT name FROM kuma_documents ORDER BY kind, mesh, name");
    let known: Vec<_> =
        store.read_all().await.expect("an answer").documents.iter().map(|stored| stored.key.name.to_string()).collect();
    assert_eq!(in_table.lines().collect::<Vec<_>>(), known);
}

/// A password in a file may change while we run.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_is_read_at_every_connection() {
    let server = Server::start(&[]);
    let file = server.folder().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("a file");
    let config = PostgresConfig { password: Password::File(file.clone()), ..server.database() };
    let store = open(&config).await;
    store.commit(vec![Write::Put(mesh())]).await.expect("a commit");
    server.sql("postgres", "ALTER ROLE kuma PASSWORD 'another one'");
    std::fs::write(&file, "another one").expect("a file");
    server.cut(&config.db_name);
    create(&store, "web").await.expect("it is new");

    std::fs::write(&file, "\n").expect("a file");
    let Err(StoreError::Unavailable { reason }) = PostgresJournal::connect(config).await else { panic!("no password") };
    assert!(reason.ends_with("password: there is no password in its first line"), "{reason}");
}

/// The server takes no more connections, or no writes: that is told, and passes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_and_passes() {
    let server = Server::start(&[]);
    let config = server.database();
    let store = open(&config).await;
    store.commit(vec![Write::Put(mesh())]).await.expect("a commit");
    // One transaction that writes is enough for the limit.
    server.sql("postgres", &format!("ALTER DATABASE \"{}\" SET default_transaction_read_only = on", config.db_name));
    server.cut(&config.db_name);
    let write = timeout(LONG, store.commit(vec![Write::Create(document("web", "a"))])).await.expect("in time");
    let Err(StoreError::Unavailable { reason }) = write else { panic!("{write:?}") };
    assert!(reason.contains("does not allow writes"), "{reason}");
    server.sql("postgres", &format!("ALTER DATABASE \"{}\" RESET default_transaction_read_only", config.db_name));
    create(&store, "web").await.expect("it is new");

    server.sql("postgres", &format!("ALTER DATABASE \"{}\" CONNECTION LIMIT 0", config.db_name));
    server.cut(&config.db_name);
    let write = timeout(LONG, store.commit(vec![Write::Create(document("db", "a"))])).await.expect("in time");
    let Err(StoreError::Unavailable { reason }) = write else { panic!("{write:?}") };
    assert!(reason.contains("too many connections") && reason.contains("53300"), "{reason}");
    server.sql("postgres", &format!("ALTER DATABASE \"{}\" CONNECTION LIMIT -1", config.db_name));
    create(&store, "db").await.expect("it is new");
}

/// The time of commits is that of the database.
#[tokio::test(flavor = "multi_thread")]
async fn time_is_that_of_the_database() {
    let server = Server::start(&[]);
    let store = open(&server.database()).await;
    let before: jiff::Timestamp =
        server.sql("postgres", "SELECT to_json(clock_timestamp())").trim_matches('"').parse().expect("a time");
    let now = store.journal().now();
    assert!((now - before).total(jiff::Unit::Second).expect("seconds") < 60.0, "{now} {before}");
}
