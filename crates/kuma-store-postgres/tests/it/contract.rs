//! What every store promises.

use kuma_store_postgres::testing::Server;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_what_every_store_promises() {
    let server = Server::start(&[]);
    kuma_store::contract::run(|| async {
        let store = open(&server.database()).await;
        dynamic(&store)
    })
    .await;
}
