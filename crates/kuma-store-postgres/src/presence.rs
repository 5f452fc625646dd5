//! The control planes that use the database, and who of them does what only one should do.

use std::time::Duration;

use futures_util::future::try_join3;
use kuma_store::{Peer, StoreError};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::PostgresJournal;
use crate::failure::Failure;
use crate::journal::limits;
use crate::link::{DEADLINE, statement_limit, transaction};

/// How long a lease lasts, and how long a control plane counts as alive after it was heard of. All times are the
/// database's.
pub const LEASED_FOR: Duration = Duration::from_secs(15);

impl PostgresJournal {
    /// Says that `instance` is alive, with what it has to say about itself, and returns all control planes, ordered by
    /// id. What one has reported that was not heard of for an hour is removed.
    pub(crate) async fn say_alive(&self, instance: &str, about: &str) -> Result<Vec<Peer>, StoreError> {
        const ALIVE: &str = "INSERT INTO kuma_instances AS i (id, seen, about) VALUES ($1, clock_timestamp(), $2)
            ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, about = excluded.about";
        const FORGET: &str = "WITH gone AS (
                DELETE FROM kuma_instances WHERE seen < clock_timestamp() - interval '1 hour' RETURNING id)
            DELETE FROM kuma_insights WHERE (mesh, name, instance) IN (
                SELECT i.mesh, i.name, i.instance FROM kuma_insights i WHERE i.instance IN (SELECT id FROM gone)
                ORDER BY i.mesh, i.name, i.instance FOR UPDATE OF i)";
        const ALL: &str = "SELECT id, about, seen > clock_timestamp() - $1 * interval '1 second'
            FROM kuma_instances ORDER BY id";
        let begin = format!("BEGIN; SET LOCAL synchronous_commit = off; {}", limits(statement_limit(DEADLINE)));
        let seconds = LEASED_FOR.as_secs_f64();
        let work = async |client: &Client| {
            let about = [(&instance as _, Type::TEXT), (&about as _, Type::TEXT)];
            let recent = [(&seconds as _, Type::FLOAT8)];
            let alive = client.execute_typed(ALIVE, &about);
            let forget = client.execute_typed(FORGET, &[]);
            let all = client.query_typed(ALL, &recent);
            transaction(client, &begin, try_join3(alive, forget, all)).await
        };
        let (_, _, rows) = self.links.reader.call(DEADLINE, work).await?;
        let peers: Result<_, Error> = rows.iter().map(|row| read(row, instance)).collect();
        Ok(peers.map_err(Failure::from)?)
    }

    /// Takes or renews a lease, for [`LEASED_FOR`]. Returns its epoch, which grows with each new holder, or `None`
    /// while another one holds it. It saves double work and is no lock: a holder that was stopped may learn late that
    /// it is none any more.
    pub(crate) async fn take_lease(&self, name: &str, holder: &str) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "INSERT INTO kuma_leases AS l (name, holder, epoch, until)
            VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 second')
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
                epoch = l.epoch + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END
            WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
            RETURNING epoch";
        let begin = format!("BEGIN; {}", limits(statement_limit(DEADLINE)));
        let seconds = LEASED_FOR.as_secs_f64();
        let work = async |client: &Client| {
            let parameters = [(&name as _, Type::TEXT), (&holder as _, Type::TEXT), (&seconds as _, Type::FLOAT8)];
            transaction(client, &begin, client.query_typed(SQL, &parameters)).await
        };
        let rows = self.links.reader.call(DEADLINE, work).await?;
        let epoch = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose().map_err(Failure::from)?;
        Ok(epoch.map(i64::unsigned_abs))
    }
}

fn read(row: &Row, own: &str) -> Result<Peer, Error> {
    let instance: &str = row.try_get(0)?;
    Ok(Peer { instance: instance.into(), about: row.try_get(1)?, is_alive: row.try_get(2)?, is_self: instance == own })
}
