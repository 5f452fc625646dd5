//! Which one of several connection policies applies: more tags win, then exact values over `*`, then the name.

use std::sync::Arc;

use kuma_model::{HealthCheck, Rank, SERVICE_TAG, Selector, Tags, TrafficLog, TrafficPermission, TrafficRoute};

use crate::{MeshDataplane, Policies};

/// A policy about the connections from some proxies to some services.
pub trait ConnectionPolicy {
    /// Who connects.
    fn sources(&self) -> &[Selector];
    /// To what.
    fn destinations(&self) -> &[Selector];
}

impl ConnectionPolicy for TrafficPermission {
    fn sources(&self) -> &[Selector] {
        &self.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.destinations
    }
}

impl ConnectionPolicy for TrafficRoute {
    fn sources(&self) -> &[Selector] {
        &self.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.destinations
    }
}

impl ConnectionPolicy for TrafficLog {
    fn sources(&self) -> &[Selector] {
        &self.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.destinations
    }
}

impl ConnectionPolicy for HealthCheck {
    fn sources(&self) -> &[Selector] {
        &self.sources
    }
    fn destinations(&self) -> &[Selector] {
        &self.destinations
    }
}

/// The policy that applies to the connections of a proxy to a service, if any does.
///
/// A policy's rank is its best matching source selector plus its best matching destination selector. Ties go to the name
/// that sorts first, so the answer does not depend on the order of the policies.
pub fn best_policy<'a, P: ConnectionPolicy>(
    policies: &'a Policies<P>,
    dataplane: &MeshDataplane,
    service: &str,
) -> Option<(&'a Arc<str>, &'a Arc<P>)> {
    let destination = Tags::from([(SERVICE_TAG, service)]);
    let mut best: Option<(Rank, &'a Arc<str>, &'a Arc<P>)> = None;
    for (name, policy) in policies.for_destination(service) {
        let Some(rank) = rank(policy.as_ref(), dataplane, &destination) else {
            continue;
        };
        // `for_destination` goes by name: only a strictly better one replaces.
        if best.is_none_or(|(so_far, ..)| rank > so_far) {
            best = Some((rank, name, policy));
        }
    }
    best.map(|(_, name, policy)| (name, policy))
}

fn rank<P: ConnectionPolicy>(policy: &P, dataplane: &MeshDataplane, destination: &Tags) -> Option<Rank> {
    let source = policy.sources().iter().filter(|selector| dataplane.matches(selector)).map(Selector::rank).max()?;
    let target =
        policy.destinations().iter().filter(|selector| selector.matches(destination)).map(Selector::rank).max()?;
    Some(Rank { exact: source.exact + target.exact, wildcard: source.wildcard + target.wildcard })
}
