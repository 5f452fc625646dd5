//! Takes the steps of rotations that the mesh engine finds due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kuma_store::StoreError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ChangeRefused, MeshCas};
use crate::http::error::chain;
use crate::peers::Peers;
use kuma_engine::DueStep;

/// Pause after a step that could not be stored, or is not due everywhere. It is tried again: until then every proxy
/// keeps what it has.
const RETRY: Duration = Duration::from_secs(10);

/// A step of a mesh.
pub type Due = (Arc<str>, DueStep);

/// Takes steps until cancelled.
pub async fn run(
    cas: Arc<MeshCas>,
    peers: Arc<Peers>,
    mut due: mpsc::UnboundedReceiver<Due>,
    cancel: CancellationToken,
) {
    let mut waiting: VecDeque<Due> = VecDeque::new();
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = due.recv() => match next {
                Some(next) => next,
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !waiting.is_empty() => match waiting.pop_front() {
                Some(next) => next,
                None => continue,
            },
        };
        let (mesh, step) = &next;
        if !peers.may_take(mesh, *step).await {
            // The proxies of other control planes are not there yet, or another control plane takes it.
            if cas.awaits_step(step.ca, mesh, step.generation).await.unwrap_or(true) {
                waiting.push_back(next);
            }
            continue;
        }
        match cas.advance(step.ca, mesh, step.generation).await {
            Ok(()) => {}
            // Somebody else has changed it: whatever it is now, the engine hears of it.
            Err(ChangeRefused::Store(StoreError::Conflict { .. } | StoreError::NotFound(_))) => {}
            Err(error) => {
                tracing::error!(%mesh, ca = step.ca.name(), error = chain(&error),
                    "a step of the rotation of a CA has failed");
                waiting.push_back(next);
            }
        }
    }
}
