//! All meshes: hands what is in the store and what streams say to the task of each mesh.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;

use kuma_ca::mesh_secret;
use kuma_model::{Ca, Key, Mesh, Resource as _, SECRET_KIND};
use kuma_store::{Commit, DocumentChange, Follower, Revision, Stored};
use kuma_xds::ResourceType;
use kuma_xds::grpc::Status;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::task::{self, Event, Wait};
use crate::{
    Caller, DueStep, MeshEngine, OpenStream, Receipt, RotationStatus, Settings, Settled, Standing, StreamId, Warning,
};

/// How many meshes that no document mentions may have streams waiting. A proxy may come before its mesh does; this
/// bounds what strangers can make us remember.
const MAX_UNKNOWN_MESHES: usize = 1024;

/// Who is told what the engine finds out.
pub trait Observer: Send + Sync {
    /// What keeps a proxy of a mesh from working as the mesh says.
    fn warning(&self, mesh: &Arc<str>, warning: Warning);

    /// The step of the rotation of a mesh's CA that is due.
    fn rotation_step(&self, mesh: &Arc<str>, step: DueStep);

    /// A proxy has accepted a commit, so long after it was heard of.
    fn accepted(&self, took: Duration);
}

/// Nobody: then nothing rotates.
impl Observer for () {
    fn warning(&self, _: &Arc<str>, _: Warning) {}

    fn rotation_step(&self, _: &Arc<str>, _: DueStep) {}

    fn accepted(&self, _: Duration) {}
}

/// A commit that was heard of.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// When it was heard of.
    pub received: SystemTime,
    /// The documents that it wrote, and whether each is there after it. Secrets are left out. Empty where the store was
    /// read as a whole: everything that differed then belongs to the revision.
    pub documents: Vec<(Key, bool)>,
    /// The meshes that these concern.
    meshes: Vec<Arc<str>>,
}

/// Why there is no receipt of a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReceipt {
    /// There is no such commit: the latest is this.
    NotCommitted(Revision),
    /// It is too long ago.
    Forgotten,
}

/// So many commits are remembered.
const REMEMBERED: usize = 1024;

/// How long a commit may take from the store to us.
const HEAR_WITHIN: Duration = Duration::from_secs(1);

/// How far a commit has come in all meshes.
fn merged(revision: Revision, parts: Vec<Option<Receipt>>) -> Receipt {
    let mut whole = Receipt { revision, ..Receipt::default() };
    parts.into_iter().flatten().for_each(|part| whole.merge(part));
    whole
}

/// All meshes, each with its task.
pub struct Engine {
    /// For the tasks of meshes.
    this: Weak<Engine>,
    settings: Settings,
    observer: Arc<dyn Observer>,
    meshes: Mutex<HashMap<Arc<str>, Handle>>,
    next_stream: AtomicU64,
    /// The latest commits, by revision.
    changes: Mutex<VecDeque<Change>>,
    /// The revision of the last of them.
    head: watch::Sender<Revision>,
    /// Changes when a Mesh may have.
    meshes_written: watch::Sender<()>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// The mesh that a document concerns.
fn mesh_of(key: &Key) -> Arc<str> {
    let mesh = mesh_secret::mesh_of(key);
    if *mesh == *key.mesh { key.mesh.clone() } else { Arc::from(mesh) }
}

struct Handle {
    events: mpsc::UnboundedSender<Event>,
    /// Whether a document has mentioned the mesh.
    known: bool,
}

impl Follower for Engine {
    fn load(&self, revision: Revision, documents: &[Arc<Stored>]) {
        let mut by_mesh: HashMap<Arc<str>, Vec<Arc<Stored>>> = HashMap::new();
        // A mesh that we know and the store does not is loaded as empty: it is gone.
        for mesh in self.meshes().keys() {
            by_mesh.insert(mesh.clone(), Vec::new());
        }
        for stored in documents {
            by_mesh.entry(mesh_of(&stored.key)).or_default().push(stored.clone());
        }
        let meshes = by_mesh.keys().cloned().collect();
        for (mesh, documents) in by_mesh {
            self.send(&mesh, Event::Load { revision, documents }, true);
        }
        self.record_change(Change { revision, received: SystemTime::now(), documents: Vec::new(), meshes });
    }

