//! Which one of several policies applies: more tags win, then exact values over `*`, then the name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::{ANY, HealthCheck, Rank, SERVICE_TAG, Selector, TrafficLog, TrafficRoute, TrafficTrace};

use crate::{MeshDataplane, Policies};

/// A policy about the connections from some proxies to some services.
pub trait ConnectionPolicy {
    /// Who connects.
    fn sources(&self) -> &[Selector];
    /// To what.
    fn destinations(&self) -> &[Selector];
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

/// A policy about proxies, whatever they connect to.
pub trait ProxyPolicy {
    /// Which proxies; none means every proxy.
    fn selectors(&self) -> &[Selector];
}

impl ProxyPolicy for TrafficTrace {
    fn selectors(&self) -> &[Selector] {
        &self.selectors
    }
}

/// The policy that applies to a proxy, if any does: the one whose best matching selector ranks highest. Ties go to the
/// name that sorts first.
pub fn best_for_proxy<'a, P: ProxyPolicy>(
    policies: &'a BTreeMap<Arc<str>, Arc<P>>,
    dataplane: &MeshDataplane,
) -> Option<(&'a Arc<str>, &'a Arc<P>)> {
    let mut best: Option<(Rank, &'a Arc<str>, &'a Arc<P>)> = None;
    // By name, so that only a strictly better one replaces.
    for (name, policy) in policies {
        if let Some(rank) = proxy_rank(policy.as_ref(), dataplane)
            && best.is_none_or(|(so_far, ..)| rank > so_far)
        {
            best = Some((rank, name, policy));
        }
    }
    best.map(|(_, name, policy)| (name, policy))
}

/// How specific the best matching selector of a policy is; `None` if it is not about this proxy.
pub(crate) fn proxy_rank<P: ProxyPolicy>(policy: &P, dataplane: &MeshDataplane) -> Option<Rank> {
    let selectors = policy.selectors();
    if selectors.is_empty() {
        return Some(Rank { exact: 0, wildcard: 0 });
    }
    selectors.iter().filter(|selector| dataplane.matches(selector)).map(Selector::rank).max()
}

/// The policy that applies to the connections of a proxy to a service, if any does.
///
/// A policy's rank is its best matching source selector plus its best matching destination selector. Ties go to the
/// name that sorts first, so the answer does not depend on the order of the policies.
pub fn best_policy<'a, P: ConnectionPolicy>(
    policies: &'a Policies<P>,
    dataplane: &MeshDataplane,
    service: &str,
) -> Option<(&'a Arc<str>, &'a Arc<P>)> {
    let mut best: Option<(Rank, &'a Arc<str>, &'a Arc<P>)> = None;
    for (name, policy) in policies.for_destination(service) {
        let Some(rank) = rank(policy.as_ref(), dataplane, service) else {
            continue;
        };
        // `for_destination` goes by name: only a strictly better one replaces.
        if best.is_none_or(|(so_far, ..)| rank > so_far) {
            best = Some((rank, name, policy));
        }
    }
    best.map(|(_, name, policy)| (name, policy))
}

fn rank<P: ConnectionPolicy>(policy: &P, dataplane: &MeshDataplane, service: &str) -> Option<Rank> {
    let target =
        policy.destinations().iter().filter(|selector| selects(selector, service)).map(Selector::rank).max()?;
    let source = policy.sources().iter().filter(|selector| dataplane.matches(selector)).map(Selector::rank).max()?;
    Some(Rank { exact: source.exact + target.exact, wildcard: source.wildcard + target.wildcard })
}

/// Whether a selector matches what an application dials: a service, with no other tag.
fn selects(selector: &Selector, service: &str) -> bool {
    selector.tags.iter().all(|(key, wanted)| key == SERVICE_TAG && (wanted == ANY || wanted == service))
}
