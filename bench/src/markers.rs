//! Finds out when a change reaches a client: by bytes that are in it and nowhere else.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use memchr::memmem::Finder;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use crate::names::Id;

/// Addresses and names that contain a marker begin so. The text of an address stands in the bytes as it is.
const ADDRESS_PREFIX: &str = "10.99.";
/// See [`ADDRESS_PREFIX`].
const NAME_PREFIX: &str = "xdsload-marker-";

/// Makes markers that are nowhere yet.
#[derive(Default)]
pub(crate) struct Fresh(AtomicU32);

impl Fresh {
    /// Begins anywhere: what the last run against the same control plane has left there is none of this run's.
    pub(crate) fn anywhere() -> Fresh {
        Fresh(AtomicU32::new(rand::random()))
    }

    fn next(&self) -> u32 {
        self.0.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// As an IPv4 address.
    pub(crate) fn address(&self) -> String {
        let number = self.next();
        format!("{ADDRESS_PREFIX}{}.{}", (number >> 8) & 255, number & 255)
    }

    /// As a name.
    pub(crate) fn name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.next())
    }
}

/// When the changes that are watched reached each client.
pub(crate) struct Markers {
    finders: [Finder<'static>; 2],
    watched: Mutex<HashMap<String, Watched>>,
    changed: Notify,
}

struct Watched {
    /// The change is that the marker is not in the resource of this name any more.
    gone_from: Option<Id>,
    /// Clients that are to see it and have not yet.
    awaited: FxHashSet<u32>,
    arrivals: HashMap<u32, Instant>,
}

/// What a response contains of what is watched. Kept until its ACK is on the way.
pub(crate) type Sighted = Vec<String>;

impl Default for Markers {
    fn default() -> Markers {
        Markers {
            finders: [Finder::new(ADDRESS_PREFIX), Finder::new(NAME_PREFIX)],
            watched: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Markers {
    /// Begins to watch for a marker that these clients are to see.
    pub(crate) fn watch(&self, marker: &str, gone_from: Option<Id>, concerned: &BTreeSet<u32>) {
        let awaited = concerned.iter().copied().collect();
        self.watched().insert(marker.to_owned(), Watched { gone_from, awaited, arrivals: HashMap::new() });
    }

    /// Ends watching; who saw it, and when.
    pub(crate) fn take(&self, marker: &str) -> HashMap<u32, Instant> {
        self.watched().remove(marker).map(|watched| watched.arrivals).unwrap_or_default()
    }

    /// Waits until all who are to see a marker have, or until a deadline.
    pub(crate) async fn seen_by_all(&self, marker: &str, deadline: Instant) {
        loop {
            let changed = self.changed.notified();
            let seen = self.watched().get(marker).is_none_or(|watched| watched.awaited.is_empty());
            if seen || tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return;
            }
        }
    }

    /// The markers in a response. `named` says whether the response has a resource of a name.
    pub(crate) fn sight(&self, message: &[u8], named: impl Fn(Id) -> bool) -> Sighted {
        let mut found = Vec::new();
        for finder in &self.finders {
            let prefix = finder.needle().len();
            for at in finder.find_iter(message) {
                let rest = &message[at + prefix..];
                let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
                if let Ok(marker) = std::str::from_utf8(&message[at..at + prefix + length]) {
                    let marker = marker.trim_end_matches('.');
                    if !found.iter().any(|known| known == marker) {
                        found.push(marker.to_owned());
                    }
                }
            }
        }
        let watched = self.watched();
        if watched.is_empty() {
            return Vec::new();
        }
        let gone =
            watched.iter().filter(|(marker, watched)| watched.gone_from.is_some_and(&named) && !found.contains(marker));
        let gone: Vec<String> = gone.map(|(marker, _)| marker.clone()).collect();
        found.retain(|marker| watched.get(marker).is_some_and(|watched| watched.gone_from.is_none()));
        found.extend(gone);
        found
    }

    /// Notes that a client has them, and has said so.
    pub(crate) fn arrived(&self, client: u32, sighted: Sighted, now: Instant) {
        if sighted.is_empty() {
            return;
        }
        let mut watched = self.watched();
        for marker in sighted {
            if let Some(watched) = watched.get_mut(&marker) {
                watched.arrivals.entry(client).or_insert(now);
                watched.awaited.remove(&client);
            }
        }
        drop(watched);
        self.changed.notify_waiters();
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, HashMap<String, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;

    #[test]
    fn markers_are_told_apart() {
        let markers = Markers::default();
        let names = Names::default();
        let cluster = names.id("web");
        markers.watch("10.99.0.1", None, &BTreeSet::from([3]));
        markers.watch("10.99.0.7", Some(cluster), &BTreeSet::new());
        assert_eq!(markers.sight(b"..10.99.0.12..", |_| false), Vec::<String>::new());
        assert_eq!(markers.sight(b"..10.99.0.1\x12", |_| false), ["10.99.0.1"]);
        assert_eq!(markers.sight(b"10.99.0.7", |name| name == cluster), Vec::<String>::new());
        assert_eq!(markers.sight(b"10.99.0.1", |name| name == cluster), ["10.99.0.1", "10.99.0.7"]);
    }
}
