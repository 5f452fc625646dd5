//! Several handles on one database.

use std::time::Duration;

use kuma_model::{Document, Key};
use kuma_store::{Change, Write};
use kuma_store_postgres::testing::Server;
use serde_json::json;

use super::*;

fn mesh() -> Document {
    Document { key: Key::mesh("default"), spec: json!({}) }
}

fn document(name: &str, text: &str) -> Document {
    Document { key: Key::new("Dataplane", "default", name), spec: json!({"networking": {"address": text}}) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_what_the_other_wrote() {
    use futures_util::StreamExt as _;
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
