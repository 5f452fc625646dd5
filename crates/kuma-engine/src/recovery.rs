//! Proxies that come back to a control plane that has forgotten its documents: a restart on a store that does not last
//! must not tear a working mesh down, nor turn it to plain text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_xds::{ResourceType, Snapshot};

/// How long a proxy that comes back with configuration is listened to before it is
/// answered. Long enough for the rest of its first requests, which Envoy sends in one go, to say all that it reported.
const GRACE: Duration = Duration::from_millis(500);

/// How long a client that comes back keeps what it has while documents are being written again: until what they say
/// equals what it has, or until none has been written for this long. So documents may come back in any order without a
/// half-known mesh, with a permission or an instance still missing, reaching a proxy that works. The same for what
/// Prometheus is told (MADS): as long as proxies are left as they are, their metrics are to be scraped.
pub const QUIET: Duration = Duration::from_secs(5);

/// And at most this long, should the writes never pause.
pub const LONGEST_RECOVERY: Duration = Duration::from_secs(60);

/// A client that came back with configuration, until it has been brought to what reported in this life.
pub(crate) struct Recovery {
    opened: SystemTime,
    /// When its documents were first known again.
    begun: Option<SystemTime>,
    /// Name and version of what it reported, by type; only of the types that it has reported.
    reported: BTreeMap<ResourceType, BTreeMap<Arc<str>, Box<str>>>,
    /// Whether its listeners demand TLS: then its mesh had mTLS, and is not to lose it by our forgetting.
    tls: bool,
}

impl Recovery {
    /// A client that has just come back.
    pub(crate) fn new(opened: SystemTime) -> Recovery {
        Recovery { opened, begun: None, reported: BTreeMap::new(), tls: false }
    }

    /// The client told what it holds of a type.
    pub(crate) fn reported(&mut self, resource_type: ResourceType, versions: BTreeMap<Arc<str>, Box<str>>) {
        self.tls |= resource_type == ResourceType::Secret;
        self.reported.insert(resource_type, versions);
    }

    /// The client asked for its certificate: its listeners demand TLS, whether it holds one or not.
    pub(crate) fn wants_identity(&mut self) {
        self.tls = true;
    }

    /// Whether it waits for somebody to write the Mesh, however long that takes.
    pub(crate) fn waits_for_mesh(&self, mesh_written: bool) -> bool {
        self.tls && !mesh_written
    }

    /// Until when it keeps what it holds rather than be brought to `config`.
    pub(crate) fn until(&mut self, config: &Snapshot, last_write: SystemTime, now: SystemTime) -> SystemTime {
        let heard = self.opened + GRACE;
        let begun = *self.begun.get_or_insert(now);
        if self.equals(config) { heard } else { (last_write + QUIET).min(begun + LONGEST_RECOVERY).max(heard) }
    }

    /// Whether the client holds just what it would be sent.
    fn equals(&self, config: &Snapshot) -> bool {
        self.reported.iter().all(|(&resource_type, reported)| {
            let list = config.list(resource_type);
            list.len() == reported.len()
                && list.iter().all(|resource| {
                    reported.get(resource.name()).is_some_and(|version| **version == *resource.version())
                        // What is not known yet is not sent to a client that holds it.
                        || resource.is_placeholder() && reported.contains_key(resource.name())
                })
        })
    }
}
