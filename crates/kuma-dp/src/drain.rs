//! The end of an Envoy that serves: others learn of it, its connections get time, then it goes.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::envoy::admin::{Admin, AdminError};
use crate::lifecycle::{Lifecycle, State};

/// From the report to the end at the earliest, if the control plane heard it: time for the other proxies to learn that
/// they should connect elsewhere. It takes them milliseconds; this is for slow machines.
const SETTLE: Duration = Duration::from_millis(500);
/// With the admin interface off, nobody can say whether connections are open. Envoy then gets this much time, no more:
/// whoever stops a proxy should not wait out the whole drain time each time for connections that may not exist.
const BLIND: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An Envoy that does not answer so many times in a row will not say more.
const MAX_SILENCE: u32 = 3;

/// Returns when Envoy may be ended: no inbound listener serves a connection any more, or `drain_time` is over.
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
    match admin {
        None => sleep(BLIND.min(drain_time)).await,
        Some(admin) => {
            tokio::select! {
                () = sleep_until(deadline) => tracing::info!("the drain time is over"),
                result = until_idle(admin, earliest) => match result {
                    Ok(()) => tracing::info!("no inbound connection is open"),
                    Err(error) => tracing::warn!("ending Envoy without a drain: {:#}", anyhow::Error::from(error)),
                },
            }
        }
    }
    sleep_until(earliest).await;
}

async fn until_idle(admin: &Admin, earliest: Instant) -> Result<(), AdminError> {
    let listeners = retried(|| admin.inbound_listeners()).await?;
    retried(|| admin.drain_listeners()).await?;
    let mut last = None;
    loop {
        let active = retried(|| admin.active_connections(&listeners)).await?;
        if active == 0 && Instant::now() >= earliest {
            return Ok(());
        }
        if last.replace(active) != Some(active) {
            tracing::debug!("{active} inbound connections are open");
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
