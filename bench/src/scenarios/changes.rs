//! One change at a time, each repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Arrivals, Lab, Usage};
use crate::mesh::{self, dataplane, permission};
use crate::report::{distribution, rounded};

/// Pause between two changes, so that each is alone.
const PAUSE: Duration = Duration::from_millis(50);

/// The results of one change that was made several times.
#[derive(Default)]
struct Series {
    arrivals: Vec<Arrivals>,
    concerned: usize,
}

impl Series {
    fn add(&mut self, arrivals: Arrivals, concerned: usize) {
        self.arrivals.push(arrivals);
        self.concerned += concerned;
    }

    fn report(&self, usage: &Usage, lab: &Lab) -> Value {
        let all = |of: fn(&Arrivals) -> &Vec<Duration>| -> Vec<Duration> {
            self.arrivals.iter().flat_map(|arrivals| of(arrivals).iter().copied()).collect()
        };
        let last: Vec<Duration> =
            self.arrivals.iter().filter_map(|arrivals| arrivals.since_asked.iter().max().copied()).collect();
        let writes: Vec<Duration> = self.arrivals.iter().map(|arrivals| arrivals.write_took).collect();
        let changes = self.arrivals.len().max(1) as f64;
        json!({
            "changes": self.arrivals.len(),
            "concerned_per_change": rounded(self.concerned as f64 / changes),
            "ms_from_request": distribution(&all(|arrivals| &arrivals.since_asked)),
            "ms_from_answer": distribution(&all(|arrivals| &arrivals.since_answered)),
            "ms_to_last": distribution(&last),
            "ms_api_answer": distribution(&writes),
            "server_cpu_ms_per_change": rounded(usage.server * 1e3 / changes),
            "bytes_per_change": (usage.moved.bytes as f64 / changes).round(),
            "messages_per_change": rounded(usage.moved.messages as f64 / changes),
            "missing": self.arrivals.iter().map(|arrivals| arrivals.missing).sum::<usize>(),
            "wrong": self.arrivals.iter().map(|arrivals| arrivals.wrong).sum::<usize>(),
            "usage": usage.to_json(lab.plan.threads),
        })
    }
}

fn everyone(lab: &Lab) -> BTreeSet<u32> {
    (0..lab.plan.shape.dataplanes).collect()
}

/// Services take turns, so that no one service is measured alone.
fn service(lab: &Lab, round: u32) -> u32 {
    (round * 7) % lab.plan.shape.services
}

async fn permissions(lab: &Lab, concerned: impl Fn(u32) -> (String, BTreeSet<u32>)) -> anyhow::Result<Value> {
    let mut series = Series::default();
    let mut made = Vec::new();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let name = lab.marked_name();
        let (destination, concerned) = concerned(round);
        let document = permission(&name, "*", &destination);
        series.add(lab.change(&name, None, &concerned, lab.api.put(&document)).await?, concerned.len());
        made.push(document);
        tokio::time::sleep(PAUSE).await;
    }
    let usage = lab.read(&meter);
    for document in made {
        lab.api.delete(&document).await?;
    }
    Ok(series.report(&usage, lab))
}

/// A policy that concerns every proxy.
pub(super) async fn policy_mesh(lab: &Lab) -> anyhow::Result<Value> {
    permissions(lab, |_| ("*".to_owned(), everyone(lab))).await
}

/// A policy on one service.
pub(super) async fn policy_service(lab: &Lab) -> anyhow::Result<Value> {
    permissions(lab, |round| {
        let service = service(lab, round);
        (format!("svc-{service}"), lab.plan.shape.providers(service))
    })
    .await
}

/// Dataplanes come, one after the other; they are gone again at the end.
pub(super) async fn join(lab: &Lab) -> anyhow::Result<Value> {
    let mut series = Series::default();
    let mut made = Vec::new();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let address = lab.marked_address();
        let document = dataplane(&format!("extra-{round}"), &address, &format!("svc-{service}"), &BTreeSet::new());
        let consumers = lab.plan.shape.consumers(service);
        series.add(lab.change(&address, None, &consumers, lab.api.put(&document)).await?, consumers.len());
        made.push(document);
        tokio::time::sleep(PAUSE).await;
    }
    let usage = lab.read(&meter);
    for document in made {
        lab.api.delete(&document).await?;
    }
    Ok(series.report(&usage, lab))
}

/// Dataplanes that came before go, one after the other.
pub(super) async fn leave(lab: &Lab) -> anyhow::Result<Value> {
    let mut made = Vec::new();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let address = lab.marked_address();
        let document = dataplane(&format!("extra-{round}"), &address, &format!("svc-{service}"), &BTreeSet::new());
        lab.api.put(&document).await?;
        made.push((service, address, document));
    }
    lab.fleet()?.quiet(Duration::from_millis(500)).await;
    let mut series = Series::default();
    let meter = lab.meter();
    for (service, address, document) in made {
        let consumers = lab.plan.shape.consumers(service);
        let cluster = lab.name(&format!("svc-{service}"));
        let arrivals = lab.change(&address, Some(cluster), &consumers, lab.api.delete(&document)).await?;
        series.add(arrivals, consumers.len());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(series.report(&lab.read(&meter), lab))
}

/// Dataplanes move to other addresses.
pub(super) async fn endpoint(lab: &Lab) -> anyhow::Result<Value> {
    let mut series = Series::default();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let Some(&mover) = lab.plan.shape.providers(service).first() else { continue };
        let address = lab.marked_address();
        let dials = lab.plan.shape.dials(mover);
        let document = dataplane(&mesh::name(mover), &address, &format!("svc-{service}"), &dials);
        let mut concerned = lab.plan.shape.consumers(service);
        // Its own inbound listener has the address too.
        concerned.insert(mover);
        series.add(lab.change(&address, None, &concerned, lab.api.put(&document)).await?, concerned.len());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(series.report(&lab.read(&meter), lab))
}

/// Services come into being that some proxies dial already.
pub(super) async fn new_service(lab: &Lab) -> anyhow::Result<Value> {
    const CONSUMERS: u32 = 10;
    let mut series = Series::default();
    let shape = &lab.plan.shape;
    let first = shape.services;
    let consumers: BTreeSet<u32> = (0..CONSUMERS.min(shape.dataplanes)).collect();
    for &consumer in &consumers {
        let mut document = shape.dataplane(consumer);
        for round in 0..lab.plan.repeats {
            let outbound =
                json!({"interface": format!(":{}", 30_000 + round), "service": format!("svc-{}", first + round)});
            if let Some(outbounds) = document["networking"]["outbound"].as_array_mut() {
                outbounds.push(outbound);
            }
        }
        lab.api.put(&document).await?;
    }
    lab.fleet()?.quiet(Duration::from_millis(500)).await;
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let address = lab.marked_address();
        let service = format!("svc-{}", first + round);
        let document = dataplane(&format!("new-{round}"), &address, &service, &BTreeSet::new());
        series.add(lab.change(&address, None, &consumers, lab.api.put(&document)).await?, consumers.len());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(series.report(&lab.read(&meter), lab))
}
