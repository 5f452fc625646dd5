//! A disk whose syncs fail: what is not stored is not shown, and the store recovers by itself.

use std::path::PathBuf;
use std::process::Command;

use jiff::Timestamp;
use kuma_store::{HistoryQuery, Moment, Store as _, StoreError};
use kuma_store_sqlite::check;

use crate::preloaded::{SYNCS_FAIL, library};
use crate::scene::{Folder, commit, fill, key, put, put_mesh, try_open, until};

/// The file that the process is to use.
const STORE: &str = "KUMA_TEST_STORE";

#[test]
fn what_could_not_be_synced_is_not_shown_and_the_store_recovers() {
    let folder = Folder::new();
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "failing_sync::child", "--ignored", "--nocapture"])
        .env("LD_PRELOAD", library(folder.path()))
        .env(SYNCS_FAIL, folder.path().join("fail"))
        .env(STORE, folder.database())
        .output()
        .expect("it runs");
    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is what a process runs whose syncs another test has fail"]
async fn child() {
    let path = PathBuf::from(std::env::var_os(STORE).expect(STORE));
    let failing = PathBuf::from(std::env::var_os(SYNCS_FAIL).expect(SYNCS_FAIL));
    let store = try_open(&path, None).await.expect("opens");
    fill(&store, 5).await;
    for round in 0..3 {
        let name = format!("later-{round}");
        let head = store.head();
        std::fs::write(&failing, "").expect("written");
        for _ in 0..3 {
            let result = store.commit(vec![put(&name, round), put("web-1", round + 100)]).await;
            let Err(StoreError::Unavailable { reason }) = result else { panic!("{result:?}") };
            assert!(reason.contains("store.db: ") && reason.contains("tried again"), "{reason}");
            assert!(reason.contains("dmesg"), "it says what to do: {reason}");
            assert_eq!(store.head(), head);
            assert!(store.get(&key(&name)).await.expect("read").is_none());
            // These are read from the file, which may not be readable at this moment.
            if let Ok(page) = store.history(HistoryQuery { limit: 1, ..HistoryQuery::default() }).await {
                assert_eq!(page.entries[0].revision, head.position.revision);
            }
            if let Ok(then) = store.at(Moment::Time(Timestamp::now())).await {
                assert_eq!(then.revision, head.position.revision);
            }
            assert!(store.away().is_some());
        }
        std::fs::remove_file(&failing).expect("removed");
        // Nobody writes: it is noticed nevertheless.
        until("the store is back", async || store.away().is_none()).await;
        // What was refused may be there, as after a crash; both halves of it or none.
        let [new, old] = [&*name, "web-1"].map(key);
        let new = store.get(&new).await.expect("read").is_some();
        let old = store.get(&old).await.expect("read").expect("it was there");
        assert_eq!(old.spec()["text"] == round + 100, new);
        commit(&store, [put_mesh(), put(&name, "stored")]).await;
    }
    let head = store.head();
    store.close().await;
    assert_eq!(check(&path).expect("whole").head, head);
}
