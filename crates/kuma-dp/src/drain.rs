//! The drain of an Envoy before it ends: the control plane is told, so that other proxies stop connecting to it, and
//! open connections get time to end.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::envoy::admin::{Admin, AdminError};
use crate::lifecycle::{Lifecycle, State};

/// Shortest time between the report to the control plane and the end of Envoy: the other proxies need it to learn that
/// the endpoint is gone. Normally that takes milliseconds; this is for slow machines.
const SETTLE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After this many failed requests in a row, the admin interface counts as unavailable.
const MAX_FAILURES: u32 = 3;

/// Returns when Envoy may be ended: when no listener has an open connection any more, or when `drain_time` is over. If
/// the open connections cannot be counted, because the admin interface is off or does not answer, it waits for the
/// whole drain time.
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
                tracing::info!("Envoy has no admin interface to count connections: they get the whole drain time")
            }
            Some(admin) => match until_idle(admin, earliest).await {
                Ok(()) => return,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!("cannot count the open connections, so they get the whole drain time: {error:#}");
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
            Err(error) if failures + 1 >= MAX_FAILURES => return Err(error),
            Err(_) => failures += 1,
            done => return done,
        }
        sleep(LOOK_EVERY).await;
    }
}
