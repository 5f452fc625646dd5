//! The engine of one mesh: takes events and sets the states of streams.
//!
//! It is synchronous and without I/O; `task.rs` runs it, and tests call it directly. `lib.rs` names its parts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_envoy::names::{self, IDENTITY_CERT};
use kuma_mesh::{Affected, KnownCallers};
use kuma_model::{Ca, Dataplane, Key, Resource as _};
use kuma_store::{Contents, DocumentChange, Revision};
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

/// Pauses before a proxy tries again to open a log file. They double from the first to the longest.
const FIRST_LOG_RETRY: Duration = Duration::from_secs(1);
const LONGEST_LOG_RETRY: Duration = Duration::from_secs(60);

/// How many streams are handled before the task yields.
const AT_ONCE: usize = 32;

/// Settings of all meshes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a document that the store lacks does not exist; see [`Contents::complete`]. If not, a missing document
    /// may still be written again.
    pub complete: bool,
    /// How long the certificates of proxies are valid.
    pub leaf_validity: Duration,
    /// When the process started.
    pub started: SystemTime,
    /// Whether an address is one of this machine's: [`crate::is_of_this_machine`], or what a test says.
    pub is_of_this_machine: fn(IpAddr) -> bool,
}

/// The reasons why the proxy of a stream does not work as the documents say. They replace the previous ones; empty if
/// there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the Dataplane.
    pub proxy: Arc<str>,
    /// The stream.
    pub stream: StreamId,
    /// The reasons, as messages.
    pub messages: Vec<String>,
}

/// Events to report.
#[derive(Debug, Default)]
pub struct News {
    /// Reasons why proxies do not work as the documents say.
    pub warnings: Vec<Warning>,
    /// How long after it was received proxies have accepted a commit.
    pub accepted_after: Vec<Duration>,
}

/// What the store lacks, and what is there all the same because it may only have been forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// Documents that the store had before it was replaced.
    pub documents: Vec<Key>,
    /// Connected proxies that keep what they have without a Dataplane in the store: mesh and name.
    pub proxies: Vec<(Arc<str>, Arc<str>)>,
}

/// A stream that may not be opened.
#[derive(Debug)]
pub struct Refused {
    /// The channel for its end.
    pub state: watch::Sender<StreamState>,
    /// The reason.
    pub status: Status,
}

/// The state of one mesh; see the module's description.
pub struct MeshEngine {
    settings: Settings,
    documents: Documents,
    connections: Connections,
    identities: Identities,
    rotation: Rotation,
    content: Content,
    /// When a document was last written.
    last_write: SystemTime,
    /// When a stream has to be handled again: to renew its certificate, or at the end of its recovery.
    deadlines: BTreeSet<(SystemTime, StreamId)>,
    receipts: Receipts,
    /// Proxies with a [`Proxy::log_retry`](crate::connections::Proxy::log_retry).
    log_retries: BTreeSet<Arc<str>>,
    news: News,
    /// A switch of mTLS in progress.
    switch: Option<Switch>,
}

/// Time between the two parts of a switch of mTLS, in which proxies receive the first part. When mTLS is enabled,
/// clients get the change first and servers keep accepting plain text; when it is disabled, servers get it first. The
/// reason: a TLS connection to a plain-text server fails before any data is sent, and is retried for longer than this
/// time; a plain-text connection to a TLS server is lost.
const LAG: Duration = Duration::from_millis(100);

/// A switch of mTLS of which one side has received the change.
struct Switch {
    /// When the other side gets it.
    at: SystemTime,
    /// The revision of the change.
    revision: Revision,
}

