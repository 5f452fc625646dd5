//! Removes proxies that have left or vanished from the endpoints of their clients, and adds those that are back.
//!
//! [`Presence`] decides; this module gives it the time, and passes its decisions to the engine and the insights.
//! Nothing runs while no proxy is absent.

mod records;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use kuma_model::DataplaneInsight;
use kuma_store::Store;
use kuma_xds::server::Peer;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::api::overview::LiveInsights;
use crate::insights::Insights;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::presence::{ABSENCE, End, Expired, Presence, Proxy, Side, WINDOW};
use kuma_engine::{Caller, Engine};
use records::Record;

/// Tracks which proxies run, and applies the consequences to endpoints, insights and metrics.
pub struct Departures {
    presence: Mutex<Presence>,
    /// Notified when there may be an earlier deadline.
    wake: Notify,
    engine: Arc<Engine>,
    insights: Arc<Insights>,
    metrics: Arc<Metrics>,
    /// The other control planes on the same store, and where they learn of departures.
    shared: OnceLock<(Arc<Peers>, mpsc::UnboundedSender<Record>)>,
}

impl Departures {
    /// Starts without any proxies.
    pub fn new(engine: Arc<Engine>, insights: Arc<Insights>, metrics: Arc<Metrics>) -> Arc<Departures> {
        let (presence, wake, shared) = (Mutex::default(), Notify::new(), OnceLock::new());
        Arc::new(Departures { presence, wake, engine, insights, metrics, shared })
    }

    /// Tells other control planes on `store` of departures, until cancelled, and asks them before a proxy counts as
    /// vanished. It does so from when this is called, not from when it is polled.
    pub fn share(
        &self,
        store: Arc<dyn Store>,
        peers: Arc<Peers>,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let (sender, records) = mpsc::unbounded_channel();
        let is_first = self.shared.set((peers, sender)).is_ok();
        debug_assert!(is_first, "a control plane has one store");
        records::keep(store, records, cancel)
    }

    /// Records that an Envoy opened its stream. `proved`: a token proved which Dataplane it belongs to.
    pub fn envoy(self: &Arc<Self>, proxy: &Proxy, peer: &Peer, proved: bool) -> StreamGuard {
        self.open_stream(proxy, None, peer, proved)
    }

    /// Records that the kuma-dp with this instance id reports that it runs.
    pub fn kuma_dp(self: &Arc<Self>, proxy: &Proxy, instance: &str, peer: &Peer, proved: bool) -> StreamGuard {
        let guard = self.open_stream(proxy, Some(instance.into()), peer, proved);
        let running = self.presence().kuma_dps(proxy);
        if running > 1 {
            tracing::warn!(mesh = %proxy.0, dataplane = %proxy.1,
                "{running} kuma-dps run for the dataplane; each needs a Dataplane of its own");
        }
        guard
    }

    fn open_stream(
        self: &Arc<Self>,
        proxy: &Proxy,
        kuma_dp: Option<Box<str>>,
        peer: &Peer,
        proved: bool,
    ) -> StreamGuard {
        let departures = self.clone();
        let guard =
            StreamGuard { departures, proxy: proxy.clone(), kuma_dp, peer: peer.clone(), proved, serves: false };
        let mut presence = self.presence();
        if presence.opened(proxy, guard.side(), proved) {
            self.returned(&presence, proxy);
        }
        guard
    }

    /// Records the announcement of a kuma-dp that its Envoy stops, with the reason. The caller has checked that the
    /// report is trusted. Returns whether the proxy has left: it has not if another kuma-dp runs for the same
    /// Dataplane.
    pub fn leaves(&self, proxy: &Proxy, instance: &str, proved: bool, why: String) -> bool {
        let mut presence = self.presence();
        let has_left = presence.leaves(proxy, instance, proved);
        if has_left {
            self.metrics.left(false);
            self.departed(&presence, proxy, why);
        }
        has_left
    }

