//! Storms of connections, and what a connected proxy costs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::report::{distribution, rounded};

/// Longer than the allocator of kuma-cp keeps what it does not need: 10 s.
const SETTLE: Duration = Duration::from_secs(12);

/// All proxies connect at once, several times.
pub(super) async fn connect(lab: &mut Lab) -> anyhow::Result<Value> {
    let mut runs = Vec::new();
    for round in 0..lab.plan.repeats.clamp(1, 5) {
        if round > 0 {
            lab.disconnect().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let meter = lab.meter();
        let fleet = lab.connect().await?;
        let usage = lab.read(&meter);
        runs.push(json!({
            "ms_to_complete": distribution(&fleet.first_complete()),
            "server_cpu_us_per_proxy": rounded(usage.server * 1e6 / fleet.len() as f64),
            "bytes_per_proxy": fleet.totals().bytes / fleet.len() as u64,
            "resources_per_proxy": rounded(fleet.totals().resources as f64 / fleet.len() as f64),
            "usage": usage.to_json(lab.plan.threads),
        }));
        fleet.quiet(Duration::from_millis(500)).await;
    }
    Ok(json!({ "runs": runs }))
}

/// Memory with nobody, with the documents, with all connected, and after each was sent something more.
pub(super) async fn memory(lab: &mut Lab) -> anyhow::Result<Value> {
    tokio::time::sleep(SETTLE).await;
    let documents = lab.control_plane.rss();
    let fleet = lab.connect().await?;
    fleet.quiet(Duration::from_millis(500)).await;
    let peak = lab.control_plane.peak_rss();
    tokio::time::sleep(SETTLE).await;
    let connected = lab.control_plane.rss();
    let per_proxy = |rss: u64| (rss.saturating_sub(documents)) / fleet.len() as u64;
    Ok(json!({
        "rss_empty": lab.rss_empty, "rss_documents": documents, "rss_documents_before_settling": lab.rss_documents,
        "rss_connected": connected, "rss_peak": peak,
        "bytes_per_proxy": per_proxy(connected), "peak_bytes_per_proxy": per_proxy(peak),
    }))
}
