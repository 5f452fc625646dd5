//! Who makes the tables.

use kuma_store::StoreError;
use kuma_store_postgres::testing::Server;
use kuma_store_postgres::{Migration, SCHEMA, migrate};

use super::*;

async fn refusal(config: &PostgresConfig) -> String {
    match PostgresJournal::connect(config.clone()).await {
        Err(StoreError::Unavailable { reason } | StoreError::Unusable { reason }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the database is not fit for it"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_once_by_any_number_at_once() {
    let server = Server::start(&[]);
    let config = server.database();
    // Those of the original stay as they are.
    server.sql(&config.db_name, "CREATE TABLE resources (name text); INSERT INTO resources VALUES ('web')");
    let all = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { migrate(&config).await })
    });
    let mut done = Vec::new();
    for one in all.collect::<Vec<_>>() {
        done.push(one.await.expect("it ends").expect("the tables are made"));
    }
    assert!(done.contains(&Migration::Done), "{done:?}");
    assert_eq!(migrate(&config).await, Ok(Migration::UpToDate));
    let store = "SELECT store FROM kuma_schema";
    let identity = server.sql(&config.db_name, store);
    server.sql(&config.db_name, SCHEMA);
    assert_eq!(server.sql(&config.db_name, store), identity);
    assert_eq!(server.sql(&config.db_name, "SELECT name FROM resources"), "web");
    assert_eq!(open(&config).await.head().store.to_string(), identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_its_remedy() {
    let server = Server::start(&[]);

    // A database of somebody else.
    server.sql("postgres", "CREATE DATABASE foreign_one");
    let config = server.config("foreign_one");
    let reason = refusal(&config).await;
    assert!(reason.contains("GRANT CREATE ON SCHEMA \"public\" TO \"kuma\""), "{reason}");
    assert!(reason.contains("kumactl install database-schema"), "{reason}");
    server.sql("foreign_one", SCHEMA);
    let reason = refusal(&config).await;
    let remedy = reason.split_once("gives the right with: ").expect("a remedy").1;
    server.sql("foreign_one", remedy);
    assert_eq!(migrate(&config).await, Ok(Migration::UpToDate));
    server.sql("foreign_one", "REVOKE DELETE ON kuma_changes FROM kuma");
    let reason = refusal(&config).await;
    assert!(reason.contains("may not write kuma_changes."), "{reason}");
    server.sql("foreign_one", reason.split_once("gives the right with: ").expect("a remedy").1);
    open(&config).await;

    // One that cannot hold every character.
    server.sql("postgres", "CREATE DATABASE latin OWNER kuma ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let reason = refusal(&server.config("latin")).await;
    assert!(reason.contains("LATIN1") && reason.contains("ENCODING 'UTF8'"), "{reason}");

    // Others that everybody knows.
    let reason = refusal(&server.config("missing")).await;
    assert!(reason.contains("database \"missing\" does not exist") && reason.contains("3D000"), "{reason}");
    let config = server.database();
    let wrong = PostgresConfig { password: kuma_store_postgres::Password::Text("wrong".into()), ..config.clone() };
    let reason = refusal(&wrong).await;
    assert!(reason.contains("password authentication failed for user \"kuma\""), "{reason}");
    let port = kuma_store_postgres::testing::free_port();
    let nobody = PostgresConfig { hosts: vec![format!("127.0.0.1:{port}")], ..config };
    let reason = refusal(&nobody).await;
    assert!(reason.contains(&format!("127.0.0.1:{port}: ")) && reason.contains("refused"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_tables_are_used_for_as_long_as_they_allow_it() {
    let server = Server::start(&[]);
    let config = server.database();
    migrate(&config).await.expect("the tables");
    server.sql(&config.db_name, "UPDATE kuma_schema SET version = 2");
    assert_eq!(migrate(&config).await, Ok(Migration::UpToDate));
    server.sql(&config.db_name, "UPDATE kuma_schema SET oldest_program = 2");
    let reason = refusal(&config).await;
    assert!(reason.contains("newer kuma-cp"), "{reason}");
}
