//! One mesh at work: its snapshot, the proxies that are connected, and what each of them is to get.
//!
//! Synchronous and without I/O: events in, states of streams out. `task.rs` runs it; tests drive it by hand.

mod rotation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_envoy::names::{self, IDENTITY_CERT};
use kuma_mesh::{Affected, KnownCallers};
use kuma_model::Key;
use kuma_store::Stored;
use kuma_xds::grpc::{Code, Status};
use kuma_xds::{Resource, ResourceList, ResourceType, Snapshot, SnapshotBuilder, StreamState};
use tokio::sync::watch;

pub use rotation::{DueStep, LINGER, RotationStatus, SETTLE};

use super::content::{Content, generate, same_lists, same_versions};
use super::documents::Documents;
use super::identity::{Identity, Issuing};
use super::recovery::Recovery;
use crate::insights::Warnings;
use crate::metrics::moment;

/// What is said of a proxy that was connected without a token, or in plain text, before mTLS was switched on.
const NO_IDENTITY: &str = "mTLS is on and the proxy has no dataplane token, or no TLS to the control plane: it gets no certificate, and its inbounds are closed";

/// Over how long the certificates of an old root are replaced, for each stream. To make one takes less, unless the root's key is a large
/// RSA key.
const SPREAD: Duration = Duration::from_millis(1);

/// How many streams are looked at before others have their turn.
const AT_ONCE: usize = 32;

/// What is said of a proxy that has no certificate and can get none.
const NO_CA: &str =
    "mTLS is on and the CA of the mesh cannot be used: the proxy gets no certificate, and its inbounds are closed";

/// Identifies a stream for the life of the process.
pub type StreamId = u64;

/// What holds for all meshes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the store keeps documents over a restart. Where it does not, a document that is missing may still come.
    pub durable: bool,
    /// Life of the certificates of proxies.
    pub leaf_validity: Duration,
    /// When the process started.
    pub started: SystemTime,
}

/// A stream that was opened.
pub struct OpenStream {
    /// Its id.
    pub id: StreamId,
    /// Name of the Dataplane that it says it is, proved by a token if `authenticated`.
    pub proxy: Arc<str>,
    /// Whether a token proved it.
    pub authenticated: bool,
    /// Whether the connection is encrypted: secrets travel on no other.
    pub encrypted: bool,
    /// Where it comes from.
    pub address: IpAddr,
    /// Port of Envoy's admin server on loopback, if it has one.
    pub admin_port: Option<u16>,
    /// Whether its first request reported configuration from an earlier life of this process.
    pub returning: bool,
    /// Whether it is one for secrets alone.
    pub only_secrets: bool,
    /// Where its state goes.
    pub state: watch::Sender<StreamState>,
    /// Where it is said what keeps the proxy from working as the mesh says.
    pub warnings: Warnings,
}

struct Stream {
    proxy: Arc<str>,
    authenticated: bool,
    encrypted: bool,
    only_secrets: bool,
    /// The mark of what its client has accepted.
    holds: u64,
    address: IpAddr,
    state: watch::Sender<StreamState>,
    warnings: Warnings,
    /// Why it gets no certificate though the mesh has mTLS, as it has been said.
    problem: Option<&'static str>,
    /// Whether it came with configuration from an earlier life of this process, of which nothing is known yet.
    is_unknown: bool,
    /// What the client holds from an earlier life, until it has been brought to what holds in this one.
    recovery: Option<Recovery>,
    wants_identity: bool,
    reported_identity: Option<Box<str>>,
    identity: Option<Identity>,
    /// The secrets that it was last given with its identity: without it, the identity, with it.
    secrets: Option<(ResourceList, Arc<Resource>, ResourceList)>,
}

impl Stream {
    /// Why it gets no certificate, if the mesh has mTLS and it gets none. One that may have a certificate keeps it, and its
    /// inbounds with it, also while the CA cannot be used.
    fn identity_problem(&self, documents: &Documents) -> Option<&'static str> {
        if !documents.snapshot.mtls_enabled() {
            return None;
        }
        let may_hold_one = self.identity.is_some() || self.reported_identity.is_some() || self.is_unknown;
        if !(self.authenticated && self.encrypted) {
            Some(NO_IDENTITY)
        } else if documents.ca().is_none() && !may_hold_one {
            Some(NO_CA)
        } else {
            None
        }
    }
}

