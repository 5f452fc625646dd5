//! kuma-dp's own stream to the control plane, on which it says how its Envoy is.
//!
//! Envoy's xDS stream breaks when Envoy ends, but cannot say why, nor that it soon will. So kuma-dp reports *running*,
//! *draining* and *Envoy has exited* itself, to the same server and with the same token. The stream is a comfort, not a
//! need: nothing here may hold up Envoy, and a control plane that does not know the method changes nothing.

mod grpc;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::bootstrap::{Address, XdsServer};
use crate::token::TokenFile;

pub(crate) use kuma_wire::lifecycle::State;

/// A stream that lived this long had worked: the next attempt may come soon.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// A single failure is no news: the control plane was restarted, or has not yet seen the Envoy whose kuma-dp reports to
/// it. Later failures in a row are all alike, so one is shown.
const WORTH_A_WARNING: u32 = 2;

/// The state to report; the latest one wins.
#[derive(Debug, Clone)]
struct Status {
    state: State,
    detail: String,
    /// Nothing will follow: the stream ends after this.
    last: bool,
}

/// Who reports, to whom.
pub(crate) struct Identity {
    pub(crate) server: XdsServer,
    pub(crate) mesh: String,
    pub(crate) name: String,
    /// Tells this kuma-dp from another one of the same Dataplane.
    pub(crate) instance: String,
    pub(crate) token: Option<Arc<TokenFile>>,
}

/// Keeps the stream, in a task of its own that ends with this value.
pub(crate) struct Lifecycle {
    status: watch::Sender<Status>,
    connected: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Lifecycle {
    /// Starts to report *running*.
    pub(crate) fn start(identity: Identity) -> Lifecycle {
        let (status, reported) = watch::channel(Status { state: State::Running, detail: String::new(), last: false });
        let (connection, connected) = watch::channel(false);
        let task = tokio::spawn(keep(identity, reported, connection));
        Lifecycle { status, connected, task }
    }

    /// Reports another state as soon as possible. Returns at once.
    pub(crate) fn report(&self, state: State, detail: impl Into<String>) {
        self.status.send_replace(Status { state, detail: detail.into(), last: false });
    }

    /// Whether the control plane hears what is reported.
    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Reports a last state, and waits at most `limit` for the control plane to have read it: also if it is being
    /// connected to just now, since an Envoy may end as soon as it has begun.
    pub(crate) async fn finish(mut self, state: State, detail: impl Into<String>, limit: Duration) {
        self.status.send_replace(Status { state, detail: detail.into(), last: true });
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            tracing::debug!("the control plane has not confirmed the last report");
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects, reports, and does it again whenever that ends, until the last report is made.
async fn keep(identity: Identity, mut status: watch::Receiver<Status>, connection: watch::Sender<bool>) {
    let mut backoff = Backoff::new();
    let mut failures = 0_u32;
    // The last warning: the same failure again is no news.
    let mut told = None;
    loop {
        let started = Instant::now();
        let ended = grpc::report(&identity, &status, || {
            connection.send_replace(true);
            if failures >= WORTH_A_WARNING {
                tracing::info!("connected to the control plane again");
            }
        })
        .await;
        let was_connected = connection.send_replace(false);
        if status.borrow().last {
            return;
        }
        if was_connected && started.elapsed() > HEALTHY_AFTER {
            backoff.reset();
            failures = 0;
            told = None;
        }
        let pause = backoff.next();
        match ended {
            Ok(()) => tracing::debug!("the control plane ended the stream of reports; next attempt in {pause:.1?}"),
            Err(error) if error.is_unimplemented() => {
                // It may be updated one day, so the attempts go on, rarely.
                tracing::debug!("this control plane takes no reports of kuma-dp");
                backoff.slow_down();
            }
            Err(error) => {
                failures += 1;
                let said = explained(&identity, &error);
                let error = anyhow::Error::from(error);
                let word = match said {
                    // What a person has to do something about does not wait for a second failure.
                    Some(explanation) => Some(explanation),
                    None => (failures == WORTH_A_WARNING).then(|| {
                        format!(
                            "cannot report to the control plane: {error:#}. Envoy goes on with what it has; kuma-dp \
                             keeps trying"
                        )
                    }),
                };
                match word.filter(|word| told.as_ref() != Some(word)) {
                    Some(word) => {
                        tracing::warn!("{word}");
                        told = Some(word);
                    }
                    None => {
                        tracing::debug!("could not report to the control plane: {error:#}; next attempt in {pause:.1?}")
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A last report cannot be made while the control plane is away.
            Ok(_) = status.wait_for(|status| status.last) => return,
        }
    }
}

/// What has happened and what to do, where a person has to do something.
fn explained(identity: &Identity, error: &grpc::CallError) -> Option<String> {
    let Identity { server, mesh, name, .. } = identity;
    if error.is_of_another_ca() {
        let Address { host, port } = &server.address;
        return Some(format!(
            "the control plane at {host}:{port} has a certificate of another CA than when this proxy was started: its \
             state folder (KUMA_GENERAL_WORK_DIR of kuma-cp) is another one, or another control plane answers there. \
             Envoy goes on with what it has, and takes no change from it. Put the old state folder back; or, if the \
             new one is meant, generate a new dataplane token, since the old one is not valid there, and start \
             kuma-dp again"
        ));
    }
    error.denial().map(|denial| {
        format!(
            "the control plane refuses Dataplane {name:?} of mesh {mesh:?}: {denial}. Until that is mended this proxy \
             gets no certificate and no change"
        )
    })
}
