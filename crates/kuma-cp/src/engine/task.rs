//! The task that owns one mesh: takes events in order, and sleeps until the next one or the next deadline.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_model::{Ca, Key};
use kuma_store::Stored;
use kuma_xds::ResourceType;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Engine, MeshEngine, OpenStream, RotationStatus, StreamId};

/// The longest sleep: certificates go by the wall clock, which may be set while we sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// How long clients have to take a change before what it replaced is dropped. What a slow one still holds then stays until
/// the next sweep.
const SWEEP_AFTER: Duration = Duration::from_secs(2);

/// How many proxies of a mesh an audit looks at: some milliseconds of work.
const AUDITED: usize = 64;

/// What a mesh may hear.
pub(super) enum Event {
    /// The whole mesh as it is in the store.
    Load(Vec<Arc<Stored>>),
    /// This mesh's part of one commit.
    Commit(Vec<(Key, Option<Arc<Stored>>)>),
    /// The Mesh was written again without a change.
    TouchMesh,
    Open(OpenStream),
    Reported {
        id: StreamId,
        resource_type: ResourceType,
        versions: Vec<(Arc<str>, Box<str>)>,
    },
    WantsIdentity {
        id: StreamId,
    },
    Holds {
        id: StreamId,
        mark: u64,
    },
    Close {
        id: StreamId,
    },
    Departed {
        proxy: Arc<str>,
        departed: bool,
    },
    Believes {
        proxy: Arc<str>,
        address: IpAddr,
        reply: oneshot::Sender<bool>,
    },
    Audit {
        reply: oneshot::Sender<Vec<String>>,
    },
    Rotation {
        ca: Ca,
        reply: oneshot::Sender<RotationStatus>,
    },
}

/// Runs a mesh until it has nothing left or the engine is cancelled.
pub(super) async fn run(
    engine: Arc<Engine>,
    name: Arc<str>,
    mut mesh: MeshEngine,
    mut events: mpsc::UnboundedReceiver<Event>,
    cancel: CancellationToken,
) {
    let mut sweep_at = None;
    loop {
        let deadline = mesh.next_deadline();
        if sweep_at.is_none() && mesh.is_worth_a_sweep() {
            sweep_at = Some(Instant::now() + SWEEP_AFTER);
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(sweep_at.unwrap_or_else(Instant::now)), if sweep_at.is_some() => {
                mesh.sweep();
                sweep_at = None;
            }
            event = events.recv() => match event {
                Some(event) => handle(&mut mesh, event),
                None => return,
            },
            () = sleep_until(deadline), if deadline.is_some() => mesh.on_deadline(SystemTime::now()),
        }
        if let Some(step) = mesh.rotation_step(SystemTime::now()) {
            engine.step_is_due(&name, step);
        }
        if mesh.is_idle() && engine.retire(&name, &events) {
            return;
        }
    }
}

fn handle(mesh: &mut MeshEngine, event: Event) {
    let now = SystemTime::now();
    match event {
        Event::Load(documents) => mesh.load(&documents, now),
        Event::Commit(changes) => mesh.commit(&changes, now),
        Event::TouchMesh => mesh.touch_mesh(now),
        Event::Open(stream) => mesh.open(stream, now),
        Event::Reported { id, resource_type, versions } => mesh.reported(id, resource_type, versions, now),
        Event::WantsIdentity { id } => mesh.wants_identity(id, now),
        Event::Holds { id, mark } => mesh.holds(id, mark),
        Event::Close { id } => mesh.close(id),
        Event::Departed { proxy, departed } => mesh.set_departed(&proxy, departed, now),
        // Whoever asked may have gone away.
        Event::Believes { proxy, address, reply } => drop(reply.send(mesh.believes(&proxy, address))),
        Event::Rotation { ca, reply } => drop(reply.send(mesh.rotation_status(ca))),
        Event::Audit { reply } => drop(reply.send(mesh.audit(AUDITED))),
    }
}

async fn sleep_until(deadline: Option<SystemTime>) {
    let Some(deadline) = deadline else { return };
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
}
