//! Rows with their checksums, to and from the types of a store.

use std::sync::Arc;

use jiff::Timestamp;
use kuma_model::{Key, stored_kind};
use kuma_store::{Cause, Head, Position, Stored};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Fault, Result};

/// A checksum over the columns of a row.
struct Sum(Xxh3);

impl Sum {
    fn new() -> Sum {
        Sum(Xxh3::new())
    }

    fn number(mut self, number: i64) -> Sum {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// The length goes first, so that two columns are not taken for others of the same text in all.
    fn text(mut self, text: &str) -> Sum {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn maybe_number(self, number: Option<i64>) -> Sum {
        match number {
            Some(number) => self.number(1).number(number),
            None => self.number(0),
        }
    }

    fn maybe_text(self, text: Option<&str>) -> Sum {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    fn end(self) -> i64 {
        self.0.digest() as i64
    }
}

/// The one row of `store`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoreRow {
    pub(crate) head: Head,
    /// When the latest commit was made.
    pub(crate) at: Timestamp,
    pub(crate) floor: u64,
    pub(crate) documents: i64,
    pub(crate) digest: i64,
}

impl StoreRow {
    /// Of an empty store.
    pub(crate) fn first() -> StoreRow {
        let head = Head { store: Uuid::new_v4(), position: Position::default() };
        StoreRow { head, at: Timestamp::UNIX_EPOCH, floor: 0, documents: 0, digest: 0 }
    }

    pub(crate) fn read(connection: &Connection) -> Result<StoreRow> {
        const SQL: &str = "SELECT id, revision, commit_id, at, floor, documents, digest, sum FROM store";
        let mut statement = connection.prepare_cached(SQL)?;
        let mut rows = statement.query([])?;
        let damaged = || Fault::Damaged("the row of table `store`".into());
        let row = rows.next()?.ok_or_else(damaged)?;
        let found = StoreRow {
            head: Head {
                store: uuid(text(row, 0)?).ok_or_else(damaged)?,
                position: Position {
                    revision: unsigned(row.get(1)?).ok_or_else(damaged)?,
                    commit: uuid(text(row, 2)?).ok_or_else(damaged)?,
                },
            },
            at: time(row.get(3)?).ok_or_else(damaged)?,
            floor: unsigned(row.get(4)?).ok_or_else(damaged)?,
            documents: row.get(5)?,
            digest: row.get(6)?,
        };
        if row.get::<_, i64>(7)? != found.sum() || found.floor > found.head.position.revision {
            return Err(damaged());
        }
        Ok(found)
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<()> {
        const SQL: &str = "INSERT OR REPLACE INTO store VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let StoreRow { head: Head { store, position }, at, floor, documents, digest } = self;
        let (store, commit) = (store.to_string(), position.commit.to_string());
        let revision = signed(position.revision)?;
        let values =
            params![store, revision, commit, at.as_microsecond(), signed(*floor)?, documents, digest, self.sum()];
        connection.prepare_cached(SQL)?.execute(values)?;
        Ok(())
    }

    fn sum(&self) -> i64 {
        let StoreRow { head: Head { store, position }, at, floor, documents, digest } = self;
        let sum = Sum::new().text(&store.to_string()).number(position.revision as i64);
        let sum = sum.text(&position.commit.to_string()).number(at.as_microsecond());
        sum.number(*floor as i64).number(*documents).number(*digest).end()
    }
}

/// A row of `commits`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommitRow {
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    pub(crate) cause: Cause,
    pub(crate) changes: i64,
}

impl CommitRow {
    /// What [`read`](Self::read) wants.
    pub(crate) const COLUMNS: &str = "revision, id, at, author, via, note, changes, sum";

    pub(crate) fn read(row: &Row<'_>) -> Result<CommitRow> {
        let revision: i64 = row.get(0)?;
        let damaged = || Fault::Damaged(format!("commit {revision} in table `commits`"));
        let found = CommitRow {
            position: Position {
                revision: unsigned(revision).ok_or_else(damaged)?,
                commit: uuid(text(row, 1)?).ok_or_else(damaged)?,
            },
            at: time(row.get(2)?).ok_or_else(damaged)?,
            cause: Cause { author: text(row, 3)?.into(), via: text(row, 4)?.into(), note: text(row, 5)?.into() },
            changes: row.get(6)?,
        };
        if row.get::<_, i64>(7)? == found.sum() { Ok(found) } else { Err(damaged()) }
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<()> {
        const SQL: &str = "INSERT OR REPLACE INTO commits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let CommitRow { position, at, cause: Cause { author, via, note }, changes } = self;
        let (revision, id) = (signed(position.revision)?, position.commit.to_string());
        let values = params![revision, id, at.as_microsecond(), &**author, &**via, &**note, changes, self.sum()];
        connection.prepare_cached(SQL)?.execute(values)?;
        Ok(())
    }

    fn sum(&self) -> i64 {
        let CommitRow { position, at, cause: Cause { author, via, note }, changes } = self;
        let sum = Sum::new().number(position.revision as i64).text(&position.commit.to_string());
        sum.number(at.as_microsecond()).text(author).text(via).text(note).number(*changes).end()
    }
}

/// A row of `changes` or `documents`. The times and the spec of a deletion are missing; only `documents` has
/// `modified`, since a change was made when its commit was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DocumentRow<'a> {
    pub(crate) kind: &'a str,
    pub(crate) mesh: &'a str,
    pub(crate) name: &'a str,
    pub(crate) revision: i64,
    pub(crate) version: Option<i64>,
    pub(crate) created: Option<i64>,
    pub(crate) modified: Option<i64>,
    pub(crate) spec: Option<&'a str>,
}

impl<'a> DocumentRow<'a> {
    /// What [`read_change`](Self::read_change) wants.
    pub(crate) const CHANGE: &'static str = "kind, mesh, name, revision, version, created, spec, sum";
    /// What [`read_document`](Self::read_document) wants.
    pub(crate) const DOCUMENT: &'static str = "kind, mesh, name, revision, version, created, spec, sum, modified";

    pub(crate) fn read_change(row: &'a Row<'_>) -> Result<DocumentRow<'a>> {
        Self::read(row, "changes", None).map(|(found, _)| found)
    }

    /// The row and its checksum.
    pub(crate) fn read_document(row: &'a Row<'_>) -> Result<(DocumentRow<'a>, i64)> {
        Self::read(row, "documents", Some(row.get(8)?))
    }

    fn read(row: &'a Row<'_>, table: &str, modified: Option<i64>) -> Result<(DocumentRow<'a>, i64)> {
        let found = DocumentRow {
            kind: text(row, 0)?,
            mesh: text(row, 1)?,
            name: text(row, 2)?,
            revision: row.get(3)?,
            version: row.get(4)?,
            created: row.get(5)?,
            modified,
            spec: row.get_ref(6)?.as_str_or_null().map_err(|error| found_no_text(6, error))?,
        };
        let sum = found.sum();
        if row.get::<_, i64>(7)? == sum { Ok((found, sum)) } else { Err(found.damaged(table)) }
    }

    pub(crate) fn sum(&self) -> i64 {
        let sum = Sum::new().text(self.kind).text(self.mesh).text(self.name).number(self.revision);
        let sum = sum.maybe_number(self.version).maybe_number(self.created).maybe_number(self.modified);
        sum.maybe_text(self.spec).end()
    }

    pub(crate) fn damaged(&self, table: &str) -> Fault {
        let DocumentRow { kind, mesh, name, revision, .. } = self;
        Fault::Damaged(format!("{kind} {name:?} of mesh {mesh:?} at revision {revision} in table `{table}`"))
    }

    /// The document's key, if this program knows its kind.
    pub(crate) fn key(&self) -> Option<Key> {
        stored_kind(self.kind).map(|kind| Key::new(kind, self.mesh, self.name))
    }

    /// The document, last written at `modified`; `None` when it was deleted or its text is not kept.
    pub(crate) fn stored(&self, key: Key, modified: Timestamp) -> Option<Arc<Stored>> {
        let version = unsigned(self.version?)?;
        Some(Arc::new(Stored::restored(key, self.spec?.into(), version, time(self.created?)?, modified)))
    }
}

/// The checksum of a row of `insights`.
pub(crate) fn insight_sum(mesh: &str, name: &str, instance: &str, modified: i64, spec: &str) -> i64 {
    Sum::new().text(mesh).text(name).text(instance).number(modified).text(spec).end()
}

/// The text of a column.
pub(crate) fn text<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a str> {
    row.get_ref(index)?.as_str().map_err(|error| found_no_text(index, error))
}

fn found_no_text(index: usize, error: rusqlite::types::FromSqlError) -> Fault {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error)).into()
}

pub(crate) fn time(microseconds: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(microseconds).ok()
}

pub(crate) fn unsigned(number: i64) -> Option<u64> {
    number.try_into().ok()
}

pub(crate) fn signed(number: u64) -> Result<i64> {
    number.try_into().map_err(|_| Fault::Refused(format!("{number} is too large a number")))
}

fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}
