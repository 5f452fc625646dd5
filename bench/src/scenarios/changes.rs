//! One change at a time, each repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::Outcome;
use crate::arrivals::{Arrivals, Expected};
use crate::lab::Lab;
use crate::mesh::{self, dataplane, permission};
use crate::meter::Meter;

/// Pause between two changes, so that they do not overlap.
const PAUSE: Duration = Duration::from_millis(50);

/// The costs of the changes, without further fields.
fn outcome(lab: &Lab, meter: &Meter, changes: Vec<Arrivals>) -> Outcome {
    Outcome { changes, usage: lab.read(meter), also: json!({}) }
}

fn everyone(lab: &Lab) -> BTreeSet<u32> {
    (0..lab.plan.shape.dataplanes).collect()
}

/// A different service in each round, so that the result does not depend on one service.
fn service(lab: &Lab, round: u32) -> u32 {
    (round * 7) % lab.plan.shape.services
}

async fn permissions(lab: &Lab, concerned: impl Fn(u32) -> (String, BTreeSet<u32>)) -> anyhow::Result<Outcome> {
    let mut changes = Vec::new();
    let mut made = Vec::new();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let name = lab.fresh.name();
        let (destination, concerned) = concerned(round);
        let document = permission(&name, "*", &destination);
        let expected = Expected { marker: &name, gone_from: None, concerned: &concerned };
        changes.push(lab.change(expected, lab.api.put(&document)).await?);
        made.push(document);
        tokio::time::sleep(PAUSE).await;
    }
    let outcome = outcome(lab, &meter, changes);
    for document in made {
        lab.api.delete(&document).await?;
    }
    Ok(outcome)
}

/// A policy that concerns every proxy.
pub(super) async fn policy_mesh(lab: &Lab) -> anyhow::Result<Outcome> {
    permissions(lab, |_| ("*".to_owned(), everyone(lab))).await
}

/// A policy on one service.
pub(super) async fn policy_service(lab: &Lab) -> anyhow::Result<Outcome> {
    permissions(lab, |round| {
        let service = service(lab, round);
        (format!("svc-{service}"), lab.plan.shape.providers(service))
    })
    .await
}

/// Dataplanes are added one after the other, and deleted at the end.
pub(super) async fn join(lab: &Lab) -> anyhow::Result<Outcome> {
    let mut changes = Vec::new();
    let mut made = Vec::new();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let address = lab.fresh.address();
        let document = dataplane(&format!("extra-{round}"), &address, &format!("svc-{service}"), &BTreeSet::new());
        let consumers = lab.plan.shape.consumers(service);
        let expected = Expected { marker: &address, gone_from: None, concerned: &consumers };
        changes.push(lab.change(expected, lab.api.put(&document)).await?);
        made.push(document);
        tokio::time::sleep(PAUSE).await;
    }
    let outcome = outcome(lab, &meter, changes);
    for document in made {
        lab.api.delete(&document).await?;
    }
    Ok(outcome)
}

/// Dataplanes that were added before are deleted one after the other.
pub(super) async fn leave(lab: &Lab) -> anyhow::Result<Outcome> {
    let mut made = Vec::new();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let address = lab.fresh.address();
        let document = dataplane(&format!("extra-{round}"), &address, &format!("svc-{service}"), &BTreeSet::new());
        lab.api.put(&document).await?;
        made.push((service, address, document));
    }
    lab.fleet()?.quiet(Duration::from_millis(500)).await;
    let mut changes = Vec::new();
    let meter = lab.meter();
    for (service, address, document) in made {
        let consumers = lab.plan.shape.consumers(service);
        let cluster = lab.name(&format!("svc-{service}"));
        let expected = Expected { marker: &address, gone_from: Some(cluster), concerned: &consumers };
        changes.push(lab.change(expected, lab.api.delete(&document)).await?);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(outcome(lab, &meter, changes))
}

/// Dataplanes get other addresses.
pub(super) async fn endpoint(lab: &Lab) -> anyhow::Result<Outcome> {
    let mut changes = Vec::new();
    let meter = lab.meter();
    for round in 0..lab.plan.repeats {
        let service = service(lab, round);
        let Some(&mover) = lab.plan.shape.providers(service).first() else { continue };
        let address = lab.fresh.address();
        let dials = lab.plan.shape.dials(mover);
        let document = dataplane(&mesh::name(mover), &address, &format!("svc-{service}"), &dials);
        let mut concerned = lab.plan.shape.consumers(service);
        // Its own inbound listener has the address too.
        concerned.insert(mover);
        let expected = Expected { marker: &address, gone_from: None, concerned: &concerned };
        changes.push(lab.change(expected, lab.api.put(&document)).await?);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(outcome(lab, &meter, changes))
}

/// The first Dataplanes of services to which some proxies already have outbounds are added.
pub(super) async fn new_service(lab: &Lab) -> anyhow::Result<Outcome> {
    const CONSUMERS: u32 = 10;
    let mut changes = Vec::new();
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
        let address = lab.fresh.address();
        let service = format!("svc-{}", first + round);
        let document = dataplane(&format!("new-{round}"), &address, &service, &BTreeSet::new());
        let expected = Expected { marker: &address, gone_from: None, concerned: &consumers };
        changes.push(lab.change(expected, lab.api.put(&document)).await?);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(outcome(lab, &meter, changes))
}
