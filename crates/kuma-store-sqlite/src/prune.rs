//! Forgetting what need not be kept.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kuma_model::SECRET_KIND;
use kuma_store::{Keep, Revision, SECRETS_KEPT};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::error::Result;
use crate::load::commit_row;
use crate::rows::{DocumentRow, StoreRow, signed, unsigned};

/// Most revisions that are looked at in one transaction.
const SLICE: u64 = 1000;

/// The floor that a history is to have at `now`.
pub(crate) fn floor(connection: &mut Connection, keep: Keep, now: Timestamp) -> Result<Revision> {
    let store = StoreRow::read(connection)?;
    let latest = store.head.position.revision;
    const SQL: &str = "SELECT revision FROM commits WHERE at >= ?1 ORDER BY revision LIMIT 1";
    let oldest = before(now, keep.age).as_microsecond();
    let young = connection.prepare_cached(SQL)?.query_row([oldest], |row| row.get::<_, i64>(0)).optional()?;
    let old = young.and_then(unsigned).map_or(latest, |young| young.saturating_sub(1));
    Ok(old.min(latest.saturating_sub(keep.commits)).max(store.floor))
}

/// Moves the floor towards `to`. Returns where it is now.
pub(crate) fn slice(connection: &mut Connection, to: Revision) -> Result<Revision> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut store = StoreRow::read(&transaction)?;
    let floor = to.min(store.floor + SLICE);
    if floor <= store.floor {
        return Ok(store.floor);
    }
    // The old floor's commit was kept to be recognized.
    let mut touched = BTreeSet::from([signed(store.floor)?]);
    {
        const NEW: &str = "SELECT kind, mesh, name, revision, version IS NULL FROM changes \
                           WHERE revision > ?1 AND revision <= ?2 ORDER BY revision";
        const OLDER: &str = "DELETE FROM changes WHERE kind = ?1 AND mesh = ?2 AND name = ?3 \
                             AND (revision < ?4 OR (?5 AND revision = ?4)) RETURNING revision";
        let mut new = transaction.prepare_cached(NEW)?;
        let changes = new.query_map([signed(store.floor)?, signed(floor)?], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        let changes: Vec<(String, String, String, i64, bool)> = changes.collect::<rusqlite::Result<_>>()?;
        let mut older = transaction.prepare_cached(OLDER)?;
        for (kind, mesh, name, revision, is_deletion) in changes {
            let mut gone = older.query(params![kind, mesh, name, revision, is_deletion])?;
            while let Some(row) = gone.next()? {
                touched.insert(row.get(0)?);
            }
        }
    }
    for revision in touched {
        recount(&transaction, revision, signed(floor)?)?;
    }
    store.floor = floor;
    store.write(&transaction)?;
    transaction.commit()?;
    Ok(floor)
}

/// Notes how many changes of a commit are left. One without any goes, but for that at the floor.
fn recount(connection: &Connection, revision: i64, floor: i64) -> Result<()> {
    let Some(mut commit) = commit_row(connection, unsigned(revision).unwrap_or_default())? else { return Ok(()) };
    let mut count = connection.prepare_cached("SELECT count(*) FROM changes WHERE revision = ?1")?;
    commit.changes = count.query_row([revision], |row| row.get(0))?;
    if commit.changes == 0 && revision < floor {
        connection.prepare_cached("DELETE FROM commits WHERE revision = ?1")?.execute([revision])?;
        return Ok(());
    }
    commit.write(connection)
}

/// Removes the texts of secrets that were replaced long enough before `now`.
pub(crate) fn secrets(connection: &mut Connection, now: Timestamp) -> Result<usize> {
    const REPLACED: &str = "SELECT kind, mesh, name, revision, version, created, spec, sum FROM changes AS old \
                            WHERE kind = ?1 AND spec IS NOT NULL AND EXISTS (\
                              SELECT 1 FROM changes AS new JOIN commits ON commits.revision = new.revision \
                              WHERE new.kind = old.kind AND new.mesh = old.mesh AND new.name = old.name \
                              AND new.revision > old.revision AND commits.at <= ?2)";
    const EMPTY: &str = "UPDATE changes SET spec = NULL, sum = ?5 \
                         WHERE revision = ?4 AND kind = ?1 AND mesh = ?2 AND name = ?3";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut emptied = Vec::new();
    {
        let mut replaced = transaction.prepare_cached(REPLACED)?;
        let mut rows = replaced.query(params![SECRET_KIND, before(now, SECRETS_KEPT).as_microsecond()])?;
        while let Some(row) = rows.next()? {
            let row = DocumentRow { spec: None, ..DocumentRow::read_change(row)? };
            emptied.push((row.kind.to_owned(), row.mesh.to_owned(), row.name.to_owned(), row.revision, row.sum()));
        }
        let mut empty = transaction.prepare_cached(EMPTY)?;
        for (kind, mesh, name, revision, sum) in &emptied {
            empty.execute(params![kind, mesh, name, revision, sum])?;
        }
    }
    transaction.commit()?;
    Ok(emptied.len())
}

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}
