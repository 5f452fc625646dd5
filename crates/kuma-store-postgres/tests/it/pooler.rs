//! A pooler between us and the server: PgBouncer in transaction mode.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_store::{Change, Journal as _, Keep, Write};
use kuma_store_postgres::testing::{PASSWORD, Server, free_port};
use tokio::time::{sleep, timeout};

use super::*;

struct Pooler {
    process: Child,
    port: u16,
}

impl Pooler {
    async fn start(server: &Server) -> Pooler {
        let folder = server.folder();
        let users = folder.join("users");
        fs::write(&users, format!("\"kuma\" \"{}\"\n", PASSWORD.replace('"', "\"\""))).expect("a list of users");
        let port = free_port();
        let config = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 4\nserver_idle_timeout = 1\n",
            server.port(),
            users.display()
        );
        fs::write(&config, text).expect("a configuration");
        let program = std::env::var_os("PGBOUNCER_BINARY").unwrap_or_else(|| "/usr/sbin/pgbouncer".into());
        let mut command = Command::new(&program);
        command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        kuma_store_postgres::testing::as_nobody(&mut command);
        let log = fs::File::create(folder.join("pgbouncer.log")).expect("a log");
        let process = command.stderr(log).spawn().unwrap_or_else(|error| {
            panic!(
                "PGBOUNCER_BINARY has to name PgBouncer, as scripts/get-pgbouncer.sh prints it: {program:?}: {error}"
            )
        });
        let pooler = Pooler { process, port };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return pooler;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("PgBouncer does not start: {}", fs::read_to_string(folder.join("pgbouncer.log")).unwrap_or_default());
    }
}

/// The same database through the pooler.
fn through(config: PostgresConfig, port: u16) -> PostgresConfig {
    PostgresConfig { hosts: vec![format!("127.0.0.1:{port}")], ..config }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_promises_are_kept_through_a_pooler_in_transaction_mode() {
    let server = Arc::new(Server::start(&[]));
    let pooler = Pooler::start(&server).await;
    contract::all_checks(&server, through, pooler.port).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_others_are_seen_through_a_pooler_in_transaction_mode() {
    let server = Server::start(&[]);
    let pooler = Pooler::start(&server).await;
    let config = through(server.database(), pooler.port);
    let (one, two) = (open(&config).await, open(&config).await);
    let mut changes = one.changes(0);
    for n in 0..10 {
        let writes = vec![Write::Put(mesh()), Write::Put(document("web", &n.to_string()))];
        let made = two.commit(writes).await.expect("a commit");
        let seen = timeout(Duration::from_secs(30), changes.next()).await.expect("in time");
        assert!(matches!(seen, Some(Change::Commit(commit)) if commit.revision == made.revision));
    }
    // The test of notifications takes 1 s.
    sleep(Duration::from_secs(2)).await;
    assert!(!one.journal().has_notifications());
    assert_eq!(one.journal().prune(Keep { age: Duration::ZERO, commits: 2 }).await, Ok(8));

    let direct = PostgresConfig { hosts: vec![server.address()], ..config };
    let three = open(&direct).await;
    for _ in 0..100 {
        if three.journal().has_notifications() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("notifications pass where there is no pooler");
}
