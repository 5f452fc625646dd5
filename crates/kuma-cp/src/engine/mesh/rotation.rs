//! When the next step of a CA's rotation is due: once every proxy holds what the step before has given it.
//!
//! - A proxy that is connected is waited for until its certificate has ended: by then it has a new one or none.
//! - So is one that is away, a Dataplane without a stream, unless the user has said how long. Whoever has been away for longer than
//!   its certificate lasts has nothing that others would accept; whoever comes back gets all that is new in one answer.
//! - A step lasts for [`LINGER`] at least: connections are judged by what their two ends held when each of them began.
//! - In the first [`SETTLE`] of the process proxies come back, and nobody counts as away.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::Change;
use kuma_envoy::names::MESH_CA;
use kuma_model::Ca;
use kuma_xds::ResourceType;

use super::{MeshEngine, Stream, StreamId};

/// How long after its start the control plane leaves rotations as they are. Envoy comes back within 2.4 s, and backs off up to 30 s
/// where it could not.
pub const SETTLE: Duration = Duration::from_secs(30);

/// How long a step lasts after every proxy holds it: as long as a connection may take to be made, which is the connect timeout of our
/// clusters. Otherwise one that was begun before could end with a peer that is a step ahead.
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

/// What a mesh remembers of its rotation.
#[derive(Default)]
pub(super) struct Rotation {
    /// The step that was last found to be due. It is not asked for twice.
    asked: Option<DueStep>,
    /// A proxy that holds the rotation up. As long as it does, nobody else is looked at.
    witness: Option<Arc<str>>,
    /// When nobody held this generation up for the first time.
    ready: Option<(u64, SystemTime)>,
    /// When to look again though nothing happens.
    pub(super) look_at: Option<SystemTime>,
}

