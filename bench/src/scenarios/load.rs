//! What goes on for a while: nothing, churn, and clients that don't read.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::lab::{Arrivals, Lab};
use crate::mesh::{dataplane, permission};
use crate::report::{distribution, rounded};

/// Nothing happens.
pub(super) async fn idle(lab: &Lab) -> anyhow::Result<Value> {
    // Past what connecting has left to do, such as the writing of insights.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let meter = lab.meter();
    tokio::time::sleep(Duration::from_secs(lab.plan.seconds)).await;
    let usage = lab.read(&meter);
    Ok(json!({
        "percent_of_a_core": rounded(100.0 * usage.server / usage.wall.as_secs_f64()),
        "usage": usage.to_json(lab.plan.threads),
    }))
}

/// Dataplanes come and go at a rate, half of the changes each.
pub(super) async fn churn(lab: &Lab, rate: u32) -> anyhow::Result<Value> {
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
                let address = lab.marked_address();
                let document = dataplane(&format!("churn-{made}"), &address, &format!("svc-{service}"), &BTreeSet::new());
                let consumers = &consumers[service as usize];
                changes.push(futures_util::future::Either::Right(async move {
                    let arrivals = lab.change(&address, None, consumers, lab.api.put(&document)).await?;
                    anyhow::Ok(Some((arrivals, document)))
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
    let all: Vec<Duration> = arrivals.iter().flat_map(|arrivals| arrivals.since_asked.iter().copied()).collect();
    let writes: Vec<Duration> = arrivals.iter().map(|arrivals| arrivals.write_took).collect();
    for document in alive {
        lab.api.delete(&document).await?;
    }
    Ok(json!({
        "changes": made, "rate": rate,
        "ms_from_request": distribution(&all),
        "ms_api_answer": distribution(&writes),
        "server_cpu_ms_per_change": rounded(usage.server * 1e3 / f64::from(made)),
        "percent_of_a_core": rounded(100.0 * usage.server / usage.wall.as_secs_f64()),
        "missing": arrivals.iter().map(|arrivals| arrivals.missing).sum::<usize>(),
        "wrong": arrivals.iter().map(|arrivals| arrivals.wrong).sum::<usize>(),
        "usage": usage.to_json(lab.plan.threads),
    }))
}

/// One in a hundred stops reading, while policies of the whole mesh come and go; then it reads again.
pub(super) async fn slow(lab: &Lab) -> anyhow::Result<Value> {
    let fleet = lab.fleet()?;
    let clients = lab.plan.shape.dataplanes;
    let slow: BTreeSet<u32> = (0..clients).step_by(100).collect();
    let others: BTreeSet<u32> = (0..clients).filter(|client| !slow.contains(client)).collect();
    for &client in &slow {
        fleet.set_reading(client, false);
    }
    let before = lab.control_plane.rss();
    let meter = lab.meter();
    let mut arrivals = Vec::new();
    let mut last = None;
    let deadline = Instant::now() + Duration::from_secs(lab.plan.seconds);
    while Instant::now() < deadline {
        let name = lab.marked_name();
        let document = permission(&name, "*", "*");
        arrivals.push(lab.change(&name, None, &others, lab.api.put(&document)).await?);
        if let Some(document) = last.replace(document) {
            lab.api.delete(&document).await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let usage = lab.read(&meter);
    for &client in &slow {
        fleet.set_reading(client, true);
    }
    let all: Vec<Duration> = arrivals.iter().flat_map(|arrivals| arrivals.since_asked.iter().copied()).collect();
    Ok(json!({
        "slow": slow.len(), "changes": arrivals.len(),
        "ms_from_request_of_the_others": distribution(&all),
        "missing": arrivals.iter().map(|arrivals| arrivals.missing).sum::<usize>(),
        "wrong": arrivals.iter().map(|arrivals| arrivals.wrong).sum::<usize>(),
        "rss_before": before, "rss_growth_peak": usage.peak_rss.saturating_sub(before),
        "usage": usage.to_json(lab.plan.threads),
    }))
}
