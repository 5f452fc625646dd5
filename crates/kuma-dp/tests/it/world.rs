//! The setup of every test: a folder, a mock of the control plane, and a kuma-dp that is started with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kuma_test::Process;

use crate::control_plane::ControlPlane;

/// How long to wait for a process to end.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cp: ControlPlane,
}

impl World {
    pub(crate) async fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), cp: ControlPlane::start().await }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// kuma-dp for the Dataplane `web-1`, with Envoy's admin interface off unless `arguments` say otherwise.
    pub(crate) fn command(&self, envoy: &Path, arguments: &[&str]) -> Command {
        let mut command = command();
        command
            .args(["run", "--name=web-1", "--cp-address", &self.cp.api_url()])
            .args(arguments)
            .env("TMPDIR", self.tmp())
            // A script has no admin interface to count connections, so the whole drain time is waited out.
            .env("KUMA_DATAPLANE_DRAIN_TIME", "1s")
            .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy);
        for default in ["--admin-port=", "--log-level=debug"] {
            let (flag, _) = default.split_once('=').unwrap();
            if !arguments.iter().any(|argument| argument.starts_with(flag)) {
                command.arg(default);
            }
        }
        command
    }

    pub(crate) fn start(&self, envoy: &Path, arguments: &[&str]) -> Process {
        Process::start("kuma-dp", &mut self.command(envoy, arguments), self.folder.path())
    }

    /// The folder for kuma-dp's temporary directories.
    pub(crate) fn tmp(&self) -> PathBuf {
        let path = self.path("tmp");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The private directory of the only running kuma-dp.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        let mut entries: Vec<PathBuf> = entries(&self.tmp());
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }
}

/// kuma-dp with an environment that holds a secret, which must not be passed on to Envoy.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuma-dp"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("SOME_PASSWORD", "canary-of-env");
    command
}

pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whether a process of this id runs (a zombie does not).
pub(crate) fn is_running(pid: u32) -> bool {
    // The state follows the name, which is in parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
