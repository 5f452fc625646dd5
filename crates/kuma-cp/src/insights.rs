//! DataplaneInsights: what each proxy has been sent, and how it has answered.
//!
//! An insight is kept in memory while a stream of its Dataplane is open, and written to the store in batches. Insights
//! are not part of the configuration: a changed insight does not wake an engine. No task runs while nothing changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kuma_engine::{StreamId, Warning};
use kuma_model::{
    Counters, Dataplane, DataplaneInsight, Departure, Document, Key, Rejection, Resource as _, Subscription,
    UnsettledResource,
};
use kuma_store::{Store, StoreError};
use kuma_xds::{Refusal, ResourceType, Unanswered};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::overview::LiveInsights;
use crate::presence::Proxy;

/// How many past subscriptions of a Dataplane are kept. The counters of older ones are added to the oldest that is
/// kept, so that totals never decrease.
const HISTORY: usize = 10;

/// How many insights are written at a time. When many proxies connect, all insights change, and the streams of proxies
/// do not wait for more than these.
const SLICE: usize = 64;

/// The pause after each slice, as a multiple of the time that it took. The HTTP API shows the values in memory, so
/// writing them later is no loss.
const REST: u32 = 10;

/// The longest pause after a slice, also when the store answers slowly.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The insights of all Dataplanes that have connected to this process or that the store has.
pub struct Insights {
    instance: String,
    records: Mutex<Records>,
    unwritten: Notify,
}

#[derive(Default)]
struct Records {
    entries: HashMap<Proxy, Entry>,
    /// The insights to write: every insight that has changed, and possibly some that have not.
    unwritten: Vec<Proxy>,
}

#[derive(Default)]
struct Entry {
    insight: DataplaneInsight,
    /// Open streams, with the ids of their subscriptions.
    streams: Vec<(StreamId, String)>,
    /// Whether the insight has changed since it was last written.
    changed: bool,
    /// Whether its Dataplane was found in the store. Where no token is required, anybody may open a stream under any
    /// name. An insight without a Dataplane is not written to the store, and is dropped when its stream ends.
    confirmed: bool,
}

impl Insights {
    /// No insights yet. `instance` identifies this process in subscriptions.
    pub fn new(instance: String) -> Insights {
        Insights { instance, records: Mutex::default(), unwritten: Notify::new() }
    }

    /// Loads the insights that the store has from earlier processes. Subscriptions that are still open in them are
    /// closed, since this process has no such stream. They are written again as those of this process.
    pub fn load(&self, stored: impl IntoIterator<Item = (Key, DataplaneInsight)>, now: Timestamp) {
        let Records { entries, unwritten } = &mut *self.records();
        for (key, mut insight) in stored {
            for subscription in &mut insight.subscriptions {
                if subscription.disconnect_time.is_none() {
                    subscription.disconnect_time = Some(now.into());
                }
            }
            // A proxy that left during an earlier process counts as an endpoint until it is known to have left.
            insight.departure = None;
            let proxy = (key.mesh, key.name);
            let mut entry = Entry { insight, ..Entry::default() };
            self.mark_changed(&mut entry, unwritten, &proxy);
            entries.insert(proxy, entry);
        }
    }

    /// Records that a proxy opened a stream, and with which key exchange.
    pub fn connected(
        self: &Arc<Self>,
        mesh: &Arc<str>,
        name: &Arc<str>,
        stream: StreamId,
        key_exchange: &str,
        now: Timestamp,
    ) -> SubscriptionHandle {
        let id = uuid::Uuid::new_v4().to_string();
        let proxy = (mesh.clone(), name.clone());
        let handle = SubscriptionHandle { insights: self.clone(), proxy, stream, id: id.clone() };
        let Records { entries, unwritten } = &mut *self.records();
        let entry = entries.entry(handle.proxy.clone()).or_default();
        entry.streams.push((stream, id.clone()));
        let insight = &mut entry.insight;
        // A client that is refused retries many times. Only its last attempt is kept, so that the attempts do not
        // displace the history.
        insight.subscriptions.pop_if(|last| was_refused(last));
        // Most proxies have one subscription; without this the vector would reserve memory for four.
        insight.subscriptions.reserve_exact(1);
        insight.subscriptions.push(Subscription {
            id,
            control_plane_instance_id: self.instance.clone(),
            key_exchange: key_exchange.to_owned(),
            connect_time: Some(now.into()),
            ..Subscription::default()
        });
        prune(insight);
        self.mark_changed(entry, unwritten, &handle.proxy);
        handle
    }

