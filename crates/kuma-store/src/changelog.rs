//! The latest commits, and the streams that follow them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::{Change, Commit, Revision};

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
    latest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Ring {
    /// Ordered by revision.
    commits: VecDeque<Arc<Commit>>,
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
    latest: watch::Receiver<Revision>,
    at: Revision,
}

enum Next {
    Commit(Arc<Commit>),
    Gap,
    Nothing,
}

impl ChangeLog {
    /// An empty log behind `revision`, which keeps at most `max_commits` commits with `max_changes` changes in all; the
    /// newest commit is always kept.
    pub fn new(revision: Revision, max_commits: usize, max_changes: usize) -> ChangeLog {
        let ring =
            Ring { commits: VecDeque::new(), floor: revision, latest: revision, changes: 0, max_commits, max_changes };
        ChangeLog { ring: Arc::new(Mutex::new(ring)), latest: watch::Sender::new(revision) }
    }

    /// Appends a commit and wakes the readers. Its revision is greater than that of all before; one that is not is
    /// ignored.
    pub fn append(&self, commit: Arc<Commit>) {
        let revision = commit.revision;
        if lock(&self.ring).append(commit) {
            self.latest.send_replace(revision);
        }
    }

    /// The commits after `since`; see [`Store::changes`](crate::Store::changes).
    pub fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        let reader = Reader { ring: self.ring.clone(), latest: self.latest.subscribe(), at: since };
        // After a gap there is no reader, which ends the stream.
        stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await? {
                Change::Gap => Some((Change::Gap, None)),
                change => Some((change, Some(reader))),
            }
        })
        .boxed()
    }
}

impl Ring {
    fn append(&mut self, commit: Arc<Commit>) -> bool {
        if commit.revision <= self.latest {
            return false;
        }
        self.latest = commit.revision;
        self.changes += commit.changes.len();
        self.commits.push_back(commit);
        while self.commits.len() > 1 && (self.commits.len() > self.max_commits || self.changes > self.max_changes) {
            if let Some(oldest) = self.commits.pop_front() {
                self.floor = oldest.revision;
                self.changes -= oldest.changes.len();
            }
        }
        true
    }

    fn after(&self, at: Revision) -> Next {
        // A revision from the future is one of another life of the store.
        if at < self.floor || at > self.latest {
            return Next::Gap;
        }
        let index = self.commits.partition_point(|commit| commit.revision <= at);
        self.commits.get(index).map_or(Next::Nothing, |commit| Next::Commit(commit.clone()))
    }
}

impl Reader {
    /// `None` when the log is gone.
    async fn next(&mut self) -> Option<Change> {
        loop {
            match lock(&self.ring).after(self.at) {
                Next::Commit(commit) => {
                    self.at = commit.revision;
                    return Some(Change::Commit(commit));
                }
                Next::Gap => return Some(Change::Gap),
                Next::Nothing => {}
            }
            // Wakes at once if something was appended since the last wait, so nothing is missed in between.
            self.latest.changed().await.ok()?;
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

    use futures_util::{FutureExt, StreamExt};
    use kuma_model::Key;

    use super::ChangeLog;
    use crate::{Change, Commit, Revision};

    fn append(log: &ChangeLog, revision: Revision, changes: usize) {
        let changes = (0..changes).map(|n| (Key::new("Dataplane", "default", &n.to_string()), None)).collect();
        log.append(Arc::new(Commit { revision, changes }));
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