    /// Handles deadlines of absent proxies until cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            let deadline = self.presence().next_deadline();
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep => self.expire().await,
            }
        }
    }

    async fn expire(&self) {
        let Expired { due, kept, back } = {
            let mut presence = self.presence();
            let expired = presence.expire(Instant::now());
            // Under the lock, like every call of the engine in this file, so that the engine receives changes in order.
            for proxy in &expired.back {
                self.returned(&presence, proxy);
            }
            expired
        };
        let kept = kept.len() + back.len();
        if kept > 0 {
            self.metrics.kept(kept);
            tracing::warn!(
                "{kept} proxies have disconnected within {WINDOW:?}: too many at once, so the cause is probably the \
                 network or this control plane. Their endpoints stay until the proxies reconnect"
            );
        }
        // Each may have to wait for the other control planes: all wait at the same time.
        futures_util::future::join_all(due.into_iter().map(|due| self.vanish(due))).await;
    }

    /// Takes a proxy that has been absent for long enough for vanished, unless something speaks against it.
    async fn vanish(&self, (proxy, unproved): (Proxy, Vec<IpAddr>)) {
        let mut trusted = true;
        for address in unproved {
            let caller = Caller { authenticated: false, encrypted: true, address };
            trusted &= self.engine.standing(&proxy.0, &proxy.1, caller).await.speaks();
        }
        if trusted && let Some((peers, _)) = self.shared.get() {
            // It may have gone to another control plane.
            trusted = !peers.have(&proxy).await;
        }
        let mut presence = self.presence();
        if presence.confirm_vanished(&proxy, trusted, Instant::now()) {
            tracing::warn!(mesh = %proxy.0, dataplane = %proxy.1,
                    "the proxy has vanished: its connections and those of its kuma-dp were closed");
            self.metrics.left(true);
            let why = format!("it has vanished: its connections were closed and not opened again within {ABSENCE:?}");
            self.departed(&presence, &proxy, why);
        }
    }

    fn departed(&self, presence: &Presence, proxy: &Proxy, why: String) {
        tracing::info!(mesh = %proxy.0, dataplane = %proxy.1,
            "the proxy has left: it is removed from its clients' endpoints");
        self.engine.set_departed(&proxy.0, proxy.1.clone(), true);
        self.record(proxy, Some(why.clone()));
        self.insights.departed(proxy, Some(why), Timestamp::now());
        self.metrics.gone(presence.count_gone());
    }

    fn returned(&self, presence: &Presence, proxy: &Proxy) {
        tracing::info!(mesh = %proxy.0, dataplane = %proxy.1,
            "the proxy is back: it is added to its clients' endpoints again");
        self.engine.set_departed(&proxy.0, proxy.1.clone(), false);
        self.record(proxy, None);
        self.insights.departed(proxy, None, Timestamp::now());
        self.metrics.gone(presence.count_gone());
    }

    fn record(&self, proxy: &Proxy, why: Option<String>) {
        if let Some((_, records)) = self.shared.get() {
            // At the end of the process there is nobody to tell.
            let _ = records.send((proxy.clone(), why));
        }
    }

    fn forget_proxy(&self, mesh: &Arc<str>, name: &Arc<str>) {
        let mut presence = self.presence();
        if presence.forget(&(mesh.clone(), name.clone())) {
            self.metrics.gone(presence.count_gone());
        }
        self.insights.forget(mesh, name);
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveInsights for Departures {
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight> {
        self.insights.get(mesh, name)
    }

    fn forget(&self, mesh: &str, name: &str) {
        self.forget_proxy(&Arc::from(mesh), &Arc::from(name));
    }
}

/// The registration of one open stream of an Envoy or a kuma-dp. Dropping it records that the stream has ended.
pub struct StreamGuard {
    departures: Arc<Departures>,
    proxy: Proxy,
    /// The instance id of the kuma-dp that opened the stream; `None` if Envoy did.
    kuma_dp: Option<Box<str>>,
    peer: Peer,
    proved: bool,
    /// Whether it is of an Envoy that accepts connections.
    serves: bool,
}

impl StreamGuard {
    /// Records that the Envoy accepts connections; see [`Presence::configured`].
    pub fn configured(&mut self, fresh: bool) {
        let mut presence = self.departures.presence();
        let already_serves = std::mem::replace(&mut self.serves, true);
        if presence.configured(&self.proxy, fresh, already_serves) {
            self.departures.returned(&presence, &self.proxy);
        }
    }

    fn side(&self) -> Side<'_> {
        self.kuma_dp.as_deref().map_or(Side::Envoy, Side::KumaDp)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let unproved = (!self.proved).then(|| self.peer.address.ip());
        let end = End { by_far_end: self.peer.far_end.has_closed(), unproved };
        let mut presence = self.departures.presence();
        if presence.closed(&self.proxy, self.side(), end, self.serves, Instant::now()) {
            self.departures.returned(&presence, &self.proxy);
        }
        drop(presence);
        self.departures.wake.notify_one();
    }
}