    /// Writes changed insights to the store until cancelled, and once more then. It begins at most once per `interval`,
    /// and writes in slices with pauses.
    pub async fn flush(self: Arc<Self>, store: Arc<dyn Store>, interval: Duration, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = self.unwritten.notified() => {}
                () = cancel.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = cancel.cancelled() => break,
            }
            self.write_in_slices(store.as_ref(), Some(&cancel)).await;
        }
        self.write(store.as_ref()).await;
    }

    /// Writes what has changed, without pauses.
    pub async fn write(&self, store: &dyn Store) {
        self.write_in_slices(store, None).await;
    }

    /// Writes what has changed; with pauses, if there is something that ends them.
    async fn write_in_slices(&self, store: &dyn Store, hurry: Option<&CancellationToken>) {
        let due = std::mem::take(&mut self.records().unwritten);
        for (number, slice) in due.chunks(SLICE).enumerate() {
            let began = Instant::now();
            if let Err(error) = self.write_slice(store, slice).await {
                tracing::warn!(%error, "cannot write the insights of dataplanes; the next flush tries again");
                self.put_back(&due[number * SLICE..]);
                return;
            }
            match hurry {
                Some(hurry) => {
                    let rest = (began.elapsed() * REST).min(LONGEST_REST);
                    let _ = hurry.run_until_cancelled(tokio::time::sleep(rest)).await;
                }
                None => tokio::task::yield_now().await,
            }
        }
    }

    async fn write_slice(&self, store: &dyn Store, slice: &[Proxy]) -> Result<(), StoreError> {
        for proxy in slice {
            self.confirm(store, proxy).await?;
        }
        // Streams wait for this lock. It is taken for one record at a time.
        let batch: Vec<Document> = slice.iter().filter_map(|proxy| self.take_changed(proxy)).collect();
        if batch.is_empty() { Ok(()) } else { store.put_insights(batch).await }
    }

    /// What could not be written is written later.
    fn put_back(&self, proxies: &[Proxy]) {
        let Records { entries, unwritten } = &mut *self.records();
        for proxy in proxies {
            if let Some(entry) = entries.get_mut(proxy) {
                entry.changed = true;
                unwritten.push(proxy.clone());
            }
        }
        self.unwritten.notify_one();
    }

    /// The document of an insight to write, if it has changed and its Dataplane exists.
    fn take_changed(&self, proxy: &Proxy) -> Option<Document> {
        let records = &mut *self.records();
        let entry = records.entries.get_mut(proxy).filter(|entry| entry.confirmed)?;
        std::mem::take(&mut entry.changed).then(|| document(proxy, &entry.insight))?
    }

    /// Looks up the Dataplane of an insight that would be written for the first time, and removes the insight if there
    /// is none.
    async fn confirm(&self, store: &dyn Store, proxy: &Proxy) -> Result<(), StoreError> {
        let waits = |entry: &Entry| entry.changed && !entry.confirmed;
        if !self.records().entries.get(proxy).is_some_and(waits) {
            return Ok(());
        }
        let found = store.get(&Key::new(Dataplane::KIND, &proxy.0, &proxy.1)).await?;
        let records = &mut *self.records();
        let Some(entry) = records.entries.get_mut(proxy) else { return Ok(()) };
        if found.is_some() {
            entry.confirmed = true;
        } else {
            // While the stream is open the insight is shown, should the Dataplane come; the next change looks again.
            entry.changed = false;
            if !entry.insight.is_online() {
                records.entries.remove(proxy);
            }
        }
        Ok(())
    }

    /// Records that a proxy has left, with the reason, or (`None`) that it is back.
    pub fn departed(&self, proxy: &Proxy, why: Option<String>, now: Timestamp) {
        let Records { entries, unwritten } = &mut *self.records();
        let entry = entries.entry(proxy.clone()).or_default();
        entry.insight.departure = why.map(|reason| Departure { time: Some(now.into()), reason });
        self.mark_changed(entry, unwritten, proxy);
    }

    /// Replaces the warnings of a subscription: the reasons why the proxy does not work as its mesh demands.
    pub fn warn(&self, mesh: &Arc<str>, warning: Warning) {
        let Warning { proxy, stream, messages } = warning;
        let proxy = (mesh.clone(), proxy);
        let id = self.records().entries.get(&proxy).and_then(|entry| {
            let (_, id) = entry.streams.iter().find(|(open, _)| *open == stream)?;
            Some(id.clone())
        });
        if let Some(id) = id {
            self.edit_subscription(&proxy, &id, |subscription| subscription.status.warnings = messages);
        }
    }

    /// Changes a subscription, if it still exists.
    fn edit_subscription(&self, proxy: &Proxy, id: &str, change: impl FnOnce(&mut Subscription)) {
        let Records { entries, unwritten } = &mut *self.records();
        let Some(entry) = entries.get_mut(proxy) else { return };
        let mut subscriptions = entry.insight.subscriptions.iter_mut().rev();
        let Some(subscription) = subscriptions.find(|subscription| subscription.id == id) else { return };
        change(subscription);
        self.mark_changed(entry, unwritten, proxy);
    }

    /// Schedules an insight to be written.
    fn mark_changed(&self, entry: &mut Entry, unwritten: &mut Vec<Proxy>, proxy: &Proxy) {
        if !std::mem::replace(&mut entry.changed, true) {
            unwritten.push(proxy.clone());
            self.unwritten.notify_one();
        }
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        // Every edit leaves the records consistent, so a panic elsewhere does not invalidate them.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveInsights for Insights {
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight> {
        self.records().entries.get(&(Arc::from(mesh), Arc::from(name))).map(|entry| entry.insight.clone())
    }

    fn forget(&self, mesh: &str, name: &str) {
        let mut records = self.records();
        let proxy = (Arc::from(mesh), Arc::from(name));
        if let Some(entry) = records.entries.get_mut(&proxy) {
            (entry.changed, entry.confirmed) = (false, false);
            // Open streams continue, and are shown again if the Dataplane is created again.
            entry.insight.subscriptions.retain(|subscription| subscription.disconnect_time.is_none());
            entry.insight.departure = None;
            if entry.insight.subscriptions.is_empty() {
                records.entries.remove(&proxy);
            }
        }
    }
}

