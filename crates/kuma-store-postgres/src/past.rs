//! Questions about the past.

use std::sync::Arc;

use futures_util::future::try_join;
use kuma_model::{Key, stored_kind};
use kuma_store::{HistoryChange, HistoryEntry, HistoryPage, HistoryQuery, Moment, Revision, StoreError, Stored};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::PostgresJournal;
use crate::journal::begin_read;
use crate::link::{statement_limit, transaction};
use crate::read::{cause, documents_at, number, revision};

/// A large page or an old state may take this long.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

impl PostgresJournal {
    pub(crate) async fn read_history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        let begin = begin_read(statement_limit(DEADLINE));
        let limit = query.limit;
        let work = async |client: &Client| transaction(client, &begin, entries(client, &query)).await;
        let (mut entries, floor) = self.links.reader.call(DEADLINE, work).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(HistoryPage { entries, floor, more })
    }

    pub(crate) async fn read_at(&self, moment: Moment) -> Result<(Revision, Vec<Arc<Stored>>), StoreError> {
        let begin = begin_read(statement_limit(DEADLINE));
        let found = self.links.reader.call(DEADLINE, async |client| Ok(bounds(client, moment).await?)).await?;
        let asked = found.revision(moment)?;
        let work = async |client: &Client| {
            transaction(client, &begin, try_join(documents_at(client, asked), floor(client))).await
        };
        let (documents, floor) = self.links.reader.call(DEADLINE, work).await?;
        // History may have been pruned in between.
        if asked < floor { Err(StoreError::Forgotten { asked, floor }) } else { Ok((asked, documents)) }
    }
}

/// How far the history reaches.
struct Bounds {
    floor: Revision,
    latest: Revision,
    /// The last commit that was made then or before, if a time was asked for.
    by_time: Option<Revision>,
}

impl Bounds {
    fn revision(&self, moment: Moment) -> Result<Revision, StoreError> {
        let Bounds { floor, latest, by_time } = *self;
        match moment {
            Moment::Revision(asked) if asked > latest => Err(StoreError::Future { asked, latest }),
            Moment::Revision(asked) if asked < floor => Err(StoreError::Forgotten { asked, floor }),
            Moment::Revision(asked) => Ok(asked),
            Moment::Time(_) => match by_time {
                Some(revision) if revision >= floor => Ok(revision),
                // Before the first commit of all there was nothing.
                None if floor == 0 => Ok(0),
                Some(_) | None => Err(StoreError::Forgotten { asked: 0, floor }),
            },
        }
    }
}

async fn bounds(client: &Client, moment: Moment) -> Result<Bounds, Error> {
    const SQL: &str = "SELECT floor, coalesce((SELECT max(revision) FROM kuma_commits), 0),
            (SELECT revision FROM kuma_commits WHERE at <= $1 ORDER BY at DESC, revision DESC LIMIT 1)
        FROM kuma_schema";
    let time = match moment {
        Moment::Time(time) => Some(time),
        Moment::Revision(_) => None,
    };
    let row = client.query_typed_one(SQL, &[(&time, Type::TIMESTAMPTZ)]).await?;
    let by_time = row.try_get::<_, Option<i64>>(2)?.map(i64::unsigned_abs);
    Ok(Bounds { floor: revision(&row, 0)?, latest: revision(&row, 1)?, by_time })
}

async fn floor(client: &Client) -> Result<Revision, Error> {
    revision(&client.query_typed_one("SELECT floor FROM kuma_schema", &[]).await?, 0)
}

/// One entry more than asked for, if there is one.
async fn entries(client: &Client, query: &HistoryQuery) -> Result<(Vec<HistoryEntry>, Revision), Error> {
    const SQL: &str = "WITH page AS (
            SELECT c.* FROM kuma_commits c
            WHERE c.revision > (SELECT floor FROM kuma_schema)
            AND ($1::int8 IS NULL OR c.revision < $1)
            AND ($2::timestamptz IS NULL OR c.at >= $2)
            AND ($3::timestamptz IS NULL OR c.at <= $3)
            AND EXISTS (SELECT FROM kuma_changes h WHERE h.revision = c.revision
                AND ($4::text IS NULL OR h.kind = $4)
                AND ($5::text IS NULL OR h.mesh = $5)
                AND ($6::text IS NULL OR h.name = $6))
            ORDER BY c.revision DESC LIMIT $7
        )
        SELECT p.revision, p.id, p.at, p.author, p.via, p.note, h.kind, h.mesh, h.name, h.version
        FROM page p JOIN kuma_changes h USING (revision)
        ORDER BY p.revision DESC, h.kind, h.mesh, h.name";
    let HistoryQuery { mesh, kind, name, since, until, before, limit } = query;
    let (before, mesh, name) = (before.map(number), mesh.as_deref(), name.as_deref());
    let limit = i64::try_from(*limit).unwrap_or(i64::MAX).saturating_add(1);
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&before, Type::INT8),
        (since, Type::TIMESTAMPTZ),
        (until, Type::TIMESTAMPTZ),
        (kind, Type::TEXT),
        (&mesh, Type::TEXT),
        (&name, Type::TEXT),
        (&limit, Type::INT8),
    ];
    let (rows, floor) = try_join(client.query_typed(SQL, &parameters), floor(client)).await?;
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for row in &rows {
        let revision = revision(row, 0)?;
        if entries.last().is_none_or(|last| last.revision != revision) {
            let (id, at) = (row.try_get(1)?, row.try_get(2)?);
            entries.push(HistoryEntry { revision, id, at, cause: cause(row, 3)?, changes: Vec::new() });
        }
        if let (Some(last), Some(kind)) = (entries.last_mut(), stored_kind(row.try_get(6)?)) {
            let version = row.try_get::<_, Option<i64>>(9)?.map(i64::unsigned_abs);
            let key = Key::new(kind, row.try_get(7)?, row.try_get(8)?);
            last.changes.push(HistoryChange { key, version });
        }
    }
    Ok((entries, floor))
}
