//! Writing commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join;
use jiff::Timestamp;
use kuma_model::Key;
use kuma_store::{Commit, InsightsOf, Position, Stored, whose_insights_go};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::read::number;

/// Commits as the columns of what is inserted.
#[derive(Default)]
pub(crate) struct Batch {
    revisions: Vec<i64>,
    ids: Vec<Uuid>,
    times: Vec<Timestamp>,
    causes: [Vec<String>; 3],
    changes: Changes,
    written: Documents,
    gone: Keys,
    /// Meshes all of whose insights go, and Dataplanes whose insights go.
    insights_of: (Vec<String>, Keys),
}

#[derive(Default)]
struct Keys {
    kinds: Vec<&'static str>,
    meshes: Vec<String>,
    names: Vec<String>,
}

#[derive(Default)]
struct Changes {
    revisions: Vec<i64>,
    keys: Keys,
    versions: Vec<Option<i64>>,
    created: Vec<Option<Timestamp>>,
    specs: Vec<Option<String>>,
}

#[derive(Default)]
struct Documents {
    keys: Keys,
    revisions: Vec<i64>,
    versions: Vec<i64>,
    created: Vec<Timestamp>,
    modified: Vec<Timestamp>,
    specs: Vec<String>,
}

impl Keys {
    fn push(&mut self, key: &Key) {
        self.kinds.push(key.kind);
        self.meshes.push(key.mesh.to_string());
        self.names.push(key.name.to_string());
    }
}

impl Batch {
    pub(crate) fn new(commits: &[Arc<Commit>]) -> Batch {
        let mut batch = Batch::default();
        // Of a document that several of the commits change, the last state is the one that is kept as current.
        let mut last: BTreeMap<&Key, (i64, Option<&Arc<Stored>>)> = BTreeMap::new();
        for commit in commits {
            let revision = number(commit.revision);
            batch.revisions.push(revision);
            batch.ids.push(commit.id);
            batch.times.push(commit.at);
            let cause = [&commit.cause.author, &commit.cause.via, &commit.cause.note];
            for (column, text) in batch.causes.iter_mut().zip(cause) {
                // PostgreSQL stores every character but this one.
                column.push(text.replace('\0', "\u{fffd}"));
            }
            for change in &commit.changes {
                let (key, stored) = change;
                batch.changes.push(revision, key, stored.as_deref());
                last.insert(key, (revision, stored.as_ref()));
                match whose_insights_go(change) {
                    Some(InsightsOf::Mesh(mesh)) => batch.insights_of.0.push(mesh.to_string()),
                    Some(InsightsOf::Dataplane { .. }) => batch.insights_of.1.push(key),
                    None => {}
                }
            }
        }
        for (key, (revision, stored)) in last {
            match stored {
                Some(stored) => batch.written.push(revision, stored),
                None => batch.gone.push(key),
            }
        }
        batch
    }

    /// How much is written, in documents.
    pub(crate) fn len(&self) -> usize {
        self.changes.revisions.len()
    }

    /// Writes all, if `base` is the latest commit, and says whether it was. Everything is sent when first polled.
    pub(crate) async fn write(&self, client: &Client, base: Position) -> Result<bool, Error> {
        let (written, ()) = try_join(self.append(client, base), self.remove_insights(client)).await?;
        Ok(written)
    }