/// What of a configuration is made anew.
struct Parts<'a> {
    /// Who is admitted at the inbounds.
    admission: bool,
    /// Whether what the outbounds carry is permitted.
    flows: bool,
    /// The endpoints of these services.
    endpoints: Option<&'a BTreeSet<Arc<str>>>,
}

/// A connected proxy. Streams of one proxy share everything but the identity.
#[derive(Default)]
struct Proxy {
    streams: BTreeSet<StreamId>,
    /// Port of Envoy's admin server, as the latest stream says.
    admin_port: Option<u16>,
    /// Why it offers no metrics though its mesh asks for them, as it was last said.
    metrics_problem: Option<String>,
    config: Option<Arc<Snapshot>>,
}

impl Proxy {
    /// Takes a new configuration. Returns whether it differs from the one before.
    fn replace(&mut self, builder: SnapshotBuilder) -> bool {
        let config = match &self.config {
            Some(before) => builder.build_after(before),
            None => builder.build(),
        };
        let changed = self.config.as_ref().is_none_or(|before| !same_lists(before, &config));
        if changed {
            self.config = Some(Arc::new(config));
        }
        changed
    }
}

/// The state of one mesh; see the module.
pub struct MeshEngine {
    settings: Settings,
    documents: Documents,
    /// The moment of the commit that is being applied, which snapshots that it changes are numbered with; 0 between commits.
    cause: u64,
    /// When a document was last written.
    last_write: SystemTime,
    content: Content,
    proxies: BTreeMap<Arc<str>, Proxy>,
    /// Boxed: a table of them has room for up to twice as many.
    streams: HashMap<StreamId, Box<Stream>>,
    /// When a stream is looked at again: a renewal, or the end of its grace.
    deadlines: BTreeSet<(SystemTime, StreamId)>,
    rotation: rotation::Rotation,
}

impl MeshEngine {
    /// A mesh without documents or proxies.
    pub fn new(name: &str, settings: Settings) -> MeshEngine {
        MeshEngine {
            documents: Documents::new(name, !settings.durable),
            settings,
            cause: 0,
            last_write: SystemTime::UNIX_EPOCH,
            content: Content::default(),
            proxies: BTreeMap::new(),
            streams: HashMap::new(),
            deadlines: BTreeSet::new(),
            rotation: rotation::Rotation::default(),
        }
    }

