//! All meshes: passes commits of the store and events of streams to the task of each mesh.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;

use kuma_ca::mesh_secret;
use kuma_model::{Ca, Key, Mesh, NO_MESH, Resource as _};
use kuma_store::{Commit, Contents, DocumentChange, Follower, Revision, Stored};
use kuma_xds::ResourceType;
use kuma_xds::grpc::Status;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::numbering::Numbering;
use crate::task::{self, Event, Wait};
use crate::{
    Absent, Caller, DueStep, MeshEngine, OpenStream, Receipt, RotationStatus, Settings, Settled, Standing, StreamId,
    Warning,
};

/// How many meshes without documents may have streams. A proxy may connect before its mesh is created; the limit bounds
/// the memory that unknown clients can use.
const MAX_UNKNOWN_MESHES: usize = 1024;

/// Receives the events that the engine reports.
pub trait Observer: Send + Sync {
    /// A proxy of a mesh does not work as the documents say.
    fn warning(&self, mesh: &Arc<str>, warning: Warning);

    /// A step of the rotation of a mesh's CA is due.
    fn rotation_step(&self, mesh: &Arc<str>, step: DueStep);

    /// A proxy has accepted a commit, this long after the engine received it.
    fn accepted(&self, took: Duration);
}

/// Ignores all events. No CA is rotated then.
impl Observer for () {
    fn warning(&self, _: &Arc<str>, _: Warning) {}

    fn rotation_step(&self, _: &Arc<str>, _: DueStep) {}

    fn accepted(&self, _: Duration) {}
}

/// A commit that the engine has received.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// When it was received.
    pub received: SystemTime,
    /// The documents that it wrote, and whether each exists after it. Secrets are left out. Empty if the store was read
    /// as a whole: then all differences belong to the revision.
    pub documents: Vec<(Key, bool)>,
    /// The meshes of these documents.
    meshes: Vec<Arc<str>>,
}

/// Why there is no receipt of a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReceipt {
    /// There is no such commit. The latest revision is this.
    NotCommitted(Revision),
    /// The commit is too old.
    Forgotten,
}

/// How many commits are remembered.
const REMEMBERED: usize = 1024;

/// How long a commit may take from the store to the engine.
const HEAR_WITHIN: Duration = Duration::from_secs(1);

/// What a mesh has answered about a commit of which it has a document. An error if it has ended since, because nothing
/// is left in it.
type Answer = Result<Option<Receipt>, oneshot::error::RecvError>;

/// The receipt of a commit in all meshes together.
///
/// # Errors
/// A mesh has forgotten it: which of its proxies have accepted it is not known.
fn merged(revision: Revision, answers: Vec<Answer>) -> Result<Receipt, NoReceipt> {
    let mut whole = Receipt { revision, ..Receipt::default() };
    for answer in answers.into_iter().flatten() {
        whole.merge(answer.ok_or(NoReceipt::Forgotten)?);
    }
    Ok(whole)
}

/// All meshes, each with its task.
pub struct Engine {
    /// Passed to the tasks of meshes.
    this: Weak<Engine>,
    settings: Settings,
    /// See [`Settings::complete`]; as of the last load.
    complete: AtomicBool,
    observer: Arc<dyn Observer>,
    meshes: Mutex<HashMap<Arc<str>, Handle>>,
    next_stream: AtomicU64,
    /// Between revisions of the store and those that meshes and proxies are told.
    numbering: Mutex<Numbering>,
    /// The latest commits, by revision.
    changes: Mutex<VecDeque<Change>>,
    /// The revision of the last of them.
    head: watch::Sender<Revision>,
    /// Notified when a Mesh may have changed.
    meshes_written: watch::Sender<()>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// The mesh that a document concerns; keys of the control plane itself concern none.
fn mesh_of(key: &Key) -> Option<Arc<str>> {
    let mesh = mesh_secret::mesh_of(key);
    match mesh {
        NO_MESH => None,
        _ if *mesh == *key.mesh => Some(key.mesh.clone()),
        _ => Some(Arc::from(mesh)),
    }
}

struct Handle {
    events: mpsc::UnboundedSender<Event>,
    /// Whether a document has mentioned the mesh.
    known: bool,
}

impl Follower for Engine {
    fn load(&self, contents: &Contents) {
        let Contents { revision, ref documents, complete, generation } = *contents;
        self.complete.store(complete, Ordering::Relaxed);
        let (is_another, internal) = {
            let mut numbering = self.numbering();
            (numbering.load(revision, generation), numbering.heard(revision))
        };
        let mut by_mesh: HashMap<Arc<str>, Vec<Arc<Stored>>> = HashMap::new();
        // A mesh that is not in the store any more is loaded without documents.
        for mesh in self.meshes().keys() {
            by_mesh.insert(mesh.clone(), Vec::new());
        }
        for stored in documents {
            let Some(mesh) = mesh_of(&stored.key) else { continue };
            by_mesh.entry(mesh).or_default().push(stored.clone());
        }
        let meshes = by_mesh.keys().cloned().collect();
        for (mesh, documents) in by_mesh {
            let contents = Contents { revision: internal, documents, complete, generation };
            self.send(&mesh, Event::Load(contents), true);
        }
        if is_another {
            // What is known of the commits of the store before is not true of those of this one.
            self.known_changes().clear();
            self.head.send_replace(revision);
        }
        self.record_change(Change { revision, received: SystemTime::now(), documents: Vec::new(), meshes });
    }

