//! The other control planes on the same store: who is alive, and what they have said.
//!
//! Each says every 5 seconds that it is alive, after it has written what its proxies have reported. So whoever wants to
//! know whether a proxy is connected anywhere waits until all have said so twice (the first time may have been under
//! way), and then reads the insights.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kuma_engine::DueStep;
use kuma_model::{DataplaneInsight, Key, Resource as _};
use kuma_store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::insights::Insights;
use crate::presence::Proxy;

/// Pause between two heartbeats.
const EVERY: Duration = Duration::from_secs(5);

/// How long others may take to say where a proxy is. Whoever is not alive any more is not waited for, so only a store
/// that is away takes longer.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// The control planes on one store.
pub struct Peers {
    store: Arc<dyn Store>,
    insights: Arc<Insights>,
    instance: Arc<str>,
    /// The steps of rotations that are due for the proxies of this control plane.
    due: Mutex<Steps>,
    /// What the others that are alive have said last; `None` before the first time.
    others: watch::Sender<Option<Others>>,
}

/// By the names of control planes.
type Others = BTreeMap<Arc<str>, About>;

/// The generation for which a step is due, by mesh and CA (`mesh/builtin`).
type Steps = BTreeMap<String, u64>;

/// What a control plane says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct About {
    /// How often it has said so.
    beats: u64,
    due: Steps,
}

impl Peers {
    /// Nobody is known yet. `instance` is the name of this control plane.
    pub fn new(store: Arc<dyn Store>, insights: Arc<Insights>, instance: Arc<str>) -> Arc<Peers> {
        Arc::new(Peers { store, insights, instance, due: Mutex::default(), others: watch::Sender::new(None) })
    }

    /// Says that this control plane is alive, until cancelled. Where nobody shares the store there is nobody to tell.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        if !self.store.is_shared() {
            return cancel.cancelled().await;
        }
        let mut beats = 0;
        loop {
            self.insights.write(self.store.as_ref()).await;
            beats += 1;
            let about = About { beats, due: self.steps().clone() };
            let about = serde_json::to_string(&about).unwrap_or_default();
            match self.store.heartbeat(about).await {
                Ok(peers) => {
                    let others = peers.into_iter().filter(|peer| peer.is_alive && !peer.is_self);
                    // A newer program may say it in other words; then nothing is known of it.
                    let read = |about: &str| serde_json::from_str(about).unwrap_or_default();
                    let others = others.map(|peer| (peer.instance.clone(), read(&peer.about))).collect();
                    self.others.send_replace(Some(others));
                }
                Err(error) => tracing::debug!(%error, "the other control planes are not heard of"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Whether another control plane has a stream of this proxy. Where that cannot be found out, one has.
    pub async fn have(&self, proxy: &Proxy) -> bool {
        if !self.store.is_shared() {
            return false;
        }
        let all_heard = async {
            let mut others = self.others.subscribe();
            let mut first: Option<Others> = None;
            loop {
                if let Some(now) = &*others.borrow_and_update() {
                    let first = first.get_or_insert_with(|| now.clone());
                    let heard = |(name, about): (&Arc<str>, &About)| {
                        about.beats >= first.get(name).map_or(0, |first| first.beats) + 2
                    };
                    if now.iter().all(heard) {
                        return;
                    }
                }
                if others.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if tokio::time::timeout(HEARD_WITHIN, all_heard).await.is_err() {
            return true;
        }
        let key = Key::new(DataplaneInsight::KIND, &proxy.0, &proxy.1);
        match self.store.get(&key).await {
            Ok(Some(stored)) => stored.decode().map_or(true, |insight: DataplaneInsight| {
                let of_another = |id: &str| *id != *self.instance;
                let mut subscriptions = insight.subscriptions.iter();
                subscriptions.any(|one| one.disconnect_time.is_none() && of_another(&one.control_plane_instance_id))
            }),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Notes that a step of a rotation is due for the proxies of this control plane. Returns whether it is for those of
    /// all others too, and this control plane is the one that takes it.
    pub async fn may_take(&self, mesh: &str, step: DueStep) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let name = format!("{mesh}/{}", step.ca.name());
        self.steps().insert(name.clone(), step.generation);
        let is_due_for = |about: &About| about.due.get(&name) == Some(&step.generation);
        let is_due = self.others.borrow().as_ref().is_some_and(|others| others.values().all(is_due_for));
        is_due && self.store.lease("rotation").await.unwrap_or(false)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
