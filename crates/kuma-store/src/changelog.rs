//! The latest commits, and the streams that follow them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::history::{HistoryEntry, is_kept};
use crate::{Change, Commit, DocumentChange, Documents, Gap, HistoryPage, HistoryQuery, Revision};

/// How many commits a store in this process remembers for readers that are behind.
pub const HISTORY_COMMITS: usize = 1024;
/// How many changed documents it remembers in all, since one commit may change thousands.
pub const HISTORY_CHANGES: usize = 16 * 1024;

/// The latest commits of a store, for any number of readers.
///
/// A reader is only a position: nothing is queued for it, so its slowness costs nothing. It is woken by a commit, and
/// ends with the log.
#[derive(Debug)]
pub struct ChangeLog {
    ring: Arc<Mutex<Ring>>,
    appended: watch::Sender<()>,
}

#[derive(Debug)]
struct Ring {
    /// Grows when all readers have to read everything again.
    generation: u64,
    /// Why it grew last.
    cause: Gap,
    /// Ordered by revision, each with the documents that it replaced.
    commits: VecDeque<(Arc<Commit>, Vec<DocumentChange>)>,
    /// The revision before the first of `commits`: who is there or later can be served.
    floor: Revision,
    latest: Revision,
    /// Changed documents in all of `commits`.
    changes: usize,
    max_commits: usize,
    max_changes: usize,
}

/// Where a reader is.
struct Reader {
    ring: Arc<Mutex<Ring>>,
    appended: watch::Receiver<()>,
    generation: u64,
    at: Revision,
}

enum Next {
    Commit(Arc<Commit>),
    Gap(Gap),
    Nothing,
}

impl ChangeLog {
    /// An empty log behind `revision`, which keeps at most `max_commits` commits with `max_changes` changes in all; the
    /// newest commit is always kept.
    pub fn new(revision: Revision, max_commits: usize, max_changes: usize) -> ChangeLog {
        let ring = Ring {
            generation: 0,
            cause: Gap::Behind,
            commits: VecDeque::new(),
            floor: revision,
            latest: revision,
            changes: 0,
            max_commits,
            max_changes,
        };
        ChangeLog { ring: Arc::new(Mutex::new(ring)), appended: watch::Sender::new(()) }
    }

    /// Appends a commit, with the documents that it replaced, and wakes the readers. Its revision is greater than that
    /// of all before; one that is not is ignored.
    pub fn append(&self, commit: Arc<Commit>, replaced: Vec<DocumentChange>) {
        if lock(&self.ring).append(commit, replaced) {
            self.appended.send_replace(());
        }
    }

    /// Forgets all commits and goes on behind `revision`. Readers that are not there get a gap, and all do if
    /// `cause` is more than that they are behind.
    pub fn restart(&self, revision: Revision, cause: Gap) {
        let mut ring = lock(&self.ring);
        ring.commits.clear();
        (ring.changes, ring.floor, ring.latest) = (0, revision, revision);
        if cause != Gap::Behind {
            ring.generation += 1;
            ring.cause = cause;
        }
        drop(ring);
        self.appended.send_replace(());
    }

    /// Has all readers read everything again, and keeps the commits.
    pub fn interrupt(&self, cause: Gap) {
        let mut ring = lock(&self.ring);
        ring.generation += 1;
        ring.cause = cause;
        drop(ring);
        self.appended.send_replace(());
    }

    /// See [`Store::generation`](crate::Store::generation).
    pub fn generation(&self) -> u64 {
        lock(&self.ring).generation
    }

