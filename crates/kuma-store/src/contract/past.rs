//! Promises about questions about the past.

use super::*;

pub(super) const CHECKS: &[Check] = &[
    Check::new("every state can be told as it was", |store| states(store).boxed()),
    Check::new("a state is found by the time of its commit", |store| by_time(store).boxed()),
    Check::new("revisions that are not there are told apart", |store| not_there(store).boxed()),
    Check::new("history tells who changed what, newest first", |store| who(store).boxed()),
    Check::new("history is searched and told in pages", |store| searched(store).boxed()),
    Check::new("history holds no secrets", |store| no_secrets(store).boxed()),
    Check::new("a refused or unchanged commit leaves no trace", |store| no_trace(store).boxed()),
    Check::new("times are those that were told, to the microsecond", |store| times(store).boxed()),
];

async fn at(store: &dyn Store, moment: Moment) -> (Revision, State) {
    state(store.at(moment).await.expect("it is kept"))
}

async fn history(store: &dyn Store, query: HistoryQuery) -> HistoryPage {
    let query = HistoryQuery { limit: if query.limit == 0 { 1000 } else { query.limit }, ..query };
    store.history(query).await.expect("an answer")
}

/// The revisions of a page.
fn revisions(page: &HistoryPage) -> Vec<Revision> {
    page.entries.iter().map(|entry| entry.revision).collect()
}

/// Random commits; each state is what was read after its commit.
async fn states(store: Arc<dyn Store>) {
    let mut random = changes::Random(7);
    let mut seen = vec![read_all(&*store).await];
    while seen.len() < 80 {
        let writes = (0..random.below(4)).map(|_| random.write()).collect();
        if store.commit(writes).await.is_ok_and(|committed| committed.revision > seen[seen.len() - 1].0) {
            seen.push(read_all(&*store).await);
        }
    }
    for expected in seen {
        assert_eq!(at(&*store, Moment::Revision(expected.0)).await, expected);
    }
}

async fn by_time(store: Arc<dyn Store>) {
    let mut made = vec![];
    commit(&*store, [Write::Put(mesh("default"))]).await;
    for text in ["a", "b", "c"] {
        // Commits of one microsecond are told apart by number alone.
        tokio::time::sleep(Duration::from_millis(2)).await;
        commit(&*store, [Write::Put(document("default", "web", text))]).await;
        let stored = get(&*store, &key("default", "web")).await.expect("it is there");
        made.push((stored.modified, read_all(&*store).await));
    }
    for (index, (time, expected)) in made.iter().enumerate() {
        assert_eq!(at(&*store, Moment::Time(*time)).await, *expected);
        let before = *time - Duration::from_micros(1);
        if let Some((_, expected)) = index.checked_sub(1).map(|index| &made[index]) {
            assert_eq!(at(&*store, Moment::Time(before)).await, *expected);
        }
        let hours_later = *time + Duration::from_secs(3600);
        assert_eq!(at(&*store, Moment::Time(hours_later)).await, made[2].1);
    }
}

async fn not_there(store: Arc<dyn Store>) {
    let latest = commit(&*store, [Write::Put(mesh("default"))]).await.revision;
    let future = store.at(Moment::Revision(latest + 1)).await.expect_err("nothing has happened yet");
    assert_eq!(future, StoreError::Future { asked: latest + 1, latest });
    assert_eq!(at(&*store, Moment::Revision(0)).await, (0, State::new()), "it was empty");
}

async fn who(store: Arc<dyn Store>) {
    let cause = Cause { author: "CN=anna".into(), via: "kumactl/0.4".into(), note: "a \u{1f600}\n\"note\"".into() };
    let writes = vec![Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))];
    let first =
        store.propose(Proposal { writes, cause: cause.clone(), ..Proposal::default() }).await.expect("in order");
    let second = commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    let third = commit(&*store, [Write::Delete { key: key("default", "web"), version: None }]).await;

    let page = history(&*store, HistoryQuery::default()).await;
    assert_eq!(revisions(&page), [third.revision, second.revision, first.revision]);
    assert_eq!((page.floor, page.more), (0, false));
    let changed = |index: usize| -> Vec<_> {
        page.entries[index].changes.iter().map(|change| (change.key.clone(), change.version)).collect()
    };
    assert_eq!(changed(0), [(key("default", "web"), None)]);
    assert_eq!(changed(1), [(key("default", "web"), Some(2))]);
    assert_eq!(changed(2), [(key("default", "web"), Some(1)), (Key::mesh("default"), Some(1))]);
    assert_eq!(page.entries[2].cause, cause);
    assert_eq!(page.entries[1].cause, Cause::default());
    assert!(page.entries.is_sorted_by(|a, b| a.at >= b.at));

    let mut changes = store.changes(0);
    for entry in page.entries.iter().rev() {
        let commit = next_commit(&mut changes).await;
        assert_eq!((commit.revision, commit.id, commit.at), (entry.revision, entry.id, entry.at));
        assert_eq!(commit.cause, entry.cause);
    }
    assert_eq!(store.head().position.commit, page.entries[0].id);
}

