//! Writing commits.

use std::sync::Arc;

use kuma_store::{Appended, Commit, DocumentChange, InsightsOf, Position, whose_insights_go};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::error::Result;
use crate::rows::{CommitRow, DocumentRow, StoreRow, signed};

/// Appends commits in one transaction; see [`Journal::append`](kuma_store::Journal::append).
pub(crate) fn append(connection: &mut Connection, base: Position, commits: &[Arc<Commit>]) -> Result<Appended> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut store = StoreRow::read(&transaction)?;
    if store.head.position != base {
        return Ok(Appended::Overtaken);
    }
    for commit in commits {
        let row = CommitRow {
            position: commit.position(),
            at: commit.at,
            cause: commit.cause.clone(),
            changes: commit.changes.len() as i64,
        };
        row.write(&transaction)?;
        for change in &commit.changes {
            write_change(&transaction, &mut store, commit, change)?;
        }
        (store.head.position, store.at) = (commit.position(), commit.at);
    }
    store.write(&transaction)?;
    transaction.commit()?;
    Ok(Appended::Done)
}

fn write_change(
    connection: &Connection,
    store: &mut StoreRow,
    commit: &Commit,
    change @ (key, stored): &DocumentChange,
) -> Result<()> {
    const INSERT: &str = "INSERT INTO changes (kind, mesh, name, revision, version, created, spec, sum) \
                          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut row = DocumentRow {
        kind: key.kind,
        mesh: &key.mesh,
        name: &key.name,
        revision: signed(commit.revision)?,
        version: stored.as_ref().map(|stored| signed(stored.version)).transpose()?,
        created: stored.as_ref().map(|stored| stored.created.as_microsecond()),
        modified: None,
        spec: stored.as_ref().map(|stored| stored.spec_text()),
    };
    let DocumentRow { kind, mesh, name, revision, version, created, spec, .. } = row;
    let values = params![kind, mesh, name, revision, version, created, spec, row.sum()];
    connection.prepare_cached(INSERT)?.execute(values)?;

    const REPLACED: &str = "SELECT sum FROM documents WHERE kind = ?1 AND mesh = ?2 AND name = ?3";
    let mut replaced = connection.prepare_cached(REPLACED)?;
    if let Some(sum) = replaced.query_row([kind, mesh, name], |row| row.get::<_, i64>(0)).optional()? {
        store.documents -= 1;
        store.digest = store.digest.wrapping_sub(sum);
    }
    match stored {
        Some(stored) => {
            const PUT: &str = "INSERT OR REPLACE INTO documents \
                               (kind, mesh, name, revision, version, created, spec, sum, modified) \
                               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            row.modified = Some(stored.modified.as_microsecond());
            let sum = row.sum();
            let values = params![kind, mesh, name, revision, version, created, spec, sum, row.modified];
            connection.prepare_cached(PUT)?.execute(values)?;
            store.documents += 1;
            store.digest = store.digest.wrapping_add(sum);
        }
        None => {
            const DELETE: &str = "DELETE FROM documents WHERE kind = ?1 AND mesh = ?2 AND name = ?3";
            connection.prepare_cached(DELETE)?.execute([kind, mesh, name])?;
        }
    }
    match whose_insights_go(change) {
        Some(InsightsOf::Mesh(mesh)) => {
            connection.prepare_cached("DELETE FROM insights WHERE mesh = ?1")?.execute([&*mesh])?;
        }
        Some(InsightsOf::Dataplane { mesh, name }) => {
            let mut delete = connection.prepare_cached("DELETE FROM insights WHERE mesh = ?1 AND name = ?2")?;
            delete.execute([&*mesh, &*name])?;
        }
        None => {}
    }
    Ok(())
}
