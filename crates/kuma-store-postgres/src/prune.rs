//! Forgetting what need not be kept.

use std::time::Duration;

use jiff::SignedDuration;
use kuma_model::SECRET_KIND;
use kuma_store::{Journal as _, Keep, Revision, SECRETS_KEPT, StoreError};
use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::PostgresJournal;
use crate::failure::Failure;
use crate::journal::limits;
use crate::link::{DEADLINE, statement_limit, transaction};
use crate::read::{number, revision};

/// Revisions that are looked at in one transaction.
const SLICE: u64 = 1000;

/// Slices in one go: others wait for it.
const SLICES: usize = 20;

/// The lease of who prunes.
const LEASE: &str = "prune";

impl PostgresJournal {
    pub(crate) async fn prune_slices(&self, keep: Keep) -> Result<Revision, StoreError> {
        let holds = self.take_lease(LEASE, &self.id).await?.is_some();
        let bounds = self.links.reader.call(DEADLINE, async |client| Ok(self.bounds(client, keep).await?)).await?;
        let (mut floor, target) = bounds;
        if !holds {
            return Ok(floor);
        }
        self.redact_secrets().await?;
        for _ in 0..SLICES {
            if floor >= target {
                break;
            }
            let next = target.min(floor + SLICE);
            if !self.prune_slice(floor, next).await? {
                break;
            }
            floor = next;
        }
        Ok(floor)
    }

    /// The floor, and what it may become.
    async fn bounds(&self, client: &Client, keep: Keep) -> Result<(Revision, Revision), Error> {
        const SQL: &str = "SELECT floor, greatest(floor, least(
                (SELECT max(revision) FROM kuma_commits) - $2,
                (SELECT revision FROM kuma_commits WHERE at < $1 ORDER BY at DESC, revision DESC LIMIT 1)))
            FROM kuma_schema";
        let before = self.before(keep.age);
        let row =
            client.query_typed_one(SQL, &[(&before, Type::TIMESTAMPTZ), (&number(keep.commits), Type::INT8)]).await?;
        let floor = revision(&row, 0)?;
        // least() leaves out what is missing, which here is a commit that is old enough.
        let is_old = "SELECT EXISTS (SELECT FROM kuma_commits WHERE at < $1)";
        let is_old: bool = client.query_typed_one(is_old, &[(&before, Type::TIMESTAMPTZ)]).await?.try_get(0)?;
        Ok((floor, if is_old { revision(&row, 1)?.max(floor) } else { floor }))
    }

    /// So long ago, by the database's clock.
    fn before(&self, age: Duration) -> jiff::Timestamp {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        self.now().checked_sub(age).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// Takes the texts from secrets that were replaced a while ago.
    async fn redact_secrets(&self) -> Result<(), Failure> {
        const SQL: &str = "UPDATE kuma_changes h SET spec = NULL
            WHERE h.kind = 'Secret' AND h.spec IS NOT NULL AND EXISTS (
                SELECT FROM kuma_changes n JOIN kuma_commits c USING (revision)
                WHERE n.kind = h.kind AND n.mesh = h.mesh AND n.name = h.name
                AND n.revision > h.revision AND c.at < $1)";
        // The index is made for a literal.
        const { assert!(matches!(SECRET_KIND.as_bytes(), b"Secret")) };
        let before = self.before(SECRETS_KEPT);
        let begin = format!("BEGIN; {}", limits(statement_limit(DEADLINE)));
        let work = async |client: &Client| {
            transaction(client, &begin, client.execute_typed(SQL, &[(&before, Type::TIMESTAMPTZ)])).await
        };
        self.links.reader.call(DEADLINE, work).await.map(drop)
    }

    /// Makes `next` the floor, and says whether `floor` was it.
    async fn prune_slice(&self, floor: Revision, next: Revision) -> Result<bool, Failure> {
        // Whoever prunes holds the row, and nobody else can.
        const RAISE: &str = "UPDATE kuma_schema SET floor = $2 WHERE floor = $1";
        // Of each document that the slice touches, what is older than its state at the new floor; and that state, too,
        // if it is that there is none.
        const CHANGES: &str = "DELETE FROM kuma_changes h USING (
                SELECT kind, mesh, name, max(revision) AS last FROM kuma_changes
                WHERE revision > $1 AND revision <= $2 GROUP BY kind, mesh, name) k
            WHERE h.kind = k.kind AND h.mesh = k.mesh AND h.name = k.name
            AND (h.revision < k.last OR h.revision = k.last AND h.version IS NULL)
            RETURNING h.revision";
        // The commit at the floor stays: by it others find that they have missed nothing.
        const COMMITS: &str = "DELETE FROM kuma_commits c WHERE c.revision = ANY($1) AND c.revision < $2
            AND NOT EXISTS (SELECT FROM kuma_changes h WHERE h.revision = c.revision)";
        let started = Instant::now();
        let turn = self.links.reader.alone().await?;
        let client = &*turn.client;
        let (floor, next) = (number(floor), number(next));
        let slice = async {
            client.batch_execute(&format!("BEGIN; {}", limits(statement_limit(DEADLINE)))).await?;
            let bounds = [(&floor as _, Type::INT8), (&next as _, Type::INT8)];
            let raised = client.execute_typed(RAISE, &bounds).await?;
            if raised == 1 {
                let rows = client.query_typed(CHANGES, &bounds).await?;
                let revisions = rows.iter().map(|row| row.try_get(0)).chain([Ok(floor)]);
                let revisions: Vec<i64> = revisions.collect::<Result<_, Error>>()?;
                client.execute_typed(COMMITS, &[(&revisions, Type::INT8_ARRAY), (&next, Type::INT8)]).await?;
            }
            client.batch_execute("COMMIT").await?;
            Ok(raised == 1)
        };
        let answer = self.links.reader.watched(started, DEADLINE, slice).await;
        if answer.is_err() {
            let _ = client.batch_execute("ROLLBACK").await;
        }
        answer
    }
}