    fn commit(&self, commit: &Commit) {
        let revision = commit.revision;
        let mut by_mesh: HashMap<Arc<str>, Vec<DocumentChange>> = HashMap::with_capacity(1);
        for (key, stored) in &commit.changes {
            let Some(mesh) = mesh_of(key) else { continue };
            by_mesh.entry(mesh).or_default().push((key.clone(), stored.clone()));
        }
        let meshes = by_mesh.keys().cloned().collect();
        let internal = self.numbering().heard(revision);
        for (mesh, changes) in by_mesh {
            self.send(&mesh, Event::Commit { revision: internal, changes }, true);
        }
        let documents = commit.changes.iter().filter(|(key, _)| kuma_model::is_public(key.kind));
        let documents = documents.map(|(key, stored)| (key.clone(), stored.is_some())).collect();
        self.record_change(Change { revision, received: SystemTime::now(), documents, meshes });
    }
}

impl Engine {
    /// An engine without meshes. It reports events to `observer`, and its tasks end when `cancel` is cancelled.
    pub fn new(settings: Settings, observer: Arc<dyn Observer>, cancel: CancellationToken) -> Arc<Engine> {
        Arc::new_cyclic(|this| Engine {
            this: this.clone(),
            complete: AtomicBool::new(settings.complete),
            settings,
            observer,
            meshes: Mutex::default(),
            next_stream: AtomicU64::new(1),
            numbering: Mutex::new(Numbering::new()),
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

    /// Passes a new stream to its mesh. If there are too many meshes without documents, the stream is dropped, which
    /// ends it.
    pub fn open(&self, mesh: &Arc<str>, stream: OpenStream) {
        if !self.send(mesh, Event::Open(stream), false) {
            tracing::warn!(%mesh, "too many proxies of unknown meshes are connected: refused another one");
        }
    }

    /// Tells a mesh which resources of a type the client of a stream has from before the start of this process.
    pub fn reported(&self, mesh: &str, id: StreamId, resource_type: ResourceType, versions: Vec<(Arc<str>, Box<str>)>) {
        self.tell(mesh, Event::Reported { id, resource_type, versions });
    }

    /// Tells a mesh that the client of a stream wants its certificate.
    pub fn wants_identity(&self, mesh: &str, id: StreamId) {
        self.tell(mesh, Event::WantsIdentity { id });
    }

    /// Tells a mesh that the client of a stream has answered everything that it was sent.
    pub fn settled(&self, mesh: &str, id: StreamId, settled: Settled) {
        self.tell(mesh, Event::Settled { id, settled });
    }

    /// The latest commits, oldest first, at most `most` of them.
    pub fn changes(&self, most: usize) -> Vec<Change> {
        let changes = self.known_changes();
        changes.iter().skip(changes.len().saturating_sub(most)).cloned().collect()
    }

    /// A commit and its receipt.
    ///
    /// With `wait`, the answer comes when it is final (see [`Progress::is_final`](crate::Progress::is_final); `all` as
    /// there) or the time is over.
    ///
    /// # Errors
    /// There is no such commit, or it is too old.
    pub async fn receipt(
        &self,
        revision: Revision,
        wait: Option<(Duration, bool)>,
    ) -> Result<(Change, Receipt), NoReceipt> {
        let deadline = Instant::now() + wait.map_or(HEAR_WITHIN, |(time, _)| time.max(HEAR_WITHIN));
        // The engine may not have received a commit that was made a moment ago.
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
                return Ok((change, merged(revision, answers)?));
            }
        }
        let answers = join_all(change.meshes.iter().map(|mesh| self.ask_receipt(mesh.clone(), revision, None))).await;
        Ok((change, merged(revision, answers)?))
    }

    async fn ask_receipt(&self, mesh: Arc<str>, revision: Revision, wait: Option<Wait>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let internal = self.numbering().internal(revision);
        self.tell(&mesh, Event::Receipt { revision: internal, wait, reply });
        Ok(answer.await?.map(|mut receipt| {
            for exception in &mut receipt.exceptions {
                exception.since_revision = self.store_revision(exception.since_revision);
            }
            Receipt { revision, ..receipt }
        }))
    }

    /// The revision of the store that a snapshot's revision stands for. They are the same until the store is replaced
    /// by another or an older one.
    pub fn store_revision(&self, revision: Revision) -> Revision {
        self.numbering().external(revision)
    }

    fn numbering(&self) -> MutexGuard<'_, Numbering> {
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_change(&self, change: Change) {
        let revision = change.revision;
        // After the store was read as a whole, any document may have changed.
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

    /// Receives the events that the engine reports.
    pub(crate) fn observer(&self) -> &dyn Observer {
        self.observer.as_ref()
    }

    /// The status of the rotation of a mesh's CA.
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

    /// What a caller may do as a proxy of a mesh; see `gate.rs`. Of a mesh without documents, nothing is known.
    pub async fn standing(&self, mesh: &str, proxy: &Arc<str>, caller: Caller) -> Standing {
        let (reply, answer) = oneshot::channel();
        self.tell(mesh, Event::Standing { proxy: proxy.clone(), caller, reply });
        answer.await.unwrap_or(Standing::Unknown)
    }

    /// Waits until a caller may not have a stream of a proxy any more, and returns the reason. If the task of the mesh
    /// has ended, the stream is allowed.
    pub async fn refuses(&self, mesh: &str, proxy: &Arc<str>, caller: Caller) -> Status {
        let mut meshes_written = self.meshes_written.subscribe();
        loop {
            if let Standing::Refused(status) = self.standing(mesh, proxy, caller).await {
                return status;
            }
            // The result depends on the Mesh only. The sender is part of this value, so there is no error.
            let _ = meshes_written.changed().await;
        }
    }

    /// Compares the configuration of some connected proxies of each mesh with one that is generated from scratch, and
    /// returns the proxies for which they differ.
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

    /// What the store lacks, and is there all the same.
    pub async fn absent(&self) -> Absent {
        let senders: Vec<_> = self.meshes().values().map(|handle| handle.events.clone()).collect();
        let mut all = Absent::default();
        for events in senders {
            let (reply, answer) = oneshot::channel();
            if events.send(Event::Absent { reply }).is_ok()
                && let Ok(Absent { documents, proxies }) = answer.await
            {
                all.documents.extend(documents);
                all.proxies.extend(proxies);
            }
        }
        all.documents.sort();
        all.proxies.sort();
        all
    }

    /// Sends an event to a mesh, if it exists.
    fn tell(&self, mesh: &str, event: Event) {
        if let Some(handle) = self.meshes().get(mesh) {
            // An error means that the task has just ended, because it had no streams and no documents.
            let _ = handle.events.send(event);
        }
    }

    /// Sends an event to a mesh, and starts its task if there is none.
    fn send(&self, mesh: &Arc<str>, event: Event, known: bool) -> bool {
        let mut meshes = self.meshes();
        if !meshes.contains_key(mesh) {
            let unknown = meshes.values().filter(|handle| !handle.known).count();
            if !known && unknown >= MAX_UNKNOWN_MESHES {
                return false;
            }
            let Some(engine) = self.this.upgrade() else { return false };
            let (events, receiver) = mpsc::unbounded_channel();
            let settings = Settings { complete: self.complete.load(Ordering::Relaxed), ..self.settings.clone() };
            let state = MeshEngine::new(mesh, settings, rand::random());
            self.tasks.spawn(task::run(engine, mesh.clone(), state, receiver, self.cancel.clone()));
            meshes.insert(mesh.clone(), Handle { events, known });
        }
        let Some(handle) = meshes.get_mut(mesh) else { return false };
        handle.known |= known;
        handle.events.send(event).is_ok()
    }

    /// Removes a mesh without documents and streams, unless an event was sent to it in the meantime.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_mesh_has_forgotten_is_not_taken_for_accepted() {
        let (reply, answer) = oneshot::channel::<Option<Receipt>>();
        drop(reply);
        let ended = answer.await.expect_err("nobody answers");
        let known = Receipt { revision: 7, ..Receipt::default() };
        let whole = merged(7, vec![Ok(Some(known.clone())), Err(ended.clone())]);
        assert_eq!(whole.map(|receipt| receipt.revision), Ok(7));
        assert_eq!(merged(7, vec![Ok(Some(known)), Ok(None), Err(ended)]).err(), Some(NoReceipt::Forgotten));
    }
}
