//! Reading all documents, and the commits after one.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_store::{Commit, DocumentChange, Loaded, Position, Since};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Fault, Result};
use crate::rows::{CommitRow, DocumentRow, StoreRow, signed, time};

/// All that a database holds, and what it should come to.
pub(crate) struct Everything {
    pub(crate) store: StoreRow,
    pub(crate) loaded: Loaded,
    /// How many documents there are of each kind that this program does not know.
    pub(crate) unknown: BTreeMap<String, usize>,
}

/// Reads all documents, and makes sure that they are the ones that were written.
pub(crate) fn load(connection: &mut Connection) -> Result<Everything> {
    // One transaction, so that all is of one moment.
    let transaction = connection.transaction()?;
    let store = StoreRow::read(&transaction)?;
    let sql = format!("SELECT {} FROM documents ORDER BY kind, mesh, name", DocumentRow::DOCUMENT);
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let (mut documents, mut unknown) = (Vec::new(), BTreeMap::new());
    let (mut count, mut digest) = (0i64, 0i64);
    while let Some(row) = rows.next()? {
        let (row, sum) = DocumentRow::read_document(row)?;
        count += 1;
        digest = digest.wrapping_add(sum);
        match row.key() {
            Some(key) => {
                let modified = row.modified.and_then(time);
                let stored = modified.and_then(|modified| row.stored(key, modified));
                documents.push(stored.ok_or_else(|| row.damaged("documents"))?);
            }
            None => *unknown.entry(row.kind.to_owned()).or_default() += 1,
        }
    }
    if (count, digest) != (store.documents, store.digest) {
        let expected = store.documents;
        let what = format!("table `documents` has {count} rows, of {expected}, or not the ones that were written");
        return Err(Fault::Damaged(what));
    }
    Ok(Everything { store, loaded: Loaded { head: store.head, documents }, unknown })
}

/// The commits after `base`; see [`Journal::since`](kuma_store::Journal::since).
pub(crate) fn since(connection: &mut Connection, base: Position) -> Result<Since> {
    let transaction = connection.transaction()?;
    let store = StoreRow::read(&transaction)?;
    let head = store.head.position;
    if base == head {
        return Ok(Since::Commits(Vec::new()));
    }
    let row = commit_row(&transaction, base.revision)?;
    let is_there = match &row {
        Some(row) => row.position == base,
        // The start, or a commit of which nothing is left.
        None => base == Position::default() || base.revision < store.floor,
    };
    if !is_there || base.revision >= head.revision {
        return Ok(Since::Rewound);
    }
    if base.revision < store.floor {
        return Ok(Since::Behind);
    }
    commits_after(&transaction, base, head).map(|commits| commits.map_or(Since::Behind, Since::Commits))
}

/// `None` when a text is needed that is not kept.
fn commits_after(connection: &Connection, base: Position, head: Position) -> Result<Option<Vec<Arc<Commit>>>> {
    let sql = format!("SELECT {} FROM commits WHERE revision > ?1 ORDER BY revision", CommitRow::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([signed(base.revision)?])?;
    let mut commits = Vec::new();
    let mut last = base;
    while let Some(row) = rows.next()? {
        let row = CommitRow::read(row)?;
        if row.position.revision != last.revision + 1 {
            return Err(missing(last.revision + 1));
        }
        last = row.position;
        let Some(changes) = changes_of(connection, &row, whole_change)? else { return Ok(None) };
        commits.push(Arc::new(Commit {
            revision: row.position.revision,
            id: row.position.commit,
            at: row.at,
            cause: row.cause,
            changes,
        }));
    }
    if last == head { Ok(Some(commits)) } else { Err(missing(last.revision + 1)) }
}

fn whole_change(commit: &CommitRow, row: &DocumentRow<'_>) -> Option<Option<DocumentChange>> {
    let Some(key) = row.key() else { return Some(None) };
    match row.version {
        None => Some(Some((key, None))),
        Some(_) => {
            let stored = row.stored(key.clone(), commit.at)?;
            Some(Some((key, Some(stored))))
        }
    }
}

/// What `read` makes of the changes of a commit, ordered by key. It leaves one out with `Some(None)`, and ends all with
/// `None`.
pub(crate) fn changes_of<T>(
    connection: &Connection,
    commit: &CommitRow,
    mut read: impl FnMut(&CommitRow, &DocumentRow<'_>) -> Option<Option<T>>,
) -> Result<Option<Vec<T>>> {
    let sql = format!("SELECT {} FROM changes WHERE revision = ?1 ORDER BY kind, mesh, name", DocumentRow::CHANGE);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([signed(commit.position.revision)?])?;
    let mut changes = Vec::new();
    let mut count = 0;
    let mut is_whole = true;
    while let Some(row) = rows.next()? {
        count += 1;
        match read(commit, &DocumentRow::read_change(row)?) {
            Some(change) => changes.extend(change),
            None => is_whole = false,
        }
    }
    if count != commit.changes {
        return Err(incomplete(commit, count));
    }
    Ok(is_whole.then_some(changes))
}

/// The row of this commit, if it is there.
pub(crate) fn commit_row(connection: &Connection, revision: u64) -> Result<Option<CommitRow>> {
    let sql = format!("SELECT {} FROM commits WHERE revision = ?1", CommitRow::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([signed(revision)?], |row| Ok(CommitRow::read(row))).optional()?.transpose()
}

pub(crate) fn missing(revision: u64) -> Fault {
    Fault::Damaged(format!("commit {revision} is missing in table `commits`"))
}

pub(crate) fn incomplete(commit: &CommitRow, count: i64) -> Fault {
    let (revision, expected) = (commit.position.revision, commit.changes);
    Fault::Damaged(format!("table `changes` has {count} rows of commit {revision}, which has {expected}"))
}
