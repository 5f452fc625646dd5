//! A store that is replaced by an older or another one while proxies are connected: nothing is taken from them because
//! it is missing there, and answers to the history before count for none of the new one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kuma_engine::{Engine, NoReceipt, OpenStream, Progress, Settings, Settled};
use kuma_model::Key;
use kuma_store::{Cause, Commit, Contents, DocumentChange, Follower as _, Stored};
use kuma_xds::{ResourceType, Snapshot, StreamState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{mesh, permission, redis, stored, web};

/// A generous limit for the task of a mesh to do what it was told.
const SOON: Duration = Duration::from_secs(10);

struct Life {
    engine: Arc<Engine>,
    mesh: Arc<str>,
}

impl Life {
    fn new() -> Life {
        let settings =
            Settings { complete: false, leaf_validity: Duration::from_secs(3600), started: SystemTime::now() };
        Life { engine: Engine::new(settings, Arc::new(()), CancellationToken::new()), mesh: "default".into() }
    }

    /// The store, as it is read by the `generation`th time that it is another one.
    fn load(&self, generation: u64, complete: bool, revision: u64, documents: &[Arc<Stored>]) {
        self.engine.load(&Contents { revision, documents: documents.to_vec(), complete, generation });
    }

    fn commit(&self, revision: u64, stored: &Arc<Stored>) {
        self.change(revision, (stored.key.clone(), Some(stored.clone())));
    }

    fn delete(&self, revision: u64, key: &Key) {
        self.change(revision, (key.clone(), None));
    }

    fn change(&self, revision: u64, change: DocumentChange) {
        let id = Default::default();
        let (at, cause) = (Timestamp::UNIX_EPOCH, Cause::default());
        self.engine.commit(&Commit { revision, id, at, cause, changes: vec![change] });
    }

    /// A proxy connects, is served, and accepts it.
    async fn connect(&self, name: &str, returning: bool) -> Proxy {
        let (state, receiver) = watch::channel(StreamState::Hold);
        let id = self.engine.next_stream();
        let stream = OpenStream {
            id,
            proxy: name.into(),
            authenticated: true,
            encrypted: true,
            address: Ipv4Addr::LOCALHOST.into(),
            admin: None,
            returning,
            only_secrets: false,
            state,
        };
        self.engine.open(&self.mesh, stream);
        Proxy { id, state: receiver }
    }

    /// The proxy accepts a snapshot of this revision.
    fn accept(&self, proxy: &Proxy, revision: u64) {
        self.engine.settled(&self.mesh, proxy.id, Settled { revision, ..Settled::default() });
    }

    /// Waits until the mesh has done what it was told.
    async fn told(&self) {
        assert_eq!(self.engine.audit().await, [] as [&str; 0]);
    }

    async fn progress(&self, revision: u64) -> (u64, Progress) {
        let (change, receipt) = self.engine.receipt(revision, None).await.expect("it is known");
        assert_eq!(change.revision, revision);
        (receipt.revision, receipt.progress)
    }
}

struct Proxy {
    id: u64,
    state: watch::Receiver<StreamState>,
}

impl Proxy {
    async fn served(&mut self, is_it: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let wanted = self.state.wait_for(|state| matches!(state, StreamState::Serve(snapshot) if is_it(snapshot)));
        let state = tokio::time::timeout(SOON, wanted).await.expect("it is served in time").expect("it is connected");
        match &*state {
            StreamState::Serve(snapshot) => snapshot.clone(),
            _ => unreachable!("it was waited for"),
        }
    }

    fn has_changed(&mut self) -> bool {
        let has_changed = self.state.has_changed().expect("it is connected");
        self.state.mark_unchanged();
        has_changed
    }
}

/// Whether web's proxy knows an instance of redis.
fn reaches_redis(snapshot: &Snapshot) -> bool {
    let mut endpoints = snapshot.list(ResourceType::Endpoint).iter();
    endpoints.any(|one| one.name().contains("redis") && one.sotw_entry().windows(8).any(|text| text == b"10.0.0.2"))
}

/// One more, at this address of its network.
fn instance_of_redis(number: u8) -> Arc<Stored> {
    stored(&format!(
        "type: Dataplane\nmesh: default\nname: redis-{number}\nnetworking:\n  inbound:\n  - interface: \
         10.0.0.{number}:9000:6379\n    tags: {{service: redis}}"
    ))
}

fn is_empty(snapshot: &Snapshot) -> bool {
    ResourceType::ALL.into_iter().all(|kind| snapshot.list(kind).is_empty())
}

#[tokio::test]
async fn what_a_replaced_store_lacks_is_taken_from_nobody_until_it_is_accepted() {
    let life = Life::new();
    life.load(0, true, 7, &[mesh(false), redis(), web(), permission("p", "web", "redis")]);
    let (mut web_proxy, mut redis_proxy) = (life.connect("web-1", false).await, life.connect("redis-1", false).await);
    web_proxy.served(reaches_redis).await;
    redis_proxy.served(|snapshot| !snapshot.list(ResourceType::Listener).is_empty()).await;
    life.told().await;
    web_proxy.has_changed();
    redis_proxy.has_changed();
    // An older backup without redis, then an empty database.
    life.load(1, false, 3, &[mesh(false), web()]);
    life.load(2, false, 0, &[]);
    life.told().await;
    assert!(!web_proxy.has_changed() && !redis_proxy.has_changed());
    // Whoever comes back keeps what it has, and who is new learns what the others know.
    let returned = life.connect("redis-1", true).await;
    life.told().await;
    assert!(matches!(*returned.state.borrow(), StreamState::Hold));
    let mut second = life.connect("web-1", false).await;
    second.served(reaches_redis).await;
    // From now on what is missing does not exist.
    life.load(3, true, 0, &[]);
    web_proxy.served(is_empty).await;
    redis_proxy.served(is_empty).await;
}

#[tokio::test]
async fn what_is_deleted_in_the_replaced_store_is_gone() {
    let life = Life::new();
    life.load(0, true, 7, &[mesh(false), redis(), web(), permission("p", "web", "redis")]);
    let mut proxy = life.connect("web-1", false).await;
    proxy.served(reaches_redis).await;
    life.load(1, false, 3, &[mesh(false), web()]);
    life.commit(4, &redis());
    life.delete(5, &redis().key);
    proxy.served(|snapshot| !reaches_redis(snapshot)).await;
}

#[tokio::test]
async fn answers_to_the_history_before_count_for_no_commit_of_the_new_one() {
    let life = Life::new();
    life.load(0, true, 105, &[mesh(false), redis(), web()]);
    let mut proxy = life.connect("web-1", false).await;
    let first = proxy.served(|_| true).await;
    assert_eq!(first.revision(), 105);
    life.accept(&proxy, 105);
    life.commit(106, &instance_of_redis(3));
    let second = proxy.served(|snapshot| snapshot.revision() == 106).await;
    assert_eq!(life.progress(106).await, (106, Progress::Spreading));
    // The standby that takes over lacks the last commits; the answer to one of them is still on its way.
    life.load(1, false, 104, &[mesh(false), redis(), web()]);
    assert!(matches!(life.engine.receipt(106, None).await, Err(NoReceipt::NotCommitted(104))));
    life.commit(105, &instance_of_redis(4));
    life.accept(&proxy, second.revision());
    assert_eq!(life.progress(105).await, (105, Progress::Spreading));
    let third = proxy.served(|snapshot| snapshot.revision() > 106).await;
    assert_eq!(life.engine.store_revision(third.revision()), 105);
    life.accept(&proxy, third.revision());
    assert_eq!(life.progress(105).await, (105, Progress::Live));
    // Of what was committed before, nothing is known any more.
    assert!(matches!(life.engine.receipt(103, None).await, Err(NoReceipt::Forgotten)));
}
