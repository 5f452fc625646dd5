//! Envoy as a child process: its executable, its start and end, and its admin interface.

pub(crate) mod admin;
pub(crate) mod guard;
pub(crate) mod lookup;

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long Envoy may take to end after SIGTERM. Without connections it takes some 20 ms.
const TERM_LIMIT: Duration = Duration::from_secs(5);
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The environment variables that Envoy inherits: what it needs to find libraries and folders, and the time zone. All
/// others stay out, since the environment of kuma-dp may hold tokens, passwords and cloud credentials.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH"];

/// A running Envoy. It ends when this is dropped, and when kuma-dp ends, however that happens.
pub(crate) struct Envoy {
    child: Child,
}

impl Envoy {
    /// Starts Envoy. It writes to kuma-dp's own standard output and standard error.
    ///
    /// Must be called on a thread that lives as long as the process: see [`guard`].
    pub(crate) fn start(binary: &Path, bootstrap: &Path, drain_time: Duration) -> anyhow::Result<Envoy> {
        // The kernel's link to the running executable. It stays valid when an upgrade replaces the file.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("kuma-dp")
            .arg("envoy-guard")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(binary)
            .args(arguments(bootstrap, drain_time));
        with_clean_environment(&mut command)
            .stdin(Stdio::null())
            // Ctrl-C in a terminal signals the whole process group. Only kuma-dp must get it, so that it can drain
            // Envoy.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("could not start Envoy ({})", binary.display()))?;
        Ok(Envoy { child })
    }

    /// Its process id; `None` once it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.context("could not wait for Envoy")
    }

    /// Ends it by SIGTERM, and by SIGKILL if that takes too long.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
            // The process id cannot have been reused, since nobody has waited for the process yet. An error means that
            // it has already ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Ok(status) = tokio::time::timeout(TERM_LIMIT, self.wait()).await {
            return status;
        }
        tracing::warn!("Envoy has not ended {} s after it was asked to; killing it", TERM_LIMIT.as_secs());
        self.kill().await
    }

    /// Kills it at once.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        // An error means that it has ended.
        let _ = self.child.start_kill();
        self.wait().await
    }
}

/// `--disable-hot-restart`: otherwise a second Envoy on the machine cannot start, because of the first one's shared
/// memory. `--drain-strategy immediate`: all connections are asked to end when the drain begins, not gradually.
fn arguments(bootstrap: &Path, drain_time: Duration) -> [OsString; 7] {
    [
        "-c".into(),
        bootstrap.into(),
        "--drain-time-s".into(),
        whole_seconds(drain_time).to_string().into(),
        "--drain-strategy".into(),
        "immediate".into(),
        "--disable-hot-restart".into(),
    ]
}

/// Rounds up: Envoy takes whole seconds, and a drain must not be shorter than configured.
fn whole_seconds(time: Duration) -> u32 {
    let up = u64::from(time.subsec_nanos() > 0);
    u32::try_from(time.as_secs().saturating_add(up)).unwrap_or(u32::MAX)
}

/// Envoy's version, by `envoy --version`, for the log.
pub(crate) async fn version(binary: &Path) -> Option<String> {
    let mut command = Command::new(binary);
    command.arg("--version");
    with_clean_environment(&mut command).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_LIMIT, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "envoy  version: <commit>/<version>/<state>/<build>/<TLS library>"
    let version = text.split_once("version:")?.1.trim();
    (!version.is_empty()).then(|| version.chars().filter(|c| !c.is_control()).take(200).collect())
}

fn with_clean_environment(command: &mut Command) -> &mut Command {
    command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_times_are_rounded_up() {
        for (millis, seconds) in [(1, 1), (1000, 1), (1001, 2), (30_000, 30), (u64::MAX, u32::MAX)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
