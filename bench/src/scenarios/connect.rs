//! Many connections at once, and the costs of a connected proxy.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Outcome, SETTLE};
use crate::arrivals::Arrivals;
use crate::lab::Lab;
use crate::meter::Usage;
use crate::process::Watched;
use crate::report::rounded;

/// All proxies connect at once, several times. Each time counts as a change that concerns all proxies, from the
/// beginning of the first connection to the last resource.
pub(super) async fn connect(lab: &mut Lab) -> anyhow::Result<Outcome> {
    let mut changes = Vec::new();
    let mut storms: Vec<Usage> = Vec::new();
    let all = lab.meter();
    for round in 0..lab.plan.repeats.clamp(1, 5) {
        if round > 0 {
            lab.disconnect().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let meter = lab.meter();
        let fleet = lab.connect().await?;
        storms.push(meter.read(&lab.costs(), Some(&fleet)));
        let complete = fleet.first_complete();
        changes.push(Arrivals {
            write_took: Duration::ZERO,
            concerned: fleet.len(),
            missing: fleet.len() - complete.len(),
            wrong: 0,
            elsewhere: Vec::new(),
            since_answered: complete.clone(),
            since_asked: complete,
        });
        fleet.quiet(Duration::from_millis(500)).await;
    }
    let proxies = f64::from(lab.plan.shape.dataplanes);
    let of =
        |figure: &dyn Fn(&Usage) -> f64| -> Vec<Value> { storms.iter().map(|usage| rounded(figure(usage))).collect() };
    let also = json!({
        "s_to_last": changes.iter().map(|change| rounded(change.since_asked.iter().max().map_or(0.0,
            Duration::as_secs_f64))).collect::<Vec<_>>(),
        "storm_server_cpu_s": of(&|usage| usage.server),
        "storm_generator_cpu_s": of(&|usage| usage.own),
        "storm_generator_busy": of(&|usage| usage.own / usage.wall.as_secs_f64() / lab.plan.threads as f64),
        "server_cpu_us_per_proxy": of(&|usage| usage.server * 1e6 / proxies),
        "bytes_per_proxy": of(&|usage| usage.moved.bytes as f64 / proxies),
        "resources_per_proxy": of(&|usage| usage.moved.resources as f64 / proxies),
    });
    // The totals are those of the last fleet, since each has its own. The costs are those of all.
    let usage = all.read(&lab.costs(), lab.fleet().ok().map(AsRef::as_ref));
    Ok(Outcome { changes, usage, also })
}

/// Memory with nobody, with the documents, and with all connected.
pub(super) async fn memory(lab: &mut Lab) -> anyhow::Result<Outcome> {
    tokio::time::sleep(SETTLE).await;
    let meter = lab.meter();
    let anonymous = |lab: &Lab| -> u64 { lab.costs().into_iter().map(Watched::anonymous).sum() };
    let documents = lab.rss();
    let own_documents = anonymous(lab);
    let fleet = lab.connect().await?;
    let storm = meter.read(&lab.costs(), Some(&fleet));
    fleet.quiet(Duration::from_millis(500)).await;
    let peak = lab.read(&meter).peak_rss;
    tokio::time::sleep(SETTLE).await;
    let connected = lab.rss();
    let per_proxy = |rss: u64| (rss.saturating_sub(documents)) / fleet.len() as u64;
    let also = json!({
        "rss_empty": lab.rss_empty, "rss_documents": documents, "rss_documents_before_settling": lab.rss_documents,
        "rss_connected": connected, "rss_peak": peak,
        "anonymous_documents": own_documents, "anonymous_connected": anonymous(lab),
        "storm": {
            "s_to_last": rounded(fleet.first_complete().iter().max().map_or(0.0, Duration::as_secs_f64)),
            "cpu_us_per_proxy": rounded(storm.server * 1e6 / fleet.len() as f64),
            "generator_busy": rounded(storm.own / storm.wall.as_secs_f64() / lab.plan.threads as f64),
        },
        "rss_per_proxy": per_proxy(connected), "peak_rss_per_proxy": per_proxy(peak),
    });
    Ok(Outcome { changes: Vec::new(), usage: lab.read(&meter), also })
}
