//! The task of one mesh: handles events in order, and sleeps until the next event or deadline.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_model::Ca;
use kuma_store::{Contents, DocumentChange, Revision};
use kuma_xds::{ResourceType, StreamState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Absent, Caller, Engine, MeshEngine, News, OpenStream, Receipt, RotationStatus, Settled, Standing, StreamId,
};

/// The longest sleep. Certificates depend on the wall clock, which may be changed during a sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// Time between a change and the sweep of the resources that it replaced, in which clients accept the change. Resources
/// that a slow client still uses stay until the next sweep.
const SWEEP_AFTER: Duration = Duration::from_secs(2);

/// How many proxies of a mesh an audit checks: some milliseconds of work.
const AUDITED: usize = 64;

/// An event of a mesh.
pub(crate) enum Event {
    /// All documents of the mesh were read from the store.
    Load(Contents),
    /// This mesh's part of one commit.
    Commit {
        revision: Revision,
        changes: Vec<DocumentChange>,
    },
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
    Settled {
        id: StreamId,
        settled: Settled,
    },
    Close {
        id: StreamId,
        by_far_end: bool,
    },
    Departed {
        proxy: Arc<str>,
        departed: bool,
    },
    Standing {
        proxy: Arc<str>,
        caller: Caller,
        reply: oneshot::Sender<Standing>,
    },
    /// A request for the receipt of a revision, at once or when it is final.
    Receipt {
        revision: Revision,
        wait: Option<Wait>,
        reply: oneshot::Sender<Option<Receipt>>,
    },
    Audit {
        reply: oneshot::Sender<Vec<String>>,
    },
    Absent {
        reply: oneshot::Sender<Absent>,
    },
    Rotation {
        ca: Ca,
        reply: oneshot::Sender<RotationStatus>,
    },
}

/// What an [`Event::Receipt`] waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Also for proxies that were silent before; see [`Receipt::is_final`].
    pub(crate) all: bool,
}

/// A request that waits until a receipt is final.
struct Waiter {
    revision: Revision,
    wait: Wait,
    reply: oneshot::Sender<Option<Receipt>>,
}

/// Runs a mesh until it has no documents and streams any more, or the engine is cancelled.
pub(crate) async fn run(
    engine: Arc<Engine>,
    name: Arc<str>,
    mut mesh: MeshEngine,
    mut events: mpsc::UnboundedReceiver<Event>,
    cancel: CancellationToken,
) {
    let mut sweep_at = None;
    let mut waiters: Vec<Waiter> = Vec::new();
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
                Some(Event::Receipt { revision, wait: Some(wait), reply }) => waiters.push(Waiter { revision, wait,
                    reply }),
                Some(event) => handle(&engine, &name, &mut mesh, event),
                None => return,
            },
            () = sleep_until(deadline), if deadline.is_some() => mesh.on_deadline(SystemTime::now()),
        }
        tell(&engine, &name, &mut mesh);
        answer(&mut waiters, &mesh);
        if let Some(step) = mesh.rotation_step(SystemTime::now()) {
            engine.observer().rotation_step(&name, step);
        }
        if mesh.is_idle() && engine.retire(&name, &events) {
            return;
        }
    }
}

fn handle(engine: &Engine, name: &Arc<str>, mesh: &mut MeshEngine, event: Event) {
    let now = SystemTime::now();
    match event {
        Event::Load(contents) => mesh.load(&contents, now),
        Event::Commit { revision, changes } => mesh.commit(&changes, revision, now),
        Event::TouchMesh => mesh.touch_mesh(now),
        Event::Open(stream) => {
            if let Err(refused) = mesh.open(stream, now) {
                // Warnings first: when the end of the stream is reported, the stream is forgotten.
                tell(engine, name, mesh);
                refused.state.send_replace(StreamState::Close(refused.status));
            }
        }
        Event::Reported { id, resource_type, versions } => mesh.reported(id, resource_type, versions, now),
        Event::WantsIdentity { id } => mesh.wants_identity(id, now),
        Event::Settled { id, settled } => mesh.settled(id, settled, now),
        Event::Close { id, by_far_end } => mesh.close(id, by_far_end, now),
        Event::Departed { proxy, departed } => mesh.set_departed(&proxy, departed, now),
        // An error means that the requester has gone away.
        Event::Standing { proxy, caller, reply } => drop(reply.send(mesh.standing(&proxy, &caller))),
        Event::Rotation { ca, reply } => drop(reply.send(mesh.rotation_status(ca))),
        Event::Receipt { revision, wait: _, reply } => drop(reply.send(mesh.receipt(revision))),
        Event::Absent { reply } => drop(reply.send(mesh.absent())),
        Event::Audit { reply } => drop(reply.send(mesh.audit(AUDITED))),
    }
}

/// Answers the requests whose receipts are final, and drops those whose requester has gone away.
fn answer(waiters: &mut Vec<Waiter>, mesh: &MeshEngine) {
    let is_over = |waiter: &mut Waiter| {
        let progress = mesh.progress(waiter.revision);
        waiter.reply.is_closed() || progress.is_none_or(|progress| progress.is_final(waiter.wait.all))
    };
    for Waiter { revision, reply, .. } in waiters.extract_if(.., is_over) {
        let _ = reply.send(mesh.receipt(revision));
    }
}

fn tell(engine: &Engine, name: &Arc<str>, mesh: &mut MeshEngine) {
    let News { warnings, accepted_after } = mesh.take_news();
    for warning in warnings {
        engine.observer().warning(name, warning);
    }
    for took in accepted_after {
        engine.observer().accepted(took);
    }
}

async fn sleep_until(deadline: Option<SystemTime>) {
    let Some(deadline) = deadline else { return };
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
}
