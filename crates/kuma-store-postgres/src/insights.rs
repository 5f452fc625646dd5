//! What control planes have reported of proxies.

use std::sync::Arc;

use futures_util::future::try_join;
use kuma_model::{DataplaneInsight, Key, Mesh, Resource as _};
use kuma_store::{InsightRow, StoreError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::PostgresJournal;
use crate::failure::Failure;
use crate::journal::{begin_read, limits};
use crate::link::{DEADLINE, statement_limit, transaction};

/// The columns of reports.
type Columns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>, Vec<jiff::Timestamp>, Vec<&'a str>);

impl PostgresJournal {
    pub(crate) async fn read_insights(
        &self,
        mesh: Option<Arc<str>>,
        name: Option<Arc<str>>,
    ) -> Result<Vec<InsightRow>, StoreError> {
        const SQL: &str = "SELECT mesh, name, instance, modified, spec FROM kuma_insights
            WHERE ($1::text IS NULL OR mesh = $1) AND ($2::text IS NULL OR name = $2)
            ORDER BY mesh, name, instance";
        let begin = begin_read(statement_limit(DEADLINE));
        let (mesh, name) = (mesh.as_deref(), name.as_deref());
        let work = async |client: &Client| {
            let parameters = [(&mesh as _, Type::TEXT), (&name as _, Type::TEXT)];
            transaction(client, &begin, client.query_typed(SQL, &parameters)).await
        };
        let rows = self.links.reader.call(DEADLINE, work).await?;
        let rows: Result<_, Error> = rows.iter().map(insight).collect();
        Ok(rows.map_err(Failure::from)?)
    }

    pub(crate) async fn write_insights(&self, mut rows: Vec<InsightRow>) -> Result<(), StoreError> {
        // A Mesh that is locked is not deleted before we are done. All who write lock in the same order.
        const MESHES: &str = "SELECT FROM kuma_documents WHERE kind = $1 AND mesh = ANY($2)
            ORDER BY mesh, name FOR KEY SHARE";
        const SQL: &str = "INSERT INTO kuma_insights (mesh, name, instance, modified, spec)
            SELECT u.* FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
                u (mesh, name, instance, modified, spec)
            WHERE EXISTS (SELECT FROM kuma_documents d WHERE d.kind = $1 AND d.mesh = u.mesh AND d.name = u.mesh)
            ORDER BY u.mesh COLLATE \"C\", u.name COLLATE \"C\", u.instance COLLATE \"C\"
            ON CONFLICT (mesh, name, instance) DO UPDATE SET modified = excluded.modified, spec = excluded.spec";
        rows.sort_by(|a, b| (&a.key, &a.instance).cmp(&(&b.key, &b.instance)));
        let mut columns: Columns<'_> = Columns::default();
        for InsightRow { key, instance, modified, spec } in &rows {
            columns.0.push(&key.mesh);
            columns.1.push(&key.name);
            columns.2.push(instance);
            columns.3.push(*modified);
            columns.4.push(spec);
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&Mesh::KIND, Type::TEXT),
            (&columns.0, Type::TEXT_ARRAY),
            (&columns.1, Type::TEXT_ARRAY),
            (&columns.2, Type::TEXT_ARRAY),
            (&columns.3, Type::TIMESTAMPTZ_ARRAY),
            (&columns.4, Type::TEXT_ARRAY),
        ];
        let work = async |client: &Client| {
            let meshes = client.query_typed(MESHES, &parameters[..2]);
            let insights = client.execute_typed(SQL, &parameters);
            transaction(client, &begin_insights(), try_join(meshes, insights)).await
        };
        self.links.reader.call(DEADLINE, work).await?;
        Ok(())
    }

    pub(crate) async fn delete_insights(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM kuma_insights WHERE (mesh, name, instance) IN (
            SELECT i.mesh, i.name, i.instance FROM kuma_insights i
            JOIN unnest($1::text[], $2::text[]) u (mesh, name) ON i.mesh = u.mesh AND i.name = u.name
            ORDER BY i.mesh, i.name, i.instance FOR UPDATE OF i)";
        let meshes: Vec<&str> = keys.iter().map(|key| &*key.mesh).collect();
        let names: Vec<&str> = keys.iter().map(|key| &*key.name).collect();
        let work = async |client: &Client| {
            let parameters = [(&meshes as _, Type::TEXT_ARRAY), (&names as _, Type::TEXT_ARRAY)];
            transaction(client, &begin_insights(), client.execute_typed(SQL, &parameters)).await
        };
        self.links.reader.call(DEADLINE, work).await?;
        Ok(())
    }
}

/// Reports come again; nobody waits for the disk because of them.
fn begin_insights() -> String {
    format!("BEGIN; SET LOCAL synchronous_commit = off; {}", limits(statement_limit(DEADLINE)))
}

fn insight(row: &Row) -> Result<InsightRow, Error> {
    let key = Key::new(DataplaneInsight::KIND, row.try_get(0)?, row.try_get(1)?);
    let spec: String = row.try_get(4)?;
    Ok(InsightRow { key, instance: row.try_get::<_, &str>(2)?.into(), modified: row.try_get(3)?, spec: spec.into() })
}
