//! What every store promises.

use std::sync::Arc;

use kuma_store::{Store, contract};

use crate::scene::{Folder, try_open};

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
