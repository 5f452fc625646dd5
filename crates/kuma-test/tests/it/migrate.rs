//! The database is prepared: by `kuma-cp migrate up`, or by whoever may, with the SQL that kumactl prints.

use std::process::Command;

use kuma_store_postgres::PostgresConfig;
use kuma_store_postgres::testing::{PASSWORD, Server};
use kuma_test::program;

/// Runs `kuma-cp migrate up` with the store at that database; returns what it said and whether it succeeded.
fn migrate(variables: &[(&str, &str)]) -> (String, String, bool) {
    let mut command = Command::new(program("kuma-cp"));
    command.args(["migrate", "up"]).env_clear().envs(variables.iter().copied());
    let output = command.output().expect("kuma-cp");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

fn migrate_database(config: &PostgresConfig, port: u16) -> (String, String, bool) {
    let port = port.to_string();
    migrate(&[
        ("KUMA_STORE_TYPE", "postgres"),
        ("KUMA_STORE_POSTGRES_PORT", &port),
        ("KUMA_STORE_POSTGRES_PASSWORD", PASSWORD),
        ("KUMA_STORE_POSTGRES_DB_NAME", &config.db_name),
    ])
}

#[test]
fn the_database_is_prepared_once() {
    let server = Server::start(&[]);
    let config = server.database();
    let (said, _, done) = migrate_database(&config, server.port());
    assert_eq!((said.as_str(), done), ("DB has been migrated for Kuma 0.4.0\n", true));
    let (said, _, done) = migrate_database(&config, server.port());
    assert_eq!((said.as_str(), done), ("DB has already been migrated for Kuma 0.4.0\n", true));

    // A user without the right to make tables is told what to do.
    server.sql("postgres", "CREATE DATABASE foreign_one");
    let config = server.config("foreign_one");
    let (said, error, done) = migrate_database(&config, server.port());
    assert_eq!((said.as_str(), done), ("", false));
    assert!(error.contains("kumactl install database-schema") && error.contains("GRANT CREATE"), "{error}");
    let sql = Command::new(program("kumactl")).args(["install", "database-schema"]).output().expect("kumactl");
    server.sql("foreign_one", &String::from_utf8_lossy(&sql.stdout));
    server.sql("foreign_one", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO kuma");
    let (said, _, done) = migrate_database(&config, server.port());
    assert_eq!((said.as_str(), done), ("DB has already been migrated for Kuma 0.4.0\n", true));
}

#[test]
fn without_a_database_nothing_is_migrated() {
    let (said, error, done) = migrate(&[]);
    assert_eq!((said.as_str(), done), ("", false));
    assert!(error.contains("KUMA_STORE_TYPE"), "{error}");
    let port = kuma_store_postgres::testing::free_port().to_string();
    let (_, error, done) = migrate(&[("KUMA_STORE_TYPE", "postgres"), ("KUMA_STORE_POSTGRES_PORT", &port)]);
    assert!(!done && error.contains(&format!("127.0.0.1:{port}: ")), "{error}");
}
