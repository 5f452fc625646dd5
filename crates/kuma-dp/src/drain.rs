//! The end of an Envoy that serves: others learn of it, its connections get time, then it goes.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::envoy::admin::{Admin, AdminError};
use crate::lifecycle::{Lifecycle, State};

/// From the report to the end at the earliest, if the control plane heard it: time for the other proxies to learn that
/// they should connect elsewhere. It takes them milliseconds; this is for slow machines.
const SETTLE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An Envoy that does not answer so many times in a row will not say more.
const MAX_SILENCE: u32 = 3;

/// Returns when Envoy may be ended: no listener serves a connection any more, or `drain_time` is over. That is
/// waited out where nobody can say whether connections are open: the admin interface is off, or does not answer.
pub(crate) async fn drain(lifecycle: Option<&Lifecycle>, admin: Option<&Admin>, drain_time: Duration) {
    let start = Instant::now();
    let deadline = start + drain_time;
    let mut earliest = start;
    if let Some(lifecycle) = lifecycle {
        lifecycle.report(State::Draining, "kuma-dp was asked to end");
        if lifecycle.is_connected() {
            earliest = start + SETTLE.min(drain_time);
        }
    }
    let idle = async {
        match admin {
            None => {
                tracing::info!("Envoy has no admin interface to ask for its connections: they get the whole drain time")
            }
            Some(admin) => match until_idle(admin, earliest).await {
                Ok(()) => return,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        "cannot tell whether connections are open, they get the whole drain time: {error:#}"
                    );
                }
            },
        }
        std::future::pending().await
    };
    tokio::select! {
        () = sleep_until(deadline) => tracing::info!("the drain time is over"),
        () = idle => tracing::info!("no connection is open"),
    }
    sleep_until(earliest).await;
}

async fn until_idle(admin: &Admin, earliest: Instant) -> Result<(), AdminError> {
    let metrics = retried(|| admin.metrics_listener()).await?;
    retried(|| admin.drain_listeners()).await?;
    let mut last = None;
    loop {
        let active = retried(|| admin.active_connections(metrics.as_deref())).await?;
        if active == 0 && Instant::now() >= earliest {
            return Ok(());
        }
        if last.replace(active) != Some(active) {
            tracing::debug!("{active} connections are open");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn retried<T, F>(attempt: impl Fn() -> F) -> Result<T, AdminError>
where
    F: Future<Output = Result<T, AdminError>>,
{
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error) if failures + 1 >= MAX_SILENCE => return Err(error),
            Err(_) => failures += 1,
            done => return done,
        }
        sleep(LOOK_EVERY).await;
    }
}
