//! The state of one resource type in a session.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::view::{Due, Scan, due, find_name, retain, targets};
use crate::snapshot::find;
use crate::{Resource, ResourceList};

/// The resource name that subscribes to all resources of a type.
pub(super) const WILDCARD: &str = "*";

/// Whether an empty first request of the type means all of it (xds_protocol.rst, "How the client specifies what
/// resources to return"). For every type an explicit `*` does.
pub(super) fn has_legacy_wildcard(resource_type: ResourceType) -> bool {
    matches!(resource_type, ResourceType::Cluster | ResourceType::Listener)
}

/// Whether the client is told that a resource of this type does not exist. Envoy resets connections that need a secret
/// or an extension config which it is told does not exist, but waits for one as long as the request is unanswered.
pub(super) fn tells_absence(resource_type: ResourceType) -> bool {
    !matches!(resource_type, ResourceType::Secret | ResourceType::ExtensionConfig)
}

/// Whether a client keeps resources that were removed from the snapshot, for some time or for good.
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
    /// The resources that the client has as far as we know, rejected ones included: sent by us, or reported by the
    /// client (then without a body). Sorted. Shares the list of the snapshot if they are equal, as they are for most
    /// clients most of the time.
    pub(super) view: ResourceList,
    /// Names to be sent although the client may have them: requested by the client, or required by a resource that was
    /// sent. Sorted, distinct. Names without a subscription are kept only until the type is first requested.
    pub(super) pending: Vec<Arc<str>>,
    /// Whether the first response is due even if it is empty: Envoy waits for it.
    pub(super) first_answer_pending: bool,
    /// Whether the subscription, `pending` or the snapshot changed since `view` was last compared with the snapshot.
    pub(super) dirty: bool,
    /// Whether `view` has clusters or endpoints that are to be removed from the client.
    pub(super) has_removals: bool,
    /// Responses in flight: sent and not answered yet. Boxed, because most of the time there is none.
    pub(super) flight: Option<Box<Flight>>,
    /// SotW: the nonce of the last response, 0 before the first.
    pub(super) last_nonce: u64,
    /// SotW: whether the client has ever named a resource; from then on an empty list subscribes to nothing.
    pub(super) has_named: bool,
    /// SotW: the version that the client reported at the start of the stream, until it has been compared with ours.
    pub(super) reported_version: Option<Box<str>>,
}

/// A response in flight, in one or several parts.
#[derive(Debug)]
pub(super) struct Flight {
    /// The parts that are not answered yet.
    parts: Vec<Part>,
    /// Whether it has a new resource that the client can use only after it has received others (Envoy warms it).
    warms: bool,
    /// The name after which the next part continues; it has only names after this one, so that the parts come to an
    /// end.
    pub(super) cursor: Option<Arc<str>>,
}

/// One part of a response in flight.
#[derive(Debug)]
pub(super) struct Part {
    nonce: u64,
    /// The revision of the snapshot that it was sent for.
    pub(super) revision: u64,
    pub(super) resources: Vec<Arc<Resource>>,
    /// Names of the resources of which the client had another version. Sorted.
    replaced: Vec<Arc<str>>,
    /// Names of the resources that the client already had in the same version. Sorted.
    repeated: Vec<Arc<str>>,
}

impl Part {
    /// Whether it has a resource of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        find(&self.resources, name).is_some()
    }

    /// Whether the client already had the resource of this name in the same version.
    pub(super) fn repeats(&self, name: &str) -> bool {
        find_name(&self.repeated, name)
    }

    /// Whether the client had another version of the resource of this name.
    pub(super) fn replaces(&self, name: &str) -> bool {
        find_name(&self.replaced, name)
    }
}

impl TypeState {
    /// Whether the client is subscribed to a name.
    pub(super) fn is_subscribed(&self, name: &str) -> bool {
        self.wildcard || find_name(&self.names, name)
    }

