//! Decides when the next step of a CA rotation is due: when every proxy has the certificates of the current step.
//!
//! - A connected proxy is waited for until its current certificate has expired; by then it has a new one or none.
//! - A Dataplane without a connected proxy is waited for as long, unless the user has set a shorter time. A proxy that
//!   was disconnected for longer than its certificate is valid has none that others accept; when it reconnects, it
//!   receives all new certificates in one response.
//! - A step lasts at least [`LINGER`], because a TLS handshake uses the certificates that both sides had when it began.
//! - During the first [`SETTLE`] of the process proxies reconnect, and no step is taken.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::Change;
use kuma_envoy::names::MESH_CA;
use kuma_model::Ca;

use crate::Settings;
use crate::connections::{Connections, Stream};
use crate::documents::Documents;

/// How long after the start of the control plane rotations do not continue. Envoy reconnects within 2.4 s, or within 30
/// s after failed attempts.
pub const SETTLE: Duration = Duration::from_secs(30);

/// How long a step lasts after every proxy has its certificates: the connect timeout of our clusters. Otherwise a
/// connection that began before could end with a peer that is one step ahead.
pub const LINGER: Duration = Duration::from_secs(5);

/// The rotation step that is due for a CA while its roots have this
/// [`MeshRoots::generation`](kuma_ca::MeshRoots::generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueStep {
    /// The CA that is being rotated.
    pub ca: Ca,
    /// The generation of its roots that the step applies to; the step is void once the roots have changed.
    pub generation: u64,
}

/// How far a rotation is, and which proxies it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationStatus {
    /// How many proxies are connected.
    pub connected: usize,
    /// Connected proxies that do not have the certificates of the current step yet.
    pub waiting: Vec<Arc<str>>,
    /// Dataplanes without a connected proxy.
    pub away: Vec<Arc<str>>,
    /// The time after which disconnected Dataplanes are not waited for.
    pub until: Option<SystemTime>,
    /// Whether the rotation is paused until the Mesh is written again: the control plane has restarted with a memory
    /// store and does not know whether the mesh has mTLS.
    pub waits_for_mesh: bool,
}

/// The progress of the CA rotations of one mesh.
#[derive(Default)]
pub(crate) struct Rotation {
    /// The step that was last reported as due; it is reported once.
    asked: Option<DueStep>,
    /// A proxy that the rotation waits for. While it does, no other proxy is checked.
    blocker: Option<Arc<str>>,
    /// The generation that no proxy blocks, and the time when that was first found.
    ready: Option<(u64, SystemTime)>,
    /// When to check again even if no event occurs.
    pub(crate) look_at: Option<SystemTime>,
}

impl Rotation {
    /// The step that is due at `now`, if it has not been reported yet. Cheap while no CA is being rotated.
    pub(crate) fn due_step(&mut self, proxies: &ProxyProgress<'_>, now: SystemTime) -> Option<DueStep> {
        self.look_at = None;
        for ca in [Ca::Builtin, Ca::Provided] {
            let Some(step) = proxies.rotating(ca) else { continue };
            if self.asked == Some(step) {
                return None;
            }
            match self.due_at(step, proxies, now) {
                Some(at) if at <= now => {
                    self.asked = Some(step);
                    return Some(step);
                }
                at => self.look_at = [self.look_at, at].into_iter().flatten().min(),
            }
        }
        if proxies.rotating(Ca::Builtin).is_none() && proxies.rotating(Ca::Provided).is_none() {
            *self = Rotation::default();
        }
        None
    }

    /// The time at which the step is due, as far as it is known at `now`; `None` if an event has to occur first.
    fn due_at(&mut self, step: DueStep, proxies: &ProxyProgress<'_>, now: SystemTime) -> Option<SystemTime> {
        if proxies.has_forgotten_mesh() {
            return None;
        }
        let settled = proxies.settings.started + SETTLE;
        if now < settled {
            return Some(settled);
        }
        if !proxies.is_in_use(step.ca) {
            return Some(now);
        }
        // All proxies are checked twice, not on each of their events: once to find that none blocks the step, and again
        // when the step is due.
        let ready = self.ready.filter(|(generation, _)| *generation == step.generation);
        if let Some((_, since)) = ready
            && now < since + LINGER
        {
            return Some(since + LINGER);
        }
        if let Some((blocker, until)) = proxies.blocked_until(step, self.blocker.as_ref(), now) {
            self.blocker = Some(blocker);
            return Some(until);
        }
        let (_, since) = *self.ready.insert(ready.unwrap_or((step.generation, now)));
        Some(since + LINGER)
    }
}

/// The data from which it is found which proxies have the certificates of the current step.
pub(crate) struct ProxyProgress<'a> {
    pub(crate) documents: &'a Documents,
    pub(crate) connections: &'a Connections,
    pub(crate) settings: &'a Settings,
}