impl MeshEngine {
    /// A stream's client has accepted all secrets of the snapshots with this mark.
    pub fn holds(&mut self, id: StreamId, mark: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.holds = mark;
        }
    }

    /// The step of a rotation that is due now; each is told once. Cheap where nothing rotates.
    pub fn rotation_step(&mut self, now: SystemTime) -> Option<DueStep> {
        self.rotation.look_at = None;
        for ca in [Ca::Builtin, Ca::Provided] {
            let Some(step) = self.rotating(ca) else { continue };
            if self.rotation.asked == Some(step) {
                return None;
            }
            match self.due_at(step, now) {
                Some(at) if at <= now => {
                    self.rotation.asked = Some(step);
                    return Some(step);
                }
                at => self.rotation.look_at = [self.rotation.look_at, at].into_iter().flatten().min(),
            }
        }
        if self.rotating(Ca::Builtin).is_none() && self.rotating(Ca::Provided).is_none() {
            self.rotation = Rotation::default();
        }
        None
    }

    /// Who holds up the rotation of a CA, or would if there were one.
    pub fn rotation_status(&self, ca: Ca) -> RotationStatus {
        let waits_for_mesh = self.has_forgotten_mesh();
        let mut status = RotationStatus { connected: self.proxies.len(), waits_for_mesh, ..RotationStatus::default() };
        let Some(roots) = self.documents.roots_of(ca).filter(|_| self.is_at_work(ca)) else { return status };
        let generation = self.documents.generation_of(ca);
        status.waiting = self.proxies.keys().filter(|name| self.waits(name, generation)).cloned().collect();
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
    fn is_at_work(&self, ca: Ca) -> bool {
        self.documents.snapshot.mtls_enabled() && self.documents.kind() == ca
    }

    /// Where documents are forgotten, mTLS may be on though nothing says so any more.
    fn has_forgotten_mesh(&self) -> bool {
        !self.settings.durable && !self.documents.mesh_written
    }

    /// When to take the step, as far as is known now; `None` if something has to happen before.
    fn due_at(&mut self, step: DueStep, now: SystemTime) -> Option<SystemTime> {
        if self.has_forgotten_mesh() {
            return None;
        }
        let settled = self.settings.started + SETTLE;
        if now < settled {
            return Some(settled);
        }
        if !self.is_at_work(step.ca) {
            return Some(now);
        }
        // All proxies are looked at twice, not at each of their events: once to see that nobody holds it up, and when it is due.
        let ready = self.rotation.ready.filter(|(generation, _)| *generation == step.generation);
        if let Some((_, since)) = ready
            && now < since + LINGER
        {
            return Some(since + LINGER);
        }
        if let Some((witness, until)) = self.held_up_until(step, now) {
            self.rotation.witness = Some(witness);
            return Some(until);
        }
        let (_, since) = *self.rotation.ready.insert(ready.unwrap_or((step.generation, now)));
        Some(since + LINGER)
    }

    /// Who holds the step up, if anybody does, and until when at most.
    fn held_up_until(&self, step: DueStep, now: SystemTime) -> Option<(Arc<str>, SystemTime)> {
        let change = self.documents.roots_of(step.ca)?.change()?;
        let (away_until, waiting_until) = self.patience(change);
        let is_waiting = |name: &str| now < waiting_until && self.waits(name, step.generation);
        let is_away = |name: &str| {
            now < away_until && !self.proxies.contains_key(name) && self.documents.snapshot.dataplane(name).is_some()
        };
        // From the last one on and around: proxies are served, and so answer, about in the order of their names.
        let last = self.rotation.witness.as_ref();
        let behind = (last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone())), Bound::Unbounded);
        let connected = self.proxies.range(behind).chain(self.proxies.iter()).map(|(name, _)| name);
        let same = last.filter(|name| is_waiting(name) || is_away(name));
        let witness = same
            .or_else(|| connected.into_iter().find(|name| is_waiting(name)))
            .or_else(|| self.away().find(|name| is_away(name)))?;
        Some((witness.clone(), if is_waiting(witness) { waiting_until } else { away_until }))
    }

    /// Until when those that are away are waited for, and those that are connected.
    fn patience(&self, change: &Change) -> (SystemTime, SystemTime) {
        let waiting = change.since + self.settings.leaf_validity;
        let away = change.patience.map_or(waiting, |patience| change.since + patience);
        (away, waiting)
    }

    fn away(&self) -> impl Iterator<Item = &Arc<str>> {
        let dataplanes = self.documents.snapshot.dataplanes().map(|dataplane| &dataplane.name);
        dataplanes.filter(|name| !self.proxies.contains_key(*name))
    }

    /// Whether a connected proxy does not hold these roots and a certificate of the one that signs.
    fn waits(&self, name: &str, generation: u64) -> bool {
        let streams = self.proxies.get(name).into_iter().flat_map(|proxy| &proxy.streams);
        let mut streams = streams.filter_map(|id| self.streams.get(id));
        streams.any(|stream| stream.holds != generation && self.needs_secrets(stream))
    }

    fn needs_secrets(&self, stream: &Stream) -> bool {
        if stream.problem.is_some() {
            return false;
        }
        match self.documents.snapshot.dataplane(&stream.proxy) {
            // It may hold what we have forgotten.
            None => !self.settings.durable && !self.documents.was_deleted(&stream.proxy),
            Some(_) if stream.only_secrets => true,
            Some(dataplane) => {
                let config = self.proxies.get(&stream.proxy).and_then(|proxy| proxy.config.as_ref());
                let trusts = config.is_none_or(|config| config.get(ResourceType::Secret, MESH_CA).is_some());
                trusts && !(dataplane.inbounds.is_empty() && dataplane.outbounds.is_empty())
            }
        }
    }

    /// The mark of a snapshot for this stream: the roots that it holds, and a certificate of the one that signs if it has any use
    /// for one. 0 as long as it does not hold all of that: a proxy has clusters before it asks for its first secret.
    pub(super) fn mark(&self, stream: &Stream) -> u64 {
        let complete = match &stream.identity {
            Some(identity) => identity.current,
            None => stream.only_secrets && !stream.wants_identity,
        };
        match self.documents.ca() {
            Some(_) if complete => self.documents.generation_of(self.documents.kind()),
            _ => 0,
        }
    }
}