    /// Whether a complete response is in flight, so that nothing may be sent until it is answered.
    pub(super) fn must_wait(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.cursor.is_none())
    }

    /// Whether further parts of the response in flight are to be sent.
    pub(super) fn has_more_parts(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.cursor.is_some())
    }

    /// Compares the resources that the client has with those of the snapshot. Only names after `after` can be due.
    ///
    /// A pending resource that is no longer in the snapshot is sent again as the client has it, if the type `outlives`
    /// the snapshot: a warming cluster needs its endpoints until it is removed, and the removal may wait for that very
    /// cluster. A resource that the client only reported cannot be sent; Envoy then stops warming after 15 s.
    pub(super) fn scan(&mut self, list: &ResourceList, after: Option<&str>, outlives: bool) -> Scan {
        let mut scan = Scan::default();
        let is_behind = |name: &str| after.is_none_or(|after| name > after);
        let pending = &self.pending;
        let remove = |held: &Arc<Resource>, scan: &mut Scan| {
            let is_pending = find_name(pending, held.name());
            if outlives && is_pending && held.has_body() && is_behind(held.name()) {
                scan.due.push((held.clone(), Due::Again));
            }
            scan.removed.push(held.name().clone());
        };
        let mut at = 0;
        for target in targets(self.wildcard, &self.names, list) {
            if pending.is_empty() && self.view.get(at).is_some_and(|held| Arc::ptr_eq(held, target)) {
                // Most resources are unchanged, which the comparison of pointers shows.
                at += 1;
                continue;
            }
            while let Some(held) = self.view.get(at).filter(|held| held.name() < target.name()) {
                remove(held, &mut scan);
                at += 1;
            }
            let held = self.view.get(at).filter(|held| held.name() == target.name());
            let due = due(target, held, pending);
            if let Some(held) = held {
                let is_new = due != Due::Changed && target.has_body() && !Arc::ptr_eq(held, target);
                if is_new && held.same_as(target) {
                    // Equal content in new memory: refer to the new resource, so that the old one can be freed.
                    Arc::make_mut(&mut self.view)[at] = target.clone();
                }
                at += 1;
            }
            if due != Due::No && is_behind(target.name()) {
                scan.due.push((target.clone(), due));
            }
        }
        for held in &self.view[at..] {
            remove(held, &mut scan);
        }
        let view = &self.view;
        let is_missing = |name: &&Arc<str>| find(list, name).is_none() && find(view, name).is_none();
        scan.missing.extend(pending.iter().filter(is_missing).cloned());
        self.share(list);
        scan
    }

    /// Replaces `view` by the list of the snapshot if both have the same resources, which frees the copy.
    pub(super) fn share(&mut self, list: &ResourceList) {
        let same = |(held, target): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(held, target);
        if self.view.len() == list.len() && self.view.iter().zip(list.iter()).all(same) {
            self.view = list.clone();
        }
    }

    /// Whether the snapshot has a subscribed resource that the client does not have in any version.
    pub(super) fn has_new(&self, list: &[Arc<Resource>]) -> bool {
        targets(self.wildcard, &self.names, list)
            .any(|target| target.has_body() && find(&self.view, target.name()).is_none())
    }

    /// Removes everything that the client is not subscribed to (any more).
    pub(super) fn forget_unsubscribed(&mut self) {
        if !self.wildcard {
            let names = &self.names;
            retain(&mut self.view, |held| find_name(names, held.name()));
            self.pending.retain(|name| find_name(names, name));
        }
    }

    /// Whether a response with a new resource that the client cannot use yet is in flight.
    pub(super) fn is_warming(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.warms)
    }

    /// Records a response that is sent: resources sorted by name, and the name after which a further part continues, if
    /// any. To be called before the resources are added to `view`.
    pub(super) fn record_sent(
        &mut self,
        nonce: u64,
        revision: u64,
        resources: &[Arc<Resource>],
        cursor: Option<Arc<str>>,
    ) {
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

    /// Records that no further part follows.
    pub(super) fn end_parts(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.cursor = None;
            self.finish_if_answered();
        }
    }

    /// Records an ACK or NACK. Returns the parts that it answers; none if no part with this nonce is in flight.
    pub(super) fn answer(&mut self, nonce: u64) -> Vec<Part> {
        let Some(flight) = &mut self.flight else {
            return Vec::new();
        };
        let Some(at) = flight.parts.iter().position(|part| part.nonce == nonce) else {
            return Vec::new();
        };
        let answered = flight.parts.drain(..=at).collect();
        self.finish_if_answered();
        answered
    }

    fn finish_if_answered(&mut self) {
        let is_finished = |flight: &Flight| flight.cursor.is_none() && flight.parts.is_empty();
        if self.flight.as_deref().is_some_and(is_finished) {
            self.flight = None;
        }
    }
}
