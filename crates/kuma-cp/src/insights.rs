//! What each proxy has been sent and has answered: the DataplaneInsights.
//!
//! Kept in memory while a stream is open and written to the store in batches, off the path of configuration: a change
//! of an insight wakes no engine. While nothing changes nothing runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kuma_engine::{StreamId, Warning};
use kuma_model::{
    Counters, Dataplane, DataplaneInsight, Departure, Document, Key, Rejection, Resource as _, Subscription,
    UnsettledResource,
};
use kuma_store::Store;
use kuma_xds::{Refusal, ResourceType, Unanswered};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::overview::LiveInsights;
use crate::presence::Proxy;

/// How many past subscriptions are kept for a Dataplane; the counters of older ones are added to the oldest that is
/// kept, so that totals never shrink.
const HISTORY: usize = 10;

/// Pauses between writing are so many times as long as writing, at least: a storm of connections changes all of them
/// every second, and who reads them over the API sees them as they are.
const REST: u32 = 10;

/// The longest pause between writes, also where the store answers slowly or not at all.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// All insights that this process has a part in.
pub struct Insights {
    instance: String,
    books: Mutex<Books>,
    dirty: Notify,
}

#[derive(Default)]
struct Books {
    entries: HashMap<Proxy, Entry>,
    /// Those that are to be written: all that have changed, and maybe others.
    dirty: Vec<Proxy>,
}