    /// The commits after `since`; see [`Store::changes`](crate::Store::changes).
    pub fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        let generation = self.generation();
        let reader = Reader { ring: self.ring.clone(), appended: self.appended.subscribe(), generation, at: since };
        // After a gap there is no reader, which ends the stream.
        stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await? {
                gap @ Change::Gap(_) => Some((gap, None)),
                change => Some((change, Some(reader))),
            }
        })
        .boxed()
    }

    /// The commits that are kept and asked for, newest first.
    pub fn history(&self, query: &HistoryQuery) -> HistoryPage {
        let ring = lock(&self.ring);
        let mut matching = ring.commits.iter().rev().map(|(commit, _)| commit).filter(|commit| query.matches(commit));
        let entries = matching.by_ref().take(query.limit).map(|commit| HistoryEntry::of(commit)).collect();
        HistoryPage { entries, floor: ring.floor, more: matching.next().is_some() }
    }

    /// Whether it keeps this commit.
    pub fn contains(&self, commit: &Commit) -> bool {
        lock(&self.ring).commits.iter().rev().any(|(kept, _)| kept.id == commit.id)
    }

    /// The oldest revision whose state is known.
    pub fn floor(&self) -> Revision {
        lock(&self.ring).floor
    }

    /// The last commit that was made at this time or before, if it is known: when the first that is kept is later, the
    /// one before it may be, too.
    pub fn revision_at(&self, time: Timestamp) -> Option<Revision> {
        let ring = lock(&self.ring);
        let made = ring.commits.iter().rev().find(|(commit, _)| commit.at <= time);
        made.map(|(commit, _)| commit.revision)
    }

    /// Takes back in `documents`, the state at the latest revision, every commit after `revision`.
    pub fn take_back(&self, documents: &mut Documents, revision: Revision) {
        let ring = lock(&self.ring);
        for (_, replaced) in ring.commits.iter().rev().take_while(|(commit, _)| commit.revision > revision) {
            for (key, stored) in replaced.iter().filter(|(key, _)| is_kept(key)) {
                match stored {
                    Some(stored) => documents.insert(key.clone(), stored.clone()),
                    None => documents.remove(key),
                };
            }
        }
    }
}

impl Ring {
    fn append(&mut self, commit: Arc<Commit>, replaced: Vec<DocumentChange>) -> bool {
        if commit.revision <= self.latest {
            return false;
        }
        self.latest = commit.revision;
        self.changes += commit.changes.len();
        self.commits.push_back((commit, replaced));
        while self.commits.len() > 1 && (self.commits.len() > self.max_commits || self.changes > self.max_changes) {
            if let Some((oldest, _)) = self.commits.pop_front() {
                self.floor = oldest.revision;
                self.changes -= oldest.changes.len();
            }
        }
        true
    }

    fn after(&self, generation: u64, at: Revision) -> Next {
        if generation != self.generation {
            return Next::Gap(self.cause);
        }
        // A revision from the future is one of another life of the store.
        if at < self.floor || at > self.latest {
            return Next::Gap(Gap::Behind);
        }
        let index = self.commits.partition_point(|(commit, _)| commit.revision <= at);
        self.commits.get(index).map_or(Next::Nothing, |(commit, _)| Next::Commit(commit.clone()))
    }
}

impl Reader {
    /// `None` when the log is gone.
    async fn next(&mut self) -> Option<Change> {
        loop {
            match lock(&self.ring).after(self.generation, self.at) {
                Next::Commit(commit) => {
                    self.at = commit.revision;
                    return Some(Change::Commit(commit));
                }
                Next::Gap(gap) => return Some(Change::Gap(gap)),
                Next::Nothing => {}
            }
            // Wakes at once if something was appended since the last wait, so nothing is missed in between.
            self.appended.changed().await.ok()?;
        }
    }
}

