//! What proxies have reported.

use std::sync::Arc;

use kuma_model::{DataplaneInsight, Key, Mesh, Resource as _};
use kuma_store::InsightRow;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::error::Result;
use crate::rows::{insight_sum, text, time};

/// The reports of one mesh or of all, of one proxy or of all. One that is damaged is left out: the next one replaces
/// it.
pub(crate) fn read(connection: &mut Connection, mesh: Option<&str>, name: Option<&str>) -> Result<Vec<InsightRow>> {
    const SQL: &str = "SELECT mesh, name, instance, modified, spec, sum FROM insights \
                       WHERE (?1 IS NULL OR mesh = ?1) AND (?2 IS NULL OR name = ?2) ORDER BY mesh, name, instance";
    const OF_MESH: &str = "SELECT mesh, name, instance, modified, spec, sum FROM insights \
                           WHERE mesh = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY mesh, name, instance";
    let mut statement = connection.prepare_cached(if mesh.is_some() { OF_MESH } else { SQL })?;
    let mut rows = statement.query([mesh, name])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (mesh, name, instance, spec) = (text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 4)?);
        let modified: i64 = row.get(3)?;
        let is_whole = row.get::<_, i64>(5)? == insight_sum(mesh, name, instance, modified, spec);
        match time(modified).filter(|_| is_whole) {
            Some(modified) => found.push(InsightRow {
                key: Key::new(DataplaneInsight::KIND, mesh, name),
                instance: instance.into(),
                modified,
                spec: spec.into(),
            }),
            None => tracing::warn!(mesh, name, "a damaged report of a proxy is left out"),
        }
    }
    Ok(found)
}

/// Stores reports, but those of meshes that do not exist.
pub(crate) fn put(connection: &mut Connection, rows: &[InsightRow]) -> Result<()> {
    const SQL: &str = "INSERT OR REPLACE INTO insights (mesh, name, instance, modified, spec, sum) \
                       SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
                       WHERE EXISTS (SELECT 1 FROM documents WHERE kind = ?7 AND mesh = ?1 AND name = ?1)";
    // A crash may take them: they need not wait for the disk. The next commit does.
    connection.pragma_update(None, "synchronous", "normal")?;
    let written = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut statement = transaction.prepare_cached(SQL)?;
            for InsightRow { key, instance, modified, spec } in rows {
                let modified = modified.as_microsecond();
                let sum = insight_sum(&key.mesh, &key.name, instance, modified, spec);
                let values = params![&*key.mesh, &*key.name, &**instance, modified, &**spec, sum, Mesh::KIND];
                statement.execute(values)?;
            }
        }
        Ok(transaction.commit()?)
    })();
    connection.pragma_update(None, "synchronous", "full")?;
    written
}

/// Removes all reports of these proxies.
pub(crate) fn remove(connection: &mut Connection, keys: &[Key]) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached("DELETE FROM insights WHERE mesh = ?1 AND name = ?2")?;
        for key in keys {
            let (mesh, name): (&Arc<str>, &Arc<str>) = (&key.mesh, &key.name);
            statement.execute([&**mesh, &**name])?;
        }
    }
    Ok(transaction.commit()?)
}
