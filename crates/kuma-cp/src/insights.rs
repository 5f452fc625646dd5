//! What each proxy has been sent and has answered: the DataplaneInsights.
//!
//! Kept in memory while a stream is open and written to the store in batches, off the path of configuration: a change of
//! an insight wakes no engine. While nothing changes nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kuma_model::{Counters, DataplaneInsight, Document, Key, Rejection, Resource as _, Subscription};
use kuma_store::Store;
use kuma_xds::ResourceType;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::overview::LiveInsights;

/// How many past subscriptions are kept for a Dataplane; the counters of older ones are added to the oldest that is kept,
/// so that totals never shrink.
const HISTORY: usize = 10;

/// Mesh and name of a Dataplane.
type Proxy = (Arc<str>, Arc<str>);

/// All insights that this process has a part in.
pub struct Insights {
    instance: String,
    books: Mutex<Books>,
    dirty: Notify,
}

#[derive(Default)]
struct Books {
    insights: BTreeMap<Proxy, DataplaneInsight>,
    dirty: BTreeSet<Proxy>,
}

impl Insights {
    /// No insights yet. `instance` identifies this process in subscriptions.
    pub fn new(instance: String) -> Insights {
        Insights { instance, books: Mutex::default(), dirty: Notify::new() }
    }

    /// Takes over what a store has from earlier lives. A subscription that an earlier life left open is closed: this
    /// process has no such stream.
    pub fn load(&self, stored: impl IntoIterator<Item = (Key, DataplaneInsight)>, now: Timestamp) {
        for (key, mut insight) in stored {
            for subscription in &mut insight.subscriptions {
                if subscription.disconnect_time.is_none() {
                    subscription.disconnect_time = Some(now.into());
                }
            }
            self.books().insights.insert((key.mesh, key.name), insight);
        }
    }

    /// A proxy opened a stream.
    pub fn connected(self: &Arc<Self>, mesh: &Arc<str>, name: &Arc<str>, now: Timestamp) -> SubscriptionHandle {
        let id = uuid::Uuid::new_v4().to_string();
        let handle = SubscriptionHandle { insights: self.clone(), proxy: (mesh.clone(), name.clone()), id: id.clone() };
        self.edit(&handle.proxy, |insight| {
            insight.subscriptions.push(Subscription {
                id,
                control_plane_instance_id: self.instance.clone(),
                connect_time: Some(now.into()),
                ..Subscription::default()
            });
            prune(insight);
        });
        handle
    }

    /// Writes what changed to the store, at most once per interval, until cancelled; then once more.
    pub async fn flush(self: Arc<Self>, store: Arc<dyn Store>, interval: Duration, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = self.dirty.notified() => {}
                () = cancel.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = cancel.cancelled() => break,
            }
            self.write(store.as_ref()).await;
        }
        self.write(store.as_ref()).await;
    }

    async fn write(&self, store: &dyn Store) {
        let batch: Vec<Document> = {
            let mut books = self.books();
            let dirty = std::mem::take(&mut books.dirty);
            dirty.iter().filter_map(|proxy| document(proxy, books.insights.get(proxy)?)).collect()
        };
        if batch.is_empty() {
            return;
        }
        let keys: Vec<Proxy> = batch.iter().map(|doc| (doc.key.mesh.clone(), doc.key.name.clone())).collect();
        if let Err(error) = store.put_insights(batch).await {
            tracing::warn!(%error, "cannot write the insights of dataplanes; the next flush tries again");
            self.books().dirty.extend(keys);
            self.dirty.notify_one();
        }
    }

    fn edit(&self, proxy: &Proxy, change: impl FnOnce(&mut DataplaneInsight)) {
        let mut books = self.books();
        change(books.insights.entry(proxy.clone()).or_default());
        if books.dirty.insert(proxy.clone()) {
            self.dirty.notify_one();
        }
    }

    fn edit_subscription(&self, proxy: &Proxy, id: &str, change: impl FnOnce(&mut Subscription)) {
        self.edit(proxy, |insight| {
            if let Some(subscription) = insight.subscriptions.iter_mut().rev().find(|entry| entry.id == id) {
                change(subscription);
            }
        });
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        // Every edit leaves the books whole, so a panic elsewhere does not spoil them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveInsights for Insights {
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight> {
        self.books().insights.get(&(Arc::from(mesh), Arc::from(name))).cloned()
    }

    fn forget(&self, mesh: &str, name: &str) {
        let mut books = self.books();
        let proxy = (Arc::from(mesh), Arc::from(name));
        books.insights.remove(&proxy);
        books.dirty.remove(&proxy);
    }
}

