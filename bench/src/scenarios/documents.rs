//! How fast documents can be written, and when everything follows from them.

use std::time::Instant;

use serde_json::json;

use super::Outcome;
use crate::lab::Lab;
use crate::report::rounded;

/// The documents have been written over the HTTP API while the lab was made. One proxy that connects right after the
/// last of them sees a mesh with all of them in it, because its task takes documents and streams in order; then all
/// connect.
pub(super) async fn documents(lab: &mut Lab) -> anyhow::Result<Outcome> {
    let meter = lab.meter();
    let began = Instant::now();
    let first = lab.connect_only(1).await?;
    let consistent = began.elapsed();
    first.stop().await;
    let usage = lab.read(&meter);
    let written = lab.documents_took.as_secs_f64();
    let count = f64::from(lab.plan.shape.dataplanes);
    let also = json!({
        "s_to_write": rounded(written),
        "writes_per_s": rounded(count / written),
        "server_cpu_us_per_write": rounded(lab.documents_cpu * 1e6 / count),
        "s_from_last_write_to_first_proxy_complete": rounded(consistent.as_secs_f64()),
        "rss_empty": lab.rss_empty, "rss_documents": lab.rss_documents,
    });
    lab.plan.at_once = lab.plan.at_once.min(500);
    lab.connect().await?;
    Ok(Outcome { changes: Vec::new(), usage, also })
}