/// The ring is whole between any two statements that could panic, so a poisoned lock is as good as another.
fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream::BoxStream;
    use futures_util::{FutureExt, StreamExt};
    use jiff::Timestamp;
    use kuma_model::Key;
    use uuid::Uuid;

    use super::ChangeLog;
    use crate::{Cause, Change, Commit, Gap, Revision};

    fn append(log: &ChangeLog, revision: Revision, changes: usize) {
        let changes = (0..changes).map(|n| (Key::new("Dataplane", "default", &n.to_string()), None)).collect();
        let at = Timestamp::UNIX_EPOCH;
        let commit = Commit { revision, id: Uuid::from_u128(revision.into()), at, cause: Cause::default(), changes };
        log.append(Arc::new(commit), Vec::new());
    }

    /// What a reader at `since` gets without waiting: revisions, 0 for a gap.
    fn ready(log: &ChangeLog, since: Revision) -> Vec<Revision> {
        let mut changes = log.changes(since);
        std::iter::from_fn(|| changes.next().now_or_never().flatten())
            .map(|change| if let Change::Commit(commit) = change { commit.revision } else { 0 })
            .collect()
    }

    #[test]
    fn readers_get_what_is_after_their_revision_or_a_gap() {
        let log = ChangeLog::new(10, 3, 100);
        assert_eq!(ready(&log, 10), [] as [u64; 0]);
        assert_eq!(ready(&log, 9), [0]);
        assert_eq!(ready(&log, 11), [0], "a revision that was never given");
        // Revisions may skip: another process may number them.
        for revision in [11, 12, 15, 16, 17] {
            append(&log, revision, 1);
        }
        assert_eq!(ready(&log, 12), [15, 16, 17]);
        assert_eq!(ready(&log, 13), [15, 16, 17]);
        assert_eq!(ready(&log, 17), [] as [u64; 0]);
        for old in [0, 10, 11] {
            assert_eq!(ready(&log, old), [0]);
        }
    }

    #[test]
    fn large_commits_push_out_more_but_the_newest_stays() {
        let log = ChangeLog::new(0, 100, 10);
        append(&log, 1, 4);
        append(&log, 2, 4);
        append(&log, 3, 4);
        assert_eq!(ready(&log, 1), [2, 3]);
        append(&log, 4, 50);
        assert_eq!(ready(&log, 3), [4]);
        assert_eq!(ready(&log, 2), [0]);
        append(&log, 5, 1);
        assert_eq!(ready(&log, 4), [5]);
        assert_eq!(ready(&log, 3), [0]);
    }

    #[test]
    fn readers_of_another_generation_get_the_reason() {
        let log = ChangeLog::new(0, 100, 100);
        append(&log, 1, 1);
        let next = |changes: &mut BoxStream<'static, Change>| changes.next().now_or_never();
        for cause in [Gap::Rewound, Gap::Accepted] {
            let mut there = log.changes(1);
            assert_eq!(next(&mut there), None);
            match cause {
                Gap::Rewound => log.restart(1, cause),
                _ => log.interrupt(cause),
            }
            assert_eq!(next(&mut there), Some(Some(Change::Gap(cause))));
            assert_eq!(next(&mut there), Some(None));
        }
        assert_eq!(log.generation(), 2);
        // A reader that has everything does not notice that commits were forgotten.
        let (mut behind, mut there) = (log.changes(1), log.changes(7));
        log.restart(7, Gap::Behind);
        assert_eq!(next(&mut behind), Some(Some(Change::Gap(Gap::Behind))));
        append(&log, 8, 1);
        assert!(matches!(next(&mut there), Some(Some(Change::Commit(commit))) if commit.revision == 8));
    }

    #[test]
    fn a_revision_that_is_not_new_is_ignored() {
        let log = ChangeLog::new(0, 100, 100);
        for revision in [1, 1, 3, 2, 3] {
            append(&log, revision, 1);
        }
        assert_eq!(ready(&log, 0), [1, 3]);
    }

    #[tokio::test]
    async fn streams_wait_for_commits_and_end_with_the_log() {
        let log = ChangeLog::new(0, 100, 100);
        let mut changes = log.changes(0);
        assert!(changes.next().now_or_never().is_none());
        append(&log, 1, 1);
        assert!(matches!(changes.next().await, Some(Change::Commit(commit)) if commit.revision == 1));
        let waiting = tokio::spawn(async move { changes.next().await });
        tokio::task::yield_now().await;
        drop(log);
        assert_eq!(waiting.await.unwrap(), None);
    }
}
