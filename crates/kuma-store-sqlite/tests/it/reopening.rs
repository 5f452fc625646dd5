//! What is there when the store is opened again.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kuma_model::{DataplaneInsight, Document, Key, Resource as _};
use kuma_store::{
    Appended, Cause, Change, Commit, HistoryQuery, Journal as _, Keep, Moment, Position, Since, Store as _, StoreError,
    Stored, Write,
};
use kuma_store_sqlite::{SqliteJournal, backup, check, restore};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Folder, by_hand, commit, count, fill, key, put, put_mesh, secret_key, try_open};

fn everything() -> HistoryQuery {
    HistoryQuery { limit: 1000, ..HistoryQuery::default() }
}

#[tokio::test]
async fn everything_is_there_again() {
    let folder = Folder::new();
    let store = folder.open().await;
    assert!(store.durable());
    fill(&store, 20).await;
    let insight = Document { key: Key::new(DataplaneInsight::KIND, "default", "latest"), spec: json!({"a": 1}) };
    store.put_insights(vec![insight.clone()]).await.expect("stored");
    let before = (
        store.read_all().await.expect("read").documents,
        store.head(),
        store.epoch(),
        store.history(everything()).await.expect("read"),
        store.at(Moment::Revision(7)).await.expect("read").documents,
    );
    // With and without an orderly end.
    for close in [true, false, true] {
        let again = folder.open().await;
        let after = (
            again.read_all().await.expect("read").documents,
            again.head(),
            again.epoch(),
            again.history(everything()).await.expect("read"),
            again.at(Moment::Revision(7)).await.expect("read").documents,
        );
        assert_eq!(after, before);
        assert_eq!(again.get(&insight.key).await.expect("read").map(|stored| stored.document()), Some(insight.clone()));
        if close {
            again.close().await;
        }
    }
    store.close().await;
    let empty = std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |log| log.len());
    assert_eq!(empty, 0, "an orderly end leaves all in one file");
    let closed = store.commit(vec![put("web", 1)]).await;
    assert!(matches!(closed, Err(StoreError::Unavailable { .. })), "{closed:?}");
    assert_eq!(check(&folder.database()).expect("whole").head, before.1);
}

#[tokio::test]
async fn only_this_user_can_read_the_file() {
    let folder = Folder::new();
    let path = folder.path().join("new/state/store.db");
    let store = try_open(&path, None).await.expect("opens");
    fill(&store, 1).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    for ending in ["", "-wal", "-shm"] {
        assert_eq!(mode(format!("{}{ending}", path.display()).as_ref()), 0o600, "{ending}");
    }
    store.close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    try_open(&path, None).await.expect("opens").close().await;
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_and_stays_as_it_is() {
    let folder = Folder::new();
    let path = folder.database();
    let refused = |what: &'static str| {
        let path = path.clone();
        async move {
            let before = std::fs::read(&path).expect("read");
            let error = try_open(&path, None).await.err().expect("it is refused").to_string();
            assert!(error.contains(what) && error.contains("store.db"), "{error}");
            assert_eq!(std::fs::read(&path).expect("read"), before);
        }
    };
    std::fs::write(&path, "not a database, and long enough to hold the header of one if it were\n".repeat(20)).unwrap();
    refused("not a database").await;

    std::fs::remove_file(&path).expect("removed");
    by_hand(&path, "CREATE TABLE other (a)");
    refused("another program").await;

    std::fs::remove_file(&path).expect("removed");
    folder.open().await.close().await;
    by_hand(&path, "PRAGMA user_version = 7");
    refused("newer kuma-cp (schema 7").await;

    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("made");
    let error = try_open(&path, None).await.err().expect("it is refused").to_string();
    assert!(error.contains("it is not a file"), "{error}");
}

#[tokio::test]
async fn the_store_tells_whether_it_is_the_one_that_was_seen() {
    let folder = Folder::new();
    let store = folder.open().await;
    assert!(!store.read_all().await.expect("read").complete, "a new store has forgotten everything");
    fill(&store, 3).await;
    store.close().await;
    let old = folder.path().join("old.db");
    backup(&folder.database(), &old).expect("a backup");

    let store = folder.open().await;
    commit(&store, [put("web", "later")]).await;
    let seen = store.head();
    store.close().await;
    let path = &folder.database();
    let is_complete = |seen| async move {
        let store = try_open(path, seen).await.expect("opens");
        let is_complete = store.read_all().await.expect("read").complete;
        store.close().await;
        is_complete
    };
    assert!(is_complete(Some(seen)).await);
    assert!(is_complete(None).await, "a new control plane joins");

    restore(&old, &folder.database()).expect("restored");
    assert!(!is_complete(Some(seen)).await, "the latest commit is missing");
    let store = folder.open().await;
    commit(&store, [put("web", "another")]).await;
    assert_eq!(store.head().position.revision, seen.position.revision);
    store.close().await;
    assert!(!is_complete(Some(seen)).await, "the commit of that number is another one");

    std::fs::remove_file(folder.database()).expect("removed");
    assert!(!is_complete(Some(seen)).await, "an empty store");
}