    fn commit(&self, commit: &Commit) {
        let revision = commit.revision;
        let mut by_mesh: HashMap<Arc<str>, Vec<DocumentChange>> = HashMap::with_capacity(1);
        for (key, stored) in &commit.changes {
            by_mesh.entry(mesh_of(key)).or_default().push((key.clone(), stored.clone()));
        }
        let meshes = by_mesh.keys().cloned().collect();
        for (mesh, changes) in by_mesh {
            self.send(&mesh, Event::Commit { revision, changes }, true);
        }
        let documents = commit.changes.iter().filter(|(key, _)| key.kind != SECRET_KIND);
        let documents = documents.map(|(key, stored)| (key.clone(), stored.is_some())).collect();
        self.record_change(Change { revision, received: SystemTime::now(), documents, meshes });
    }
}

impl Engine {
    /// An engine without meshes, which tells `observer` what it finds out. Its tasks end when `cancel` is cancelled.
    pub fn new(settings: Settings, observer: Arc<dyn Observer>, cancel: CancellationToken) -> Arc<Engine> {
        Arc::new_cyclic(|this| Engine {
            this: this.clone(),
            settings,
            observer,
            meshes: Mutex::default(),
            next_stream: AtomicU64::new(1),
            changes: Mutex::default(),
            head: watch::Sender::new(0),
            meshes_written: watch::Sender::new(()),
            tasks: TaskTracker::new(),
            cancel,
        })
    }

