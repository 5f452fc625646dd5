//! Questions about the past.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::Key;
use kuma_store::{
    HistoryChange, HistoryEntry, HistoryPage, HistoryQuery, Moment, Revision, StoreError, Stored, is_kept,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use crate::error::Result;
use crate::load::{changes_of, incomplete, missing};
use crate::rows::{CommitRow, DocumentRow, StoreRow, signed, unsigned};

/// Commits of the past; see [`Store::history`](kuma_store::Store::history).
pub(crate) fn history(connection: &mut Connection, query: &HistoryQuery) -> Result<HistoryPage> {
    let transaction = connection.transaction()?;
    let floor = StoreRow::read(&transaction)?.floor;
    let (sql, values) = select(query)?;
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut entries = Vec::new();
    let mut more = false;
    while let Some(row) = rows.next()? {
        if entries.len() == query.limit {
            more = true;
            break;
        }
        let row = CommitRow::read(row)?;
        let changes = changes_of(&transaction, &row, |_, change| Some(told(change)))?.unwrap_or_default();
        entries.push(HistoryEntry {
            revision: row.position.revision,
            id: row.position.commit,
            at: row.at,
            cause: row.cause,
            changes,
        });
    }
    Ok(HistoryPage { entries, floor, more })
}

fn told(change: &DocumentRow<'_>) -> Option<HistoryChange> {
    Some(HistoryChange { key: change.key()?, version: change.version.and_then(unsigned) })
}

/// The statement that selects the commits, newest first.
fn select(query: &HistoryQuery) -> Result<(String, Vec<Value>)> {
    let mut values = Vec::new();
    let mut number = |column: &str, value: Option<i64>| {
        value.map(|value| {
            values.push(Value::Integer(value));
            format!("{column} ?{}", values.len())
        })
    };
    let mut of_commit: Vec<String> = Vec::new();
    of_commit.extend(number("revision <", query.before.map(signed).transpose()?));
    of_commit.extend(number("at >=", query.since.map(|time| time.as_microsecond())));
    of_commit.extend(number("at <=", query.until.map(|time| time.as_microsecond())));

    let columns = [("kind", query.kind), ("mesh", query.mesh.as_deref()), ("name", query.name.as_deref())];
    let mut of_change = Vec::new();
    for (column, text) in columns {
        if let Some(text) = text {
            values.push(Value::Text(text.to_owned()));
            of_change.push(format!("{column} = ?{}", values.len()));
        }
    }
    if !of_change.is_empty() {
        of_commit.push(format!("revision IN (SELECT revision FROM changes WHERE {})", of_change.join(" AND ")));
    }
    let condition = if of_commit.is_empty() { "TRUE".into() } else { of_commit.join(" AND ") };
    // A commit that was pruned to nothing is there to be recognized, not to be told.
    let sql =
        format!("SELECT {} FROM commits WHERE changes > 0 AND {condition} ORDER BY revision DESC", CommitRow::COLUMNS);
    Ok((sql, values))
}

/// All documents but secrets as they were; see [`Journal::at`](kuma_store::Journal::at).
pub(crate) fn at(connection: &mut Connection, moment: Moment) -> Result<(Revision, Vec<Arc<Stored>>)> {
    let transaction = connection.transaction()?;
    let store = StoreRow::read(&transaction)?;
    let revision = revision_at(&transaction, &store, moment)?;
    let mut documents: BTreeMap<Key, Arc<Stored>> = BTreeMap::new();
    replay(&transaction, &store, revision, |commit, row| {
        let Some(key) = row.key().filter(is_kept) else { return Ok(()) };
        match row.version {
            None => {
                documents.remove(&key);
            }
            Some(_) => {
                let stored = row.stored(key.clone(), commit.at).ok_or_else(|| row.damaged("changes"))?;
                documents.insert(key, stored);
            }
        }
        Ok(())
    })?;
    Ok((revision, documents.into_values().collect()))
}

/// Hands out every change that is kept, up to a revision, in order, and makes sure that none is missing.
pub(crate) fn replay(
    connection: &Connection,
    store: &StoreRow,
    revision: Revision,
    mut each: impl FnMut(&CommitRow, &DocumentRow<'_>) -> Result<()>,
) -> Result<()> {
    let sql = format!("SELECT {} FROM commits WHERE revision <= ?1 ORDER BY revision", CommitRow::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut commits = statement.query([signed(revision)?])?;
    let sql =
        format!("SELECT {} FROM changes WHERE revision <= ?1 ORDER BY revision, kind, mesh, name", DocumentRow::CHANGE);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut changes = statement.query([signed(revision)?])?;
    let mut last = 0;
    while let Some(row) = commits.next()? {
        let commit = CommitRow::read(row)?;
        // Below the floor a commit goes when nothing of it is left; its own is kept.
        let next = (last + 1).max(store.floor);
        if commit.position.revision > next {
            return Err(missing(next));
        }
        last = commit.position.revision;
        for count in 0..commit.changes {
            let row = changes.next()?.ok_or_else(|| incomplete(&commit, count))?;
            let row = DocumentRow::read_change(row)?;
            if row.revision != signed(last)? {
                return Err(incomplete(&commit, count));
            }
            each(&commit, &row)?;
        }
    }
    if last != revision {
        return Err(missing(last + 1));
    }
    match changes.next()? {
        Some(row) => Err(DocumentRow::read_change(row)?.damaged("changes")),
        None => Ok(()),
    }
}

fn revision_at(connection: &Connection, store: &StoreRow, moment: Moment) -> Result<Revision> {
    let (floor, latest) = (store.floor, store.head.position.revision);
    match moment {
        Moment::Revision(asked) if asked > latest => Err(StoreError::Future { asked, latest }.into()),
        Moment::Revision(asked) if asked < floor => Err(StoreError::Forgotten { asked, floor }.into()),
        Moment::Revision(asked) => Ok(asked),
        Moment::Time(time) => {
            const SQL: &str = "SELECT revision FROM commits WHERE at <= ?1 ORDER BY revision DESC LIMIT 1";
            let mut statement = connection.prepare_cached(SQL)?;
            let found = statement.query_row([time.as_microsecond()], |row| row.get::<_, i64>(0)).optional()?;
            // Before the first commit of all there was nothing.
            let found = found.and_then(unsigned).unwrap_or_default();
            if found < floor { Err(StoreError::Forgotten { asked: 0, floor }.into()) } else { Ok(found) }
        }
    }
}
