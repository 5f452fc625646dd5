//! The tables: made if they are missing, and looked at before they are used.

use kuma_store::StoreError;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::config::PostgresConfig;
use crate::connect::{Driver, connect};
use crate::failure::{Failure, describe};
use crate::link::DEADLINE;

/// What makes the tables: SQL for any tool, which may be run again at any time.
pub const SCHEMA: &str = include_str!("schema.sql");

/// Which version of the tables this program makes and knows. With a newer one it works for as long as `oldest_program`
/// there says so.
const VERSION: i32 = 1;

const TABLES: &str =
    "kuma_schema, kuma_commits, kuma_changes, kuma_documents, kuma_insights, kuma_instances, kuma_leases";

/// What [`migrate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// It made the tables, or brought them to this program's version.
    Done,
    /// They were as this program needs them.
    UpToDate,
}

/// Makes the tables, or brings them to this program's version, if need be. Any number may do so at once.
///
/// # Errors
/// [`StoreError::Unavailable`]: the database cannot be reached. [`StoreError::Unusable`]: it is not fit for it, or we
/// may not; the message says what to do.
pub async fn migrate(config: &PostgresConfig) -> Result<Migration, StoreError> {
    Ok(prepare(config).await?.0)
}

/// The same; tells which store it is as well.
pub(crate) async fn prepare(config: &PostgresConfig) -> Result<(Migration, Uuid), StoreError> {
    let (client, driver) = connect(config).await.map_err(|reason| StoreError::Unavailable { reason })?;
    let answer = drive(driver, timeout(10 * DEADLINE, migrate_over(&client, config))).await;
    answer.unwrap_or(Err(Failure::Late.into()))
}

fn unusable(reason: String) -> StoreError {
    StoreError::Unusable { reason }
}

/// Polls the connection along with the work.
async fn drive<T>(driver: Driver, work: impl Future<Output = T>) -> T {
    let (driver, work) = (std::pin::pin!(driver), std::pin::pin!(work));
    match futures_util::future::select(driver, work).await {
        futures_util::future::Either::Left((_, work)) => work.await,
        futures_util::future::Either::Right((answer, _)) => answer,
    }
}

async fn migrate_over(client: &Client, config: &PostgresConfig) -> Result<(Migration, Uuid), StoreError> {
    let database = &config.db_name;
    let encoding: String = client
        .query_typed("SELECT current_setting('server_encoding')", &[])
        .await
        .and_then(|rows| rows[0].try_get(0))
        .map_err(Failure::from)?;
    if encoding != "UTF8" {
        return Err(unusable(format!(
            "database {database:?} has the encoding {encoding}, and documents may hold any character. Make another \
             one, with: CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0",
            quoted(database)
        )));
    }
    let migration = match found(client, config).await? {
        Some(found) if found.version >= VERSION => Migration::UpToDate,
        _ => {
            make(client, config).await?;
            Migration::Done
        }
    };
    let found =
        found(client, config).await?.ok_or_else(|| unusable("the tables are not there after they were made".into()))?;
    if found.oldest_program > VERSION {
        return Err(unusable(format!(
            "the tables in database {database:?} were made by a newer kuma-cp (version {} of the tables, for programs \
             that know version {} or later), and this one knows version {VERSION}: run the newer one",
            found.version, found.oldest_program
        )));
    }
    may_use(client, config).await?;
    Ok((migration, found.store))
}

struct Found {
    version: i32,
    oldest_program: i32,
    store: Uuid,
}

async fn found(client: &Client, config: &PostgresConfig) -> Result<Option<Found>, StoreError> {
    let there = client.query_typed("SELECT to_regclass('kuma_schema') IS NOT NULL", &[]).await;
    if !there.and_then(|rows| rows[0].try_get::<_, bool>(0)).map_err(Failure::from)? {
        return Ok(None);
    }
    let rows = client.query_typed("SELECT version, oldest_program, store FROM kuma_schema", &[]).await;
    let rows = rows.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => unusable(format!(
            "{}. The owner of the tables gives the right with: GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO {}",
            describe(&error),
            quoted(&config.user)
        )),
        _ => Failure::from(error).into(),
    })?;
    let read = |row: &tokio_postgres::Row| -> Result<Found, Error> {
        Ok(Found { version: row.try_get(0)?, oldest_program: row.try_get(1)?, store: row.try_get(2)? })
    };
    Ok(rows.first().map(read).transpose().map_err(Failure::from)?)
}

async fn make(client: &Client, config: &PostgresConfig) -> Result<(), StoreError> {
    let Err(error) = client.batch_execute(SCHEMA).await else { return Ok(()) };
    // The connection is used once more, for the message.
    let _ = client.batch_execute("ROLLBACK").await;
    if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Err(Failure::from(error).into());
    }
    let rows = client.query_typed("SELECT coalesce(current_schema()::text, 'public')", &[]).await;
    let schema = rows.and_then(|rows| rows[0].try_get(0)).unwrap_or_else(|_| "public".to_owned());
    let (user, database) = (&config.user, &config.db_name);
    Err(unusable(format!(
        "user {user:?} may not make tables in database {database:?}: {}. Either the owner of the database allows it: \
         GRANT CREATE ON SCHEMA {} TO {}; or makes them: kumactl install database-schema --target=postgres | psql \
         --dbname={database}; and then: GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO {}",
        describe(&error),
        quoted(&schema),
        quoted(user),
        quoted(user)
    )))
}

/// Whether we have the rights that we will need.
async fn may_use(client: &Client, config: &PostgresConfig) -> Result<(), StoreError> {
    let tables: Vec<&str> = TABLES.split(", ").collect();
    let missing = "SELECT table_name FROM unnest($1::text[]) AS table_name
        WHERE NOT (has_table_privilege(table_name, 'SELECT') AND has_table_privilege(table_name, 'INSERT')
          AND has_table_privilege(table_name, 'UPDATE') AND has_table_privilege(table_name, 'DELETE'))";
    let rows = client.query_typed(missing, &[(&tables, Type::TEXT_ARRAY)]).await.map_err(Failure::from)?;
    if rows.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = rows.iter().map(|row| row.try_get(0).unwrap_or("?")).collect();
    Err(unusable(format!(
        "user {:?} may not write {}. The owner of the tables gives the right with: GRANT SELECT, INSERT, UPDATE, \
         DELETE ON {TABLES} TO {}",
        config.user,
        missing.join(", "),
        quoted(&config.user)
    )))
}

/// A name as SQL takes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
