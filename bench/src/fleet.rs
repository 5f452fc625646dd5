//! Many simulated Envoys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::HeaderValue;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;

use crate::connection::{self, Messages, Stream, Target};
use crate::markers::Markers;
use crate::names::Id;
use crate::node::{Pattern, numbered};
use crate::session::{Form, Session, Shared, Variant};
use crate::types::{ApiVersion, Type};

/// How long a client waits before it reconnects: a random time of at most the first value, which doubles at each
/// failure up to the second. Envoy's defaults are 500 ms and 30 s.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How many of the names that a client waits for are shown.
const SHOWN: usize = 5;

/// If no client has ever got all its resources, waiting ends after this many failed streams per client.
const HOPELESS: usize = 3;

/// Settings of all clients of a fleet.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The control planes, of which each client has one, in turn.
    pub(crate) targets: Vec<Target>,
    pub(crate) variant: Variant,
    pub(crate) api: ApiVersion,
    pub(crate) node: Pattern,
    /// How many may be waiting for their first complete configuration at a time.
    pub(crate) at_once: usize,
}

/// Counts of what was sent over the streams since the start.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) resources: u64,
    pub(crate) resent: u64,
    pub(crate) resent_bytes: u64,
    pub(crate) removed: u64,
}

impl std::ops::Sub for Totals {
    type Output = Totals;

    fn sub(self, before: Totals) -> Totals {
        Totals {
            messages: self.messages - before.messages,
            bytes: self.bytes - before.bytes,
            resources: self.resources - before.resources,
            resent: self.resent - before.resent,
            resent_bytes: self.resent_bytes - before.resent_bytes,
            removed: self.removed - before.removed,
        }
    }
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    bytes: AtomicU64,
    resources: AtomicU64,
    resent: AtomicU64,
    resent_bytes: AtomicU64,
    removed: AtomicU64,
    connected: AtomicUsize,
    /// Times of the last message, in microseconds since `Fleet::started`.
    last_message: AtomicU64,
}

/// Clients, and what they have received.
pub(crate) struct Fleet {
    settings: Settings,
    started: Instant,
    pub(crate) markers: Markers,
    counters: Counters,
    clients: Vec<Arc<Client>>,
    errors: Mutex<BTreeMap<String, u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// See [`Settings::at_once`].
    turns: Semaphore,
    stopping: AtomicBool,
}

struct Client {
    number: u32,
    token: Option<HeaderValue>,
    session: Mutex<Session>,
    /// Since the start of the fleet, when it was first complete.
    complete_at: OnceLock<Duration>,
    /// Whether it has all the resources that it requests on the current stream.
    settled: AtomicBool,
    connects: AtomicU64,
    reads: watch::Sender<bool>,
}

impl Client {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Starts clients with these numbers and tokens.
    pub(crate) fn start(
        settings: Settings,
        shared: &Arc<Shared>,
        clients: Vec<(u32, Option<HeaderValue>)>,
    ) -> anyhow::Result<Arc<Fleet>> {
        let clients = clients.into_iter().map(|(number, token)| {
            let session = Session::new(settings.variant, settings.api, settings.node.node(number)?, shared.clone());
            anyhow::Ok(Arc::new(Client {
                number,
                token,
                session: Mutex::new(session),
                complete_at: OnceLock::new(),
                settled: AtomicBool::new(false),
                connects: AtomicU64::new(0),
                reads: watch::Sender::new(true),
            }))
        });
        let clients: Vec<Arc<Client>> = clients.collect::<anyhow::Result<_>>()?;
        let fleet = Arc::new(Fleet {
            started: Instant::now(),
            markers: Markers::default(),
            counters: Counters::default(),
            errors: Mutex::default(),
            tasks: Mutex::default(),
            turns: Semaphore::new(settings.at_once.min(Semaphore::MAX_PERMITS)),
            stopping: AtomicBool::new(false),
            clients,
            settings,
        });
        let run = |client: &Arc<Client>| tokio::spawn(fleet.clone().run(client.clone()));
        let tasks = fleet.clients.iter().map(run).collect();
        *fleet.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(fleet)
    }

    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// What has been received so far.
    pub(crate) fn totals(&self) -> Totals {
        let counters = &self.counters;
        Totals {
            messages: counters.messages.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            resources: counters.resources.load(Relaxed),
            resent: counters.resent.load(Relaxed),
            resent_bytes: counters.resent_bytes.load(Relaxed),
            removed: counters.removed.load(Relaxed),
        }
    }

