//! The life of `kuma-prometheus-sd run`.

use std::time::Duration;

use anyhow::Context as _;
use kuma_mads::file_sd;
use tokio::signal::unix::{SignalKind, signal};

use crate::assignments::{Client, Ended};
use crate::catalog;
use crate::config::Config;
use crate::output::Output;

/// Pauses between attempts. They double from the first to the longest, and start again after a list was received.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the file up to date until a signal asks the process to end. The file stays.
///
/// # Errors
/// The file cannot be written, or the server at the address is no control plane.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for signals")?;
    let output = Output::open(&config.output_file)?;
    tokio::select! {
        error = follow(&config, output) => return Err(error),
        _ = terminate.recv() => tracing::info!("asked to stop (SIGTERM)"),
        _ = interrupt.recv() => tracing::info!("asked to stop (SIGINT)"),
    }
    Ok(())
}

/// Connects, and reconnects whenever that ends. It waits for a control plane that is away or has not started yet.
async fn follow(config: &Config, mut output: Output) -> anyhow::Error {
    let mut client = match Client::new(&config.name) {
        Ok(client) => client,
        Err(error) => return anyhow::Error::new(error).context("cannot make an HTTP client"),
    };
    let mut pause = FIRST_PAUSE;
    let mut heard = false;
    loop {
        let problem = match catalog::monitoring_assignment_server(&config.cp_address).await {
            Ok(server) => {
                tracing::info!("asking {server} for monitoring assignments");
                let ended = client.follow(&server, |list| {
                    heard = true;
                    let changed = output.write(&file_sd::text(&list));
                    let changed = changed.map_err(|error| Ended::Output(output.path().display().to_string(), error))?;
                    pause = FIRST_PAUSE;
                    let (targets, path) = (list.len(), output.path().display());
                    match changed {
                        true => tracing::info!("wrote {targets} targets to {path}"),
                        false => tracing::debug!("{path} has these {targets} targets already"),
                    }
                    Ok(())
                });
                anyhow::Error::new(ended.await).context("the monitoring assignment server is lost")
            }
            // Before the first list, such a failure means that the address is wrong or another setting is.
            Err(failure) if !heard && !failure.is_transient() => {
                let advice = "check that --cp-address (KUMA_CONTROL_PLANE_API_SERVER_URL) is the API server of a \
                    kuma-cp, by default its port 5681";
                return anyhow::Error::new(failure).context(advice);
            }
            Err(failure) => anyhow::Error::new(failure),
        };
        tracing::warn!("{problem:#}; {} stays as it is. Trying again in {pause:?}", output.path().display());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