impl ProxyProgress<'_> {
    /// The status of the rotation of a CA; `waiting` and `away` are also filled when no rotation is in progress.
    pub(crate) fn status(&self, ca: Ca) -> RotationStatus {
        let waits_for_mesh = self.has_forgotten_mesh();
        let connected = self.connections.proxies.len();
        let mut status = RotationStatus { connected, waits_for_mesh, ..RotationStatus::default() };
        let Some(roots) = self.documents.roots_of(ca).filter(|_| self.is_in_use(ca)) else { return status };
        let generation = self.documents.generation_of(ca);
        let waiting = self.connections.proxies.keys().filter(|name| self.is_behind(name, generation));
        status.waiting = waiting.cloned().collect();
        status.away = self.away().cloned().collect();
        status.until = roots.change().map(|change| self.wait_deadlines(change).0);
        status
    }

    fn rotating(&self, ca: Ca) -> Option<DueStep> {
        let roots = self.documents.roots_of(ca)?;
        roots.change()?;
        Some(DueStep { ca, generation: self.documents.generation_of(ca) })
    }

    /// Whether proxies receive certificates of this CA.
    fn is_in_use(&self, ca: Ca) -> bool {
        self.documents.snapshot().mtls_enabled() && self.documents.kind() == ca
    }

    /// Whether the control plane has lost the Mesh in a restart: mTLS may be on although no document says so.
    fn has_forgotten_mesh(&self) -> bool {
        !self.settings.complete && !self.documents.mesh_written
    }

    /// A proxy that blocks the step, and the latest time until which it can; `None` if no proxy blocks it. `last` is
    /// the proxy that was found the last time.
    fn blocked_until(&self, step: DueStep, last: Option<&Arc<str>>, now: SystemTime) -> Option<(Arc<str>, SystemTime)> {
        let change = self.documents.roots_of(step.ca)?.change()?;
        let (away_until, waiting_until) = self.wait_deadlines(change);
        let is_waiting = |name: &str| now < waiting_until && self.is_behind(name, step.generation);
        let proxies = &self.connections.proxies;
        let is_away = |name: &str| {
            now < away_until && !proxies.contains_key(name) && self.documents.snapshot().dataplane(name).is_some()
        };
        // Starts after the last one found and wraps around: proxies are served, and so answer, roughly in name order.
        let behind = (last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone())), Bound::Unbounded);
        let connected = proxies.range(behind).chain(proxies.iter()).map(|(name, _)| name);
        let same = last.filter(|name| is_waiting(name) || is_away(name));
        let blocker = same
            .or_else(|| connected.into_iter().find(|name| is_waiting(name)))
            .or_else(|| self.away().find(|name| is_away(name)))?;
        Some((blocker.clone(), if is_waiting(blocker) { waiting_until } else { away_until }))
    }

    /// The times until which disconnected Dataplanes, and connected proxies, are waited for.
    fn wait_deadlines(&self, change: &Change) -> (SystemTime, SystemTime) {
        let waiting = change.since + self.settings.leaf_validity;
        let away = change.patience.map_or(waiting, |patience| change.since + patience);
        (away, waiting)
    }

    fn away(&self) -> impl Iterator<Item = &Arc<str>> {
        let dataplanes = self.documents.snapshot().dataplanes().map(|dataplane| &dataplane.name);
        dataplanes.filter(|name| !self.connections.proxies.contains_key(*name))
    }

    /// Whether a connected proxy lacks these roots, or a certificate of the one that signs.
    fn is_behind(&self, name: &str, generation: u64) -> bool {
        let mut streams = self.connections.streams_of(name);
        streams.any(|stream| stream.identity.accepted_generation != generation && self.needs_secrets(stream))
    }

    fn needs_secrets(&self, stream: &Stream) -> bool {
        if stream.identity.problem.is_some() {
            return false;
        }
        match self.documents.snapshot().dataplane(&stream.proxy) {
            // The proxy may have secrets of documents that were lost in a restart.
            None => !self.settings.complete && !self.documents.was_deleted(&stream.proxy),
            Some(_) if stream.only_secrets => true,
            Some(dataplane) => {
                let proxy = self.connections.proxies.get(&stream.proxy).filter(|proxy| proxy.config.is_some());
                let trusts = proxy.is_none_or(|proxy| proxy.has_secret(MESH_CA));
                trusts && !(dataplane.inbounds.is_empty() && dataplane.outbounds.is_empty())
            }
        }
    }
}

/// The generation of the roots of which the stream's snapshot contains all secrets: the roots, and a certificate signed
/// by the current one if the stream uses one. 0 while the snapshot lacks any of them: a proxy has clusters before it
/// asks for its first secret.
pub(crate) fn generation_given(stream: &Stream, documents: &Documents) -> u64 {
    let complete = match &stream.identity.issued {
        Some(identity) => identity.current,
        None => stream.only_secrets && !stream.identity.wanted,
    };
    match documents.ca() {
        Some(_) if complete => documents.generation_of(documents.kind()),
        _ => 0,
    }
}
