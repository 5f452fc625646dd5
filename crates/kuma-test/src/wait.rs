//! Waiting for a state, with a generous limit: tests assert what becomes true, not how fast.

use std::future::Future;
use std::time::Duration;

/// How long to wait for a state before a test fails. Far longer than needed: tests may run beside builds.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Waits until `condition` gives a value, trying again every 10 ms.
///
/// # Panics
/// If it does not within [`LIMIT`]. `what` names the state.
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let attempt = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(LIMIT, attempt).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within {LIMIT:?}: {what}"),
    }
}