#[tokio::test]
async fn commits_follow_a_position_unless_they_are_gone() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [put_mesh()]).await;
    let mut positions = vec![Position::default(), store.head().position];
    for n in 0..10 {
        commit(&store, [put("web", n)]).await;
        positions.push(store.head().position);
    }
    let mut changes = store.changes(0);
    let mut commits = vec![];
    for _ in 0..11 {
        let Some(Change::Commit(commit)) = changes.next().await else { panic!("a commit") };
        commits.push(commit);
    }
    let journal = store.journal();
    let since = |position| async move { journal.since(position).await.expect("an answer") };
    for (index, position) in positions.iter().enumerate() {
        assert_eq!(since(*position).await, Since::Commits(commits[index..].to_vec()));
    }
    let other = Position { commit: positions[3].commit, ..positions[4] };
    assert_eq!(since(other).await, Since::Rewound);
    assert_eq!(since(Position { revision: 12, ..other }).await, Since::Rewound);

    let floor = journal.prune(Keep { age: Duration::ZERO, commits: 4 }).await.expect("pruned");
    assert_eq!(floor, 7);
    for (index, position) in positions.iter().enumerate() {
        let expected = if index < 7 { Since::Behind } else { Since::Commits(commits[index..].to_vec()) };
        assert_eq!(since(*position).await, expected, "{index}");
    }
    assert_eq!(since(other).await, Since::Behind, "what is not known is not said to be wrong");
    let wrong = Position { revision: 7, ..other };
    assert_eq!(since(wrong).await, Since::Rewound);
}

#[tokio::test]
async fn every_state_from_the_floor_on_is_known() {
    let folder = Folder::new();
    let store = folder.open().await;
    fill(&store, 30).await;
    commit(&store, [Write::DeleteMesh { mesh: "default".into() }]).await;
    fill(&store, 30).await;
    let latest = store.head().position.revision;
    let mut states = vec![];
    for revision in 0..=latest {
        states.push(store.at(Moment::Revision(revision)).await.expect("known").documents);
    }
    for kept in [50, 20, 1, 0] {
        let floor = store.journal().prune(Keep { age: Duration::ZERO, commits: kept }).await.expect("pruned");
        assert_eq!(floor, latest - kept);
        for revision in floor..=latest {
            let then = store.at(Moment::Revision(revision)).await.expect("known").documents;
            assert_eq!(then, states[revision as usize], "revision {revision} with floor {floor}");
        }
        let before = store.at(Moment::Revision(floor - 1)).await;
        assert_eq!(before.err(), Some(StoreError::Forgotten { asked: floor - 1, floor }));
        let long_ago = store.at(Moment::Time(Timestamp::UNIX_EPOCH)).await;
        assert_eq!(long_ago.err(), Some(StoreError::Forgotten { asked: 0, floor }));
        assert_eq!(store.history(everything()).await.expect("read").floor, floor);
        check(&folder.database()).expect("whole");
    }
    // What is left is what the documents need, and goes on from there.
    assert_eq!(count(&folder.database(), "SELECT count(*) FROM changes"), 32);
    assert_eq!(commit(&store, [put("web", 1)]).await, latest + 1);
    let kept = store.journal().prune(Keep::default()).await.expect("pruned");
    assert_eq!(kept, latest, "the floor does not go back");
    store.close().await;
    folder.open().await;
}

#[tokio::test]
async fn history_that_is_young_is_kept() {
    let folder = Folder::new();
    let store = folder.open().await;
    fill(&store, 5).await;
    let keep = Keep { age: Duration::from_secs(3600), commits: 0 };
    assert_eq!(store.journal().prune(keep).await.expect("pruned"), 0);
    assert_eq!(store.history(everything()).await.expect("read").entries.len(), 8);
}

