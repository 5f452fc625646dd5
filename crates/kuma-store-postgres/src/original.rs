//! The table that the original Kuma (0.3, 0.4) keeps its documents in. It is only read.

use kuma_store::StoreError;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::PostgresJournal;
use crate::journal::begin_read;
use crate::link::{statement_limit, transaction};

/// A large table may take this long.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// One row of the table `resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRow {
    /// `type`
    pub kind: String,
    /// `mesh`
    pub mesh: String,
    /// `name`
    pub name: String,
    /// `spec`
    pub spec: Option<String>,
}

impl PostgresJournal {
    /// What the original has left in the same database and schema; empty if it was never there. What proxies had
    /// reported to it is left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; also if the table may not be read.
    pub async fn original_rows(&self) -> Result<Vec<OriginalRow>, StoreError> {
        // A table of that name may be somebody else's.
        const IS_THERE: &str = "SELECT count(*) = 5 FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = 'resources'
            AND column_name IN ('name', 'namespace', 'mesh', 'type', 'spec')";
        const ROWS: &str = "SELECT type, mesh, name, spec FROM resources
            WHERE namespace = '' AND type <> 'DataplaneInsight' ORDER BY type, mesh, name";
        let is_there = async |client: &Client| Ok(client.query_typed(IS_THERE, &[]).await?);
        let found = self.links.reader.call(DEADLINE, is_there).await?;
        if !found.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
            return Ok(Vec::new());
        }
        let begin = begin_read(statement_limit(DEADLINE));
        let none: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 0] = [];
        let work = async |client: &Client| transaction(client, &begin, client.query_typed(ROWS, &none)).await;
        let rows = self.links.reader.call(DEADLINE, work).await?;
        let read: Result<_, Error> = rows.iter().map(read).collect();
        Ok(read.map_err(crate::failure::Failure::from)?)
    }
}

fn read(row: &Row) -> Result<OriginalRow, Error> {
    Ok(OriginalRow { kind: row.try_get(0)?, mesh: row.try_get(1)?, name: row.try_get(2)?, spec: row.try_get(3)? })
}