    /// Why streams have ended, and how often.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Clears the errors: the scenario has caused them.
    pub(crate) fn clear_errors(&self) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Streams that are open now.
    pub(crate) fn connected(&self) -> usize {
        self.counters.connected.load(Relaxed)
    }

    /// For each client that was complete, when it first had all the resources that it requests, since the start of the
    /// fleet.
    pub(crate) fn first_complete(&self) -> Vec<Duration> {
        self.clients.iter().filter_map(|client| client.complete_at.get().copied()).collect()
    }

    /// Waits until every client is connected and has all the resources that it requests.
    pub(crate) async fn complete(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let settled = self.clients.iter().filter(|client| client.settled.load(Relaxed)).count();
            if settled == self.clients.len() && self.connected() >= self.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let laggard = self.clients.iter().find(|client| !client.settled.load(Relaxed));
                let waits = laggard.map_or_else(String::new, |client| {
                    let missing = client.session().missing();
                    let shown = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                    format!("; client {} waits for {} answers: {shown}", client.number, missing.len())
                });
                anyhow::bail!(
                    "after {limit:?} only {settled} of {} clients are complete, {} connected{waits}{}",
                    self.len(),
                    self.connected(),
                    failures(&self.errors())
                );
            }
            let errors = self.errors();
            let failed = errors.values().sum::<u64>() as usize;
            if failed >= HOPELESS * self.len() && self.clients.iter().all(|client| client.complete_at.get().is_none()) {
                anyhow::bail!("nobody gets everything{}", failures(&errors));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until no message has arrived for a while.
    pub(crate) async fn quiet(&self, quiet: Duration) {
        loop {
            let last = self.started + Duration::from_micros(self.counters.last_message.load(Relaxed));
            let since = last.elapsed();
            if since >= quiet {
                return;
            }
            tokio::time::sleep(quiet - since).await;
        }
    }

    /// How often a client has connected, at least and at most.
    pub(crate) fn connects(&self) -> (u64, u64) {
        let connects = || self.clients.iter().map(|client| client.connects.load(Relaxed));
        (connects().min().unwrap_or_default(), connects().max().unwrap_or_default())
    }

    /// Whether a client with this number is to read its connection.
    pub(crate) fn set_reading(&self, number: u32, reading: bool) {
        for client in self.clients.iter().filter(|client| client.number == number) {
            client.reads.send_replace(reading);
        }
    }

    /// The resources of each client, by its number.
    pub(crate) fn resources(&self) -> BTreeMap<u32, FxHashMap<(Type, Id), Form>> {
        self.clients.iter().map(|client| (client.number, client.session().resources())).collect()
    }

    /// Ends all streams.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
    }

    async fn run(self: Arc<Self>, client: Arc<Client>) {
        let mut backoff = BACKOFF.0;
        while !self.stopping.load(Relaxed) {
            let turn = self.turns.acquire().await.ok();
            let began = Instant::now();
            let ended = self.stream(&client, turn).await;
            client.settled.store(false, Relaxed);
            let reason = match ended {
                Ok(outcome) => outcome,
                Err(error) => format!("{error:#}"),
            };
            *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
            if began.elapsed() > backoff {
                backoff = BACKOFF.0;
            }
            tokio::time::sleep(backoff.mul_f64(rand::random())).await;
            backoff = (2 * backoff).min(BACKOFF.1);
        }
    }

