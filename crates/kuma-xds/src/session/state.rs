//! What a session knows of one type of resource.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::view::{Due, Scan, due, find_name, retain, targets};
use crate::snapshot::find;
use crate::{Resource, ResourceList};

/// What `*` stands for, in names.
pub(super) const WILDCARD: &str = "*";

/// Whether an empty first request of the type means all of it (xds_protocol.rst, "How the client specifies what
/// resources to return"). For every type an explicit `*` does.
pub(super) fn has_legacy_wildcard(resource_type: ResourceType) -> bool {
    matches!(resource_type, ResourceType::Cluster | ResourceType::Listener)
}

/// Whether absence may be told. Envoy resets connections that need a secret or an extension config which it is told
/// does not exist, and waits for one that stays unanswered.
pub(super) fn tells_absence(resource_type: ResourceType) -> bool {
    !matches!(resource_type, ResourceType::Secret | ResourceType::ExtensionConfig)
}

/// Whether what has left the snapshot stays with the client for a while, or for good.
pub(super) fn outlives_snapshot(resource_type: ResourceType) -> bool {
    !matches!(resource_type, ResourceType::Listener | ResourceType::Route)
}

/// The state of one type on one stream. Small, since there are six of them on each of many idle streams.
#[derive(Debug, Default)]
pub(super) struct TypeState {
    /// Whether the client has asked for the type at all.
    pub(super) seen: bool,
    /// Subscribed to everything.
    pub(super) wildcard: bool,
    /// Subscribed to by name; sorted, distinct.
    pub(super) names: Vec<Arc<str>>,
    /// What the client holds as far as we know, refused or not: sent last, or reported (then without a body). Sorted.
    /// The very list of the snapshot if that is what it holds, which most clients do most of the time.
    pub(super) view: ResourceList,
    /// Names to be answered although the client may hold them: asked for, or required by something that was sent.
    /// Sorted, distinct. May hold names that are not subscribed to only until the type is first asked for.
    pub(super) owed: Vec<Arc<str>>,
    /// A first answer is due even if there is nothing to say: Envoy waits for it.
    pub(super) owes_answer: bool,
    /// Whether subscription, debts or snapshot changed since `view` was last compared with the snapshot.
    pub(super) dirty: bool,
    /// Whether `view` has clusters or endpoints to be taken away.
    pub(super) doomed: bool,
    /// What the client has not answered yet. Boxed: most of the time there is nothing.
    pub(super) flight: Option<Box<Flight>>,
    /// SotW: the nonce of the last response, 0 before the first.
    pub(super) last_nonce: u64,
    /// SotW: whether the client ever named anything; from then on an empty list means nothing.
    pub(super) has_named: bool,
    /// SotW: the version that a new stream began with, until it is compared with ours.
    pub(super) reported_version: Option<Box<str>>,
}

/// A response that is not answered yet, in one or several parts.
#[derive(Debug)]
pub(super) struct Flight {
    /// The parts that are not answered yet, with what is in each.
    parts: Vec<Part>,
    /// Whether the client can use what it was sent only when it has more, and held nothing by that name before.
    warms: bool,
    /// Where the next part goes on; only names behind it are in it, so that the parts come to an end.
    pub(super) cursor: Option<Arc<str>>,
}

/// One response on its way.
#[derive(Debug)]
pub(super) struct Part {
    nonce: u64,
    /// The revision of the snapshot that it was sent for.
    pub(super) revision: u64,
    pub(super) resources: Vec<Arc<Resource>>,
    /// Names of those of which the client had another version before. Sorted.
    replaced: Vec<Arc<str>>,
    /// Names of those that it had been sent before just as they are. Sorted.
    repeated: Vec<Arc<str>>,
}

impl Part {
    /// Whether a resource of this name is in it.
    pub(super) fn has(&self, name: &str) -> bool {
        find(&self.resources, name).is_some()
    }

    /// Whether the client had been sent the resource of this name before just as it is.
    pub(super) fn repeats(&self, name: &str) -> bool {
        find_name(&self.repeated, name)
    }

    /// Whether the client had another version of the resource of this name before.
    pub(super) fn replaces(&self, name: &str) -> bool {
        find_name(&self.replaced, name)
    }
}

