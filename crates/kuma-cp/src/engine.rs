//! The mesh engine: follows the store and keeps every connected proxy at what its mesh says.
//!
//! One task owns the state of each mesh ([`MeshEngine`]). It wakes for a commit, a stream or a deadline; nothing polls.

mod content;
mod documents;
mod identity;
mod mesh;
mod recovery;
mod task;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_model::{Ca, Key};
use kuma_store::{Change, Commit, Revision, Store, StoreError, Stored};
use kuma_xds::ResourceType;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use mesh::{DueStep, LINGER, MeshEngine, OpenStream, RotationStatus, SETTLE, Settings, StreamId};
use task::Event;

use crate::mesh_ca;

/// How many meshes that no document mentions may have streams waiting. A proxy may come before its mesh does; this bounds
/// what strangers can make us remember.
const MAX_UNKNOWN_MESHES: usize = 1024;

/// Pause before the store is read again after it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// All meshes, each with its task.
pub struct Engine {
    settings: Settings,
    meshes: Mutex<HashMap<Arc<str>, Handle>>,
    next_stream: AtomicU64,
    on_step: OnceLock<OnStep>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// Called with a mesh and the step of its rotation that is due.
type OnStep = Box<dyn Fn(&Arc<str>, DueStep) + Send + Sync>;

/// A document and what it is now; `None` when it is gone.
type Written = (Key, Option<Arc<Stored>>);

/// The mesh that a document concerns.
fn mesh_of(key: &Key) -> Arc<str> {
    let mesh = mesh_ca::mesh_of(key);
    if *mesh == *key.mesh { key.mesh.clone() } else { Arc::from(mesh) }
}

struct Handle {
    events: mpsc::UnboundedSender<Event>,
    /// Whether a document has mentioned the mesh.
    known: bool,
}

impl Engine {
    /// An engine without meshes. Its tasks end when `cancel` is cancelled.
    pub fn new(settings: Settings, cancel: CancellationToken) -> Arc<Engine> {
        Arc::new(Engine {
            settings,
            meshes: Mutex::default(),
            next_stream: AtomicU64::new(1),
            on_step: OnceLock::new(),
            tasks: TaskTracker::new(),
            cancel,
        })
    }

    /// Reads the whole store. Until this has succeeded once the control plane is not ready.
    pub async fn load(self: &Arc<Self>, store: &dyn Store) -> Result<Revision, StoreError> {
        let (revision, documents) = store.read_all().await?;
        let mut by_mesh: HashMap<Arc<str>, Vec<Arc<Stored>>> = HashMap::new();
        // A mesh that we know and the store does not is loaded as empty: it is gone.
        for mesh in self.meshes().keys() {
            by_mesh.insert(mesh.clone(), Vec::new());
        }
        for stored in documents {
            by_mesh.entry(mesh_of(&stored.key)).or_default().push(stored);
        }
        for (mesh, documents) in by_mesh {
            self.send_known(&mesh, Event::Load(documents));
        }
        Ok(revision)
    }

