//! What an operator does with the file.

use std::os::unix::fs::PermissionsExt as _;

use kuma_store::Store as _;
use kuma_store_sqlite::{MaintainError, backup, check, restore};

use crate::scene::{Folder, by_hand, commit, fill, key, put};

fn files(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).expect("read");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("read").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_a_running_store_can_be_restored() {
    let folder = Folder::new();
    let (path, copy) = (folder.database(), folder.path().join("copy.db"));
    let store = folder.open().await;
    fill(&store, 10).await;
    let (head, before) = (store.head(), store.read_all().await.expect("read").documents);
    let report = backup(&path, &copy).expect("a backup");
    assert_eq!((report.head, report.documents), (head, before.len()));
    assert_eq!(check(&path).expect("whole"), report);
    assert_eq!(std::fs::metadata(&copy).expect("there").permissions().mode() & 0o777, 0o600);

    commit(&store, [put("web-1", "later")]).await;
    let exists = backup(&path, &copy).expect_err("it is not overwritten");
    assert!(matches!(&exists, MaintainError::Exists(found) if *found == copy), "{exists}");
    assert_eq!(check(&copy).expect("whole").head, head);
    // Without an orderly end: the log of the old store stays beside the file.
    std::mem::forget(store);
    assert!(files(&folder).contains(&"store.db-wal".to_owned()));
    assert_eq!(restore(&copy, &path).expect("restored"), report);
    assert!(!files(&folder).contains(&"store.db-wal".to_owned()), "{:?}", files(&folder));
    let store = folder.open().await;
    assert_eq!((store.head(), store.read_all().await.expect("read").documents), (head, before));
    store.close().await;
    // What was there is not lost.
    assert_eq!(check(&folder.path().join("store.db.replaced")).expect("whole").head.position.revision, 14);
}

#[tokio::test]
async fn what_is_damaged_is_neither_copied_nor_restored() {
    let folder = Folder::new();
    let (path, copy) = (folder.database(), folder.path().join("copy.db"));
    let store = folder.open().await;
    fill(&store, 3).await;
    store.close().await;
    backup(&path, &copy).expect("a backup");
    by_hand(&copy, "UPDATE changes SET version = 7 WHERE revision = 2 AND name = 'latest'");
    let before = (std::fs::read(&path).expect("read"), files(&folder));
    let error = restore(&copy, &path).expect_err("damaged");
    assert!(matches!(&error, MaintainError::Damaged { path, .. } if *path == copy), "{error}");
    let error = backup(&copy, &folder.path().join("second.db")).expect_err("damaged");
    assert!(error.to_string().contains("in table `changes`"), "{error}");
    assert_eq!((std::fs::read(&path).expect("read"), files(&folder)), before, "nothing was changed");
}

#[tokio::test]
async fn what_is_no_store_is_said() {
    let folder = Folder::new();
    let none = folder.path().join("none.db");
    for error in [check(&none).expect_err("missing"), restore(&none, &folder.database()).expect_err("missing")] {
        assert!(matches!(&error, MaintainError::Missing(path) if *path == none), "{error}");
    }
    std::fs::write(&none, "").expect("written");
    assert!(check(&none).expect_err("empty").to_string().contains("it is empty"));
    std::fs::write(&none, "x".repeat(5000)).expect("written");
    assert!(check(&none).expect_err("no database").to_string().contains("not a database"));
    assert_eq!(files(&folder), ["none.db"]);
}

/// Where nothing is yet.
#[tokio::test]
async fn a_backup_makes_a_store() {
    let folder = Folder::new();
    let store = folder.open().await;
    fill(&store, 3).await;
    let copy = folder.path().join("copy.db");
    backup(&folder.database(), &copy).expect("a backup");
    let path = folder.path().join("new/store.db");
    restore(&copy, &path).expect("restored");
    let again = crate::scene::try_open(&path, Some(store.head())).await.expect("opens");
    assert!(again.get(&key("web-1")).await.expect("read").is_some());
    assert!(again.read_all().await.expect("read").complete);
}