#[tokio::test]
async fn the_text_of_a_replaced_secret_goes_after_a_while() {
    let folder = Folder::new();
    let path = folder.database();
    let store = folder.open().await;
    let minutes_ago = |minutes: i64| Timestamp::now() - SignedDuration::from_mins(minutes);
    let texts = ["b25lb25lb25l", "dHdvdHdvdHdv", "dGhyZWV0aHJlZQ=="];
    let mut commits = History::default();
    commits.add(minutes_ago(30), [(secret_key(), Some((1, json!(texts[0]))))]);
    commits.add(minutes_ago(20), [(secret_key(), None)]);
    commits.add(minutes_ago(15), [(secret_key(), Some((1, json!(texts[1]))))]);
    commits.add(minutes_ago(5), [(secret_key(), Some((2, json!(texts[2]))))]);
    commits.append(store.journal()).await;

    let kept = || count(&path, "SELECT count(*) FROM changes WHERE spec IS NOT NULL");
    store.journal().prune(Keep::default()).await.expect("pruned");
    assert_eq!(kept(), 2, "the second was replaced a moment ago, and others may have to read it");
    let told = store.journal().history(everything()).await.expect("read");
    let versions: Vec<_> = told.entries.iter().map(|entry| entry.changes[0].version).collect();
    assert_eq!(versions, [Some(2), Some(1), None, Some(1)], "that it was changed is told");
    assert_eq!(store.journal().since(Position::default()).await, Ok(Since::Behind));
    let since = commits.commits[1].position();
    assert_eq!(store.journal().since(since).await, Ok(Since::Commits(commits.commits[2..].to_vec())));
    store.close().await;

    assert_eq!(check(&path).expect("whole").documents, 1);
    let store = folder.open().await;
    assert_eq!(store.get(&secret_key()).await.expect("read").expect("there").spec(), json!(texts[2]));
    store.close().await;
    let file = std::fs::read(&path).expect("read");
    let holds = texts.map(|text| file.windows(text.len()).any(|part| part == text.as_bytes()));
    assert_eq!(holds, [false, true, true], "what is gone was overwritten");
}

#[tokio::test]
async fn a_kind_of_a_newer_version_stays_as_it_is() {
    let folder = Folder::new();
    let store = folder.open().await;
    let future = |name: &str| Key::new("Future", "default", name);
    let text = |n: u64| Some((n, json!({"n": n})));
    let mut commits = History::default();
    commits.add(Timestamp::now(), [(future("a"), text(1)), (key("web"), text(1))]);
    commits.add(Timestamp::now(), [(future("a"), text(2)), (future("b"), text(1))]);
    commits.append(store.journal()).await;
    store.close().await;

    let store = folder.open().await;
    let found = store.read_all().await.expect("read");
    assert_eq!((found.revision, found.documents.len()), (2, 1));
    let Ok(Since::Commits(told)) = store.journal().since(Position::default()).await else { panic!("commits") };
    let changes: Vec<_> = told.iter().map(|commit| commit.changes.len()).collect();
    assert_eq!(changes, [1, 0], "a commit of nothing that is known has its revision");
    assert_eq!(commit(&store, [put_mesh()]).await, 3);
    store.journal().prune(Keep { age: Duration::ZERO, commits: 0 }).await.expect("pruned");
    let report = check(&folder.database()).expect("whole");
    assert_eq!((report.documents, report.unknown), (2, [("Future".to_owned(), 2)].into()));
    let text = "SELECT count(*) FROM documents WHERE kind = 'Future' AND name = 'a' AND spec = '{\"n\":2}'";
    assert_eq!(count(&folder.database(), text), 1);
}

#[tokio::test]
async fn time_does_not_go_back_with_the_clock() {
    let folder = Folder::new();
    let store = folder.open().await;
    let ahead = Timestamp::from_second(Timestamp::now().as_second() + 3600).expect("a time");
    let mut commits = History::default();
    // The last one leaves no document behind that would tell the time.
    commits.add(ahead, [(key("web"), Some((1, json!({}))))]);
    commits.add(ahead, [(key("web"), None)]);
    commits.append(store.journal()).await;
    store.close().await;
    let store = folder.open().await;
    commit(&store, [put_mesh()]).await;
    assert_eq!(store.history(everything()).await.expect("read").entries[0].at, ahead);
}

/// Commits that no store computes: of another time, or of a newer version.
#[derive(Default)]
struct History {
    commits: Vec<Arc<Commit>>,
}

impl History {
    fn add<const N: usize>(&mut self, at: Timestamp, changes: [(Key, Option<(u64, Value)>); N]) {
        let at = Timestamp::from_microsecond(at.as_microsecond()).expect("a time");
        let stored = |key: &Key, (version, spec): (u64, Value)| {
            Arc::new(Stored::restored(key.clone(), spec.to_string().into(), version, at, at))
        };
        let changes = changes.map(|(key, change)| (key.clone(), change.map(|change| stored(&key, change)))).into();
        let revision = self.commits.len() as u64 + 1;
        let id = Uuid::from_u128(revision.into());
        self.commits.push(Arc::new(Commit { revision, id, at, cause: Cause::default(), changes }));
    }

    async fn append(&self, journal: &SqliteJournal) {
        let appended = journal.append(Position::default(), self.commits.clone()).await;
        assert_eq!(appended, Ok(Appended::Done));
    }
}
