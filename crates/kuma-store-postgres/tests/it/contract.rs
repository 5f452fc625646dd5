//! What every store promises.

use kuma_store::contract::{checks, shared};
use kuma_store_postgres::testing::Server;
use tokio::sync::Semaphore;

use super::*;

/// Runs every check on a database of its own, several at once.
pub(crate) async fn all_checks(server: &Arc<Server>, reached: fn(PostgresConfig, u16) -> PostgresConfig, port: u16) {
    let turns = Arc::new(Semaphore::new(6));
    let running = checks().map(|check| {
        let (server, turns) = (server.clone(), turns.clone());
        let run = async move {
            let _turn = turns.acquire_owned().await;
            let config = reached(server.database(), port);
            check.run(dynamic(&open(&config).await)).await;
        };
        (check.name, tokio::spawn(run))
    });
    let mut failed = Vec::new();
    for (name, run) in running.collect::<Vec<_>>() {
        if run.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_what_every_store_promises() {
    let server = Arc::new(Server::start(&[]));
    all_checks(&server, |config, _| config, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_keep_what_they_promise_together() {
    let server = Server::start(&[]);
    shared::run(|| async {
        let config = server.database();
        [dynamic(&open(&config).await), dynamic(&open(&config).await)]
    })
    .await;
}