    /// Whether the mesh has neither documents nor streams, and can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.documents.is_empty() && self.streams.is_empty()
    }

    /// Takes the whole mesh as it is in the store: at start and after a gap. What is not there any more is gone.
    pub fn load(&mut self, documents: &[Arc<Stored>], now: SystemTime) {
        let affected = self.documents.load(documents);
        self.publish(&affected, now);
    }

    /// Applies one commit as a whole: nobody sees half of it.
    pub fn commit(&mut self, changes: &[(Key, Option<Arc<Stored>>)], now: SystemTime) {
        self.last_write = now;
        self.cause = moment(now);
        let affected = self.documents.commit(changes);
        self.publish(&affected, now);
        self.cause = 0;
    }

    /// Notes that the Mesh was written again just as it is, which a restarted control plane may have waited for.
    pub fn touch_mesh(&mut self, now: SystemTime) {
        if !self.documents.mesh_written {
            self.documents.mesh_written = true;
            self.publish(&Affected::All, now);
        }
    }

    /// A proxy opened a stream.
    pub fn open(&mut self, stream: OpenStream, now: SystemTime) {
        let OpenStream {
            id,
            proxy,
            authenticated,
            encrypted,
            address,
            admin_port,
            returning,
            only_secrets,
            state,
            warnings,
        } = stream;
        if let Some(refusal) = self.refusal(authenticated, encrypted) {
            tracing::warn!(mesh = %self.documents.snapshot.name, dataplane = %proxy, reason = %refusal.message, "refused a proxy");
            warnings(vec![refusal.message.clone()]);
            state.send_replace(StreamState::Close(refusal));
            return;
        }
        if !only_secrets {
            tracing::info!(mesh = %self.documents.snapshot.name, dataplane = %proxy, peer = %address, "proxy connected");
        }
        self.streams.insert(
            id,
            Box::new(Stream {
                proxy: proxy.clone(),
                authenticated,
                encrypted,
                only_secrets,
                holds: 0,
                address,
                state,
                warnings,
                problem: None,
                is_unknown: returning,
                recovery: (returning && !self.settings.durable).then(|| Recovery::new(now)),
                wants_identity: false,
                reported_identity: None,
                identity: None,
                secrets: None,
            }),
        );
        let entry = self.proxies.entry(proxy.clone()).or_default();
        entry.streams.insert(id);
        // A stream for secrets alone does not say.
        let is_new = admin_port.is_some() && entry.admin_port != admin_port;
        if is_new {
            entry.admin_port = admin_port;
        }
        if entry.config.is_none() || is_new {
            self.plan(&proxy);
        }
        self.publish_stream(id, now);
    }

    /// Why a stream may not be opened, if it may not.
    fn refusal(&self, authenticated: bool, encrypted: bool) -> Option<Status> {
        let mesh = &self.documents.snapshot.name;
        if !self.documents.snapshot.mtls_enabled() {
            None
        } else if !authenticated {
            let text = format!(
                "mesh {mesh:?} has mTLS: a dataplane token is required (kumactl generate dataplane-token, kuma-dp run --dataplane-token-file)"
            );
            Some(Status::new(Code::Unauthenticated, text))
        } else if !encrypted {
            let text = format!("mesh {mesh:?} has mTLS: the connection to the control plane must be TLS");
            Some(Status::new(Code::PermissionDenied, text))
        } else {
            None
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
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut holds: BTreeMap<Arc<str>, Box<str>> = versions.into_iter().collect();
        if resource_type == ResourceType::Secret {
            stream.reported_identity = holds.remove(IDENTITY_CERT);
        }
        if let Some(recovery) = &mut stream.recovery {
            recovery.reported(resource_type, holds);
        }
        self.publish_stream(id, now);
    }

    /// A stream's client asked for its certificate.
    pub fn wants_identity(&mut self, id: StreamId, now: SystemTime) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.wants_identity = true;
        if let Some(recovery) = &mut stream.recovery {
            recovery.wants_identity();
        }
        self.publish_stream(id, now);
    }

    /// A stream ended.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        // Others that name it find nobody and are gone with their time.
        if let Some(identity) = &stream.identity {
            self.deadlines.remove(&(identity.renew_at, id));
        }
        if let Some(proxy) = self.proxies.get_mut(&stream.proxy) {
            proxy.streams.remove(&id);
            if proxy.streams.is_empty() {
                if let Some(config) = &proxy.config {
                    self.content.release(config);
                }
                self.proxies.remove(&stream.proxy);
            }
        }
    }

    /// kuma-dp said that its proxy is leaving or has left, or that it runs.
    pub fn set_departed(&mut self, proxy: &Arc<str>, departed: bool, now: SystemTime) {
        let affected = self.documents.snapshot.set_departed(proxy, departed);
        self.publish(&affected, now);
    }

    /// Whether a word about a proxy may be believed without a token: only where no token is needed, and from the address
    /// that the proxy's own stream comes from, or that its Dataplane listens on: an Envoy that has ended has no stream.
    pub fn believes(&self, proxy: &str, address: IpAddr) -> bool {
        let comes_from = |id: &StreamId| self.streams.get(id).is_some_and(|stream| stream.address == address);
        let listens_on = |inbound: &kuma_mesh::Inbound| inbound.advertised == address.to_canonical();
        !self.documents.snapshot.mtls_enabled()
            && (self.proxies.get(proxy).is_some_and(|proxy| proxy.streams.iter().any(comes_from))
                || self
                    .documents
                    .snapshot
                    .dataplane(proxy)
                    .is_some_and(|dataplane| dataplane.inbounds.iter().any(listens_on)))
    }

    /// The next time that [`MeshEngine::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        let stream = self.deadlines.first().map(|(time, _)| *time);
        [stream, self.rotation.look_at].into_iter().flatten().min()
    }

    /// Whether there may be so much that no proxy holds any more that a [`MeshEngine::sweep`] is due, once the clients have
    /// taken what replaced it.
    pub fn is_worth_a_sweep(&self) -> bool {
        self.content.is_worth_a_sweep()
    }

    /// Drops what no proxy holds any more.
    pub fn sweep(&mut self) {
        self.content.sweep();
    }

    /// Renews the certificates that are due, and answers the proxies whose grace is over; some of them, if there are many. The rest is
    /// due still.
    pub fn on_deadline(&mut self, now: SystemTime) {
        for _ in 0..AT_ONCE {
            let Some(&(time, id)) = self.deadlines.first().filter(|(time, _)| *time <= now) else { return };
            self.deadlines.remove(&(time, id));
            self.publish_stream(id, now);
        }
    }

    /// The connected proxies whose configuration is not what the whole path gives. Always none, or the engine has a bug.
    ///
    /// It looks at so many of them at most, from a random one on: the whole path costs far more than the incremental one, and
    /// changes wait meanwhile.
    pub fn audit(&self, most: usize) -> Vec<String> {
        let differs = |name: &str| match (self.current(name), self.generate(name)) {
            (None, None) => false,
            (Some(current), Some(whole)) => !same_versions(&current, &whole),
            _ => true,
        };
        let first = rand::random_range(0..self.proxies.len().max(1));
        let sample = self.proxies.keys().cycle().skip(first).take(most.min(self.proxies.len()));
        sample.filter(|name| differs(name)).map(|name| format!("{}.{name}", self.documents.snapshot.name)).collect()
    }

    /// What a proxy is to get, made from nothing: what a proxy has by the incremental path must equal it.
    pub fn generate(&self, proxy: &str) -> Option<Snapshot> {
        let dataplane = self.documents.snapshot.dataplane(proxy)?;
        Some(generate(&self.documents.snapshot, dataplane, self.documents.roots.as_ref(), self.admin_port(proxy)))
    }

    /// What a connected proxy is given now, its identity left out.
    pub fn current(&self, proxy: &str) -> Option<Arc<Snapshot>> {
        self.proxies.get(proxy)?.config.clone()
    }

    /// Plans the affected proxies that are connected, and hands the result to their streams.
    fn publish(&mut self, affected: &Affected, now: SystemTime) {
        match affected {
            Affected::All => {
                let names: Vec<Arc<str>> = self.proxies.keys().cloned().collect();
                for name in names {
                    // A mesh-wide change may alter whether a stream is held, even where the configuration stays.
                    self.plan(&name);
                    self.publish_proxy(&name, now);
                }
            }
            Affected::Proxies { whole, admission, flows, endpoints, services } => {
                for name in whole.iter().filter(|name| self.proxies.contains_key(*name)).cloned().collect::<Vec<_>>() {
                    if self.plan(&name)
                        || self.documents.snapshot.dataplane(&name).is_none()
                        || self.has_outdated_identity(&name)
                    {
                        self.publish_proxy(&name, now);
                    }
                }
                let in_parts = admission.iter().chain(flows).chain(endpoints).filter(|name| !whole.contains(*name));
                let mut callers = KnownCallers::default();
                for name in in_parts.collect::<BTreeSet<_>>() {
                    if !self.proxies.contains_key(name) {
                        continue;
                    }
                    let parts = Parts {
                        admission: admission.contains(name),
                        flows: flows.contains(name),
                        endpoints: endpoints.contains(name).then_some(services),
                    };
                    if self.plan_parts(name, parts, &mut callers) {
                        self.publish_proxy(name, now);
                    }
                }
            }
        }
    }

    /// Gives all streams of a proxy what they are to get now.
    fn publish_proxy(&mut self, name: &str, now: SystemTime) {
        let ids: Vec<StreamId> =
            self.proxies.get(name).map(|proxy| proxy.streams.iter().copied().collect()).unwrap_or_default();
        for id in ids {
            self.publish_stream(id, now);
        }
    }

    /// Whether a proxy holds a certificate with other services than its Dataplane has, which nothing else may tell: a name
    /// alone changes no listener.
    fn has_outdated_identity(&self, name: &str) -> bool {
        let (Some(dataplane), Some(ca)) = (self.documents.snapshot.dataplane(name), self.documents.ca()) else {
            return false;
        };
        let streams = self.proxies.get(name).into_iter().flat_map(|proxy| &proxy.streams);
        let mut identities = streams.filter_map(|id| self.streams.get(id)?.identity.as_ref());
        identities.any(|identity| !identity.fits(ca.signing(), &self.documents.snapshot.name, dataplane))
    }

    /// Port of the admin server of a connected proxy, if it has one.
    fn admin_port(&self, proxy: &str) -> Option<u16> {
        self.proxies.get(proxy)?.admin_port
    }

    /// Makes the configuration of a connected proxy anew. Returns whether it changed.
    fn plan(&mut self, name: &Arc<str>) -> bool {
        let admin_port = self.admin_port(name);
        let keys = self.documents.snapshot.dataplane(name).map(|dataplane| {
            let metrics = kuma_envoy::plan_metrics(&self.documents.snapshot, dataplane, admin_port);
            // What a template gives by the same name comes later, and counts.
            let all = metrics.keys.into_iter().chain(kuma_envoy::plan(
                &self.documents.snapshot,
                dataplane,
                self.documents.roots.as_ref(),
            ));
            (all.collect::<Vec<_>>(), metrics.problem)
        });
        let keys = keys.map(|(keys, problem)| {
            self.note_metrics_problem(name, problem);
            keys
        });
        let Some(proxy) = self.proxies.get_mut(name) else { return false };
        let Some(keys) = keys else { return proxy.config.take().is_some() };
        let mut builder = Snapshot::builder().revision(self.cause);
        for key in keys {
            builder.insert(self.content.resource(key));
        }
        proxy.replace(builder)
    }

    /// Makes parts of the configuration of a connected proxy anew, and leaves the rest of it as it is. Returns whether it
    /// changed.
    fn plan_parts(&mut self, name: &Arc<str>, parts: Parts<'_>, callers: &mut KnownCallers) -> bool {
        let Documents { snapshot, roots, .. } = &self.documents;
        let planned = snapshot.dataplane(name).and_then(|dataplane| {
            let mut keys = Vec::new();
            if parts.admission {
                keys.extend(kuma_envoy::plan_admission(snapshot, dataplane, roots.as_ref())?);
            }
            if parts.flows {
                keys.extend(kuma_envoy::plan_flows(snapshot, dataplane, callers)?);
            }
            if let Some(services) = parts.endpoints {
                keys.extend(kuma_envoy::plan_endpoints(snapshot, dataplane, services)?);
            }
            Some(keys)
        });
        let proxy = self.proxies.get_mut(name);
        let (Some(keys), Some(proxy)) = (planned, proxy) else { return self.plan(name) };
        let Some(config) = &proxy.config else { return self.plan(name) };
        let mut builder = config.to_builder().revision(self.cause);
        for key in keys {
            builder.insert(self.content.resource(key));
        }
        proxy.replace(builder)
    }

    /// Says why a proxy offers no metrics, once for each reason.
    fn note_metrics_problem(&mut self, name: &str, problem: Option<String>) {
        let Some(proxy) = self.proxies.get_mut(name) else { return };
        if let Some(problem) = problem.as_ref().filter(|problem| proxy.metrics_problem.as_ref() != Some(problem)) {
            tracing::warn!(mesh = %self.documents.snapshot.name, dataplane = %name, "the proxy offers no metrics: {problem}");
        }
        proxy.metrics_problem = problem;
    }

    /// Gives a stream what it is to get now.
    fn publish_stream(&mut self, id: StreamId, now: SystemTime) {
        let state = self.stream_state(id, now);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        // What it held before may be on its way to be replaced.
        if !matches!(&state, StreamState::Serve(snapshot) if snapshot.mark() == stream.holds) {
            stream.holds = 0;
        }
        stream.state.send_if_modified(|current| {
            let same = match (&*current, &state) {
                (StreamState::Hold, StreamState::Hold) => true,
                (StreamState::Serve(before), StreamState::Serve(after)) => {
                    same_lists(before, after) && before.mark() == after.mark()
                }
                _ => false,
            };
            if !same {
                *current = state;
            }
            !same
        });
    }

    fn stream_state(&mut self, id: StreamId, now: SystemTime) -> StreamState {
        let Some(stream) = self.streams.get_mut(&id) else { return StreamState::Hold };
        let known =
            self.documents.snapshot.dataplane(&stream.proxy).is_some() && self.documents.snapshot.mesh.is_some();
        if !known {
            let gone = self.settings.durable || self.documents.was_deleted(&stream.proxy);
            return if gone { StreamState::Serve(Arc::new(Snapshot::default())) } else { StreamState::Hold };
        }
        let Some(config) = self.proxies.get(&stream.proxy).and_then(|proxy| proxy.config.clone()) else {
            return StreamState::Hold;
        };
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
        if !self.documents.snapshot.mtls_enabled() {
            // Its inbounds are open; when mTLS is switched on they must not stay that.
            stream.is_unknown = false;
        }
        let problem = stream.identity_problem(&self.documents);
        if stream.problem != problem {
            stream.problem = problem;
            if let Some(problem) = problem {
                tracing::warn!(mesh = %self.documents.snapshot.name, dataplane = %stream.proxy, "{problem}");
            }
            (stream.warnings)(problem.map(str::to_owned).into_iter().collect());
        }
        if !self.documents.snapshot.mtls_enabled() {
            if let Some(identity) = stream.identity.take() {
                self.deadlines.remove(&(identity.renew_at, id));
            }
            // Those of a ProxyTemplate, which may hold keys.
            let secrets = !config.list(ResourceType::Secret).is_empty();
            let trusted = stream.authenticated && stream.encrypted;
            return StreamState::Serve(if secrets && !trusted { without_secrets(&config) } else { config });
        }
        if problem.is_some() {
            return StreamState::Serve(closed(&config));
        }
        let wanted = stream.wants_identity || stream.reported_identity.is_some() || stream.identity.is_some();
        let identity = if wanted { self.issue(id, now) } else { None };
        let mark = self.streams.get(&id).map_or(0, |stream| self.mark(stream));
        if identity.is_none() && mark == 0 {
            return StreamState::Serve(config);
        }
        let mut builder = config.to_builder().mark(mark);
        if let Some(identity) = identity {
            builder.share(ResourceType::Secret, self.with_identity(id, config.list(ResourceType::Secret), identity));
        }
        StreamState::Serve(Arc::new(builder.build()))
    }

    /// The secrets of a proxy and its certificate: the very same list for as long as neither changes, so that other changes
    /// leave the stream's secrets alone.
    fn with_identity(&mut self, id: StreamId, secrets: &ResourceList, identity: Arc<Resource>) -> ResourceList {
        let last = self.streams.get(&id).and_then(|stream| stream.secrets.as_ref());
        if let Some((from, with, list)) = last
            && Arc::ptr_eq(from, secrets)
            && Arc::ptr_eq(with, &identity)
        {
            return list.clone();
        }
        let mut builder = Snapshot::builder();
        builder.share(ResourceType::Secret, secrets.clone()).insert(identity.clone());
        let list = builder.build().list(ResourceType::Secret).clone();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.secrets = Some((secrets.clone(), identity, list.clone()));
        }
        list
    }

    /// The certificate that a stream's proxy is to hold; `None` if there is no CA to make one.
    fn issue(&mut self, id: StreamId, now: SystemTime) -> Option<Arc<Resource>> {
        let streams = self.streams.len();
        let stream = self.streams.get_mut(&id)?;
        let dataplane = self.documents.snapshot.dataplane(&stream.proxy)?;
        let Some(ca) = self.documents.ca() else {
            tracing::error!(mesh = %self.documents.snapshot.name, dataplane = %stream.proxy, "the mesh has no CA: no certificate is issued");
            return None;
        };
        if let Some(identity) = &stream.identity {
            let mesh = &self.documents.snapshot.name;
            if identity.current && now < identity.renew_at && identity.fits(ca.signing(), mesh, dataplane) {
                // It is there already, unless it was due while there was no Dataplane or no CA.
                self.deadlines.insert((identity.renew_at, id));
                return Some(identity.resource.clone());
            }
            self.deadlines.remove(&(identity.renew_at, id));
        }
        let issuing = Issuing {
            root: ca.signing(),
            old: ca.old(),
            spread: SPREAD * u32::try_from(streams).unwrap_or(u32::MAX),
            mesh: &self.documents.snapshot.name,
            validity: self.settings.leaf_validity,
            now,
            jitter: rand::random(),
        };
        // A reported one is considered once: at its renewal it must not be found good enough again.
        let reported = stream.reported_identity.take();
        match issuing.identity(dataplane, stream.identity.take(), reported.as_deref()) {
            Ok(identity) => {
                self.deadlines.insert((identity.renew_at, id));
                let resource = identity.resource.clone();
                stream.identity = Some(identity);
                Some(resource)
            }
            Err(error) => {
                tracing::error!(mesh = %self.documents.snapshot.name, dataplane = %stream.proxy, %error, "cannot issue a certificate");
                None
            }
        }
    }
}

/// What a proxy may have that has to prove itself and cannot: no secret, and no inbound either. Listeners that demand TLS
/// and never get a secret would not shut the door at once: Envoy goes on with those before, in plain text, for the 15 s that
/// it waits for secrets, and then dials the application for whoever comes before it sends them away.
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
