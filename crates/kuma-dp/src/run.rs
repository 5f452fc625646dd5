//! The life of `kuma-dp run`, from the first request to the control plane to Envoy's end.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kuma_wire::bootstrap::BootstrapRequest;

use crate::access_log::AccessLogs;
use crate::admin_port::AdminPort;
use crate::backoff::Backoff;
use crate::bootstrap::{self, Address, Facts, XdsServer};
use crate::config::Config;
use crate::control_planes::{ControlPlanes, Failed};
use crate::drain::drain;
use crate::envoy::admin::Admin;
use crate::envoy::lookup::Places;
use crate::envoy::{self, Envoy};
use crate::file_limit;
use crate::lifecycle::{Identity, Lifecycle, State};
use crate::no_dumps;
use crate::runtime_dir::RuntimeDir;
use crate::signals::{Request, Signals};
use crate::single_instance::SingleInstance;
use crate::token::TokenFile;

/// How long the last report may delay the end of kuma-dp.
const LAST_REPORT_LIMIT: Duration = Duration::from_secs(1);

/// A signal that arrives within this time after Envoy's end was sent to both processes.
const LATE_SIGNAL: Duration = Duration::from_millis(100);

/// How long the remaining access logs may delay the end of kuma-dp.
const LAST_LOGS_LIMIT: Duration = Duration::from_secs(2);

/// Runs Envoy until it ends or a signal asks kuma-dp to end. Returns the exit code: 0 after a signal. If Envoy has
/// ended by itself, the code is Envoy's own, or 1 in place of 0, so that a supervisor starts kuma-dp again.
///
/// # Errors
/// Envoy could not be started at all.
pub(crate) async fn run(config: Config) -> anyhow::Result<u8> {
    let mut signals = Signals::install().context("could not listen for signals")?;
    no_dumps::forbid();
    // Everything that can be checked locally is checked before waiting for the control plane.
    let binary = Places::here().find(&config.binary_path)?;
    let dir = RuntimeDir::create(config.config_dir.as_deref())?;
    let max_connections = file_limit::raise();
    let _single_instance = SingleInstance::claim(&config);
    let token = config
        .token_file
        .clone()
        .map(|path| TokenFile::open(path, dir.token(), &config.mesh, &config.name))
        .transpose()?
        .map(Arc::new);
    let code = {
        let mut supervisor =
            Supervisor { config: &config, binary, dir: &dir, token, signals: &mut signals, max_connections };
        supervisor.run().await
    };
    dir.remove();
    code
}

struct Supervisor<'a> {
    config: &'a Config,
    /// Envoy's executable.
    binary: PathBuf,
    dir: &'a RuntimeDir,
    token: Option<Arc<TokenFile>>,
    signals: &'a mut Signals,
    /// How many connections Envoy can carry at a time.
    max_connections: Option<u64>,
}

/// What Envoy needs to start.
struct Prepared<'a> {
    bootstrap: &'a Path,
    admin: Option<Address>,
    xds: Option<XdsServer>,
    /// Held for as long as Envoy runs.
    _admin_port: Option<AdminPort>,
}