    /// Follows the store from a revision on, until cancelled. After a gap everything is read again; while that fails, every
    /// mesh stays as it was.
    pub async fn follow(self: Arc<Self>, store: Arc<dyn Store>, mut revision: Revision) {
        loop {
            let mut changes = store.changes(revision);
            loop {
                let change = tokio::select! {
                    change = changes.next() => change,
                    () = self.cancel.cancelled() => return,
                };
                match change {
                    Some(Change::Commit(commit)) => self.dispatch(&commit),
                    Some(Change::Gap) | None => break,
                }
            }
            revision = loop {
                match self.load(store.as_ref()).await {
                    Ok(revision) => break revision,
                    Err(error) => tracing::warn!(%error, "the store cannot be read; all proxies keep what they have"),
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.cancel.cancelled() => return,
                }
            };
        }
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
    pub fn open(self: &Arc<Self>, mesh: &Arc<str>, stream: OpenStream) {
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

    /// Tells a mesh that the client of a stream has accepted all secrets of the snapshots with this mark.
    pub fn holds(&self, mesh: &str, id: StreamId, mark: u64) {
        self.tell(mesh, Event::Holds { id, mark });
    }

    /// Has `take` called whenever a step of a rotation is due. Once for all; without it nothing rotates.
    pub fn on_step(&self, take: impl Fn(&Arc<str>, DueStep) + Send + Sync + 'static) {
        let _ = self.on_step.set(Box::new(take));
    }

    fn step_is_due(&self, mesh: &Arc<str>, step: DueStep) {
        if let Some(take) = self.on_step.get() {
            take(mesh, step);
        }
    }

    /// Who holds up the rotation of a mesh's CA.
    pub async fn rotation(&self, mesh: &str, ca: Ca) -> RotationStatus {
        let (reply, answer) = oneshot::channel();
        self.tell(mesh, Event::Rotation { ca, reply });
        answer.await.unwrap_or_default()
    }

    /// Tells a mesh that a stream has ended.
    pub fn close(&self, mesh: &str, id: StreamId) {
        self.tell(mesh, Event::Close { id });
    }

    /// Tells a mesh that a Mesh document was written again without a change.
    pub fn touch_mesh(&self, mesh: &str) {
        self.tell(mesh, Event::TouchMesh);
    }

    /// Tells a mesh that a proxy is leaving, or that it runs.
    pub fn set_departed(&self, mesh: &str, proxy: Arc<str>, departed: bool) {
        self.tell(mesh, Event::Departed { proxy, departed });
    }

    /// Whether a word about a proxy may be believed without a token; see [`MeshEngine::believes`].
    pub async fn believes(&self, mesh: &str, proxy: Arc<str>, address: IpAddr) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(mesh, Event::Believes { proxy, address, reply });
        answer.await.unwrap_or(false)
    }

    /// Compares what some connected proxies of each mesh are given with the slow whole answer; returns those that differ.
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

    fn dispatch(self: &Arc<Self>, commit: &Commit) {
        let mut by_mesh: HashMap<Arc<str>, Vec<Written>> = HashMap::with_capacity(1);
        for (key, stored) in &commit.changes {
            by_mesh.entry(mesh_of(key)).or_default().push((key.clone(), stored.clone()));
        }
        for (mesh, changes) in by_mesh {
            self.send_known(&mesh, Event::Commit(changes));
        }
    }

    fn send_known(self: &Arc<Self>, mesh: &Arc<str>, event: Event) {
        self.send(mesh, event, true);
    }

    /// Sends to a mesh that is there.
    fn tell(&self, mesh: &str, event: Event) {
        if let Some(handle) = self.meshes().get(mesh) {
            // A task that has just ended had no streams and no documents.
            let _ = handle.events.send(event);
        }
    }

    /// Sends to a mesh, starting its task if there is none.
    fn send(self: &Arc<Self>, mesh: &Arc<str>, event: Event, known: bool) -> bool {
        let mut meshes = self.meshes();
        if !meshes.contains_key(mesh) {
            let unknown = meshes.values().filter(|handle| !handle.known).count();
            if !known && unknown >= MAX_UNKNOWN_MESHES {
                return false;
            }
            let (events, receiver) = mpsc::unbounded_channel();
            let state = MeshEngine::new(mesh, self.settings.clone());
            self.tasks.spawn(task::run(self.clone(), mesh.clone(), state, receiver, self.cancel.clone()));
            meshes.insert(mesh.clone(), Handle { events, known });
        }
        let Some(handle) = meshes.get_mut(mesh) else { return false };
        handle.known |= known;
        handle.events.send(event).is_ok()
    }

    /// Forgets a mesh that has nothing left, unless something was sent to it meanwhile.
    fn retire(&self, mesh: &str, events: &mpsc::UnboundedReceiver<Event>) -> bool {
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
