//! Takes proxies that have left out of their clients' endpoints, and puts those that are back in again: [`Presence`]
//! with a clock, the engine and the insights. Nothing runs while nobody is away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use kuma_model::DataplaneInsight;
use kuma_xds::server::Peer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::overview::LiveInsights;
use crate::insights::Insights;
use crate::metrics::Metrics;
use crate::presence::{ABSENCE, End, Lapsed, Presence, Proxy, Side, WINDOW};
use kuma_engine::Engine;

/// Who is there and who is not, and what follows from that.
pub struct Departures {
    presence: Mutex<Presence>,
    /// There may be a new deadline.
    wake: Notify,
    engine: Arc<Engine>,
    insights: Arc<Insights>,
    metrics: Arc<Metrics>,
}

impl Departures {
    /// Nobody has come yet, and nobody has left.
    pub fn new(engine: Arc<Engine>, insights: Arc<Insights>, metrics: Arc<Metrics>) -> Arc<Departures> {
        Arc::new(Departures { presence: Mutex::default(), wake: Notify::new(), engine, insights, metrics })
    }

    /// Envoy opened its stream. `proved`: by a token.
    pub fn envoy(self: &Arc<Self>, proxy: &Proxy, peer: &Peer, proved: bool) -> Attendance {
        self.attend(proxy, None, peer, proved)
    }

    /// The kuma-dp of this instance says that it runs.
    pub fn kuma_dp(self: &Arc<Self>, proxy: &Proxy, instance: &str, peer: &Peer, proved: bool) -> Attendance {
        let attendance = self.attend(proxy, Some(instance.into()), peer, proved);
        let running = self.presence().kuma_dps(proxy);
        if running > 1 {
            tracing::warn!(mesh = %proxy.0, dataplane = %proxy.1,
                "{running} kuma-dps run for the dataplane; each needs a Dataplane of its own");
        }
        attendance
    }

    fn attend(self: &Arc<Self>, proxy: &Proxy, kuma_dp: Option<Box<str>>, peer: &Peer, proved: bool) -> Attendance {
        let departures = self.clone();
        let attendance = Attendance { departures, proxy: proxy.clone(), kuma_dp, peer: peer.clone(), proved };
        let mut presence = self.presence();
        if presence.opened(proxy, attendance.side()) {
            self.returned(&presence, proxy);
        }
        attendance
    }

    /// A kuma-dp says that its Envoy ends, and why; and is to be believed. Returns whether the proxy has left by that:
    /// not if another kuma-dp runs for it.
    pub fn leaves(&self, proxy: &Proxy, instance: &str, why: String) -> bool {
        let mut presence = self.presence();
        let has_left = presence.leaves(proxy, instance);
        if has_left {
            self.metrics.left(false);
            self.departed(&presence, proxy, why);
        }
        has_left
    }

    /// Waits for those who have been away for too long, until cancelled.
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
                () = sleep => self.lapse().await,
            }
        }
    }

    async fn lapse(&self) {
        let Lapsed { due, kept, back } = {
            let mut presence = self.presence();
            let lapsed = presence.lapse(Instant::now());
            // With the lock held, as all that the engine is told, so that it hears things in the order in which they
            // are.
            for proxy in &lapsed.back {
                self.returned(&presence, proxy);
            }
            lapsed
        };
        let kept = kept.len() + back.len();
        if kept > 0 {
            self.metrics.kept(kept);
            tracing::warn!(
                "{kept} proxies have vanished, and too many within {WINDOW:?}: that is the network or this control \
                 plane, not they. Their endpoints stay until they come back"
            );
        }
        for (proxy, unproved) in due {
            let mut believed = true;
            for address in unproved {
                believed &= self.engine.speaks_for(&proxy.0, proxy.1.clone(), address).await;
            }
            let mut presence = self.presence();
            if presence.vanishes(&proxy, believed, Instant::now()) {
                tracing::warn!(mesh = %proxy.0, dataplane = %proxy.1,
                    "the proxy has vanished: its connections and those of its kuma-dp were closed");
                self.metrics.left(true);
                let why =
                    format!("it has vanished: its connections were closed and not opened again within {ABSENCE:?}");
                self.departed(&presence, &proxy, why);
            }
        }
    }

    fn departed(&self, presence: &Presence, proxy: &Proxy, why: String) {
        tracing::info!(mesh = %proxy.0, dataplane = %proxy.1,
            "the proxy has left: its clients do not dial it any more");
        self.engine.set_departed(&proxy.0, proxy.1.clone(), true);
        self.insights.departed(proxy, Some(why), Timestamp::now());
        self.metrics.gone(presence.gone());
    }

    fn returned(&self, presence: &Presence, proxy: &Proxy) {
        tracing::info!(mesh = %proxy.0, dataplane = %proxy.1, "the proxy is back: its clients dial it again");
        self.engine.set_departed(&proxy.0, proxy.1.clone(), false);
        self.insights.departed(proxy, None, Timestamp::now());
        self.metrics.gone(presence.gone());
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
        let mut presence = self.presence();
        if presence.forget(&(Arc::from(mesh), Arc::from(name))) {
            self.metrics.gone(presence.gone());
        }
        self.insights.forget(mesh, name);
    }
}

/// One open stream of a proxy or of its kuma-dp. Dropped when that ends.
pub struct Attendance {
    departures: Arc<Departures>,
    proxy: Proxy,
    /// The kuma-dp whose stream it is; none: Envoy's.
    kuma_dp: Option<Box<str>>,
    peer: Peer,
    proved: bool,
}

impl Attendance {
    /// The Envoy takes connections; see [`Presence::configured`].
    pub fn configured(&self, fresh: bool) {
        let mut presence = self.departures.presence();
        if presence.configured(&self.proxy, fresh) {
            self.departures.returned(&presence, &self.proxy);
        }
    }

    /// Whether the far end has closed the connection.
    pub fn closed_by_far_end(&self) -> bool {
        self.peer.far_end.has_closed()
    }

    fn side(&self) -> Side<'_> {
        self.kuma_dp.as_deref().map_or(Side::Envoy, Side::KumaDp)
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let unproved = (!self.proved).then(|| self.peer.address.ip());
        let end = End { by_far_end: self.peer.far_end.has_closed(), unproved };
        self.departures.presence().closed(&self.proxy, self.side(), end, Instant::now());
        self.departures.wake.notify_one();
    }
}