impl MeshEngine {
    /// A mesh without documents and proxies. `seed` is for random numbers.
    pub fn new(name: &str, settings: Settings, seed: u64) -> MeshEngine {
        MeshEngine {
            documents: Documents::new(name, !settings.complete),
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

    /// Whether the mesh has neither documents nor streams, and can be removed.
    pub fn is_idle(&self) -> bool {
        self.documents.is_empty() && self.connections.is_empty()
    }

    /// The current documents, and the configuration that follows from them for any proxy.
    pub fn view(&self) -> MeshView {
        self.documents.view.clone()
    }

    /// The events since the last call.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Replaces all documents of the mesh by those in the store at a revision: at the start, and after missed commits.
    /// A document that is not there is deleted, unless the store may have lost it; see
    /// [`Missing`](kuma_store::Missing).
    pub fn load(&mut self, contents: &Contents, now: SystemTime) {
        self.end_switch(now);
        self.receipts.begin(contents.revision, Vec::new(), now);
        self.settings.complete = contents.complete;
        let affected = self.documents.load(contents);
        self.publish(&affected, now);
        self.end_receipt(&affected);
    }

    /// Applies one commit as a whole: no proxy gets a part of it.
    pub fn commit(&mut self, changes: &[DocumentChange], revision: Revision, now: SystemTime) {
        self.end_switch(now);
        self.last_write = now;
        let documents = changes.iter().map(|(key, _)| key).filter(|key| kuma_model::is_public(key.kind));
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
            // The commit concerns all proxies, also those that get its second part later.
            self.connections.proxies.keys().for_each(|proxy| self.receipts.given(proxy));
        }
        self.end_receipt(&affected);
        let is_deleted = |(key, stored): &&DocumentChange| key.kind == Dataplane::KIND && stored.is_none();
        for (Key { name, .. }, _) in changes.iter().filter(is_deleted) {
            self.receipts.deleted(name);
        }
    }

    /// Ends a switch of mTLS, if one is in progress: the other side gets the change. A proxy to which that makes no
    /// difference has accepted the commit with its current configuration.
    fn end_switch(&mut self, now: SystemTime) {
        let Some(Switch { revision, .. }) = self.switch.take() else { return };
        self.documents.end_switch(revision);
        self.publish(&Affected::All, now);
        for proxy in self.connections.proxies.keys().cloned().collect::<Vec<_>>() {
            self.answered(&proxy, now);
        }
    }

    fn end_receipt(&mut self, affected: &Affected) {
        let connected = &self.connections.proxies;
        self.receipts.end(affected, self.documents.snapshot(), |proxy| connected.contains_key(proxy));
    }

    /// The receipt of a revision. `None` if the commit has no document of this mesh, or is too old.
    pub fn receipt(&self, revision: Revision) -> Option<Receipt> {
        self.receipts.receipt(revision)
    }

    /// The [`Receipt::progress`] of a revision.
    pub fn progress(&self, revision: Revision) -> Option<Progress> {
        self.receipts.progress(revision)
    }

    /// Records that the Mesh was written again without a change. After a restart, proxies may be waiting for that.
    pub fn touch_mesh(&mut self, now: SystemTime) {
        if !self.documents.mesh_written {
            self.documents.mesh_written = true;
            self.publish(&Affected::All, now);
        }
    }

    /// A proxy opened a stream.
    ///
    /// # Errors
    /// The stream may not be opened. Nothing is kept of it.
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
        let recovery = (returning && !self.settings.complete).then(|| Recovery::new(now));
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

    /// A stream's client has reported names and versions of the resources of a type that it has from before the start
    /// of this process.
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

    /// A stream's client has requested its certificate.
    pub fn wants_identity(&mut self, id: StreamId, now: SystemTime) {
        let Some(stream) = self.connections.stream_mut(id) else { return };
        stream.identity.wanted = true;
        if let Some(recovery) = &mut stream.recovery {
            recovery.wants_identity();
        }
        self.publish_stream(id, now);
    }

    /// A stream's client has answered everything that it was sent.
    pub fn settled(&mut self, id: StreamId, settled: Settled, now: SystemTime) {
        let Some(stream) = self.connections.stream_mut(id) else { return };
        // The secrets count as accepted if only other resources were refused.
        if settled.refused.iter().all(|one| one.resource_type != ResourceType::Secret) {
            stream.identity.accepted_generation = settled.generation;
        }
        stream.settled = settled;
        let proxy = stream.proxy.clone();
        self.answered(&proxy, now);
        self.note_unopened(id, &proxy, now);
        self.note_log_refusal(&proxy, now);
    }

    /// Schedules another attempt if a proxy may have refused a log because it could not open the file.
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

    /// Sends the logs again whose next attempt is due.
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
            // The documents have not changed, so a refusal keeps the revision of its first attempt.
            let revision = proxy.config.as_ref().map_or(0, |config| config.revision());
            if self.plan_at(&name, revision) {
                self.publish_proxy(&name, now);
            } else {
                // The refused resource is not one with a log file.
                self.log_retries.remove(&name);
            }
        }
    }

    /// An inbound that its proxy cannot open, because the port is in use for example, is no endpoint. If a Dataplane
    /// has two Envoys, the inbound counts as open if one of them has opened it.
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
        self.receipts.answered(proxy, &answered, now, &mut self.news.accepted_after);
    }

    /// A stream has ended. `by_far_end`: because its client closed the connection.
    pub fn close(&mut self, id: StreamId, by_far_end: bool, now: SystemTime) {
        let Some((stream, gone)) = self.connections.close(id) else { return };
        // Other deadlines of this stream find no stream when they are due, and are dropped then.
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

    /// kuma-dp has reported that its proxy is leaving or has left, or that it runs.
    pub fn set_departed(&mut self, proxy: &Arc<str>, departed: bool, now: SystemTime) {
        let affected = self.documents.set_departed(proxy, departed);
        self.publish(&affected, now);
    }

    /// The step of a rotation that is due now; each step is returned once. Cheap while no CA is rotated.
    pub fn rotation_step(&mut self, now: SystemTime) -> Option<DueStep> {
        let MeshEngine { documents, connections, settings, rotation, .. } = self;
        rotation.due_step(&ProxyProgress { documents, connections, settings }, now)
    }

    /// The status of the rotation of a CA, also if there is none in progress.
    pub fn rotation_status(&self, ca: Ca) -> RotationStatus {
        let MeshEngine { documents, connections, settings, .. } = self;
        ProxyProgress { documents, connections, settings }.status(ca)
    }

    /// What is taken away if what the store lacks does not exist.
    pub fn absent(&self) -> Absent {
        let mesh = &self.documents.snapshot().name;
        let lacking = self.connections.proxies.keys().filter(|name| self.documents.lacks(name));
        Absent {
            documents: self.documents.lost().cloned().collect(),
            proxies: lacking.map(|name| (mesh.clone(), name.clone())).collect(),
        }
    }

    /// The next time that [`MeshEngine::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        let stream = self.deadlines.first().map(|(time, _)| *time);
        let switch = self.switch.as_ref().map(|switch| switch.at);
        let retry = self.log_retries.iter().filter_map(|name| self.connections.proxies.get(name)?.log_retry);
        let retry = retry.map(|(at, _)| at).min();
        [stream, switch, retry, self.rotation.look_at].into_iter().flatten().min()
    }

    /// Whether there may be enough unused resources for a [`MeshEngine::sweep`], once clients have accepted those that
    /// replaced them.
    pub fn is_worth_a_sweep(&self) -> bool {
        self.content.is_worth_a_sweep()
    }

    /// Removes the resources that no proxy uses any more.
    pub fn sweep(&mut self) {
        self.content.sweep();
    }

    /// Renews the certificates that are due, and serves the proxies whose recovery is over. If there are many, it
    /// handles a part of them, and the rest stays due.
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

    /// The connected proxies whose configuration differs from one that is generated from scratch. If there is one, the
    /// engine has a bug.
    ///
    /// It checks at most `most` proxies, beginning with a random one: generating from scratch costs far more than the
    /// incremental path, and delays changes.
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

    /// The configuration of a proxy, generated from scratch: see [`MeshView::generate`].
    pub fn generate(&self, proxy: &str) -> Option<Snapshot> {
        let log_attempt = self.connections.log_attempt(proxy);
        self.documents.view.generate_at(proxy, self.connections.admin(proxy), log_attempt)
    }

    /// The current configuration of a connected proxy, without its certificate.
    pub fn current(&self, proxy: &str) -> Option<Arc<Snapshot>> {
        self.connections.proxies.get(proxy)?.config.clone()
    }

    /// Plans the affected connected proxies, and publishes the result to their streams.
    fn publish(&mut self, affected: &Affected, now: SystemTime) {
        match affected {
            Affected::All => {
                let names: Vec<Arc<str>> = self.connections.proxies.keys().cloned().collect();
                for name in names {
                    // A mesh-wide change can alter whether a stream is held, even if its configuration stays the same.
                    self.plan(&name);
                    self.publish_proxy(&name, now);
                }
            }
            Affected::Proxies { whole, admission, flows, endpoints, services } => {
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
                // Last: when an inbound moves, its clients are told before its proxy closes the old one.
                let connected = |name: &&Arc<str>| self.connections.proxies.contains_key(*name);
                for name in whole.iter().filter(connected).cloned().collect::<Vec<_>>() {
                    if self.plan(&name)
                        || self.documents.snapshot().dataplane(&name).is_none()
                        || self.has_outdated_identity(&name)
                    {
                        self.publish_proxy(&name, now);
                    }
                }
            }
        }
    }

    /// Sets the current state of all streams of a proxy.
    fn publish_proxy(&mut self, name: &str, now: SystemTime) {
        let proxy = self.connections.proxies.get(name);
        let ids: Vec<StreamId> = proxy.map(|proxy| proxy.streams.iter().copied().collect()).unwrap_or_default();
        for id in ids {
            self.publish_stream(id, now);
        }
    }

    /// Whether a proxy has a certificate for other services than those of its Dataplane. The configuration may not show
    /// that: the name of a service is not part of a listener.
    fn has_outdated_identity(&self, name: &str) -> bool {
        let snapshot = self.documents.snapshot();
        let (Some(dataplane), Some(ca)) = (snapshot.dataplane(name), self.documents.ca()) else { return false };
        let mut issued = self.connections.streams_of(name).filter_map(|stream| stream.identity.issued.as_ref());
        issued.any(|identity| !identity.fits(ca.signing(), &snapshot.name, dataplane))
    }

    /// Plans the whole configuration of a connected proxy. Returns whether it has changed.
    fn plan(&mut self, name: &Arc<str>) -> bool {
        self.plan_at(name, self.documents.view.revision)
    }

    /// The same, with this revision for the result.
    fn plan_at(&mut self, name: &Arc<str>, revision: Revision) -> bool {
        self.hear(name);
        let log_attempt = self.connections.log_attempt(name);
        let planned = self.documents.view.plan(name, self.connections.admin(name), log_attempt);
        let Some(proxy) = self.connections.proxies.get_mut(name) else { return false };
        let Some(Planned { keys, metrics_problem: problem }) = planned else { return proxy.config.take().is_some() };
        // Logged once for each reason.
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

    /// Plans parts of the configuration of a connected proxy, and leaves the rest as it is. Returns whether it has
    /// changed.
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

    /// Sets the current state of a stream.
    fn publish_stream(&mut self, id: StreamId, now: SystemTime) {
        let state = self.stream_state(id, now);
        let revision = self.documents.view.revision;
        let Some(stream) = self.connections.stream_mut(id) else { return };
        // A new snapshot may replace secrets, so the accepted generation only counts if it is the same.
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
            let gone = self.settings.complete || self.documents.was_deleted(&proxy);
            return if gone { StreamState::Serve(Arc::new(Snapshot::default())) } else { StreamState::Hold };
        }
        let Some(config) = self.current(&proxy) else { return StreamState::Hold };
        let mtls = snapshot.has_any_mtls();
        let Some(stream) = self.connections.stream_mut(id) else { return StreamState::Hold };
        if self.settings.complete {
            // Somebody has said so since the stream was opened: no document is waited for.
            stream.recovery = None;
        }
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
            // A stream for secrets only is not the Dataplane's own proxy, so it has no insight.
            if !stream.only_secrets {
                let messages = problem.map(str::to_owned).into_iter().collect();
                self.news.warnings.push(Warning { proxy, stream: id, messages });
            }
        }
        if !mtls {
            if let Some(issued) = stream.identity.issued.take() {
                self.deadlines.remove(&(issued.renew_at, id));
            }
            // Secrets of a ProxyTemplate, which may hold keys.
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
        // Usually the deadline is there already, unless it was due while there was no Dataplane or no CA.
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

/// The configuration of a proxy that needs a token and has none: without secrets and inbounds. Inbounds with TLS whose
/// secrets never arrive would not be safe: Envoy keeps the previous listeners, with plain text, for the 15 s in which
/// it waits for the secrets, and after that connects to the application before it closes a client's connection.
fn closed(config: &Snapshot) -> Arc<Snapshot> {
    let mut closed = without_secrets(config).to_builder();
    for listener in config.list(ResourceType::Listener).iter().filter(|listener| names::is_inbound(listener.name())) {
        closed.remove(ResourceType::Listener, listener.name());
    }
    Arc::new(closed.build())
}

/// The configuration for a stream without encryption, or without a token.
fn without_secrets(config: &Snapshot) -> Arc<Snapshot> {
    let mut without_secrets = config.to_builder();
    without_secrets.share(ResourceType::Secret, Snapshot::default().list(ResourceType::Secret).clone());
    Arc::new(without_secrets.build())
}