    /// One stream, until it ends. The permit is released once the client has all its resources.
    async fn stream(&self, client: &Client, turn: Option<SemaphorePermit<'_>>) -> anyhow::Result<String> {
        let opened = connection::open(self.target(client.number), client.number, client.token.as_ref()).await?;
        let Stream { mut connection, response, requests } = opened;
        client.connects.fetch_add(1, Relaxed);
        let mut exchange = std::pin::pin!(self.exchange(client, response, requests, turn));
        let mut reads = client.reads.subscribe();
        loop {
            tokio::select! {
                biased;
                Ok(()) = reads.changed() => {
                    // Neither is polled, so data of the control plane stays in the socket.
                    while !*reads.borrow_and_update() {
                        reads.changed().await?;
                    }
                }
                ended = connection.as_mut() => {
                    ended.context("the connection failed")?;
                    return Ok("the connection was closed".to_owned());
                }
                ended = exchange.as_mut() => return ended,
            }
        }
    }

    async fn exchange(
        &self,
        client: &Client,
        response: h2::client::ResponseFuture,
        mut stream: h2::SendStream<Bytes>,
        mut turn: Option<SemaphorePermit<'_>>,
    ) -> anyhow::Result<String> {
        let mut requests = Vec::new();
        client.session().start(&mut requests);
        for request in requests.drain(..) {
            stream.send_data(request.into(), false)?;
        }
        let response = response.await.context("no response")?;
        if response.headers().contains_key("grpc-status") || !response.status().is_success() {
            return Ok(format!("refused: {} {}", response.status(), connection::status(response.headers())));
        }
        let _connected = Connected::new(&self.counters.connected);
        if client.session().is_complete() {
            client.settled.store(true, Relaxed);
            drop(turn.take());
        }
        let mut messages = Messages::new(response.into_body());
        while let Some(message) = messages.next().await? {
            let (received, complete) = {
                let mut session = client.session();
                let received = session
                    .on_response(message, &mut requests)
                    .map_err(|_| anyhow::anyhow!("a response that is no message"))?;
                (received, session.is_complete())
            };
            let sighted = self.markers.sight(message, |name| received.names.contains(&name));
            let counters = &self.counters;
            counters.messages.fetch_add(1, Relaxed);
            counters.bytes.fetch_add(message.len() as u64, Relaxed);
            counters.resources.fetch_add(received.resources, Relaxed);
            counters.resent.fetch_add(received.resent, Relaxed);
            counters.resent_bytes.fetch_add(received.resent_bytes, Relaxed);
            counters.removed.fetch_add(received.removed, Relaxed);
            for request in requests.drain(..) {
                stream.send_data(request.into(), false)?;
            }
            let now = Instant::now();
            let since_start = now.duration_since(self.started);
            counters.last_message.store(u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX), Relaxed);
            self.markers.arrived(client.number, sighted, now);
            client.settled.store(complete, Relaxed);
            if complete {
                client.complete_at.get_or_init(|| since_start);
                drop(turn.take());
            }
        }
        Ok(messages.outcome().await)
    }

    fn target(&self, number: u32) -> &Target {
        &self.settings.targets[number as usize % self.settings.targets.len()]
    }

    /// Whether a client is connected to another control plane than the first.
    pub(crate) fn is_elsewhere(&self, number: u32) -> bool {
        !(number as usize).is_multiple_of(self.settings.targets.len())
    }

    /// The id of a client's node.
    pub(crate) fn node_id(&self, number: u32) -> String {
        numbered(&self.settings.node.id, number)
    }

    /// The settings of all clients, and the number and token of each.
    pub(crate) fn like(&self) -> (Settings, Vec<(u32, Option<HeaderValue>)>) {
        let clients = self.clients.iter().map(|client| (client.number, client.token.clone())).collect();
        (self.settings.clone(), clients)
    }
}

/// Why streams have ended, and how often, as the end of a sentence.
pub(crate) fn failures(errors: &BTreeMap<String, u64>) -> String {
    errors.iter().map(|(reason, count)| format!("; {count} times: {reason}")).collect()
}

/// Counts an open stream for as long as it lives.
struct Connected<'a>(&'a AtomicUsize);

impl Connected<'_> {
    fn new(count: &AtomicUsize) -> Connected<'_> {
        count.fetch_add(1, Relaxed);
        Connected(count)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
