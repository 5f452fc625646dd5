//! A restart of kuma-cp.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Outcome;
use crate::arrivals::Expected;
use crate::fleet::failures;
use crate::lab::Lab;
use crate::mesh::permission;
use crate::report::rounded;

/// Kills kuma-cp, starts it again, writes the documents again, which the memory store has lost, and waits until all
/// proxies have reconnected and a change reaches each.
pub(super) async fn restart(lab: &mut Lab) -> anyhow::Result<Outcome> {
    let fleet = lab.fleet()?.clone();
    let everyone: BTreeSet<u32> = (0..lab.plan.shape.dataplanes).collect();
    let held = fleet.totals().bytes;
    let before = fleet.resources();
    let meter = lab.meter();
    let killed = Instant::now();
    lab.control_plane.kill()?;
    lab.control_plane.restart().await?;
    let ready = killed.elapsed();
    lab.api.make(&lab.plan.shape).await?;
    let written = killed.elapsed();
    while fleet.connects().0 < 2 || fleet.connected() < fleet.len() {
        anyhow::ensure!(killed.elapsed() < lab.limit(), "not all have come back{}", failures(&fleet.errors()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let back = killed.elapsed();
    // kuma-cp waits until no documents are written before it answers proxies that have come back.
    tokio::time::sleep(Duration::from_secs(8)).await;
    fleet.complete(lab.limit()).await?;
    let usage = lab.read(&meter);
    let after = fleet.resources();
    let changed = before.iter().filter(|(client, held)| after.get(client) != Some(held)).count();
    fleet.clear_errors();

    let name = lab.fresh.name();
    let document = permission(&name, "*", "*");
    let expected = Expected { marker: &name, gone_from: None, concerned: &everyone };
    let probe = lab.change(expected, lab.api.put(&document)).await?;
    let also = json!({
        "s_until_ready": rounded(ready.as_secs_f64()),
        "s_until_documents_written": rounded(written.as_secs_f64()),
        "s_until_all_are_back": rounded(back.as_secs_f64()),
        "bytes_sent_before": held, "bytes_resent": usage.moved.bytes,
        "percent_resent": rounded(100.0 * usage.moved.bytes as f64 / held as f64),
        "clients_whose_versions_changed": changed,
    });
    Ok(Outcome { changes: vec![probe], usage, also })
}