impl TypeState {
    /// Whether the client is subscribed to a name.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || find_name(&self.names, name)
    }

    /// Whether a response is out and complete, so that nothing may be sent until it is answered.
    pub(super) fn must_wait(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.cursor.is_none())
    }

    /// Whether a response was begun of which parts are still to be sent.
    pub(super) fn has_more_parts(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.cursor.is_some())
    }

    /// Compares what the client holds with what it should hold. Only names behind `after` are found to be due.
    ///
    /// What is owed and not in the list any more is due as the client holds it, if the type `outlives` the list: a
    /// cluster that warms needs the endpoints that it is still to have until they are taken away, and waiting for their
    /// end could be to wait for itself. Only what was reported cannot be sent; Envoy helps itself after 15 s then.
    pub(super) fn scan(&mut self, list: &ResourceList, after: Option<&str>, outlives: bool) -> Scan {
        let mut scan = Scan::default();
        let is_behind = |name: &str| after.is_none_or(|after| name > after);
        let owed = &self.owed;
        let doom = |held: &Arc<Resource>, scan: &mut Scan| {
            let is_owed = find_name(owed, held.name());
            if outlives && is_owed && held.has_body() && is_behind(held.name()) {
                scan.due.push((held.clone(), Due::Again));
            }
            scan.doomed.push(held.name().clone());
        };
        let mut at = 0;
        for target in targets(self.wildcard, &self.names, list) {
            if owed.is_empty() && self.view.get(at).is_some_and(|held| Arc::ptr_eq(held, target)) {
                // Most are left as they are, and that is seen without looking at them.
                at += 1;
                continue;
            }
            while let Some(held) = self.view.get(at).filter(|held| held.name() < target.name()) {
                doom(held, &mut scan);
                at += 1;
            }
            let held = self.view.get(at).filter(|held| held.name() == target.name());
            let due = due(target, held, owed);
            if let Some(held) = held {
                let is_new = due != Due::Changed && target.has_body() && !Arc::ptr_eq(held, target);
                if is_new && held.same_as(target) {
                    // The same in new memory: hold on to the new, so that the old can go.
                    Arc::make_mut(&mut self.view)[at] = target.clone();
                }
                at += 1;
            }
            if due != Due::No && is_behind(target.name()) {
                scan.due.push((target.clone(), due));
            }
        }
        for held in &self.view[at..] {
            doom(held, &mut scan);
        }
        let view = &self.view;
        let is_missing = |name: &&Arc<str>| find(list, name).is_none() && find(view, name).is_none();
        scan.missing.extend(owed.iter().filter(is_missing).cloned());
        self.share(list);
        scan
    }

    /// Holds on to the list itself if it is what the client holds, and lets go of the copy.
    pub(super) fn share(&mut self, list: &ResourceList) {
        let same = |(held, target): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(held, target);
        if self.view.len() == list.len() && self.view.iter().zip(list.iter()).all(same) {
            self.view = list.clone();
        }
    }

    /// Whether something is due of which the client holds nothing yet.
    pub(super) fn has_new(&self, list: &[Arc<Resource>]) -> bool {
        targets(self.wildcard, &self.names, list)
            .any(|target| target.has_body() && find(&self.view, target.name()).is_none())
    }

    /// Forgets all that the client is not subscribed to (any more).
    pub(super) fn forget_unwanted(&mut self) {
        if !self.wildcard {
            let names = &self.names;
            retain(&mut self.view, |held| find_name(names, held.name()));
            self.owed.retain(|name| find_name(names, name));
        }
    }

    /// Whether a response is out with something new that the client cannot use yet.
    pub(super) fn is_warming(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.warms)
    }

    /// Notes that a response goes out, with resources sorted by name, and whether parts of it are to follow behind a
    /// name. To be called before `view` takes the resources in.
    pub(super) fn depart(&mut self, nonce: u64, revision: u64, resources: &[Arc<Resource>], cursor: Option<Arc<str>>) {
        let is_new =
            |resource: &Arc<Resource>| !resource.requires().is_empty() && find(&self.view, resource.name()).is_none();
        let warms = resources.iter().any(is_new);
        self.last_nonce = nonce;
        let (mut replaced, mut repeated) = (Vec::new(), Vec::new());
        for resource in resources {
            match find(&self.view, resource.name()) {
                None => {}
                Some(held) if held.same_as(resource) => repeated.push(resource.name().clone()),
                Some(_) => replaced.push(resource.name().clone()),
            }
        }
        let part = Part { nonce, revision, resources: resources.to_vec(), replaced, repeated };
        match &mut self.flight {
            Some(flight) => {
                flight.parts.push(part);
                flight.warms |= warms;
                flight.cursor = cursor;
            }
            None => self.flight = Some(Box::new(Flight { parts: vec![part], warms, cursor })),
        }
    }

    /// Notes that no further part follows.
    pub(super) fn end_parts(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.cursor = None;
            self.land();
        }
    }

    /// Takes an ACK or NACK. Returns the parts that it answers; none when the nonce is not of a response that waits for
    /// its answer.
    pub(super) fn answer(&mut self, nonce: u64) -> Vec<Part> {
        let Some(flight) = &mut self.flight else {
            return Vec::new();
        };
        let Some(at) = flight.parts.iter().position(|part| part.nonce == nonce) else {
            return Vec::new();
        };
        let answered = flight.parts.drain(..=at).collect();
        self.land();
        answered
    }

    fn land(&mut self) {
        let has_landed = |flight: &Flight| flight.cursor.is_none() && flight.parts.is_empty();
        if self.flight.as_deref().is_some_and(has_landed) {
            self.flight = None;
        }
    }
}
