//! A file that is not what was written: it is said, or it makes no difference.

use kuma_store::{HistoryQuery, Moment, Store as _, StoreError, Stored};
use kuma_store_sqlite::{MaintainError, check};
use std::path::Path;
use std::sync::Arc;

use crate::scene::{Folder, Random, by_hand, commit, fill, key, put, setting, try_open};

type Documents = Vec<Arc<Stored>>;

/// All that can be read.
async fn read(path: &Path) -> Result<(u64, Vec<Documents>, kuma_store::HistoryPage), StoreError> {
    let store = try_open(path, None).await?;
    let contents = store.read_all().await?;
    let mut documents = vec![contents.documents];
    let mut result = Ok(());
    for revision in [contents.revision, contents.revision / 2, 1] {
        match store.at(Moment::Revision(revision)).await {
            Ok(then) => documents.push(then.documents),
            Err(error) => result = Err(error),
        }
    }
    let page = store.history(HistoryQuery { limit: 1000, ..HistoryQuery::default() }).await;
    store.close().await;
    result.and(page).map(|page| (contents.revision, documents, page))
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_or_makes_no_difference() {
    let folder = Folder::new();
    let path = folder.database();
    let store = folder.open().await;
    fill(&store, 60).await;
    store.close().await;
    let whole = std::fs::read(&path).expect("read");
    let expected = read(&path).await.expect("whole");
    let mut random = Random(600);
    let mut errors = 0;
    for _ in 0..setting("KUMA_TEST_FLIPS", 60) {
        let (byte, bit) = (random.below(whole.len() as u64) as usize, random.below(8));
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << bit;
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
        }
        std::fs::write(&path, &flipped).expect("written");
        let checked = check(&path);
        match read(&path).await {
            Ok(found) => assert!(found == expected, "byte {byte}, bit {bit}: silently different"),
            Err(error) => {
                errors += 1;
                assert!(checked.is_err(), "byte {byte}, bit {bit}: check finds nothing, but {error}");
            }
        }
    }
    assert!(errors > 0, "some bits matter");
}

/// A log that ends early cannot be told from one that was being written. What is missing is told by what was seen.
#[tokio::test]
async fn a_flipped_bit_in_the_log_is_told_as_a_store_that_was_rewound() {
    let folder = Folder::new();
    let store = folder.open().await;
    fill(&store, 5).await;
    let mut heads = vec![(store.head(), store.read_all().await.expect("read").documents)];
    store.close().await;
    let whole = std::fs::read(folder.database()).expect("read");
    let store = folder.open().await;
    for n in 0..10 {
        commit(&store, [put("logged", n)]).await;
        heads.push((store.head(), store.read_all().await.expect("read").documents));
    }
    let log = std::fs::read(folder.path().join("store.db-wal")).expect("read");
    let (seen, _) = heads[heads.len() - 1];
    let mut random = Random(7);
    let mut shorter = 0;
    for n in 0..20 {
        let path = folder.path().join(format!("{n}.db"));
        let mut flipped = log.clone();
        flipped[random.below(log.len() as u64) as usize] ^= 1 << random.below(8);
        std::fs::write(&path, &whole).expect("written");
        std::fs::write(folder.path().join(format!("{n}.db-wal")), flipped).expect("written");
        match try_open(&path, Some(seen)).await {
            Ok(store) => {
                let contents = store.read_all().await.expect("read");
                assert!(heads.contains(&(store.head(), contents.documents)), "a state that there was");
                assert_eq!(contents.complete, store.head() == seen);
                shorter += u32::from(!contents.complete);
            }
            Err(error) => assert!(error.to_string().contains(".db"), "{error}"),
        }
    }
    assert!(shorter > 0);
}

#[tokio::test]
async fn damage_is_named_with_what_to_do() {
    let folder = Folder::new();
    let path = folder.database();
    let store = folder.open().await;
    fill(&store, 3).await;
    store.close().await;
    let whole = std::fs::read(&path).expect("read");
    let damages = [
        ("UPDATE documents SET spec = '{}' WHERE name = 'web-1'", r#""web-1" of mesh "default" at revision 3"#),
        ("UPDATE documents SET version = 9 WHERE name = 'web-1'", r#"Dataplane "web-1" of mesh "default""#),
        ("DELETE FROM documents WHERE name = 'web-1'", "table `documents` has 4 rows, of 5"),
        ("UPDATE store SET revision = 3", "the row of table `store`"),
        ("DELETE FROM store", "the row of table `store`"),
        ("DROP TABLE documents", "no such table: documents"),
    ];
    for (sql, name) in damages {
        std::fs::write(&path, &whole).expect("written");
        by_hand(&path, sql);
        let error = try_open(&path, None).await.err().expect("it is refused");
        let text = error.to_string();
        assert!(matches!(error, StoreError::Unusable { .. }), "{text}");
        assert!(text.contains(name) && text.contains("kuma-cp store restore"), "{sql}: {text}");
        let found = check(&path).expect_err("damaged");
        assert!(matches!(&found, MaintainError::Damaged { .. }) && found.to_string().contains(name), "{sql}: {found}");
    }
    // The past is looked at when somebody asks for it.
    for (sql, name) in [
        ("UPDATE changes SET spec = '{}' WHERE revision = 3 AND name = 'latest'", "in table `changes`"),
        ("DELETE FROM changes WHERE revision = 3 AND name = 'latest'", "has 1 rows of commit 3, which has 2"),
        ("DELETE FROM commits WHERE revision = 3", "commit 3 is missing"),
        ("UPDATE commits SET author = 'x' WHERE revision = 3", "commit 3 in table `commits`"),
        ("INSERT INTO changes VALUES (9, 'a', 'b', 'c', 1, 1, '', 1)", "has 1 rows after the latest commit"),
    ] {
        std::fs::write(&path, &whole).expect("written");
        by_hand(&path, sql);
        let store = folder.open().await;
        assert!(store.get(&key("web-1")).await.expect("read").is_some());
        let error = store.at(Moment::Revision(5)).await.err().map(|error| error.to_string()).unwrap_or_default();
        let found = check(&path).expect_err("damaged").to_string();
        assert!(found.contains(name), "{sql}: {found}");
        assert!(error.contains(name) || sql.starts_with("INSERT"), "{sql}: {error}");
        store.close().await;
    }
}