    async fn append(&self, client: &Client, base: Position) -> Result<bool, Error> {
        const SQL: &str = "WITH base AS (
                SELECT WHERE $1 = coalesce((SELECT max(revision) FROM kuma_commits), 0)
                AND ($1 = 0 OR EXISTS (SELECT FROM kuma_commits WHERE revision = $1 AND id = $2))
            ), added AS (
                INSERT INTO kuma_commits (revision, id, at, author, via, note)
                SELECT u.* FROM unnest($3::int8[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[]) u,
                    base
                RETURNING revision
            ), changes AS (
                INSERT INTO kuma_changes (revision, kind, mesh, name, version, created, spec)
                SELECT u.* FROM unnest($9::int8[], $10::text[], $11::text[], $12::text[], $13::int8[],
                    $14::timestamptz[], $15::text[]) u, base
            ), written AS (
                INSERT INTO kuma_documents (kind, mesh, name, revision, version, created, modified, spec)
                SELECT u.* FROM unnest($16::text[], $17::text[], $18::text[], $19::int8[], $20::int8[],
                    $21::timestamptz[], $22::timestamptz[], $23::text[]) u, base
                ON CONFLICT (kind, mesh, name) DO UPDATE SET revision = excluded.revision, version = excluded.version,
                    created = excluded.created, modified = excluded.modified, spec = excluded.spec
            ), gone AS (
                DELETE FROM kuma_documents d
                USING base, unnest($24::text[], $25::text[], $26::text[]) u (kind, mesh, name)
                WHERE d.kind = u.kind AND d.mesh = u.mesh AND d.name = u.name
            )
            SELECT pg_notify('kuma', max(revision)::text) FROM added HAVING count(*) > 0";
        let Batch { revisions, ids, times, causes, changes, written, gone, .. } = self;
        let base_revision = number(base.revision);
        let parameters: [(&(dyn ToSql + Sync), Type); 26] = [
            (&base_revision, Type::INT8),
            (&base.commit, Type::UUID),
            (revisions, Type::INT8_ARRAY),
            (ids, Type::UUID_ARRAY),
            (times, Type::TIMESTAMPTZ_ARRAY),
            (&causes[0], Type::TEXT_ARRAY),
            (&causes[1], Type::TEXT_ARRAY),
            (&causes[2], Type::TEXT_ARRAY),
            (&changes.revisions, Type::INT8_ARRAY),
            (&changes.keys.kinds, Type::TEXT_ARRAY),
            (&changes.keys.meshes, Type::TEXT_ARRAY),
            (&changes.keys.names, Type::TEXT_ARRAY),
            (&changes.versions, Type::INT8_ARRAY),
            (&changes.created, Type::TIMESTAMPTZ_ARRAY),
            (&changes.specs, Type::TEXT_ARRAY),
            (&written.keys.kinds, Type::TEXT_ARRAY),
            (&written.keys.meshes, Type::TEXT_ARRAY),
            (&written.keys.names, Type::TEXT_ARRAY),
            (&written.revisions, Type::INT8_ARRAY),
            (&written.versions, Type::INT8_ARRAY),
            (&written.created, Type::TIMESTAMPTZ_ARRAY),
            (&written.modified, Type::TIMESTAMPTZ_ARRAY),
            (&written.specs, Type::TEXT_ARRAY),
            (&gone.kinds, Type::TEXT_ARRAY),
            (&gone.meshes, Type::TEXT_ARRAY),
            (&gone.names, Type::TEXT_ARRAY),
        ];
        Ok(!client.query_typed(SQL, &parameters).await?.is_empty())
    }

    /// It is a statement of its own, so that it sees what was reported while the one before waited for the Mesh. Rows
    /// are locked in the order in which reports lock them.
    async fn remove_insights(&self, client: &Client) -> Result<(), Error> {
        const SQL: &str = "DELETE FROM kuma_insights WHERE (mesh, name, instance) IN (
            SELECT i.mesh, i.name, i.instance FROM kuma_insights i
            WHERE (i.mesh = ANY($1::text[])
                OR (i.mesh, i.name) IN (SELECT * FROM unnest($2::text[], $3::text[])))
            AND EXISTS (SELECT FROM kuma_commits WHERE revision = $4 AND id = $5)
            ORDER BY i.mesh, i.name, i.instance FOR UPDATE)";
        let (meshes, dataplanes) = &self.insights_of;
        let (Some(revision), Some(id)) = (self.revisions.last(), self.ids.last()) else { return Ok(()) };
        if meshes.is_empty() && dataplanes.names.is_empty() {
            return Ok(());
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (meshes, Type::TEXT_ARRAY),
            (&dataplanes.meshes, Type::TEXT_ARRAY),
            (&dataplanes.names, Type::TEXT_ARRAY),
            (revision, Type::INT8),
            (id, Type::UUID),
        ];
        client.execute_typed(SQL, &parameters).await.map(drop)
    }

    /// Whether the last of the commits is there.
    pub(crate) async fn is_there(&self, client: &Client) -> Result<bool, Error> {
        const SQL: &str = "SELECT FROM kuma_commits WHERE revision = $1 AND id = $2";
        let (Some(revision), Some(id)) = (self.revisions.last(), self.ids.last()) else { return Ok(true) };
        Ok(!client.query_typed(SQL, &[(revision, Type::INT8), (id, Type::UUID)]).await?.is_empty())
    }
}

impl Changes {
    fn push(&mut self, revision: i64, key: &Key, stored: Option<&Stored>) {
        self.revisions.push(revision);
        self.keys.push(key);
        self.versions.push(stored.map(|stored| number(stored.version)));
        self.created.push(stored.map(|stored| stored.created));
        self.specs.push(stored.map(|stored| stored.spec_text().to_owned()));
    }
}

impl Documents {
    fn push(&mut self, revision: i64, stored: &Stored) {
        self.keys.push(&stored.key);
        self.revisions.push(revision);
        self.versions.push(number(stored.version));
        self.created.push(stored.created);
        self.modified.push(stored.modified);
        self.specs.push(stored.spec_text().to_owned());
    }
}
