//! Reading commits and documents.

use std::sync::Arc;

use futures_util::future::try_join;
use jiff::Timestamp;
use kuma_model::{Key, SECRET_KIND, stored_kind};
use kuma_store::{Cause, Commit, DocumentChange, Head, Loaded, Position, Revision, Since, Stored};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::clock::Clock;
use crate::failure::Failure;
use crate::link::transaction;

/// Commits that are read at once.
const PAGE: i64 = 500;

/// Who is this many commits behind reads all documents instead.
const FAR_BEHIND: usize = 2000;

/// What is known of the database beside its commits.
pub(crate) struct Facts {
    pub(crate) store: Uuid,
    pub(crate) floor: Revision,
    /// Whether it takes no writes, because it follows another server.
    pub(crate) is_standby: bool,
}

/// The commits after `base` in the store `store`.
pub(crate) async fn since(
    client: &Client,
    clock: &Clock,
    begin: Option<&str>,
    store: Uuid,
    base: Position,
) -> Result<(Since, Facts), Failure> {
    let mut found: Vec<Arc<Commit>> = Vec::new();
    let mut at = base;
    loop {
        let asked = Timestamp::now();
        // The floor is read last: it is then at least the one that the commits were read under.
        let work = async { try_join(commits(client, at.revision), facts(client)).await };
        let (rows, (facts, time)) = match begin {
            Some(begin) => transaction(client, begin, work).await?,
            None => work.await?,
        };
        clock.told(asked, time);
        let count = rows.len();
        match next(at, &facts, store, rows)? {
            Since::Commits(commits) => {
                if let Some(last) = commits.last() {
                    at = last.position();
                }
                found.extend(commits);
            }
            other => return Ok((other, facts)),
        }
        if found.len() >= FAR_BEHIND {
            return Ok((Since::Behind, facts));
        }
        if i64::try_from(count).is_ok_and(|count| count < PAGE) {
            return Ok((Since::Commits(found), facts));
        }
    }
}

/// One page of commits: what was read from revision `at` on.
fn next(at: Position, facts: &Facts, store: Uuid, read: Vec<Told>) -> Result<Since, Failure> {
    if facts.store != store {
        return Ok(Since::Rewound);
    }
    if at.revision < facts.floor {
        return Ok(Since::Behind);
    }
    let mut read = read.into_iter().peekable();
    if at.revision > 0 && read.next().is_none_or(|own| own.commit.position() != at) {
        return Ok(Since::Rewound);
    }
    let mut commits = Vec::new();
    let mut expected = at.revision;
    for Told { commit, is_whole } in read {
        expected += 1;
        if commit.revision != expected {
            return Err(Failure::Broken(format!("commit {expected} is missing in the table kuma_commits")));
        }
        if !is_whole {
            return Ok(Since::Behind);
        }
        commits.push(Arc::new(commit));
    }
    Ok(Since::Commits(commits))
}

/// A commit, and whether the texts of all that it wrote are still there.
struct Told {
    commit: Commit,
    is_whole: bool,
}

async fn commits(client: &Client, from: Revision) -> Result<Vec<Told>, Error> {
    // Both tables are bounded: with one bound, and without statistics of the tables, PostgreSQL reads all changes.
    const SQL: &str = "SELECT c.revision, c.id, c.at, c.author, c.via, c.note, h.kind, h.mesh, h.name, h.version,
            h.created, h.spec
        FROM kuma_commits c LEFT JOIN kuma_changes h
            ON h.revision = c.revision AND h.revision >= $1 AND h.revision < $1 + $2
        WHERE c.revision >= $1 AND c.revision < $1 + $2
        ORDER BY c.revision, h.kind, h.mesh, h.name";
    let rows = client.query_typed(SQL, &[(&number(from), Type::INT8), (&PAGE, Type::INT8)]).await?;
    let mut told: Vec<Told> = Vec::new();
    for row in &rows {
        let revision = revision(row, 0)?;
        if told.last().is_none_or(|last| last.commit.revision != revision) {
            let commit =
                Commit { revision, id: row.try_get(1)?, at: row.try_get(2)?, cause: cause(row, 3)?, changes: vec![] };
            told.push(Told { commit, is_whole: true });
        }
        let Some(last) = told.last_mut() else { continue };
        // A commit of which everything was pruned has no row of a change.
        let Some(kind) = row.try_get::<_, Option<&str>>(6)?.and_then(stored_kind) else { continue };
        let (key, stored) = change(row, kind, 7, last.commit.at)?;
        last.is_whole &= stored.is_some() || row.try_get::<_, Option<i64>>(9)?.is_none();
        last.commit.changes.push((key, stored));
    }
    Ok(told)
}

