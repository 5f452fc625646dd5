//! The policies of one kind, by name and by the service that they are about.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::{ANY, SERVICE_TAG, Selector};
use rustc_hash::FxHashMap;

use crate::ConnectionPolicy;

/// Policies of one kind with an index by destination service: a lookup touches those that name the service and those
/// that name any, not all of them.
#[derive(Clone, Debug)]
pub struct Policies<P> {
    by_name: BTreeMap<Arc<str>, Arc<P>>,
    by_destination: FxHashMap<Arc<str>, BTreeMap<Arc<str>, Arc<P>>>,
}

impl<P> Default for Policies<P> {
    fn default() -> Self {
        Policies { by_name: BTreeMap::new(), by_destination: FxHashMap::default() }
    }
}

impl<P: ConnectionPolicy> Policies<P> {
    /// Puts a policy in place of the one of this name, or takes it out, and says what was there before.
    pub fn set(&mut self, name: &Arc<str>, policy: Option<Arc<P>>) -> Option<Arc<P>> {
        let before = match &policy {
            Some(policy) => self.by_name.insert(name.clone(), policy.clone()),
            None => self.by_name.remove(name),
        };
        if let Some(before) = &before {
            for service in destination_services(before.as_ref()) {
                if let Some(policies) = self.by_destination.get_mut(service) {
                    policies.remove(name);
                    if policies.is_empty() {
                        self.by_destination.remove(service);
                    }
                }
            }
        }
        if let Some(policy) = &policy {
            for service in destination_services(policy.as_ref()) {
                self.by_destination.entry(Arc::from(service)).or_default().insert(name.clone(), policy.clone());
            }
        }
        before
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<P>> {
        self.by_name.get(name)
    }

    /// Those with a destination that may be this service, by name.
    pub fn for_destination<'a>(&'a self, service: &str) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<P>)> {
        // Both are sorted, so the smaller of the two firsts is the next.
        let mut named = self.by_destination.get(service).into_iter().flatten().peekable();
        let mut any = self.by_destination.get(ANY).into_iter().flatten().peekable();
        std::iter::from_fn(move || match (named.peek(), any.peek()) {
            (Some((a, _)), Some((b, _))) if a == b => {
                any.next();
                named.next()
            }
            (Some((a, _)), Some((b, _))) if a > b => any.next(),
            (Some(_), _) => named.next(),
            (None, _) => any.next(),
        })
    }
}

/// The services that a policy's destinations name, `*` for those that name any.
pub(crate) fn destination_services<P: ConnectionPolicy>(policy: &P) -> impl Iterator<Item = &str> {
    policy.destinations().iter().map(service_or_any)
}

/// The service that a selector names; a selector without one may be any.
pub(crate) fn service_or_any(selector: &Selector) -> &str {
    selector.tags.get(SERVICE_TAG).map_or(ANY, String::as_str)
}

/// Whether a selector's service is this one or any.
pub(crate) fn may_be_service(selector: &Selector, service: &str) -> bool {
    let named = service_or_any(selector);
    named == ANY || named == service
}

/// The service that a selector pins, if it names just one.
pub(crate) fn exact_service(selector: &Selector) -> Option<&str> {
    let service = service_or_any(selector);
    (service != ANY).then_some(service)
}