    /// Waits for the tasks of all meshes to end; they do when the engine is cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// An id for a stream.
    pub fn next_stream(&self) -> StreamId {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells a mesh of a new stream. If too many unknown meshes have been named the stream is dropped, which ends it.
    pub fn open(&self, mesh: &Arc<str>, stream: OpenStream) {
        if !self.send(mesh, Event::Open(stream), false) {
            tracing::warn!(%mesh, "too many proxies of unknown meshes are connected: refused another one");
        }
    }

    /// Tells a mesh what the client of a stream holds of a type from an earlier life.
    pub fn reported(&self, mesh: &str, id: StreamId, resource_type: ResourceType, versions: Vec<(Arc<str>, Box<str>)>) {
        self.tell(mesh, Event::Reported { id, resource_type, versions });
    }

    /// Tells a mesh that the client of a stream wants its certificate.
    pub fn wants_identity(&self, mesh: &str, id: StreamId) {
        self.tell(mesh, Event::WantsIdentity { id });
    }

    /// Tells a mesh that the client of a stream has answered all that it was sent.
    pub fn settled(&self, mesh: &str, id: StreamId, settled: Settled) {
        self.tell(mesh, Event::Settled { id, settled });
    }

    /// The latest commits, oldest first: `most` of them at most.
    pub fn changes(&self, most: usize) -> Vec<Change> {
        let changes = self.known_changes();
        changes.iter().skip(changes.len().saturating_sub(most)).cloned().collect()
    }

    /// A commit that was heard of, and how far it has come.
    ///
    /// With `wait`, the answer comes when it is final (see [`Progress::is_final`](crate::Progress::is_final); `all` as
    /// there) or the time is over.
    ///
    /// # Errors
    /// There is no such commit, or it is forgotten.
    pub async fn receipt(
        &self,
        revision: Revision,
        wait: Option<(Duration, bool)>,
    ) -> Result<(Change, Receipt), NoReceipt> {
        let deadline = Instant::now() + wait.map_or(HEAR_WITHIN, |(time, _)| time.max(HEAR_WITHIN));
        // What was committed a moment ago may be on its way to us.
        let mut head = self.head.subscribe();
        let is_heard = tokio::time::timeout_at(deadline, head.wait_for(|head| *head >= revision)).await.is_ok();
        if !is_heard {
            return Err(NoReceipt::NotCommitted(*self.head.borrow()));
        }
        let change = self.known_changes().iter().find(|change| change.revision == revision).cloned();
        let change = change.ok_or(NoReceipt::Forgotten)?;
        if let Some((time, all)) = wait {
            let ask = |mesh: &Arc<str>| self.ask_receipt(mesh.clone(), revision, Some(Wait { all }));
            let answers = join_all(change.meshes.iter().map(ask));
            if let Ok(answers) = tokio::time::timeout(time, answers).await {
                return Ok((change, merged(revision, answers)));
            }
        }
        let answers = join_all(change.meshes.iter().map(|mesh| self.ask_receipt(mesh.clone(), revision, None))).await;
        Ok((change, merged(revision, answers)))
    }

    async fn ask_receipt(&self, mesh: Arc<str>, revision: Revision, wait: Option<Wait>) -> Option<Receipt> {
        let (reply, answer) = oneshot::channel();
        self.tell(&mesh, Event::Receipt { revision, wait, reply });
        answer.await.ok().flatten()
    }

    fn record_change(&self, change: Change) {
        let revision = change.revision;
        // After a load anything may have changed.
        let writes_a_mesh =
            change.documents.is_empty() || change.documents.iter().any(|(key, _)| key.kind == Mesh::KIND);
        let mut changes = self.known_changes();
        if changes.len() >= REMEMBERED {
            changes.pop_front();
        }
        changes.push_back(change);
        drop(changes);
        if writes_a_mesh {
            self.meshes_written.send_replace(());
        }
        self.head.send_if_modified(|head| {
            let is_later = revision > *head;
            *head = revision.max(*head);
            is_later
        });
    }

    fn known_changes(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is told what the engine finds out.
    pub(crate) fn observer(&self) -> &dyn Observer {
        self.observer.as_ref()
    }

    /// Who holds up the rotation of a mesh's CA.
    pub async fn rotation(&self, mesh: &str, ca: Ca) -> RotationStatus {
        let (reply, answer) = oneshot::channel();
        self.tell(mesh, Event::Rotation { ca, reply });
        answer.await.unwrap_or_default()
    }

    /// Tells a mesh that a stream has ended, because its far end closed the connection or not.
    pub fn close(&self, mesh: &str, id: StreamId, by_far_end: bool) {
        self.tell(mesh, Event::Close { id, by_far_end });
    }

    /// Tells a mesh that a Mesh document was written again without a change.
    pub fn touch_mesh(&self, mesh: &str) {
        self.tell(mesh, Event::TouchMesh);
    }

    /// Tells a mesh that a proxy is leaving, or that it runs.
    pub fn set_departed(&self, mesh: &str, proxy: Arc<str>, departed: bool) {
        self.tell(mesh, Event::Departed { proxy, departed });
    }

    /// What a caller may do as a proxy of a mesh (see `gate.rs`). Of a mesh that nobody has heard of, nothing is known.
    pub async fn standing(&self, mesh: &str, proxy: &Arc<str>, caller: Caller) -> Standing {
        let (reply, answer) = oneshot::channel();
        self.tell(mesh, Event::Standing { proxy: proxy.clone(), caller, reply });
        answer.await.unwrap_or(Standing::Unknown)
    }

    /// Waits until a caller may have no stream of a proxy, and says why not.
    pub async fn refuses(&self, mesh: &str, proxy: &Arc<str>, caller: Caller) -> Status {
        let mut meshes_written = self.meshes_written.subscribe();
        loop {
            if let Standing::Refused(status) = self.standing(mesh, proxy, caller).await {
                return status;
            }
            // It depends on the Mesh alone. The sender is part of this value, so there is no error.
            let _ = meshes_written.changed().await;
        }
    }

    /// Compares what some connected proxies of each mesh are given with the slow whole answer; returns those that
    /// differ.
    pub async fn audit(&self) -> Vec<String> {
        let senders: Vec<_> = self.meshes().values().map(|handle| handle.events.clone()).collect();
        let mut differing = Vec::new();
        for events in senders {
            let (reply, answer) = oneshot::channel();
            if events.send(Event::Audit { reply }).is_ok() {
                differing.extend(answer.await.unwrap_or_default());
            }
        }
        differing
    }

    /// Sends to a mesh that is there.
    fn tell(&self, mesh: &str, event: Event) {
        if let Some(handle) = self.meshes().get(mesh) {
            // A task that has just ended had no streams and no documents.
            let _ = handle.events.send(event);
        }
    }

    /// Sends to a mesh, starting its task if there is none.
    fn send(&self, mesh: &Arc<str>, event: Event, known: bool) -> bool {
        let mut meshes = self.meshes();
        if !meshes.contains_key(mesh) {
            let unknown = meshes.values().filter(|handle| !handle.known).count();
            if !known && unknown >= MAX_UNKNOWN_MESHES {
                return false;
            }
            let Some(engine) = self.this.upgrade() else { return false };
            let (events, receiver) = mpsc::unbounded_channel();
            let state = MeshEngine::new(mesh, self.settings.clone(), rand::random());
            self.tasks.spawn(task::run(engine, mesh.clone(), state, receiver, self.cancel.clone()));
            meshes.insert(mesh.clone(), Handle { events, known });
        }
        let Some(handle) = meshes.get_mut(mesh) else { return false };
        handle.known |= known;
        handle.events.send(event).is_ok()
    }

    /// Forgets a mesh that has nothing left, unless something was sent to it meanwhile.
    pub(crate) fn retire(&self, mesh: &str, events: &mpsc::UnboundedReceiver<Event>) -> bool {
        // Senders send under this lock, so the queue cannot grow while it is held.
        let mut meshes = self.meshes();
        if !events.is_empty() {
            return false;
        }
        meshes.remove(mesh);
        true
    }

    fn meshes(&self) -> MutexGuard<'_, HashMap<Arc<str>, Handle>> {
        self.meshes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
