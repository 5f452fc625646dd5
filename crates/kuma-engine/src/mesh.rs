//! One mesh at work: events in, states of streams out.
//!
//! Synchronous and without I/O; `task.rs` runs it, tests drive it by hand. It joins the parts that `lib.rs` names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_envoy::names::{self, IDENTITY_CERT};
use kuma_mesh::{Affected, KnownCallers};
use kuma_model::{Ca, Dataplane, Key, Resource as _, SECRET_KIND};
use kuma_store::{DocumentChange, Revision, Stored};
use kuma_xds::grpc::Status;
use kuma_xds::{Refusal, ResourceType, Snapshot, StreamState};
use tokio::sync::watch;

use crate::connections::{Connections, Given, OpenStream, Stream, StreamId};
use crate::content::{Content, same_versions};
use crate::documents::Documents;
use crate::gate::{self, Caller, Standing};
use crate::identities::Identities;
use crate::receipts::{Progress, Receipt, Receipts, Settled};
use crate::recovery::Recovery;
use crate::rotation::{DueStep, ProxyProgress, Rotation, RotationStatus, generation_given};
use crate::view::{MeshView, Parts, Planned};

/// Pause before the file of a log that a proxy could not open is tried again. Doubled each time, up to the longest.
const FIRST_LOG_RETRY: Duration = Duration::from_secs(1);
const LONGEST_LOG_RETRY: Duration = Duration::from_secs(60);

/// How many streams are looked at before others have their turn.
const AT_ONCE: usize = 32;

/// What holds for all meshes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the store keeps documents over a restart. Where it does not, a document that is missing may still come.
    pub durable: bool,
    /// Life of the certificates of proxies.
    pub leaf_validity: Duration,
    /// When the process started.
    pub started: SystemTime,
    /// Whether an address is one of this machine's: [`crate::is_of_this_machine`], or what a test says.
    pub is_of_this_machine: fn(IpAddr) -> bool,
}

/// What keeps the proxy of a stream from working as its mesh says, in place of what was said before; empty when nothing
/// does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the Dataplane.
    pub proxy: Arc<str>,
    /// The stream.
    pub stream: StreamId,
    /// For people.
    pub messages: Vec<String>,
}

/// What others are to be told.
#[derive(Debug, Default)]
pub struct News {
    /// What keeps proxies from working as their mesh says.
    pub warnings: Vec<Warning>,
    /// How long after a commit was heard of proxies have accepted it.
    pub accepted_after: Vec<Duration>,
}

/// A stream that may not be opened.
#[derive(Debug)]
pub struct Refused {
    /// Where its end is to be told.
    pub state: watch::Sender<StreamState>,
    /// Why.
    pub status: Status,
}

/// The state of one mesh; see the module.
pub struct MeshEngine {
    settings: Settings,
    documents: Documents,
    connections: Connections,
    identities: Identities,
    rotation: Rotation,
    content: Content,
    /// When a document was last written.
    last_write: SystemTime,
    /// When a stream is looked at again: a renewal, or the end of its grace.
    deadlines: BTreeSet<(SystemTime, StreamId)>,
    receipts: Receipts,
    /// Proxies with a [`Proxy::log_retry`](crate::connections::Proxy::log_retry).
    log_retries: BTreeSet<Arc<str>>,
    news: News,
    /// A switch of mTLS that is under way.
    switch: Option<Switch>,
}

/// How long, when mTLS is switched on, those who are connected to go on in plain text, and when it is switched off,
/// those who connect with TLS. A connection with TLS that meets plain text fails before anything is sent on it, and
/// is tried again for longer than this; one in plain text that meets TLS is lost. So long do proxies have to learn
/// of the first part of the switch.
const LAG: Duration = Duration::from_millis(100);

/// A switch of mTLS of which one side has heard.
struct Switch {
    /// When the other one is told.
    at: SystemTime,
    /// The revision at which both have been.
    revision: Revision,
}

impl MeshEngine {
    /// A mesh without documents or proxies. `seed` is for all that is left to chance.
    pub fn new(name: &str, settings: Settings, seed: u64) -> MeshEngine {
        MeshEngine {
            documents: Documents::new(name, !settings.durable),
            identities: Identities::new(settings.leaf_validity, seed),
            settings,
            connections: Connections::default(),
            rotation: Rotation::default(),
            content: Content::default(),
            last_write: SystemTime::UNIX_EPOCH,
            deadlines: BTreeSet::new(),
            receipts: Receipts::default(),
            log_retries: BTreeSet::new(),
            news: News::default(),
            switch: None,
        }
    }

