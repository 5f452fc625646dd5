//! Questions about the past.

use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::Key;
use uuid::Uuid;

use crate::{Cause, Commit, Revision};

/// Most commits in one [`HistoryPage`].
pub const PAGE_LIMIT: usize = 1000;

/// Which commits are asked for; what is left out does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Those that changed something in this mesh.
    pub mesh: Option<Arc<str>>,
    /// Those that changed a document of this kind.
    pub kind: Option<&'static str>,
    /// Those that changed a document of this name.
    pub name: Option<Arc<str>>,
    /// Those made then or later.
    pub since: Option<Timestamp>,
    /// Those made then or before.
    pub until: Option<Timestamp>,
    /// Those before this revision: the next page.
    pub before: Option<Revision>,
    /// How many at most; see [`PAGE_LIMIT`].
    pub limit: usize,
}

impl HistoryQuery {
    /// Whether a change of this document is asked for. The mesh, the kind and the name are those of one document.
    pub fn concerns(&self, key: &Key) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind)
            && self.mesh.as_ref().is_none_or(|mesh| *mesh == key.mesh)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }

    /// Whether it was made in the time that is asked for, before the given revision, and changed something that is
    /// asked for.
    pub fn matches(&self, commit: &Commit) -> bool {
        self.before.is_none_or(|before| commit.revision < before)
            && self.since.is_none_or(|since| commit.at >= since)
            && self.until.is_none_or(|until| commit.at <= until)
            && commit.changes.iter().any(|(key, _)| self.concerns(key))
    }
}

/// A commit of the past, without the texts of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its number.
    pub revision: Revision,
    /// See [`Commit::id`].
    pub id: Uuid,
    /// When it was made.
    pub at: Timestamp,
    /// Who asked for it.
    pub cause: Cause,
    /// All that it changed, also what was not asked for, ordered by key.
    pub changes: Vec<HistoryChange>,
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryChange {
    /// The document.
    pub key: Key,
    /// The version that it then had: 1 when it was created, `None` when it was deleted.
    pub version: Option<u64>,
}

impl HistoryEntry {
    /// What is told of a commit.
    pub fn of(commit: &Commit) -> HistoryEntry {
        let Commit { revision, id, at, cause, changes } = commit;
        let changes = changes.iter().map(|(key, stored)| HistoryChange {
            key: key.clone(),
            version: stored.as_ref().map(|stored| stored.version),
        });
        HistoryEntry { revision: *revision, id: *id, at: *at, cause: cause.clone(), changes: changes.collect() }
    }
}

/// A part of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Newest first.
    pub entries: Vec<HistoryEntry>,
    /// The oldest revision whose state is known: what was changed up to it, and replaced before it, is forgotten.
    pub floor: Revision,
    /// Whether there are older commits that match.
    pub more: bool,
}

/// A state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After this commit.
    Revision(Revision),
    /// After the last commit that was made then or before.
    Time(Timestamp),
}

/// Whether the past of this document can be asked for. Secrets are kept in their latest version alone, and that a proxy
/// had left means nothing later.
pub fn is_kept(key: &Key) -> bool {
    kuma_model::is_public(key.kind)
}