/// A change, from its mesh, name, version, creation and spec in the columns from `at` on.
fn change(row: &Row, kind: &'static str, at: usize, modified: Timestamp) -> Result<DocumentChange, Error> {
    let key = Key::new(kind, row.try_get(at)?, row.try_get(at + 1)?);
    let version: Option<i64> = row.try_get(at + 2)?;
    let (created, spec): (Option<Timestamp>, Option<String>) = (row.try_get(at + 3)?, row.try_get(at + 4)?);
    let stored = match (version, created, spec) {
        (Some(version), Some(created), Some(spec)) => {
            Some(Arc::new(Stored::restored(key.clone(), spec.into(), version.unsigned_abs(), created, modified)))
        }
        _ => None,
    };
    Ok((key, stored))
}

async fn facts(client: &Client) -> Result<(Facts, Timestamp), Error> {
    const SQL: &str = "SELECT store, floor, pg_is_in_recovery(), clock_timestamp() FROM kuma_schema";
    let row = client.query_typed_one(SQL, &[]).await?;
    let facts = Facts { store: row.try_get(0)?, floor: revision(&row, 1)?, is_standby: row.try_get(2)? };
    Ok((facts, row.try_get(3)?))
}

/// All documents.
pub(crate) async fn load(client: &Client, clock: &Clock, begin: &str) -> Result<Loaded, Failure> {
    const HEAD: &str = "SELECT revision, id FROM kuma_commits ORDER BY revision DESC LIMIT 1";
    const DOCUMENTS: &str = "SELECT kind, mesh, name, version, created, spec, modified FROM kuma_documents
        ORDER BY kind, mesh, name";
    let asked = Timestamp::now();
    let (head, documents, (facts, time)) = transaction(client, begin, async {
        let head = client.query_typed(HEAD, &[]);
        futures_util::future::try_join3(head, client.query_typed(DOCUMENTS, &[]), facts(client)).await
    })
    .await?;
    clock.told(asked, time);
    let position = match head.first() {
        Some(row) => Position { revision: revision(row, 0)?, commit: row.try_get(1)? },
        None => Position::default(),
    };
    let mut unknown = 0;
    let mut known = Vec::with_capacity(documents.len());
    for row in &documents {
        match stored_kind(row.try_get(0)?) {
            Some(kind) => known.extend(change(row, kind, 1, row.try_get(6)?)?.1),
            None => unknown += 1,
        }
    }
    if unknown > 0 {
        tracing::warn!(unknown, "documents of kinds that this program does not know are left alone");
    }
    Ok(Loaded { head: Head { store: facts.store, position }, documents: known })
}

/// All documents that history keeps as they were at a revision that is not below the floor.
pub(crate) async fn documents_at(client: &Client, revision: Revision) -> Result<Vec<Arc<Stored>>, Error> {
    const SQL: &str =
        "SELECT DISTINCT ON (h.kind, h.mesh, h.name) h.kind, h.mesh, h.name, h.version, h.created, h.spec,
            c.at
        FROM kuma_changes h JOIN kuma_commits c USING (revision)
        WHERE h.revision <= $1 AND h.kind <> $2
        ORDER BY h.kind, h.mesh, h.name, h.revision DESC";
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&number(revision), Type::INT8), (&SECRET_KIND, Type::TEXT)];
    let mut found = Vec::new();
    for row in &client.query_typed(SQL, parameters).await? {
        if let Some(kind) = stored_kind(row.try_get(0)?) {
            found.extend(change(row, kind, 1, row.try_get(6)?)?.1);
        }
    }
    Ok(found)
}

/// The author, program and note in the columns from `at` on.
pub(crate) fn cause(row: &Row, at: usize) -> Result<Cause, Error> {
    let text = |at| Ok::<_, Error>(row.try_get::<_, &str>(at)?.into());
    Ok(Cause { author: text(at)?, via: text(at + 1)?, note: text(at + 2)? })
}

/// PostgreSQL has no unsigned numbers.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(crate) fn revision(row: &Row, column: usize) -> Result<Revision, Error> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}
