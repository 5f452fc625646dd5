//! The state of a store in memory: what commits are made from, and what reads are answered from.

use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::Key;
use uuid::Uuid;

use crate::history::is_kept;
use crate::transaction::{Documents, Pending, Transaction};
use crate::{
    ChangeLog, Commit, Committed, Contents, Expect, Gap, Head, HistoryPage, HistoryQuery, Moment, Position, Proposal,
    Revision, StoreError, Stored,
};

/// All documents at a revision, and the commits that led there.
#[derive(Debug)]
pub(crate) struct Replica {
    head: Head,
    /// When the latest commit was made.
    latest: Timestamp,
    epoch: Arc<str>,
    complete: bool,
    documents: Documents,
    log: ChangeLog,
}

/// What proposals come to, if nothing else is committed before them.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// In their order; proposals that change nothing have none.
    pub(crate) commits: Vec<Arc<Commit>>,
    /// One for each proposal.
    pub(crate) answers: Vec<Result<Committed, StoreError>>,
}

impl Replica {
    /// All documents of a store at its head.
    pub(crate) fn new(head: Head, documents: Documents, complete: bool, log: ChangeLog) -> Replica {
        let epoch = format!("{:016x}", head.store.as_u64_pair().0).into();
        Replica { head, latest: Timestamp::MIN, epoch, complete, documents, log }
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn epoch(&self) -> Arc<str> {
        self.epoch.clone()
    }

    pub(crate) fn log(&self) -> &ChangeLog {
        &self.log
    }

    /// What becomes of `proposals`, one after the other, at `now`. Nothing is changed by it.
    pub(crate) fn evaluate<'a>(&self, proposals: impl IntoIterator<Item = &'a Proposal>, now: Timestamp) -> Evaluation {
        // History is searched by time, so time does not go back.
        let now = in_microseconds(now).max(self.latest);
        let mut position = self.head.position;
        let mut pending = Pending::new();
        let mut evaluation = Evaluation::default();
        for proposal in proposals {
            let answer = self.evaluate_one(proposal, &pending, position.revision, now).map(|(changes, outcomes)| {
                if !changes.is_empty() {
                    pending.extend(changes.iter().cloned());
                    position = Position { revision: position.revision + 1, commit: Uuid::new_v4() };
                    evaluation.commits.push(Arc::new(Commit {
                        revision: position.revision,
                        id: position.commit,
                        at: now,
                        cause: proposal.cause.clone(),
                        changes,
                    }));
                }
                Committed { revision: position.revision, outcomes }
            });
            evaluation.answers.push(answer);
        }
        evaluation
    }

    fn evaluate_one(
        &self,
        proposal: &Proposal,
        pending: &Pending,
        revision: Revision,
        now: Timestamp,
    ) -> Result<(Vec<crate::DocumentChange>, Vec<crate::Outcome>), StoreError> {
        let mut transaction = Transaction::new(&self.documents, pending, now);
        for expected in &proposal.expected {
            match expected {
                Expect::Head(expected) if *expected != revision => {
                    return Err(StoreError::HeadMoved { expected: *expected, actual: revision });
                }
                Expect::Head(_) => {}
                Expect::Version { key, version } => transaction.expect(key, *version)?,
            }
        }
        proposal.writes.iter().try_for_each(|write| transaction.write(write))?;
        transaction.finish()
    }

    /// Takes over a commit that follows the head, and tells the readers of changes.
    pub(crate) fn apply(&mut self, commit: Arc<Commit>) {
        debug_assert_eq!(commit.revision, self.head.position.revision + 1);
        let replaced = commit.changes.iter().map(|(key, stored)| {
            let before = match stored {
                Some(stored) => self.documents.insert(key.clone(), stored.clone()),
                None => self.documents.remove(key),
            };
            // A secret that was replaced is to be gone.
            (key.clone(), before.filter(|_| is_kept(key)))
        });
        let replaced = replaced.collect();
        self.head.position = commit.position();
        self.latest = self.latest.max(commit.at);
        self.log.append(commit, replaced);
    }

    /// Whether these commits were taken over, as the latest or with others after them.
    pub(crate) fn has(&self, commits: &[Arc<Commit>]) -> bool {
        commits.last().is_some_and(|last| self.log.contains(last))
    }

    /// Takes over other contents. `cause` says why the commits in between are not known.
    pub(crate) fn replace(&mut self, head: Head, documents: Documents, cause: Gap) {
        if cause == Gap::Rewound {
            // The numbers of this history were other commits before.
            let (store, commit) = (head.store.as_u64_pair().0, head.position.commit.as_u64_pair().0);
            self.epoch = format!("{store:016x}-{commit:016x}").into();
            self.complete = false;
        }
        (self.head, self.documents) = (head, documents);
        self.log.restart(head.position.revision, cause);
    }

    /// Whether what is not here does not exist.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// From now on, what is not here does not exist. Says whether it was otherwise.
    pub(crate) fn accept(&mut self) -> bool {
        let was_incomplete = !std::mem::replace(&mut self.complete, true);
        if was_incomplete {
            self.log.interrupt(Gap::Accepted);
        }
        was_incomplete
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.documents.get(key).cloned()
    }

    pub(crate) fn has_mesh(&self, mesh: &str) -> bool {
        self.documents.contains_key(&Key::mesh(mesh))
    }

    pub(crate) fn list(&self, kind: &'static str, mesh: Option<&str>) -> Vec<Arc<Stored>> {
        list(&self.documents, kind, mesh)
    }

    pub(crate) fn contents(&self) -> Contents {
        self.contents_of(&self.documents, self.head.position.revision)
    }

    fn contents_of(&self, documents: &Documents, revision: Revision) -> Contents {
        Contents {
            revision,
            documents: documents.values().cloned().collect(),
            complete: self.complete,
            generation: self.log.generation(),
        }
    }

    pub(crate) fn history(&self, query: &HistoryQuery) -> HistoryPage {
        self.log.history(query)
    }

    /// The state at `moment`, as far as the log reaches back.
    pub(crate) fn at(&self, moment: Moment) -> Result<Contents, StoreError> {
        let floor = self.log.floor();
        let latest = self.head.position.revision;
        let revision = match moment {
            Moment::Revision(asked) if asked > latest => return Err(StoreError::Future { asked, latest }),
            Moment::Revision(asked) if asked < floor => return Err(StoreError::Forgotten { asked, floor }),
            Moment::Revision(asked) => asked,
            Moment::Time(time) => match self.log.revision_at(time) {
                Some(revision) => revision,
                // Before the first commit of all there was nothing.
                None if floor == 0 => 0,
                None => return Err(StoreError::Forgotten { asked: 0, floor }),
            },
        };
        let mut documents = self.documents.clone();
        self.log.take_back(&mut documents, revision);
        documents.retain(|key, _| is_kept(key));
        Ok(self.contents_of(&documents, revision))
    }
}

/// All documents of a kind, in one mesh or in all.
pub(crate) fn list(documents: &Documents, kind: &'static str, mesh: Option<&str>) -> Vec<Arc<Stored>> {
    let first = Key::new(kind, mesh.unwrap_or_default(), "");
    let found = documents.range(first..);
    let found = found.take_while(|(key, _)| key.kind == kind && mesh.is_none_or(|mesh| *key.mesh == *mesh));
    found.map(|(_, stored)| stored.clone()).collect()
}

/// Stores keep times to the microsecond, and what is read back equals what was told.
pub(crate) fn in_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
