//! kuma-dp's own stream to the control plane, on which it reports the state of its Envoy.
//!
//! Envoy's xDS stream breaks when Envoy ends, but does not tell why, nor that Envoy is about to end. So kuma-dp reports
//! *running*, *draining* and *Envoy has exited* itself, to the same server and with the same token. The stream is
//! optional: it must never delay Envoy, and a control plane that does not know the method is fine.

mod grpc;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::bootstrap::{Address, XdsServer};
use crate::token::TokenFile;

pub(crate) use kuma_wire::lifecycle::State;

/// A stream that lasted this long resets the back-off.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The number of failures in a row that leads to a warning. A single failure is normal: the control plane was
/// restarted, or Envoy has not connected to it yet. Further failures in a row are not shown again.
const FAILURES_TO_WARN: u32 = 2;

/// The longest pause before another control plane is tried, so that proxies that lost one at the same time do not all
/// connect to the next at the same moment.
const MOST_BEFORE_ANOTHER: Duration = Duration::from_millis(500);

/// The state to report; the latest one wins.
#[derive(Debug, Clone)]
struct Status {
    state: State,
    detail: String,
    /// The stream ends after this report.
    last: bool,
}

/// Which proxy reports, and to which server.
pub(crate) struct Identity {
    pub(crate) server: XdsServer,
    pub(crate) mesh: String,
    pub(crate) name: String,
    /// Distinguishes this kuma-dp from others of the same Dataplane.
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

    /// Whether the stream to the control plane is open.
    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Reports the last state, and waits for the control plane to confirm it, at most for `limit`. It also waits if the
    /// stream is not open yet, since Envoy may end right after its start.
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

/// Connects and reports, and reconnects whenever the stream ends, until the last report has been made.
async fn keep(identity: Identity, mut status: watch::Receiver<Status>, connection: watch::Sender<bool>) {
    let mut backoff = Backoff::new();
    let mut failures = 0_u32;
    let addresses = &identity.server.addresses;
    let mut attempts = 0;
    // The last warning; the same one is not shown twice.
    let mut warned = None;
    loop {
        let started = Instant::now();
        let address = &addresses[attempts % addresses.len()];
        attempts += 1;
        let ended = grpc::report(&identity, address, &status, || {
            connection.send_replace(true);
            if failures >= FAILURES_TO_WARN {
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
            warned = None;
        }
        // Another control plane may be there although this one is not.
        let pause = match attempts % addresses.len() {
            0 => backoff.next(),
            _ => MOST_BEFORE_ANOTHER.mul_f64(rand::random_range(0.0..1.0)),
        };
        match ended {
            Ok(()) => tracing::debug!("the control plane ended the stream of reports; next attempt in {pause:.1?}"),
            Err(error) if error.is_unimplemented() => {
                // The control plane may be upgraded, so attempts continue, with long pauses.
                tracing::debug!("this control plane does not support reports of kuma-dp");
                backoff.slow_down();
            }
            Err(error) => {
                failures += 1;
                let said = explained(&identity, address, &error);
                let error = anyhow::Error::from(error);
                let warning = match said {
                    // A failure that needs an action of the operator is shown at once.
                    Some(explanation) => Some(explanation),
                    None => (failures == FAILURES_TO_WARN).then(|| {
                        format!(
                            "cannot report to the control plane: {error:#}. Envoy goes on with what it has; kuma-dp \
                             keeps trying"
                        )
                    }),
                };
                match warning.filter(|warning| warned.as_ref() != Some(warning)) {
                    Some(warning) => {
                        tracing::warn!("{warning}");
                        warned = Some(warning);
                    }
                    None => {
                        tracing::debug!("could not report to the control plane: {error:#}; next attempt in {pause:.1?}")
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The control plane is away: the last report is given up.
            Ok(_) = status.wait_for(|status| status.last) => return,
        }
    }
}

/// What has happened and what to do, if the operator has to do something.
fn explained(identity: &Identity, address: &Address, error: &grpc::CallError) -> Option<String> {
    let Identity { mesh, name, .. } = identity;
    if error.is_of_another_ca() {
        let Address { host, port } = address;
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
