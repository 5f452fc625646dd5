//! What a commit costs does not depend on how much there is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kuma_store::{Store as _, Write};
use kuma_store_postgres::testing::Server;

use crate::{document, dynamic, mesh, open};

/// Rows that were read by going through a whole table, by table.
fn rows_scanned(server: &Server, database: &str) -> BTreeMap<String, i64> {
    let sql = "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname LIKE 'kuma%'";
    let text = server.sql(database, sql);
    let rows = text.lines().map(|line| line.split_once('|').expect("two columns"));
    rows.map(|(table, rows)| (table.to_owned(), rows.parse().expect("a number"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_read_whole_for_a_commit() {
    const BEFORE: usize = 3000;
    const MEASURED: usize = 20;
    // No statistics either: PostgreSQL has none of what was written within the last minute.
    let server = Server::start(&["autovacuum=off", "track_counts=on"]);
    let config = server.database();
    let (writer, other) = (open(&config).await, open(&config).await);
    let store = dynamic(&writer);
    store.commit(vec![Write::Create(mesh())]).await.expect("a commit");
    for first in (0..BEFORE).step_by(100) {
        let some = (first..first + 100).map(|number| Write::Create(document(&format!("dp-{number}"), "10.0.0.1")));
        store.commit(some.collect()).await.expect("a commit");
    }
    // Counters are reported at most once a second, and up to a minute late; these sessions report before they go.
    drop((store, writer, other));
    let settled = |server: &Server| {
        let end = Instant::now() + Duration::from_secs(30);
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
            config.db_name
        );
        while server.sql(&config.db_name, &sessions) != "0" && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        rows_scanned(server, &config.db_name)
    };
    settled(&server);

    // Opening reads all documents once, and after that nothing is.
    let opened = {
        let (writer, other) = (open(&config).await, open(&config).await);
        drop((writer, other));
        let before = settled(&server);
        let (writer, other) = (open(&config).await, open(&config).await);
        drop((writer, other));
        let after = settled(&server);
        differences(&before, &after)
    };
    let before = settled(&server);
    let (writer, other) = (open(&config).await, open(&config).await);
    let store = dynamic(&writer);
    for number in 0..MEASURED {
        let moved = document(&format!("dp-{number}"), "10.0.0.2");
        store.commit(vec![Write::Put(moved.clone())]).await.expect("a commit");
        let end = Instant::now() + Duration::from_secs(30);
        while other.get(&moved.key).await.expect("an answer").is_none_or(|stored| stored.document() != moved) {
            assert!(Instant::now() < end, "the other handle does not hear of it");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    drop((store, writer, other));
    let after = settled(&server);
    for (table, rows) in differences(&before, &after) {
        let rows = rows - opened.get(&table).copied().unwrap_or_default();
        // A table of one row is cheaper to read whole.
        assert!(rows < (BEFORE / 10) as i64, "{MEASURED} commits have read {rows} rows of {table}");
    }
}

fn differences(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    after.iter().map(|(table, rows)| (table.clone(), rows - before[table])).collect()
}