impl Supervisor<'_> {
    async fn run(&mut self) -> anyhow::Result<u8> {
        let preparing = async {
            let prepared = prepare(self.config, self.dir, self.token.as_deref(), self.max_connections).await?;
            if tracing::enabled!(tracing::Level::INFO)
                && let Some(version) = envoy::version(&self.binary).await
            {
                tracing::info!("Envoy {version}, {}", self.binary.display());
            }
            anyhow::Ok(prepared)
        };
        let Prepared { bootstrap, admin, xds, _admin_port } = tokio::select! {
            prepared = preparing => prepared?,
            signal = self.signals.stop() => {
                tracing::info!("{signal}: ending before Envoy was started");
                return Ok(0);
            }
        };
        // Started before Envoy, which drops log entries that it cannot send. If it fails, Envoy runs without access
        // logs.
        let access_logs = AccessLogs::start(&self.dir.access_log_socket())
            .inspect_err(|error| tracing::warn!("cannot receive access logs, which are lost: {error}"))
            .ok();
        let envoy = Envoy::start(&self.binary, bootstrap, self.config.drain_time)?;
        tracing::info!("started Envoy (process {}) with {}", envoy.id().unwrap_or_default(), bootstrap.display());
        let lifecycle = xds.map(|server| {
            Lifecycle::start(Identity {
                server,
                mesh: self.config.mesh.clone(),
                name: self.config.name.clone(),
                instance: format!("{:016x}", rand::random::<u64>()),
                token: self.token.clone(),
            })
        });
        let code = self.supervise(envoy, lifecycle, admin).await;
        if let Some(access_logs) = access_logs {
            access_logs.finish(LAST_LOGS_LIMIT).await;
        }
        code
    }

    /// Looks after Envoy until it has ended.
    async fn supervise(
        &mut self,
        mut envoy: Envoy,
        lifecycle: Option<Lifecycle>,
        admin: Option<Address>,
    ) -> anyhow::Result<u8> {
        loop {
            tokio::select! {
                // A supervisor may send SIGTERM to both processes, so signals are looked at before Envoy's end.
                biased;
                request = self.signals.next() => match request {
                    Request::Stop(signal) => {
                        let admin = admin.as_ref().and_then(Admin::new);
                        return self.stop(signal, envoy, lifecycle, admin).await;
                    }
                    Request::Reload => self.reload_token(),
                },
                status = envoy.wait() => {
                    let status = status?;
                    return match tokio::time::timeout(LATE_SIGNAL, self.signals.stop()).await {
                        Ok(signal) => {
                            tracing::info!("{signal}: Envoy was ended with kuma-dp");
                            report_end(lifecycle, "kuma-dp was asked to end").await;
                            Ok(0)
                        }
                        Err(_) => exited(status, lifecycle).await,
                    };
                }
            }
        }
    }

    /// Drains and ends Envoy. A second signal cuts that short.
    async fn stop(
        &mut self,
        signal: &str,
        mut envoy: Envoy,
        lifecycle: Option<Lifecycle>,
        admin: Option<Admin>,
    ) -> anyhow::Result<u8> {
        let drain_time = self.config.drain_time;
        tracing::info!("{signal}: draining Envoy for at most {drain_time:?}; a second signal ends it at once");
        let second = async {
            tokio::select! {
                () = drain(lifecycle.as_ref(), admin.as_ref(), drain_time) => None,
                signal = self.signals.stop() => Some(signal),
                _ = envoy.wait() => None,
            }
        };
        let second = match second.await {
            None => tokio::select! {
                status = envoy.terminate() => {
                    tracing::info!("Envoy has ended: {}", status?);
                    None
                }
                signal = self.signals.stop() => Some(signal),
            },
            second => second,
        };
        if let Some(signal) = second {
            envoy.kill().await?;
            tracing::warn!("{signal} again: Envoy was killed");
            return Ok(1);
        }
        report_end(lifecycle, "kuma-dp was asked to end").await;
        Ok(0)
    }

    fn reload_token(&self) {
        match self.token.as_deref().map(TokenFile::refresh) {
            Some(Ok(_)) => tracing::warn!(
                "SIGHUP: read the token file again. Envoy goes on with the token that it was started with (seen on \
                 1.40); if that one is not valid any more, start kuma-dp again"
            ),
            Some(Err(error)) => tracing::warn!("SIGHUP: keeping the token as it was: {error:#}"),
            None => tracing::info!("SIGHUP: there is no token file to read again"),
        }
    }
}

async fn report_end(lifecycle: Option<Lifecycle>, why: &str) {
    if let Some(lifecycle) = lifecycle {
        lifecycle.finish(State::EnvoyExited, why, LAST_REPORT_LIMIT).await;
    }
}

