//! Other programs that write to the file.

use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_store::{Change, Gap, Store as _, StoreError};
use kuma_store_sqlite::{backup, check, restore};

use crate::crash::{Writer, compare};
use crate::scene::{Folder, by_hand, commit, fill, key, put, put_mesh, try_open, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_does_to_a_document_is_noticed_before_the_next_commit() {
    let folder = Folder::new();
    let path = folder.database();
    let store = folder.open().await;
    fill(&store, 3).await;
    let before = store.read_all().await.expect("read");

    // Nothing that matters.
    by_hand(&path, "VACUUM");
    let revision = commit(&store, [put("web-2", "later")]).await;
    assert_eq!(revision, before.revision + 1);

    by_hand(&path, "CREATE TABLE kept AS SELECT * FROM documents WHERE name = 'web-1'");
    by_hand(&path, "DELETE FROM documents WHERE name = 'web-1'");
    let refused = store.commit(vec![put("web-2", "again")]).await.expect_err("it is damaged");
    assert!(matches!(&refused, StoreError::Unusable { .. }), "{refused}");
    assert!(refused.to_string().contains("table `documents` has 4 rows, of 5"), "{refused}");
    assert!(store.away().is_some());
    assert!(store.get(&key("web-1")).await.expect("read").is_some(), "reads go on as they were");

    by_hand(&path, "INSERT INTO documents SELECT * FROM kept");
    until("the store is back", async || store.away().is_none()).await;
    assert_eq!(commit(&store, [put("web-2", "again")]).await, revision + 1);
    store.close().await;
    check(&path).expect("whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_think_that_they_are_alone_lose_nothing() {
    let folder = Folder::new();
    let [a, b] = [folder.open().await, folder.open().await];
    commit(&a, [put_mesh()]).await;
    let mut changes = b.changes(0);
    // Nobody asks: after some seconds it is seen nevertheless.
    until("the mesh is seen", async || b.head().position.revision == 1).await;
    for n in 0..10 {
        let (writer, other) = if n % 2 == 0 { (&b, &a) } else { (&a, &b) };
        assert_eq!(commit(writer, [put("web", n)]).await, 2 * n + 2);
        assert_eq!(commit(other, [put(&format!("web-{n}"), n)]).await, 2 * n + 3);
    }
    for revision in 1..=21 {
        assert!(matches!(changes.next().await, Some(Change::Commit(commit)) if commit.revision == revision));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_file_lose_nothing() {
    let folder = Folder::new();
    let path = folder.database();
    for _ in 0..3 {
        let writers = ["left", "right"].map(|prefix| Writer::start(&path, prefix));
        let acknowledged: Vec<_> = std::thread::scope(|scope| {
            let ends = writers.map(|writer| scope.spawn(|| writer.kill(Duration::from_millis(300))));
            ends.into_iter().map(|end| end.join().expect("it ends")).collect()
        });
        for acknowledged in acknowledged {
            assert!(!acknowledged.is_empty(), "each process had its turn");
            compare(&path, &acknowledged).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_file_put_under_a_running_store_is_a_rewound_store() {
    let folder = Folder::new();
    let path = folder.database();
    let store = folder.open().await;
    fill(&store, 3).await;
    let old = folder.path().join("old.db");
    let copied = backup(&path, &old).expect("a backup while it runs");
    assert_eq!(copied.head, store.head());
    commit(&store, [put("web-9", "later")]).await;
    let (seen, epoch) = (store.head(), store.epoch());
    store.close().await;

    let store = try_open(&path, Some(seen)).await.expect("opens");
    assert!(store.read_all().await.expect("read").complete);
    let mut changes = store.changes(seen.position.revision);
    restore(&old, &path).expect("restored");
    // It was computed on what is not there any more, and is made on what is.
    assert_eq!(commit(&store, [put("web-8", "other")]).await, copied.head.position.revision + 1);
    assert_eq!(changes.next().await, Some(Change::Gap(Gap::Rewound)));
    let contents = store.read_all().await.expect("read");
    assert!(!contents.complete, "what is missing was not deleted");
    assert!(!contents.documents.iter().any(|stored| *stored.key.name == *"web-9"));
    assert_ne!(store.epoch(), epoch, "the numbers mean something else");
    store.close().await;
    assert_eq!(check(&path).expect("whole").head.position.revision, seen.position.revision);
}