/// The subscription of one open stream. Dropping it records that the stream has ended.
pub struct SubscriptionHandle {
    insights: Arc<Insights>,
    proxy: Proxy,
    stream: StreamId,
    id: String,
}

impl SubscriptionHandle {
    /// Counts a response that was sent.
    pub fn sent(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| counters.responses_sent += 1);
    }

    /// Counts a response that the proxy accepted.
    pub fn acked(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| {
            counters.responses_acknowledged += 1;
            counters.last_acknowledged_time = Some(now.into());
        });
    }

    /// Counts a response that the proxy rejected, and records the reason.
    pub fn nacked(&self, resource_type: ResourceType, message: String, now: Timestamp) {
        self.count(resource_type, now, |counters| {
            counters.responses_rejected += 1;
            counters.last_rejected_time = Some(now.into());
        });
        let rejection =
            Rejection { resource_type: resource_type.type_url().to_owned(), message, time: Some(now.into()) };
        self.edit(|subscription| subscription.status.last_rejection = Some(rejection));
    }

    /// Records that the proxy has answered everything it was sent for `revision`. The resources it has refused and
    /// those it still waits for are shown as they are now. If none of them is of this revision, the proxy has accepted
    /// the revision. `shown` tells the revision of the store that a revision of a snapshot stands for.
    pub fn settled(
        &self,
        revision: u64,
        refused: &[Refusal],
        unanswered: &[Unanswered],
        shown: impl Fn(u64) -> u64,
        now: Timestamp,
    ) {
        let is_old = |since: u64| since < revision;
        let accepted =
            refused.iter().all(|one| is_old(one.revision)) && unanswered.iter().all(|one| is_old(one.revision));
        self.edit(|subscription| {
            let status = &mut subscription.status;
            if accepted {
                status.accepted_time = Some(now.into());
                status.accepted_revision = shown(revision);
            }
            status.refused = refused.iter().map(refused_resource).collect();
            status.unanswered = unanswered.iter().map(unanswered_resource).collect();
            let all = status.refused.iter_mut().chain(&mut status.unanswered);
            all.for_each(|one| one.since_revision = shown(one.since_revision));
        });
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
                // The documented format has no field for these.
                ResourceType::Secret => add(&mut status.sds),
                ResourceType::ExtensionConfig => add(&mut status.ecds),
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
        if let Some(entry) = self.insights.records().entries.get_mut(&self.proxy) {
            entry.streams.retain(|(stream, _)| *stream != self.stream);
        }
    }
}

fn refused_resource(refusal: &Refusal) -> UnsettledResource {
    UnsettledResource {
        resource_type: refusal.resource_type.type_url().to_owned(),
        name: refusal.name.to_string(),
        message: refusal.message.to_string(),
        since_revision: refusal.revision,
    }
}

fn unanswered_resource(question: &Unanswered) -> UnsettledResource {
    UnsettledResource {
        resource_type: question.resource_type.type_url().to_owned(),
        name: question.name.to_string(),
        message: String::new(),
        since_revision: question.revision,
    }
}

