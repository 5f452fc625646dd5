//! Slow, huge and malformed clients beside normal ones.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Outcome, SETTLE};
use crate::arrivals::{self, Arrivals, Expected};
use crate::hostile::Horde;
use crate::lab::Lab;
use crate::mesh::permission;
use crate::report::distribution;

/// How long hostile clients run before the measurement.
const SPREAD: Duration = Duration::from_secs(3);

/// One in this number of proxies stops reading too.
const DEAF: usize = 20;

/// The measurements of normal clients.
struct Seen {
    changes: Vec<Arrivals>,
    /// Times of reads over the HTTP API, each over a new connection.
    reads: Vec<Duration>,
    /// Number of reads that were refused or broke off.
    failed: usize,
}

/// The same changes and reads without hostile clients, and with them.
pub(super) async fn hostile(lab: &Lab) -> anyhow::Result<Outcome> {
    let fleet = lab.fleet()?;
    let clients = lab.plan.shape.dataplanes;
    let deaf: BTreeSet<u32> = (0..clients).step_by(DEAF).collect();
    let others: BTreeSet<u32> = (0..clients).filter(|client| !deaf.contains(client)).collect();
    let without = observe(lab, &(0..clients).collect()).await?;

    for &client in &deaf {
        fleet.set_reading(client, false);
    }
    let before = lab.rss();
    let meter = lab.meter();
    let horde = Horde::start(lab.control_plane.ports, lab.plan.hostile)?;
    tokio::time::sleep(SPREAD).await;
    let with = observe(lab, &others).await?;
    let usage = lab.read(&meter);
    let deeds = horde.to_json();
    drop(horde);
    for &client in &deaf {
        fleet.set_reading(client, true);
    }
    tokio::time::sleep(SETTLE).await;
    let also = json!({
        "hostile_on_each_port": lab.plan.hostile, "deaf_proxies": deaf.len(), "hostile": deeds,
        "without": without.to_json(), "with": with.to_json(),
        "rss_before": before, "rss_growth_peak": usage.peak_rss.saturating_sub(before),
        "rss_growth_settled": lab.rss().saturating_sub(before),
    });
    Ok(Outcome { changes: with.changes, usage, also })
}

async fn observe(lab: &Lab, concerned: &BTreeSet<u32>) -> anyhow::Result<Seen> {
    let mut seen = Seen { changes: Vec::new(), reads: Vec::new(), failed: 0 };
    for _ in 0..lab.plan.repeats {
        let name = lab.fresh.name();
        let document = permission(&name, "*", "*");
        let expected = Expected { marker: &name, gone_from: None, concerned };
        seen.changes.push(lab.change(expected, lab.api.put(&document)).await?);
        lab.api.delete(&document).await?;
        for _ in 0..5 {
            let began = Instant::now();
            match lab.api.read_alone("/meshes/default/traffic-permissions/everyone").await {
                Ok(()) => seen.reads.push(began.elapsed()),
                Err(_) => seen.failed += 1,
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(seen)
}

impl Seen {
    fn to_json(&self) -> Value {
        let changes = arrivals::summary(&self.changes);
        json!({
            "change_ms": changes["ms_from_request"], "write_ms": changes["ms_api_answer"],
            "missing": changes["missing"],
            "read_ms": distribution(&self.reads), "failed_reads": self.failed,
        })
    }
}