/// Replaces the warnings of one stream's subscription.
pub type Warnings = Box<dyn Fn(Vec<String>) + Send>;

/// One stream's place in the insight of its Dataplane. Dropped when the stream ends.
pub struct SubscriptionHandle {
    insights: Arc<Insights>,
    proxy: Proxy,
    id: String,
}

impl SubscriptionHandle {
    /// A response was sent.
    pub fn sent(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| counters.responses_sent += 1);
    }

    /// A response was accepted.
    pub fn acked(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| counters.responses_acknowledged += 1);
    }

    /// A response was refused, for this reason.
    pub fn nacked(&self, resource_type: ResourceType, message: String, now: Timestamp) {
        self.count(resource_type, now, |counters| counters.responses_rejected += 1);
        let rejection =
            Rejection { resource_type: resource_type.type_url().to_owned(), message, time: Some(now.into()) };
        self.edit(|subscription| subscription.status.last_rejection = Some(rejection));
    }

    /// Where the engine says what keeps the proxy from working as its mesh says.
    pub fn warnings(&self) -> Warnings {
        let (insights, proxy, id) = (Arc::downgrade(&self.insights), self.proxy.clone(), self.id.clone());
        Box::new(move |warnings| {
            if let Some(insights) = insights.upgrade() {
                insights.edit_subscription(&proxy, &id, |subscription| subscription.status.warnings = warnings);
            }
        })
    }

    fn count(&self, resource_type: ResourceType, now: Timestamp, add: impl Fn(&mut Counters)) {
        self.edit(|subscription| {
            let status = &mut subscription.status;
            status.last_update_time = Some(now.into());
            add(&mut status.total);
            match resource_type {
                ResourceType::Cluster => add(&mut status.cds),
                ResourceType::Endpoint => add(&mut status.eds),
                ResourceType::Listener => add(&mut status.lds),
                ResourceType::Route => add(&mut status.rds),
                // Counted in the total alone: the documents know no field for them.
                ResourceType::Secret | ResourceType::ExtensionConfig => {}
            }
        });
    }

    fn edit(&self, change: impl FnOnce(&mut Subscription)) {
        self.insights.edit_subscription(&self.proxy, &self.id, change);
    }
}

impl Drop for SubscriptionHandle {
    fn drop(&mut self) {
        let now = Timestamp::now();
        self.edit(|subscription| subscription.disconnect_time = Some(now.into()));
    }
}

fn prune(insight: &mut DataplaneInsight) {
    while insight.subscriptions.len() > HISTORY {
        let Some(oldest_ended) = insight.subscriptions.iter().position(|entry| entry.disconnect_time.is_some()) else {
            return;
        };
        let dropped = insight.subscriptions.remove(oldest_ended);
        if let Some(oldest) = insight.subscriptions.first_mut() {
            oldest.status.add(&dropped.status);
        }
    }
}

fn document(proxy: &Proxy, insight: &DataplaneInsight) -> Option<Document> {
    let spec = serde_json::to_value(insight).ok()?;
    Some(Document { key: Key::new(DataplaneInsight::KIND, &proxy.0, &proxy.1), spec })
}