/// Whether the stream was ended before anything was sent on it; the reason is among its warnings.
fn was_refused(subscription: &Subscription) -> bool {
    let Subscription { disconnect_time, status, .. } = subscription;
    disconnect_time.is_some() && status.total.is_empty() && !status.warnings.is_empty()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use kuma_store::{MemoryStore, Write};
    use serde_json::json;

    use super::*;

    fn insights() -> Arc<Insights> {
        Arc::new(Insights::new("test".into()))
    }

    fn connect(insights: &Arc<Insights>, name: &str) -> SubscriptionHandle {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let stream = NEXT.fetch_add(1, Ordering::Relaxed);
        insights.connected(&Arc::from("default"), &Arc::from(name), stream, "X25519", Timestamp::now())
    }

    fn warn(insights: &Insights, handle: &SubscriptionHandle, messages: Vec<String>) {
        let (mesh, proxy) = handle.proxy.clone();
        insights.warn(&mesh, Warning { proxy, stream: handle.stream, messages });
    }

    async fn store() -> MemoryStore {
        let store = MemoryStore::new();
        let networking = json!({"networking": {"gateway": {"tags": {"service": "web"}}}});
        let dataplane = Document { key: Key::new(Dataplane::KIND, "default", "web-1"), spec: networking };
        let mesh = Document { key: Key::mesh("default"), spec: json!({}) };
        store.commit(vec![Write::Create(mesh), Write::Create(dataplane)]).await.expect("a mesh with a dataplane");
        store
    }

    async fn stored(store: &MemoryStore) -> Vec<String> {
        let list = store.list(DataplaneInsight::KIND, None).await.expect("a list");
        list.iter().map(|stored| stored.key.name.to_string()).collect()
    }

    #[tokio::test]
    async fn an_insight_without_a_dataplane_is_not_stored() {
        let (insights, store) = (insights(), store().await);
        let (known, unknown) = (connect(&insights, "web-1"), connect(&insights, "nobody"));
        insights.write(&store).await;
        assert_eq!(stored(&store).await, ["web-1"]);
        assert!(insights.get("default", "nobody").is_some(), "it is shown while its stream is open");
        unknown.sent(ResourceType::Cluster, Timestamp::now());
        drop((known, unknown));
        insights.write(&store).await;
        assert_eq!(stored(&store).await, ["web-1"]);
        assert!(insights.get("default", "nobody").is_none());
        assert!(!insights.get("default", "web-1").expect("it is known").is_online());
    }

    #[tokio::test]
    async fn deleting_a_dataplane_keeps_only_its_open_streams() {
        let (insights, store) = (insights(), store().await);
        drop(connect(&insights, "web-1"));
        let handle = connect(&insights, "web-1");
        let key = Key::new(Dataplane::KIND, "default", "web-1");
        store.commit(vec![Write::Delete { key, version: None }]).await.expect("it is there");
        insights.forget("default", "web-1");
        handle.acked(ResourceType::Cluster, Timestamp::now());
        insights.write(&store).await;
        assert_eq!(stored(&store).await, Vec::<String>::new());
        let insight = insights.get("default", "web-1").expect("its stream is open");
        assert!(insight.is_online() && insight.subscriptions.len() == 1);
        drop(handle);
        insights.write(&store).await;
        assert!(insights.get("default", "web-1").is_none());
    }

    #[test]
    fn refused_attempts_do_not_displace_the_history() {
        let insights = insights();
        let served = connect(&insights, "web-1");
        served.sent(ResourceType::Cluster, Timestamp::now());
        drop(served);
        for attempt in 0..20 {
            let refused = connect(&insights, "web-1");
            warn(&insights, &refused, vec![format!("refused {attempt}")]);
        }
        let subscriptions = insights.get("default", "web-1").expect("known").subscriptions;
        let [served, refused] = &subscriptions[..] else { panic!("{subscriptions:?}") };
        assert_eq!(
            (served.status.total.responses_sent, &*refused.status.warnings),
            (1, &["refused 19".to_owned()][..])
        );
    }

    #[test]
    fn the_last_rejection_and_the_warnings_are_recorded() {
        let insights = insights();
        let handle = connect(&insights, "web-1");
        warn(&insights, &handle, vec!["no token".into()]);
        handle.nacked(ResourceType::Listener, "cannot bind".into(), Timestamp::now());
        let status = insights.get("default", "web-1").expect("connected").subscriptions.remove(0).status;
        assert_eq!((status.total.responses_rejected, status.lds.responses_rejected), (1, 1));
        let rejection = status.last_rejection.expect("a rejection");
        assert_eq!(
            (rejection.resource_type.as_str(), &*rejection.message),
            (ResourceType::Listener.type_url(), "cannot bind")
        );
        assert_eq!(status.warnings, ["no token"]);
        warn(&insights, &handle, Vec::new());
        assert_eq!(
            insights.get("default", "web-1").expect("connected").subscriptions[0].status.warnings,
            Vec::<String>::new()
        );
    }
}
