//! When the next step of a CA's rotation is due: once every proxy holds what the step before has given it.
//!
//! - A proxy that is connected is waited for until its certificate has ended: by then it has a new one or none.
//! - So is one that is away, a Dataplane without a stream, unless the user has said how long. Whoever has been away for
//!   longer than its certificate lasts has nothing that others would accept; whoever comes back gets all that is new in
//!   one answer.
//! - A step lasts for [`LINGER`] at least: connections are judged by what their two ends held when each of them began.
//! - In the first [`SETTLE`] of the process proxies come back, and nobody counts as away.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::Change;
use kuma_envoy::names::MESH_CA;
use kuma_model::Ca;

use crate::Settings;
use crate::connections::{Connections, Stream};
use crate::documents::Documents;

/// How long after its start the control plane leaves rotations as they are. Envoy comes back within 2.4 s; one whose
/// bootstrap is older and does not limit its pauses to 2 s backs off up to 30 s where it could not.
pub const SETTLE: Duration = Duration::from_secs(30);

/// How long a step lasts after every proxy holds it: as long as a connection may take to be made, which is the connect
/// timeout of our clusters. Otherwise one that was begun before could end with a peer that is a step ahead.
pub const LINGER: Duration = Duration::from_secs(5);

/// A step that is due, of the roots that have this [`MeshRoots::generation`](kuma_ca::MeshRoots::generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueStep {
    /// Of this CA.
    pub ca: Ca,
    /// While its roots are those.
    pub generation: u64,
}

/// Who holds a rotation up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationStatus {
    /// How many proxies are connected.
    pub connected: usize,
    /// Those of them that do not hold yet what this step gives them.
    pub waiting: Vec<Arc<str>>,
    /// Dataplanes without a connected proxy.
    pub away: Vec<Arc<str>>,
    /// When those that are away are waited for no more.
    pub until: Option<SystemTime>,
    /// Whether nothing goes on before the Mesh is written again: whether it has mTLS is forgotten.
    pub waits_for_mesh: bool,
}

/// What a mesh remembers of the rotation of its CAs.
#[derive(Default)]
pub(crate) struct Rotation {
    /// The step that was last found to be due. It is not asked for twice.
    asked: Option<DueStep>,
    /// A proxy that holds the rotation up. As long as it does, nobody else is looked at.
    blocker: Option<Arc<str>>,
    /// When nobody held this generation up for the first time.
    ready: Option<(u64, SystemTime)>,
    /// When to look again though nothing happens.
    pub(crate) look_at: Option<SystemTime>,
}

impl Rotation {
    /// The step that is due now; each is told once. Cheap where nothing rotates.
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

    /// When to take the step, as far as is known now; `None` if something has to happen before.
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
        // All proxies are looked at twice, not at each of their events: once to see that nobody holds it up, and when
        // it is due.
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

/// How far the proxies of a mesh have come with the roots that they were given.
pub(crate) struct ProxyProgress<'a> {
    pub(crate) documents: &'a Documents,
    pub(crate) connections: &'a Connections,
    pub(crate) settings: &'a Settings,
}

impl ProxyProgress<'_> {
    /// Who holds up the rotation of a CA, or would if there were one.
    pub(crate) fn status(&self, ca: Ca) -> RotationStatus {
        let waits_for_mesh = self.has_forgotten_mesh();
        let connected = self.connections.proxies.len();
        let mut status = RotationStatus { connected, waits_for_mesh, ..RotationStatus::default() };
        let Some(roots) = self.documents.roots_of(ca).filter(|_| self.is_in_use(ca)) else { return status };
        let generation = self.documents.generation_of(ca);
        let waiting = self.connections.proxies.keys().filter(|name| self.waits(name, generation));
        status.waiting = waiting.cloned().collect();
        status.away = self.away().cloned().collect();
        status.until = roots.change().map(|change| self.patience(change).0);
        status
    }

    fn rotating(&self, ca: Ca) -> Option<DueStep> {
        let roots = self.documents.roots_of(ca)?;
        roots.change()?;
        Some(DueStep { ca, generation: self.documents.generation_of(ca) })
    }

    /// Whether proxies are given this CA's certificates.
    fn is_in_use(&self, ca: Ca) -> bool {
        self.documents.snapshot().mtls_enabled() && self.documents.kind() == ca
    }

    /// Where documents are forgotten, mTLS may be on though nothing says so any more.
    fn has_forgotten_mesh(&self) -> bool {
        !self.settings.durable && !self.documents.mesh_written
    }

    /// Who holds the step up, if anybody does, and until when at most. `last`: who was found the last time.
    fn blocked_until(&self, step: DueStep, last: Option<&Arc<str>>, now: SystemTime) -> Option<(Arc<str>, SystemTime)> {
        let change = self.documents.roots_of(step.ca)?.change()?;
        let (away_until, waiting_until) = self.patience(change);
        let is_waiting = |name: &str| now < waiting_until && self.waits(name, step.generation);
        let proxies = &self.connections.proxies;
        let is_away = |name: &str| {
            now < away_until && !proxies.contains_key(name) && self.documents.snapshot().dataplane(name).is_some()
        };
        // From the last one on and around: proxies are served, and so answer, about in the order of their names.
        let behind = (last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone())), Bound::Unbounded);
        let connected = proxies.range(behind).chain(proxies.iter()).map(|(name, _)| name);
        let same = last.filter(|name| is_waiting(name) || is_away(name));
        let blocker = same
            .or_else(|| connected.into_iter().find(|name| is_waiting(name)))
            .or_else(|| self.away().find(|name| is_away(name)))?;
        Some((blocker.clone(), if is_waiting(blocker) { waiting_until } else { away_until }))
    }

    /// Until when those that are away are waited for, and those that are connected.
    fn patience(&self, change: &Change) -> (SystemTime, SystemTime) {
        let waiting = change.since + self.settings.leaf_validity;
        let away = change.patience.map_or(waiting, |patience| change.since + patience);
        (away, waiting)
    }

    fn away(&self) -> impl Iterator<Item = &Arc<str>> {
        let dataplanes = self.documents.snapshot().dataplanes().map(|dataplane| &dataplane.name);
        dataplanes.filter(|name| !self.connections.proxies.contains_key(*name))
    }

    /// Whether a connected proxy does not hold these roots and a certificate of the one that signs.
    fn waits(&self, name: &str, generation: u64) -> bool {
        let mut streams = self.connections.streams_of(name);
        streams.any(|stream| stream.identity.accepted_generation != generation && self.needs_secrets(stream))
    }

    fn needs_secrets(&self, stream: &Stream) -> bool {
        if stream.identity.problem.is_some() {
            return false;
        }
        match self.documents.snapshot().dataplane(&stream.proxy) {
            // It may hold what we have forgotten.
            None => !self.settings.durable && !self.documents.was_deleted(&stream.proxy),
            Some(_) if stream.only_secrets => true,
            Some(dataplane) => {
                let proxy = self.connections.proxies.get(&stream.proxy).filter(|proxy| proxy.config.is_some());
                let trusts = proxy.is_none_or(|proxy| proxy.has_secret(MESH_CA));
                trusts && !(dataplane.inbounds.is_empty() && dataplane.outbounds.is_empty())
            }
        }
    }
}

/// The generation of the roots that a stream's snapshot holds all secrets of: the roots, and a certificate of the one
/// that signs if it has any use for one. 0 as long as it does not hold all of that: a proxy has clusters before it asks
/// for its first secret.
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