#[derive(Default)]
struct Entry {
    insight: DataplaneInsight,
    /// The streams that are open, with the ids of their subscriptions.
    streams: Vec<(StreamId, String)>,
    /// Whether it has changed since it was last written.
    changed: bool,
    /// Whether its Dataplane was found in the store. Where no token is needed anybody may open a stream by any name;
    /// what is noted of names that no Dataplane has is neither stored, nor kept when the stream ends.
    confirmed: bool,
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
            // Whoever left in an earlier life is an endpoint in this one, until it is known better.
            insight.departure = None;
            self.books().entries.insert((key.mesh, key.name), Entry { insight, ..Entry::default() });
        }
    }

    /// A proxy opened a stream.
    pub fn connected(
        self: &Arc<Self>,
        mesh: &Arc<str>,
        name: &Arc<str>,
        stream: StreamId,
        now: Timestamp,
    ) -> SubscriptionHandle {
        let id = uuid::Uuid::new_v4().to_string();
        let proxy = (mesh.clone(), name.clone());
        let handle = SubscriptionHandle { insights: self.clone(), proxy, stream, id: id.clone() };
        let Books { entries, dirty } = &mut *self.books();
        let entry = entries.entry(handle.proxy.clone()).or_default();
        entry.streams.push((stream, id.clone()));
        let insight = &mut entry.insight;
        // One that is refused tries again and again. The last attempt tells, and the others are not to displace what
        // was.
        insight.subscriptions.pop_if(|last| was_refused(last));
        // Most proxies have one, and a vector that grows by itself begins with room for four.
        insight.subscriptions.reserve_exact(1);
        insight.subscriptions.push(Subscription {
            id,
            control_plane_instance_id: self.instance.clone(),
            connect_time: Some(now.into()),
            ..Subscription::default()
        });
        prune(insight);
        self.has_changed(entry, dirty, &handle.proxy);
        handle
    }

    /// Writes what changed to the store, at most once per interval and with long pauses where it takes long, until
    /// cancelled; then once more.
    pub async fn flush(self: Arc<Self>, store: Arc<dyn Store>, interval: Duration, cancel: CancellationToken) {
        let mut pause = interval;
        loop {
            tokio::select! {
                () = self.dirty.notified() => {}
                () = cancel.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => break,
            }
            let began = Instant::now();
            self.write(store.as_ref()).await;
            pause = interval.max((began.elapsed() * REST).min(LONGEST_PAUSE));
        }
        self.write(store.as_ref()).await;
    }

    async fn write(&self, store: &dyn Store) {
        self.confirm(store).await;
        let due: Vec<Proxy> = {
            let Books { entries, dirty } = &mut *self.books();
            let waits = |entry: &Entry| entry.changed && !entry.confirmed;
            dirty.extract_if(.., |proxy| !entries.get(proxy).is_some_and(waits)).collect()
        };
        // Streams wait for the books: one by one, so that none waits for all of it.
        let batch: Vec<Document> = due.iter().filter_map(|proxy| self.take_changed(proxy)).collect();
        if batch.is_empty() {
            return;
        }
        let keys: Vec<Proxy> = batch.iter().map(|doc| (doc.key.mesh.clone(), doc.key.name.clone())).collect();
        if let Err(error) = store.put_insights(batch).await {
            tracing::warn!(%error, "cannot write the insights of dataplanes; the next flush tries again");
            let Books { entries, dirty } = &mut *self.books();
            for proxy in keys {
                if let Some(entry) = entries.get_mut(&proxy) {
                    self.has_changed(entry, dirty, &proxy);
                }
            }
        }
    }

    /// An insight as it is to be written, if it has changed and its Dataplane is there.
    fn take_changed(&self, proxy: &Proxy) -> Option<Document> {
        let books = &mut *self.books();
        let entry = books.entries.get_mut(proxy).filter(|entry| entry.confirmed)?;
        std::mem::take(&mut entry.changed).then(|| document(proxy, &entry.insight))?
    }

    /// Looks for the Dataplanes of insights that are to be written for the first time, and lets go of those that have
    /// none.
    async fn confirm(&self, store: &dyn Store) {
        let unconfirmed: Vec<Proxy> = {
            let Books { entries, dirty } = &*self.books();
            let waits = |proxy: &&Proxy| entries.get(*proxy).is_some_and(|entry| entry.changed && !entry.confirmed);
            // A name may be there twice, if its insight was let go of and came anew.
            let names: BTreeSet<&Proxy> = dirty.iter().filter(waits).collect();
            names.into_iter().cloned().collect()
        };
        for proxy in unconfirmed {
            let found = store.get(&Key::new(Dataplane::KIND, &proxy.0, &proxy.1)).await;
            let books = &mut *self.books();
            let Some(entry) = books.entries.get_mut(&proxy) else { continue };
            match found {
                Ok(Some(_)) => entry.confirmed = true,
                Ok(None) => {
                    // While the stream is open the insight is shown, should the Dataplane come; the next change looks
                    // again.
                    entry.changed = false;
                    if !entry.insight.is_online() {
                        books.entries.remove(&proxy);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look for the dataplane of an insight; the next flush tries again");
                    self.dirty.notify_one();
                    return;
                }
            }
        }
    }

    /// A proxy has left, for this reason, or it is back.
    pub fn departed(&self, proxy: &Proxy, why: Option<String>, now: Timestamp) {
        let Books { entries, dirty } = &mut *self.books();
        let entry = entries.entry(proxy.clone()).or_default();
        entry.insight.departure = why.map(|reason| Departure { time: Some(now.into()), reason });
        self.has_changed(entry, dirty, proxy);
    }

    /// What keeps the proxy of a stream from working as its mesh says, in place of what was said before.
    pub fn warn(&self, mesh: &Arc<str>, warning: Warning) {
        let Warning { proxy, stream, messages } = warning;
        let proxy = (mesh.clone(), proxy);
        let id = self.books().entries.get(&proxy).and_then(|entry| {
            let (_, id) = entry.streams.iter().find(|(open, _)| *open == stream)?;
            Some(id.clone())
        });
        if let Some(id) = id {
            self.edit_subscription(&proxy, &id, |subscription| subscription.status.warnings = messages);
        }
    }

    /// Changes a subscription, if it is not forgotten.
    fn edit_subscription(&self, proxy: &Proxy, id: &str, change: impl FnOnce(&mut Subscription)) {
        let Books { entries, dirty } = &mut *self.books();
        let Some(entry) = entries.get_mut(proxy) else { return };
        let mut subscriptions = entry.insight.subscriptions.iter_mut().rev();
        let Some(subscription) = subscriptions.find(|subscription| subscription.id == id) else { return };
        change(subscription);
        self.has_changed(entry, dirty, proxy);
    }

    /// Sees to it that an insight is written.
    fn has_changed(&self, entry: &mut Entry, dirty: &mut Vec<Proxy>, proxy: &Proxy) {
        if !std::mem::replace(&mut entry.changed, true) {
            dirty.push(proxy.clone());
            self.dirty.notify_one();
        }
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        // Every edit leaves the books whole, so a panic elsewhere does not spoil them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveInsights for Insights {
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight> {
        self.books().entries.get(&(Arc::from(mesh), Arc::from(name))).map(|entry| entry.insight.clone())
    }

    fn forget(&self, mesh: &str, name: &str) {
        let mut books = self.books();
        let proxy = (Arc::from(mesh), Arc::from(name));
        if let Some(entry) = books.entries.get_mut(&proxy) {
            (entry.changed, entry.confirmed) = (false, false);
            // Streams that are open go on, and are shown again should the Dataplane come back under them.
            entry.insight.subscriptions.retain(|subscription| subscription.disconnect_time.is_none());
            entry.insight.departure = None;
            if entry.insight.subscriptions.is_empty() {
                books.entries.remove(&proxy);
            }
        }
    }
}

/// One stream's place in the insight of its Dataplane. Dropped when the stream ends.
pub struct SubscriptionHandle {
    insights: Arc<Insights>,
    proxy: Proxy,
    stream: StreamId,
    id: String,
}

impl SubscriptionHandle {
    /// A response was sent.
    pub fn sent(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| counters.responses_sent += 1);
    }

    /// A response was accepted.
    pub fn acked(&self, resource_type: ResourceType, now: Timestamp) {
        self.count(resource_type, now, |counters| {
            counters.responses_acknowledged += 1;
            counters.last_acknowledged_time = Some(now.into());
        });
    }

    /// A response was refused, for this reason.
    pub fn nacked(&self, resource_type: ResourceType, message: String, now: Timestamp) {
        self.count(resource_type, now, |counters| {
            counters.responses_rejected += 1;
            counters.last_rejected_time = Some(now.into());
        });
        let rejection =
            Rejection { resource_type: resource_type.type_url().to_owned(), message, time: Some(now.into()) };
        self.edit(|subscription| subscription.status.last_rejection = Some(rejection));
    }

    /// The proxy has answered all that it was sent for a revision. What it has refused and what it waits for are shown
    /// as of now; if none of that is of this revision, it has accepted the revision.
    pub fn settled(&self, revision: u64, refused: &[Refusal], unanswered: &[Unanswered], now: Timestamp) {
        let is_old = |since: u64| since < revision;
        let accepted =
            refused.iter().all(|one| is_old(one.revision)) && unanswered.iter().all(|one| is_old(one.revision));
        self.edit(|subscription| {
            let status = &mut subscription.status;
            if accepted {
                status.accepted_time = Some(now.into());
                status.accepted_revision = revision;
            }
            status.refused = refused.iter().map(refused_resource).collect();
            status.unanswered = unanswered.iter().map(unanswered_resource).collect();
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
                // The documents know no field for these.
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
        if let Some(entry) = self.insights.books().entries.get_mut(&self.proxy) {
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

/// Whether a stream was ended before anything was sent over it, with the reason among its warnings.
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
        insights.connected(&Arc::from("default"), &Arc::from(name), stream, Timestamp::now())
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
    async fn what_a_stranger_does_is_not_kept() {
        let (insights, store) = (insights(), store().await);
        let (known, stranger) = (connect(&insights, "web-1"), connect(&insights, "nobody"));
        insights.write(&store).await;
        assert_eq!(stored(&store).await, ["web-1"]);
        assert!(insights.get("default", "nobody").is_some(), "it is shown while it is there");
        stranger.sent(ResourceType::Cluster, Timestamp::now());
        drop((known, stranger));
        insights.write(&store).await;
        assert_eq!(stored(&store).await, ["web-1"]);
        assert!(insights.get("default", "nobody").is_none());
        assert!(!insights.get("default", "web-1").expect("it is known").is_online());
    }

    #[tokio::test]
    async fn of_a_deleted_dataplane_only_open_streams_are_remembered() {
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
    fn attempts_that_are_refused_do_not_displace_what_was() {
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
    fn the_last_refusal_and_what_is_wrong_are_noted() {
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
