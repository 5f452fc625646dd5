//! What the store costs: commits one at a time and many at a time, and a start on what it holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::Outcome;
use crate::lab::Lab;
use crate::mesh::permission;
use crate::report::{distribution, rounded};

/// How many write at the same time in the second part.
const WRITERS: usize = 64;

/// Writes documents that concern no proxy, first one after the other, then [`WRITERS`] at a time. Then kuma-cp is
/// killed and started again, on what its store has kept; the documents are written again only where it has kept none.
/// Nobody is connected before.
pub(super) async fn commits(lab: &mut Lab) -> anyhow::Result<Outcome> {
    let meter = lab.meter();
    let mut alone = Vec::new();
    let meter_alone = lab.meter();
    for number in 0..lab.plan.repeats {
        alone.push(lab.api.put(&document("alone", number)).await?);
    }
    let cpu_alone = lab.read(&meter_alone).server;

    let end = Instant::now() + Duration::from_secs(lab.plan.seconds);
    let began = Instant::now();
    let mut writers = JoinSet::new();
    let api = Arc::new(lab.api.clone());
    for writer in 0..WRITERS {
        let api = api.clone();
        writers.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                times.push(api.put(&document(&format!("writer-{writer}"), times.len() as u32)).await?);
            }
            anyhow::Ok(times)
        });
    }
    let mut together = Vec::new();
    while let Some(times) = writers.join_next().await {
        together.extend(times??);
    }
    let per_second = together.len() as f64 / began.elapsed().as_secs_f64();
    let rss = lab.rss();
    let usage = lab.read(&meter);

    lab.control_plane.kill()?;
    let killed = Instant::now();
    lab.control_plane.restart().await?;
    let ready = killed.elapsed();
    // Changes nothing where everything is still there.
    lab.api.make(&lab.plan.shape).await?;
    let began = Instant::now();
    let first = lab.connect_only(1).await?;
    let configured = began.elapsed();
    first.stop().await;
    lab.plan.at_once = lab.plan.at_once.min(500);
    lab.connect().await?;
    let also = json!({
        "store": lab.store(),
        "ms_commit": distribution(&alone),
        "server_cpu_us_per_commit": rounded(cpu_alone * 1e6 / alone.len().max(1) as f64),
        "ms_commit_of_many_writers": distribution(&together),
        "commits_per_s_of_many_writers": rounded(per_second),
        "rss_after_commits": rss,
        "s_from_start_to_ready": rounded(ready.as_secs_f64()),
        "s_from_then_to_first_proxy_complete": rounded(configured.as_secs_f64()),
    });
    Ok(Outcome { changes: Vec::new(), usage, also })
}

/// A permission between services that nobody has, which is another one for each number.
fn document(name: &str, number: u32) -> serde_json::Value {
    permission(name, &format!("nobody-{number}"), "nobody")
}
