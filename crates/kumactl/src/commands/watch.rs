//! `-w`: prints the output again whenever it has changed.

use std::io::Write as _;
use std::time::Duration;

use crate::failure::Failure;

/// Interval of polling: the HTTP API has no notification of changes.
const PAUSE: Duration = Duration::from_secs(1);

/// Polls and prints changes until stdout is closed. If the first request fails, the command fails; later failures are
/// only reported, since the control plane may be restarting.
pub(super) async fn watch<T: Clone + PartialEq>(
    mut read: impl AsyncFnMut() -> Result<T, Failure>,
    show: impl Fn(T) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let mut shown: Option<T> = None;
    let mut warned = false;
    loop {
        match read().await {
            Ok(items) => {
                warned = false;
                if shown.as_ref() != Some(&items) {
                    let between = if shown.is_some() { "\n" } else { "" };
                    let text = format!("{between}{}", show(items.clone())?);
                    let mut stdout = std::io::stdout().lock();
                    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                        return Ok(String::new());
                    }
                    shown = Some(items);
                }
            }
            Err(failure) if shown.is_none() => return Err(failure),
            Err(failure) if !warned => {
                warned = true;
                eprint!("{failure}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