/// Envoy has ended by itself: kuma-dp ends too, so that its supervisor starts both again.
async fn exited(status: ExitStatus, lifecycle: Option<Lifecycle>) -> anyhow::Result<u8> {
    // A process that a signal ended has no code. An Envoy that somebody else has asked to end (/quitquitquit, SIGTERM)
    // has code 0, which a supervisor would take for a normal end of kuma-dp.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
    let how = match status.signal() {
        Some(signal) => format!("it was killed by signal {signal}"),
        None => format!("it exited with code {}", status.code().unwrap_or_default()),
    };
    report_end(lifecycle, &how).await;
    // Always shown, like other warnings: it says why kuma-dp is gone.
    tracing::warn!("Envoy has ended: {how}. Its own messages are above; kuma-dp ends with it");
    Ok(code)
}

/// Gets everything that Envoy needs from the control plane, and tries until that succeeds.
async fn prepare<'a>(
    config: &Config,
    dir: &'a RuntimeDir,
    token: Option<&TokenFile>,
    max_connections: Option<u64>,
) -> anyhow::Result<Prepared<'a>> {
    let mut backoff = Backoff::new();
    let mut warned_of_token = false;
    loop {
        // Chosen again for each attempt: a port that was free a minute ago may be in use now.
        let admin_port = config.admin_port.map(AdminPort::reserve).transpose()?;
        let request = BootstrapRequest {
            mesh: &config.mesh,
            name: &config.name,
            admin_port: admin_port.as_ref().map(|admin| admin.port),
            dataplane_token_path: token.map(TokenFile::copy),
            access_log_socket: &dir.access_log_socket(),
            max_connections,
            xds_servers: &[],
        };
        let failed = match ask(config, &request, &mut warned_of_token).await {
            Ok(text) => {
                let Facts { admin, xds } = bootstrap::read(&text).unwrap_or_else(|error| {
                    tracing::warn!(
                        "kuma-dp does not understand the bootstrap, and reports nothing to the control plane: {error}"
                    );
                    Facts { admin: None, xds: None }
                });
                if let (Some(server), Some(_)) = (&xds, token)
                    && server.tls.is_none()
                {
                    tracing::warn!("the control plane offers xDS without TLS: kuma-dp does not send the token there");
                }
                return Ok(Prepared { bootstrap: dir.write_bootstrap(&text)?, admin, xds, _admin_port: admin_port });
            }
            Err(failed) => failed,
        };
        let is_transient = failed.iter().any(|(_, failure)| failure.is_transient());
        let reasons = failed.into_iter().map(|(address, failure)| {
            let advice = failure.advice(address);
            format!("{:#}; {advice}", anyhow::Error::from(failure))
        });
        let reasons = reasons.collect::<Vec<_>>().join(". ");
        anyhow::ensure!(is_transient, "{reasons}");
        let pause = backoff.next();
        tracing::warn!("{reasons}. Next attempt in {pause:.1?}");
        tokio::time::sleep(pause).await;
    }
}

async fn ask<'a>(
    config: &'a Config,
    request: &BootstrapRequest<'_>,
    warned_of_token: &mut bool,
) -> Result<bytes::Bytes, Vec<Failed<'a>>> {
    let control_planes = ControlPlanes::ask(&config.cp_address).await;
    if control_planes.issue_tokens() && config.token_file.is_none() && !*warned_of_token {
        *warned_of_token = true;
        tracing::warn!(
            "no dataplane token was given: if mesh {mesh:?} has mTLS, this proxy gets no certificate. Generate one \
             with 'kumactl generate dataplane-token --dataplane={name} --mesh={mesh} > /path/file' and pass it with \
             --dataplane-token-file=/path/file",
            mesh = config.mesh,
            name = config.name,
        );
    }
    control_planes.bootstrap(request).await
}