    /// Whether the mesh has neither documents nor streams, and can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.documents.is_empty() && self.connections.is_empty()
    }

    /// The documents as they are now, and what any proxy should get.
    pub fn view(&self) -> MeshView {
        self.documents.view.clone()
    }

    /// What others are to be told since this was last asked.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Takes the whole mesh as it is in the store at a revision: at start and after a gap. What is not there any more
    /// is gone.
    pub fn load(&mut self, documents: &[Arc<Stored>], revision: Revision, now: SystemTime) {
        self.end_switch(now);
        self.receipts.begin(revision, Vec::new(), now);
        let affected = self.documents.load(documents, revision);
        self.publish(&affected, now);
        self.receipts.end(self.away(&affected));
    }

    /// Applies one commit as a whole: nobody sees half of it.
    pub fn commit(&mut self, changes: &[DocumentChange], revision: Revision, now: SystemTime) {
        self.end_switch(now);
        self.last_write = now;
        let documents = changes.iter().map(|(key, _)| key).filter(|key| key.kind != SECRET_KIND);
        self.receipts.begin(revision, documents.cloned().collect(), now);
        let before = self.documents.view.revision;
        let mtls = self.documents.snapshot().mtls_enabled();
        let affected = self.documents.commit(changes, revision);
        if self.documents.snapshot().mtls_enabled() != mtls && self.connections.all_know_the_mesh() {
            self.documents.begin_switch(before);
            self.switch = Some(Switch { at: now + LAG, revision });
        }
        self.publish(&affected, now);
        if self.switch.is_some() {
            // All are concerned, also those who hear of it later.
            self.connections.proxies.keys().for_each(|proxy| self.receipts.given(proxy));
        }
        self.receipts.end(self.away(&affected));
        let is_deleted = |(key, stored): &&DocumentChange| key.kind == Dataplane::KIND && stored.is_none();
        for (Key { name, .. }, _) in changes.iter().filter(is_deleted) {
            self.receipts.deleted(name);
        }
    }

    /// Tells the other side of a switch of mTLS, if one is under way. Whoever gets nothing more has accepted it with
    /// what he has.
    fn end_switch(&mut self, now: SystemTime) {
        let Some(Switch { revision, .. }) = self.switch.take() else { return };
        self.documents.end_switch(revision);
        self.publish(&Affected::All, now);
        for proxy in self.connections.proxies.keys().cloned().collect::<Vec<_>>() {
            self.answered(&proxy, now);
        }
    }

    /// How many of those that a change concerns are Dataplanes without a connected proxy.
    fn away(&self, affected: &Affected) -> u32 {
        let snapshot = self.documents.snapshot();
        let is_away = |name: &&Arc<str>| !self.connections.proxies.contains_key(*name);
        let away = match affected {
            Affected::All => snapshot.dataplanes().map(|dataplane| &dataplane.name).filter(is_away).count(),
            Affected::Proxies { whole, admission, flows, endpoints, services: _ } => {
                let names: BTreeSet<&Arc<str>> = [whole, admission, flows, endpoints].into_iter().flatten().collect();
                names.into_iter().filter(is_away).filter(|name| snapshot.dataplane(name).is_some()).count()
            }
        };
        u32::try_from(away).unwrap_or(u32::MAX)
    }

    /// How far the commit of a revision has come; `None` if this mesh has no part in it, or it is forgotten.
    pub fn receipt(&self, revision: Revision) -> Option<Receipt> {
        self.receipts.receipt(revision)
    }

    /// [`Receipt::progress`] alone.
    pub fn progress(&self, revision: Revision) -> Option<Progress> {
        self.receipts.progress(revision)
    }

    /// Notes that the Mesh was written again just as it is, which a restarted control plane may have waited for.
    pub fn touch_mesh(&mut self, now: SystemTime) {
        if !self.documents.mesh_written {
            self.documents.mesh_written = true;
            self.publish(&Affected::All, now);
        }
    }

    /// A proxy opened a stream.
    ///
    /// # Errors
    /// It may not; nothing is kept of it.
    pub fn open(&mut self, stream: OpenStream, now: SystemTime) -> Result<(), Refused> {
        let OpenStream { id, ref proxy, caller, returning, only_secrets, .. } = stream;
        let mesh = &self.documents.snapshot().name;
        let proxy = proxy.clone();
        let standing = self.standing(&proxy, &caller);
        if let Standing::Refused(status) = standing {
            return Err(Refused { state: stream.state, status });
        }
        if !only_secrets && standing.speaks() {
            tracing::info!(%mesh, dataplane = %proxy, peer = %caller.address, "proxy connected");
        }
        let recovery = (returning && !self.settings.durable).then(|| Recovery::new(now));
        if !self.connections.proxies.contains_key(&proxy) {
            self.receipts.connected(&proxy);
        }
        let is_new = self.connections.open(stream, recovery);
        if self.connections.note_standing(id, &standing) || is_new {
            self.plan(&proxy);
        }
        self.publish_stream(id, now);
        Ok(())
    }

    /// What a caller may do as a proxy: the one answer to that (see `gate.rs`).
    pub fn standing(&self, proxy: &str, caller: &Caller) -> Standing {
        let proved_beside = self.connections.is_proved(proxy);
        gate::standing(self.documents.snapshot(), proxy, caller, proved_beside, self.settings.is_of_this_machine)
    }

    /// Asks again for the streams of a proxy that have not been found to speak for it: its Dataplane may have come, or
    /// have another address.
    fn hear(&mut self, proxy: &str) {
        for (id, caller) in self.connections.unheard(proxy) {
            let standing = self.standing(proxy, &caller);
            if matches!(standing, Standing::Speaks | Standing::Stranger) {
                self.connections.note_standing(id, &standing);
            }
        }
    }

    /// A stream's client told what it holds of a type from an earlier life: names and versions.
    pub fn reported(
        &mut self,
        id: StreamId,
        resource_type: ResourceType,
        versions: Vec<(Arc<str>, Box<str>)>,
        now: SystemTime,
    ) {
        let Some(stream) = self.connections.stream_mut(id) else { return };
        let mut versions = versions.into_iter().collect::<std::collections::BTreeMap<Arc<str>, Box<str>>>();
        if resource_type == ResourceType::Secret {
            stream.identity.reported = versions.remove(IDENTITY_CERT);
        }
        if let Some(recovery) = &mut stream.recovery {
            recovery.reported(resource_type, versions);
        }
        self.publish_stream(id, now);
    }

    /// A stream's client asked for its certificate.
    pub fn wants_identity(&mut self, id: StreamId, now: SystemTime) {
        let Some(stream) = self.connections.stream_mut(id) else { return };
        stream.identity.wanted = true;
        if let Some(recovery) = &mut stream.recovery {
            recovery.wants_identity();
        }
        self.publish_stream(id, now);
    }

    /// A stream's client has answered all that it was sent.
    pub fn settled(&mut self, id: StreamId, settled: Settled, now: SystemTime) {
        let Some(stream) = self.connections.stream_mut(id) else { return };
        // A refusal of something else is no reason to wait for secrets.
        if settled.refused.iter().all(|one| one.resource_type != ResourceType::Secret) {
            stream.identity.accepted_generation = settled.generation;
        }
        stream.settled = settled;
        let proxy = stream.proxy.clone();
        self.answered(&proxy, now);
        self.note_unopened(id, &proxy, now);
        self.note_log_refusal(&proxy, now);
    }

    /// The file of a log may be one that can be opened later: it is tried again while its proxy refuses it.
    fn note_log_refusal(&mut self, name: &Arc<str>, now: SystemTime) {
        let is_refused = self
            .connections
            .streams_of(name)
            .any(|stream| stream.settled.refused.iter().any(|one| one.resource_type == ResourceType::ExtensionConfig));
        let Some(proxy) = self.connections.proxies.get_mut(name) else { return };
        match (is_refused, proxy.log_retry) {
            (true, None) => {
                proxy.log_retry = Some((now + FIRST_LOG_RETRY, FIRST_LOG_RETRY));
                self.log_retries.insert(name.clone());
            }
            (false, Some(_)) => {
                proxy.log_retry = None;
                self.log_retries.remove(name);
            }
            _ => {}
        }
    }

    /// Tries the files of logs again that are due.
    fn retry_logs(&mut self, now: SystemTime) {
        for name in self.log_retries.iter().cloned().collect::<Vec<_>>() {
            let Some(proxy) = self.connections.proxies.get_mut(&name) else {
                self.log_retries.remove(&name);
                continue;
            };
            let Some((at, pause)) = proxy.log_retry.filter(|(at, _)| *at <= now) else { continue };
            proxy.log_attempt += 1;
            let pause = (pause * 2).min(LONGEST_LOG_RETRY);
            proxy.log_retry = Some((at.max(now) + pause, pause));
            // It is no change of the documents: what is refused, is so since the revision that it came with.
            let revision = proxy.config.as_ref().map_or(0, |config| config.revision());
            if self.plan_at(&name, revision) {
                self.publish_proxy(&name, now);
            } else {
                // What it refuses is no log of ours.
                self.log_retries.remove(&name);
            }
        }
    }

    /// An inbound that its proxy cannot open, such as on a port that is taken, is no endpoint. Of two Envoys of one
    /// Dataplane, the one that has the port counts.
    fn note_unopened(&mut self, id: StreamId, proxy: &Arc<str>, now: SystemTime) {
        let (snapshot, Some(stream)) = (self.documents.snapshot(), self.connections.stream(id)) else { return };
        let is_unopened = |one: &Refusal| {
            one.resource_type == ResourceType::Listener && !one.has_older && names::is_inbound(&one.name)
        };
        let is_refused_by = |stream: &Stream, name: &str| {
            stream.settled.refused.iter().any(|one| is_unopened(one) && *one.name == *name)
        };
        let some_refused = stream.settled.refused.iter().any(is_unopened);
        if stream.only_secrets || !(some_refused || snapshot.has_unopened(proxy)) {
            return;
        }
        let Some(dataplane) = snapshot.dataplane(proxy) else { return };
        // Also where a token has become needed since, or is shown beside it.
        if !stream.caller.authenticated && !self.standing(proxy, &stream.caller).speaks() {
            return;
        }
        let envoys = || self.connections.voices_of(proxy).filter(|stream| !stream.only_secrets);
        let is_refused = |inbound: &&kuma_mesh::Inbound| {
            let name = names::inbound_listener(inbound.address, inbound.port);
            envoys().all(|envoy| is_refused_by(envoy, &name))
        };
        let unopened = dataplane.inbounds.iter().filter(is_refused).map(|inbound| (inbound.address, inbound.port));
        let unopened = unopened.collect();
        let affected = self.documents.set_unopened(proxy, unopened);
        self.publish(&affected, now);
    }

    fn answered(&mut self, proxy: &Arc<str>, now: SystemTime) {
        let answered = self.connections.answered(proxy, self.documents.view.revision);
        self.news.accepted_after.extend(self.receipts.answered(proxy, &answered, now));
    }

    /// A stream ended, because its far end closed the connection or not.
    pub fn close(&mut self, id: StreamId, by_far_end: bool, now: SystemTime) {
        let Some((stream, gone)) = self.connections.close(id) else { return };
        // Others that name it find nobody and are gone with their time.
        if let Some(issued) = &stream.identity.issued {
            self.deadlines.remove(&(issued.renew_at, id));
        }
        let Some(proxy) = gone else { return self.answered(&stream.proxy, now) };
        let is_known = self.documents.snapshot().dataplane(&stream.proxy).is_some();
        self.receipts.disconnected(&stream.proxy, by_far_end, is_known, stream.settled.revision, now);
        if let Some(config) = proxy.config {
            self.content.release(&config);
        }
    }

    /// kuma-dp said that its proxy is leaving or has left, or that it runs.
    pub fn set_departed(&mut self, proxy: &Arc<str>, departed: bool, now: SystemTime) {
        let affected = self.documents.set_departed(proxy, departed);
        self.publish(&affected, now);
    }

    /// The step of a rotation that is due now; each is told once. Cheap where nothing rotates.
    pub fn rotation_step(&mut self, now: SystemTime) -> Option<DueStep> {
        let MeshEngine { documents, connections, settings, rotation, .. } = self;
        rotation.due_step(&ProxyProgress { documents, connections, settings }, now)
    }

    /// Who holds up the rotation of a CA, or would if there were one.
    pub fn rotation_status(&self, ca: Ca) -> RotationStatus {
        let MeshEngine { documents, connections, settings, .. } = self;
        ProxyProgress { documents, connections, settings }.status(ca)
    }

    /// The next time that [`MeshEngine::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        let stream = self.deadlines.first().map(|(time, _)| *time);
        let switch = self.switch.as_ref().map(|switch| switch.at);
        let retry = self.log_retries.iter().filter_map(|name| self.connections.proxies.get(name)?.log_retry);
        let retry = retry.map(|(at, _)| at).min();
        [stream, switch, retry, self.rotation.look_at].into_iter().flatten().min()
    }

    /// Whether there may be so much that no proxy holds any more that a [`MeshEngine::sweep`] is due, once the clients
    /// have taken what replaced it.
    pub fn is_worth_a_sweep(&self) -> bool {
        self.content.is_worth_a_sweep()
    }

    /// Drops what no proxy holds any more.
    pub fn sweep(&mut self) {
        self.content.sweep();
    }

    /// Renews the certificates that are due, and answers the proxies whose grace is over; some of them, if there are
    /// many. The rest is due still.
    pub fn on_deadline(&mut self, now: SystemTime) {
        if self.switch.as_ref().is_some_and(|switch| switch.at <= now) {
            self.end_switch(now);
        }
        self.retry_logs(now);
        for _ in 0..AT_ONCE {
            let Some(&(time, id)) = self.deadlines.first().filter(|(time, _)| *time <= now) else { return };
            self.deadlines.remove(&(time, id));
            self.publish_stream(id, now);
        }
    }

    /// The connected proxies whose configuration is not what the whole path gives. Always none, or the engine has a
    /// bug.
    ///
    /// It looks at so many of them at most, from a random one on: the whole path costs far more than the incremental
    /// one, and changes wait meanwhile.
    pub fn audit(&mut self, most: usize) -> Vec<String> {
        let proxies = &self.connections.proxies;
        let first = self.identities.below(proxies.len());
        let differs = |name: &str| match (self.current(name), self.generate(name)) {
            (None, None) => false,
            (Some(current), Some(whole)) => !same_versions(&current, &whole),
            _ => true,
        };
        let sample = proxies.keys().cycle().skip(first).take(most.min(proxies.len()));
        sample.filter(|name| differs(name)).map(|name| format!("{}.{name}", self.documents.snapshot().name)).collect()
    }

    /// What a proxy is to get, made from nothing: see [`MeshView::generate`].
    pub fn generate(&self, proxy: &str) -> Option<Snapshot> {
        let log_attempt = self.connections.log_attempt(proxy);
        self.documents.view.generate_at(proxy, self.connections.admin(proxy), log_attempt)
    }

    /// What a connected proxy is given now, its identity left out.
    pub fn current(&self, proxy: &str) -> Option<Arc<Snapshot>> {
        self.connections.proxies.get(proxy)?.config.clone()
    }

    /// Plans the affected proxies that are connected, and hands the result to their streams.
    fn publish(&mut self, affected: &Affected, now: SystemTime) {
        match affected {
            Affected::All => {
                let names: Vec<Arc<str>> = self.connections.proxies.keys().cloned().collect();
                for name in names {
                    // A mesh-wide change may alter whether a stream is held, even where the configuration stays.
                    self.plan(&name);
                    self.publish_proxy(&name, now);
                }
            }
            Affected::Proxies { whole, admission, flows, endpoints, services } => {
                let connected = |name: &&Arc<str>| self.connections.proxies.contains_key(*name);
                for name in whole.iter().filter(connected).cloned().collect::<Vec<_>>() {
                    if self.plan(&name)
                        || self.documents.snapshot().dataplane(&name).is_none()
                        || self.has_outdated_identity(&name)
                    {
                        self.publish_proxy(&name, now);
                    }
                }
                let in_parts = admission.iter().chain(flows).chain(endpoints).filter(|name| !whole.contains(*name));
                let mut callers = KnownCallers::default();
                for name in in_parts.collect::<BTreeSet<_>>() {
                    if !self.connections.proxies.contains_key(name) {
                        continue;
                    }
                    let parts = Parts {
                        admission: admission.contains(name),
                        flows: flows.contains(name),
                        endpoints: endpoints.contains(name).then_some(services),
                    };
                    if self.plan_parts(name, &parts, &mut callers) {
                        self.publish_proxy(name, now);
                    }
                }
            }
        }
    }

    /// Gives all streams of a proxy what they are to get now.
    fn publish_proxy(&mut self, name: &str, now: SystemTime) {
        let proxy = self.connections.proxies.get(name);
        let ids: Vec<StreamId> = proxy.map(|proxy| proxy.streams.iter().copied().collect()).unwrap_or_default();
        for id in ids {
            self.publish_stream(id, now);
        }
    }

    /// Whether a proxy holds a certificate with other services than its Dataplane has, which nothing else may tell: a
    /// name alone changes no listener.
    fn has_outdated_identity(&self, name: &str) -> bool {
        let snapshot = self.documents.snapshot();
        let (Some(dataplane), Some(ca)) = (snapshot.dataplane(name), self.documents.ca()) else { return false };
        let mut issued = self.connections.streams_of(name).filter_map(|stream| stream.identity.issued.as_ref());
        issued.any(|identity| !identity.fits(ca.signing(), &snapshot.name, dataplane))
    }

    /// Makes the configuration of a connected proxy anew. Returns whether it changed.
    fn plan(&mut self, name: &Arc<str>) -> bool {
        self.plan_at(name, self.documents.view.revision)
    }

    /// The same; the result is numbered with this revision.
    fn plan_at(&mut self, name: &Arc<str>, revision: Revision) -> bool {
        self.hear(name);
        let log_attempt = self.connections.log_attempt(name);
        let planned = self.documents.view.plan(name, self.connections.admin(name), log_attempt);
        let Some(proxy) = self.connections.proxies.get_mut(name) else { return false };
        let Some(Planned { keys, metrics_problem: problem }) = planned else { return proxy.config.take().is_some() };
        // Said once for each reason.
        if let Some(problem) = problem.as_ref().filter(|problem| proxy.metrics_problem.as_ref() != Some(problem)) {
            let mesh = &self.documents.snapshot().name;
            tracing::warn!(%mesh, dataplane = %name, "the proxy offers no metrics: {problem}");
        }
        proxy.metrics_problem = problem;
        let mut builder = Snapshot::builder().revision(revision);
        for key in keys {
            builder.insert(self.content.resource(key));
        }
        proxy.replace(builder)
    }

    /// Makes parts of the configuration of a connected proxy anew, and leaves the rest of it as it is. Returns whether
    /// it changed.
    fn plan_parts(&mut self, name: &Arc<str>, parts: &Parts<'_>, callers: &mut KnownCallers) -> bool {
        let planned = self.documents.view.plan_parts(name, parts, callers);
        let proxy = self.connections.proxies.get_mut(name);
        let (Some(keys), Some(proxy)) = (planned, proxy) else { return self.plan(name) };
        let Some(config) = &proxy.config else { return self.plan(name) };
        let mut builder = config.to_builder().revision(self.documents.view.revision);
        for key in keys {
            builder.insert(self.content.resource(key));
        }
        proxy.replace(builder)
    }

    /// Gives a stream what it is to get now.
    fn publish_stream(&mut self, id: StreamId, now: SystemTime) {
        let state = self.stream_state(id, now);
        let revision = self.documents.view.revision;
        let Some(stream) = self.connections.stream_mut(id) else { return };
        // What it held before may be on its way to be replaced.
        let accepted = stream.identity.accepted_generation;
        if !matches!(&state, StreamState::Serve(snapshot) if snapshot.generation() == accepted) {
            stream.identity.accepted_generation = 0;
        }
        let is_held = matches!(state, StreamState::Hold) && stream.recovery.is_some();
        let given = stream.give(state, revision);
        if is_held {
            self.receipts.held(&stream.proxy);
        } else if given == Given::Changed {
            self.receipts.given(&stream.proxy);
        }
    }

    fn stream_state(&mut self, id: StreamId, now: SystemTime) -> StreamState {
        let Some(stream) = self.connections.stream(id) else { return StreamState::Hold };
        let proxy = stream.proxy.clone();
        let snapshot = self.documents.snapshot();
        let known = snapshot.dataplane(&proxy).is_some() && snapshot.mesh.is_some();
        if !known {
            let gone = self.settings.durable || self.documents.was_deleted(&proxy);
            return if gone { StreamState::Serve(Arc::new(Snapshot::default())) } else { StreamState::Hold };
        }
        let Some(config) = self.current(&proxy) else { return StreamState::Hold };
        let mtls = snapshot.has_any_mtls();
        let Some(stream) = self.connections.stream_mut(id) else { return StreamState::Hold };
        if let Some(recovery) = &mut stream.recovery {
            if recovery.waits_for_mesh(self.documents.mesh_written) {
                return StreamState::Hold;
            }
            let until = recovery.until(&config, self.last_write, now);
            if now < until {
                self.deadlines.insert((until, id));
                return StreamState::Hold;
            }
            stream.recovery = None;
        }
        if !mtls {
            stream.identity.without_mtls();
        }
        let problem = stream.identity_problem(&self.documents);
        if stream.identity.problem != problem {
            stream.identity.problem = problem;
            if let Some(problem) = problem {
                tracing::warn!(mesh = %self.documents.snapshot().name, dataplane = %proxy, "{problem}");
            }
            // There is no insight of a stream for secrets alone: it says nothing about the Dataplane's own proxy.
            if !stream.only_secrets {
                let messages = problem.map(str::to_owned).into_iter().collect();
                self.news.warnings.push(Warning { proxy, stream: id, messages });
            }
        }
        if !mtls {
            if let Some(issued) = stream.identity.issued.take() {
                self.deadlines.remove(&(issued.renew_at, id));
            }
            // Those of a ProxyTemplate, which may hold keys.
            let secrets = !config.list(ResourceType::Secret).is_empty();
            let trusted = stream.caller.authenticated && stream.caller.encrypted;
            return StreamState::Serve(if secrets && !trusted { without_secrets(&config) } else { config });
        }
        if problem.is_some() {
            return StreamState::Serve(closed(&config));
        }
        let renew_at = |stream: &crate::connections::Stream| stream.identity.issued.as_ref().map(|one| one.renew_at);
        let before = renew_at(stream);
        let certificate = match stream.identity.is_concerned() {
            true => self.identities.issue(&mut self.connections, id, &self.documents, now),
            false => None,
        };
        let Some(stream) = self.connections.stream_mut(id) else { return StreamState::Hold };
        if let Some(before) = before.filter(|before| renew_at(stream) != Some(*before)) {
            self.deadlines.remove(&(before, id));
        }
        // It is there already, unless it was due while there was no Dataplane or no CA.
        self.deadlines.extend(renew_at(stream).map(|after| (after, id)));
        let generation = generation_given(stream, &self.documents);
        if certificate.is_none() && generation == 0 {
            return StreamState::Serve(config);
        }
        let mut builder = config.to_builder().generation(generation);
        if let Some(certificate) = certificate {
            let secrets = stream.identity.with_certificate(config.list(ResourceType::Secret), certificate);
            builder.share(ResourceType::Secret, secrets);
        }
        StreamState::Serve(Arc::new(builder.build()))
    }
}

/// What a proxy may have that has to prove itself and cannot: no secret, and no inbound either. Listeners that demand
/// TLS and never get a secret would not shut the door at once: Envoy goes on with those before, in plain text, for the
/// 15 s that it waits for secrets, and then dials the application for whoever comes before it sends them away.
fn closed(config: &Snapshot) -> Arc<Snapshot> {
    let mut closed = without_secrets(config).to_builder();
    for listener in config.list(ResourceType::Listener).iter().filter(|listener| names::is_inbound(listener.name())) {
        closed.remove(ResourceType::Listener, listener.name());
    }
    Arc::new(closed.build())
}

/// What a proxy may have whose stream is not encrypted, or not proved to be its own.
fn without_secrets(config: &Snapshot) -> Arc<Snapshot> {
    let mut without_secrets = config.to_builder();
    without_secrets.share(ResourceType::Secret, Snapshot::default().list(ResourceType::Secret).clone());
    Arc::new(without_secrets.build())
}