async fn searched(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("a"))]).await;
    commit(&*store, [Write::Put(mesh("b"))]).await;
    for n in 0..3 {
        commit(&*store, [Write::Put(document("a", "web", &n.to_string()))]).await;
        commit(
            &*store,
            [Write::Put(document("b", "web", &n.to_string())), Write::Put(document("b", "db", &n.to_string()))],
        )
        .await;
    }
    let all = HistoryQuery::default;
    let found = |query| async { revisions(&history(&*store, query).await) };
    assert_eq!(found(all()).await, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(found(HistoryQuery { mesh: Some("a".into()), ..all() }).await, [7, 5, 3, 1]);
    assert_eq!(found(HistoryQuery { kind: Some(Mesh::KIND), ..all() }).await, [2, 1]);
    assert_eq!(found(HistoryQuery { kind: Some(KIND), name: Some("db".into()), ..all() }).await, [8, 6, 4]);
    let of_one = HistoryQuery { mesh: Some("a".into()), kind: Some(KIND), name: Some("db".into()), ..all() };
    assert_eq!(found(of_one).await, [] as [Revision; 0]);
    assert_eq!(found(HistoryQuery { before: Some(3), ..all() }).await, [2, 1]);

    let mut page = history(&*store, HistoryQuery { limit: 3, ..all() }).await;
    let mut pages = vec![revisions(&page)];
    while page.more {
        let before = page.entries.last().map(|entry| entry.revision);
        page = history(&*store, HistoryQuery { limit: 3, before, ..all() }).await;
        pages.push(revisions(&page));
    }
    assert_eq!(pages, [vec![8, 7, 6], vec![5, 4, 3], vec![2, 1]]);

    let page = history(&*store, all()).await;
    let time = page.entries[3].at;
    let since = found(HistoryQuery { since: Some(time), ..all() }).await;
    let until = found(HistoryQuery { until: Some(time), ..all() }).await;
    assert!(since.contains(&5) && until.contains(&5) && since.len() + until.len() >= 9, "{since:?} {until:?}");
}

async fn no_secrets(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default")), Write::Put(secret("default", "ca"))]).await;
    let revision = commit(&*store, [Write::Put(document("default", "web", "a"))]).await.revision;
    let (_, state) = at(&*store, Moment::Revision(revision)).await;
    assert_eq!(state.into_keys().collect::<Vec<_>>(), [key("default", "web"), Key::mesh("default")]);
    // That it was changed is told.
    let page = history(&*store, HistoryQuery { kind: Some(SECRET_KIND), ..HistoryQuery::default() }).await;
    assert_eq!(revisions(&page), [1]);
    assert!(read_all(&*store).await.1.contains_key(&secret("default", "ca").key));
}

async fn no_trace(store: Arc<dyn Store>) {
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let before = (history(&*store, HistoryQuery::default()).await, store.head());
    commit(&*store, [Write::Put(document("default", "web", "a"))]).await;
    refused(&*store, [Write::Create(document("default", "web", "b"))]).await;
    commit(&*store, []).await;
    assert_eq!((history(&*store, HistoryQuery::default()).await, store.head()), before);
    assert_eq!(commit(&*store, [Write::Put(document("default", "web", "b"))]).await.revision, 2, "no number was used");
}

async fn times(store: Arc<dyn Store>) {
    let whole = |time: jiff::Timestamp| assert_eq!(time.subsec_nanosecond() % 1000, 0, "{time}");
    commit(&*store, [Write::Put(mesh("default")), Write::Put(document("default", "web", "a"))]).await;
    let first = get(&*store, &key("default", "web")).await.expect("it is there");
    assert_eq!(first.created, first.modified);
    whole(first.created);
    tokio::time::sleep(Duration::from_millis(2)).await;
    commit(&*store, [Write::Put(document("default", "web", "b"))]).await;
    let second = get(&*store, &key("default", "web")).await.expect("it is there");
    assert_eq!(second.created, first.created);
    assert!(second.modified > first.modified);
    whole(second.modified);
    assert_eq!(history(&*store, HistoryQuery::default()).await.entries[0].at, second.modified);
}
