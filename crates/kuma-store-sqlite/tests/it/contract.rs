//! What every store promises.

use std::sync::Arc;

use kuma_store::{Store, contract};

use crate::scene::{Folder, open_shared, try_open};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    let folder = Folder::new();
    let number = std::cell::Cell::new(0);
    contract::run(|| async {
        number.set(number.get() + 1);
        let path = folder.path().join(format!("{}.db", number.get()));
        Arc::new(try_open(&path, None).await.expect("opens")) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_keep_the_contract() {
    let folder = Folder::new();
    let number = std::cell::Cell::new(0);
    contract::shared::run(|| async {
        number.set(number.get() + 1);
        let path = folder.path().join(format!("{}.db", number.get()));
        [open_shared(&path).await, open_shared(&path).await]
    })
    .await;
}
