//! Proxies that reconnect to a control plane that has lost its documents: a restart with the memory store must not
//! interrupt a working mesh, nor turn its traffic to plain text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_xds::{ResourceType, Snapshot};

/// How long to wait before a proxy that comes back with configuration is answered. It is enough to receive all of its
/// first requests, which report that configuration; Envoy sends them at once.
const GRACE: Duration = Duration::from_millis(500);

/// While documents are being written again, a client that comes back keeps its configuration until the documents give
/// the same one, or until no document has been written for this long. So documents can be written in any order, and a
/// proxy never gets a configuration in which a permission or an instance is missing. The same holds for Prometheus
/// (MADS): while proxies keep their configuration, they stay targets.
pub const QUIET: Duration = Duration::from_secs(5);

/// The longest time that a client keeps its configuration, if writes never pause.
pub const LONGEST_RECOVERY: Duration = Duration::from_secs(60);

/// A client that has come back with configuration, until that is replaced.
pub(crate) struct Recovery {
    opened: SystemTime,
    /// When its documents were first there again.
    begun: Option<SystemTime>,
    /// Names and versions of the resources that it has reported, by type.
    reported: BTreeMap<ResourceType, BTreeMap<Arc<str>, Box<str>>>,
    /// Whether its listeners require TLS: then its mesh had mTLS, and must not lose it because documents were lost.
    tls: bool,
}

impl Recovery {
    /// The state of a client that has just come back.
    pub(crate) fn new(opened: SystemTime) -> Recovery {
        Recovery { opened, begun: None, reported: BTreeMap::new(), tls: false }
    }

    /// The client has reported its resources of a type.
    pub(crate) fn reported(&mut self, resource_type: ResourceType, versions: BTreeMap<Arc<str>, Box<str>>) {
        self.tls |= resource_type == ResourceType::Secret;
        self.reported.insert(resource_type, versions);
    }

    /// The client has requested its certificate: its listeners require TLS, even if it has no certificate.
    pub(crate) fn wants_identity(&mut self) {
        self.tls = true;
    }

    /// Whether it waits until the Mesh is written again, without a time limit.
    pub(crate) fn waits_for_mesh(&self, mesh_written: bool) -> bool {
        self.tls && !mesh_written
    }

    /// Until when it keeps its configuration instead of getting `config`.
    pub(crate) fn until(&mut self, config: &Snapshot, last_write: SystemTime, now: SystemTime) -> SystemTime {
        let heard = self.opened + GRACE;
        let begun = *self.begun.get_or_insert(now);
        if self.equals(config) { heard } else { (last_write + QUIET).min(begun + LONGEST_RECOVERY).max(heard) }
    }

    /// Whether the client already has exactly this configuration.
    fn equals(&self, config: &Snapshot) -> bool {
        self.reported.iter().all(|(&resource_type, reported)| {
            let list = config.list(resource_type);
            list.len() == reported.len()
                && list.iter().all(|resource| {
                    reported.get(resource.name()).is_some_and(|version| **version == *resource.version())
                        // A placeholder is not sent to a client that has the resource.
                        || resource.is_placeholder() && reported.contains_key(resource.name())
                })
        })
    }
}
