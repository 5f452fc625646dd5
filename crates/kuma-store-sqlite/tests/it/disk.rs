//! A disk that is full, read-only or away for a while. These tests mount file systems, which root alone may.

use std::path::{Path, PathBuf};
use std::process::Command;

use kuma_store::{Store as _, StoreError};
use kuma_store_sqlite::check;

use crate::scene::{Folder, commit, fill, key, put, try_open, until};

/// A file system in memory, of 6 MB.
struct Disk {
    mounted: PathBuf,
    /// Removed after it was unmounted.
    _folder: Folder,
}

impl Disk {
    fn new() -> Disk {
        let folder = Folder::new();
        let mounted = folder.path().join("disk");
        std::fs::create_dir(&mounted).expect("made");
        assert!(mount(&["-t", "tmpfs", "-o", "size=6m", "tmpfs"], &mounted), "mounting needs root");
        Disk { mounted, _folder: folder }
    }

    fn database(&self) -> PathBuf {
        self.mounted.join("store.db")
    }

    fn fill(&self) {
        let filler = self.mounted.join("filler");
        let error = std::fs::write(filler, vec![1; 8 << 20]).expect_err("it does not fit");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn empty(&self) {
        std::fs::remove_file(self.mounted.join("filler")).expect("removed");
    }

    /// Not possible while a file is open for writing.
    fn remount(&self, how: &str) -> bool {
        mount(&["-o", &format!("remount,{how}")], &self.mounted)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(folder).output().expect("mount runs");
    mounted.status.success()
}

fn reason(result: Result<kuma_store::Committed, StoreError>) -> String {
    match result {
        Err(StoreError::Unavailable { reason }) => reason,
        other => panic!("unavailable is expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_or_read_only_disk_can_be_read_and_recovers_by_itself() {
    let disk = Disk::new();
    let store = try_open(&disk.database(), None).await.expect("opens");
    fill(&store, 20).await;
    let head = store.head();
    disk.fill();
    // Some more may fit into the pages that are there.
    let big = "x".repeat(100_000);
    let full = reason(store.commit(vec![put("big", big.as_str())]).await);
    assert!(full.contains("full") && full.contains("store.db"), "{full}");
    for _ in 0..3 {
        reason(store.commit(vec![put("big", big.as_str())]).await);
        assert!(store.away().is_some());
        assert!(store.get(&key("web-1")).await.expect("read").is_some());
        assert_eq!(store.read_all().await.expect("read").revision, head.position.revision);
    }
    disk.empty();
    // Nobody writes: it is noticed nevertheless.
    until("the store is back", async || store.away().is_none()).await;
    assert_eq!(commit(&store, [put("big", big.as_str())]).await, head.position.revision + 1);

    disk.fill();
    let bigger = "y".repeat(200_000);
    reason(store.commit(vec![put("big", bigger.as_str())]).await);
    // The file is closed after a fault, and the disk can become read-only.
    until("the disk is read-only", async || disk.remount("ro")).await;
    let read_only = reason(store.commit(vec![put("big", bigger.as_str())]).await);
    assert!(read_only.contains("read"), "{read_only}");
    assert!(store.get(&key("web-1")).await.expect("read").is_some());
    let other = try_open(&disk.database(), None).await.expect("what is there can be read");
    assert_eq!(other.read_all().await.expect("read").revision, head.position.revision + 1);
    reason(other.commit(vec![put("web-1", "later")]).await);
    drop(other);
    assert!(disk.remount("rw"));
    disk.empty();
    until("the store is back", async || store.away().is_none()).await;
    assert_eq!(commit(&store, [put("big", bigger.as_str())]).await, head.position.revision + 2);
    store.close().await;
    let report = check(&disk.database()).expect("whole");
    assert_eq!(report.head.position.revision, head.position.revision + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_away_comes_back_and_is_not_made_anew() {
    let folder = Folder::new();
    let store = folder.open().await;
    fill(&store, 3).await;
    let away = folder.path().join("away");
    std::fs::create_dir(&away).expect("made");
    let names = || -> Vec<_> {
        let entries = std::fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("read").file_name());
        entries.filter(|name| name.to_string_lossy().starts_with("store.db")).collect()
    };
    let files = names();
    for name in &files {
        std::fs::rename(folder.path().join(name), away.join(name)).expect("moved");
    }
    let gone = reason(store.commit(vec![put("web-1", "later")]).await);
    assert!(gone.contains("the file is gone"), "{gone}");
    assert_eq!(names(), [] as [&str; 0]);
    assert!(store.get(&key("web-1")).await.expect("read").is_some());
    for name in std::fs::read_dir(&away).expect("read") {
        let name = name.expect("read").file_name();
        std::fs::rename(away.join(&name), folder.path().join(&name)).expect("moved");
    }
    until("the store is back", async || store.away().is_none()).await;
    commit(&store, [put("web-1", "later")]).await;
    store.close().await;
    check(&folder.database()).expect("whole");
}
