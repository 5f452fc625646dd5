//! What goes on for a while: nothing, churn, and clients that don't read.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use super::Outcome;
use crate::arrivals::{Arrivals, Expected};
use crate::lab::Lab;
use crate::mesh::{dataplane, permission};
use crate::report::rounded;

/// Nothing happens.
pub(super) async fn idle(lab: &Lab) -> anyhow::Result<Outcome> {
    // Past what connecting has left to do, such as the writing of insights.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let meter = lab.meter();
    tokio::time::sleep(Duration::from_secs(lab.plan.seconds)).await;
    Ok(Outcome { changes: Vec::new(), usage: lab.read(&meter), also: json!({}) })
}

/// Dataplanes come and go at a rate, half of the changes each.
pub(super) async fn churn(lab: &Lab, rate: u32) -> anyhow::Result<Outcome> {
    const ALIVE: usize = 30;
    let shape = &lab.plan.shape;
    let consumers: Vec<BTreeSet<u32>> = (0..shape.services).map(|service| shape.consumers(service)).collect();
    let mut alive = VecDeque::new();
    let mut changes: FuturesUnordered<_> = FuturesUnordered::new();
    let mut arrivals: Vec<Arrivals> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let deadline = Instant::now() + Duration::from_secs(lab.plan.seconds);
    let meter = lab.meter();
    let mut made = 0;
    while Instant::now() < deadline {
        tokio::select! {
            _ = ticks.tick() => {
                made += 1;
                if made % 2 == 0 && alive.len() > ALIVE {
                    if let Some(document) = alive.pop_front() {
                        changes.push(futures_util::future::Either::Left(async move {
                            lab.api.delete(&document).await?;
                            anyhow::Ok(None)
                        }));
                    }
                    continue;
                }
                let service = (made * 7) % shape.services;
                let address = lab.fresh.address();
                let document = dataplane(&format!("churn-{made}"), &address, &format!("svc-{service}"),
                    &BTreeSet::new());
                let consumers = &consumers[service as usize];
                changes.push(futures_util::future::Either::Right(async move {
                    let expected = Expected { marker: &address, gone_from: None, concerned: consumers };
                    anyhow::Ok(Some((lab.change(expected, lab.api.put(&document)).await?, document)))
                }));
            }
            Some(done) = changes.next(), if !changes.is_empty() => {
                // Only what has been written may be deleted.
                if let Some((arrived, document)) = done? {
                    arrivals.push(arrived);
                    alive.push_back(document);
                }
            }
        }
    }
    while let Some(done) = changes.next().await {
        if let Some((arrived, document)) = done? {
            arrivals.push(arrived);
            alive.push_back(document);
        }
    }
    let usage = lab.read(&meter);
    for document in alive {
        lab.api.delete(&document).await?;
    }
    // Half of the changes are departures, which cost as much and are not waited for.
    let also = json!({
        "rate": rate, "writes": made,
        "server_cpu_ms_per_write": rounded(usage.server * 1e3 / f64::from(made)),
    });
    Ok(Outcome { changes: arrivals, usage, also })
}

/// One in a hundred stops reading, while policies of the whole mesh come and go; then it reads again.
pub(super) async fn slow(lab: &Lab) -> anyhow::Result<Outcome> {
    let fleet = lab.fleet()?;
    let clients = lab.plan.shape.dataplanes;
    let slow: BTreeSet<u32> = (0..clients).step_by(100).collect();
    let others: BTreeSet<u32> = (0..clients).filter(|client| !slow.contains(client)).collect();
    for &client in &slow {
        fleet.set_reading(client, false);
    }
    let before = lab.rss();
    let meter = lab.meter();
    let mut arrivals = Vec::new();
    let mut last = None;
    let deadline = Instant::now() + Duration::from_secs(lab.plan.seconds);
    while Instant::now() < deadline {
        let name = lab.fresh.name();
        let document = permission(&name, "*", "*");
        let expected = Expected { marker: &name, gone_from: None, concerned: &others };
        arrivals.push(lab.change(expected, lab.api.put(&document)).await?);
        if let Some(document) = last.replace(document) {
            lab.api.delete(&document).await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let usage = lab.read(&meter);
    for &client in &slow {
        fleet.set_reading(client, true);
    }
    let also = json!({
        "slow": slow.len(), "rss_before": before, "rss_growth_peak": usage.peak_rss.saturating_sub(before),
    });
    Ok(Outcome { changes: arrivals, usage, also })
}
