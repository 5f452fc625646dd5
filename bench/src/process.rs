//! kuma-cp as a process, and the costs of processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kuma_store_postgres::testing::{PASSWORD, Server};

/// How a kuma-cp is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) log_level: String,
    /// Processors that it may use, in the syntax of taskset.
    pub(crate) cpus: Option<String>,
    /// Further variables of its environment.
    pub(crate) variables: Vec<(String, String)>,
}

/// Where control planes keep their documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Store {
    Memory,
    File,
    /// A PostgreSQL that is started for the run, with its own settings but for shared buffers of 128 MB, WAL files of
    /// 1 MB and no just-in-time compilation.
    Postgres,
}

/// A store that control planes can use. The server of PostgreSQL ends when this is dropped.
pub(crate) struct RunningStore {
    pub(crate) store: Store,
    /// What control planes have to know to use it.
    variables: Vec<(String, String)>,
    _server: Option<Server>,
}

impl RunningStore {
    pub(crate) fn start(store: Store) -> RunningStore {
        let variable = |name: &str, value: &str| (format!("KUMA_STORE_{name}"), value.to_owned());
        let (mut variables, server) = match store {
            Store::Memory | Store::File => (Vec::new(), None),
            Store::Postgres => {
                let server = Server::start(&["fsync=on", "full_page_writes=on", "shared_buffers=128MB"]);
                let config = server.database();
                let variables = vec![
                    variable("POSTGRES_HOST", "127.0.0.1"),
                    variable("POSTGRES_PORT", &server.port().to_string()),
                    variable("POSTGRES_USER", "kuma"),
                    variable("POSTGRES_PASSWORD", PASSWORD),
                    variable("POSTGRES_DB_NAME", &config.db_name),
                ];
                (variables, Some(server))
            }
        };
        variables.push(variable("TYPE", store.name()));
        RunningStore { store, variables, _server: server }
    }
}

impl Store {
    /// As in `KUMA_STORE_TYPE`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::File => "file",
            Store::Postgres => "postgres",
        }
    }
}

/// Where its servers listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) xds: u16,
    pub(crate) sds: u16,
    pub(crate) admin: u16,
    pub(crate) diagnostics: u16,
    pub(crate) api: u16,
    pub(crate) bootstrap: u16,
    monitoring: u16,
}

/// A running kuma-cp with a state folder of its own; killed when dropped.
pub(crate) struct ControlPlane {
    launch: Launch,
    pub(crate) ports: Ports,
    pub(crate) costs: Watched,
    folder: tempfile::TempDir,
    child: Child,
}

/// A process whose costs are measured. Without a process they are 0.
#[derive(Default)]
pub(crate) struct Watched {
    pid: Option<u32>,
    /// CPU seconds before its last restart.
    spent: f64,
}

impl ControlPlane {
    /// Starts one on a store and waits until it is ready.
    pub(crate) async fn start(launch: &Launch, running_store: &RunningStore) -> anyhow::Result<ControlPlane> {
        let mut launch = launch.clone();
        launch.variables.extend(running_store.variables.iter().cloned());
        let ports = Ports::free()?;
        let folder = tempfile::tempdir()?;
        let child = spawn(&launch, ports, folder.path())?;
        let costs = Watched::new(child.id());
        let mut control_plane = ControlPlane { launch, ports, costs, folder, child };
        control_plane.ready().await?;
        Ok(control_plane)
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.costs.spent = self.costs.cpu_seconds();
        self.costs.pid = None;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after it was killed, on the same ports and with the same state folder.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.launch, self.ports, self.folder.path())?;
        self.costs.pid = Some(self.child.id());
        self.ready().await
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.api)
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.admin)
    }

    pub(crate) fn bootstrap_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.bootstrap)
    }

    /// Lines of its log that are warnings or errors.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).map(str::to_owned).collect()
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/ready", self.ports.diagnostics);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if http.get(&url).send().await.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("kuma-cp did not become ready:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Watched {
    pub(crate) fn new(pid: u32) -> Watched {
        Watched { pid: Some(pid), spent: 0.0 }
    }

    /// CPU seconds of all its threads, including those before restarts. The kernel counts in steps of 10 ms.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.spent + self.pid.and_then(cpu_seconds).unwrap_or_default()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.pid.map(|pid| memory(pid, "VmRSS:")).unwrap_or_default()
    }

    /// The part of its resident memory that is its own, in bytes: without the pages of the program and its libraries,
    /// which the kernel can drop.
    pub(crate) fn anonymous(&self) -> u64 {
        self.pid.map(|pid| memory(pid, "RssAnon:")).unwrap_or_default()
    }

    /// Its peak of resident memory since [`Watched::reset_peak`].
    pub(crate) fn peak_rss(&self) -> u64 {
        self.pid.map(|pid| memory(pid, "VmHWM:")).unwrap_or_default()
    }

    /// Resets the peak.
    pub(crate) fn reset_peak(&self) {
        if let Some(pid) = self.pid {
            // 5 resets the peak (proc(5)). If that fails, the peak is that since the start of the process.
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ports {
    fn free() -> anyhow::Result<Ports> {
        // Below the ephemeral ports, of which there may be many thousand in use. The listeners are kept until all ports
        // are found, so that the ports differ.
        let mut listeners: Vec<TcpListener> = Vec::new();
        while listeners.len() < 7 {
            let port = rand::random_range(10_000..30_000);
            listeners.extend(TcpListener::bind(("127.0.0.1", port)));
        }
        let ports: Vec<u16> =
            listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<_>>()?;
        let [xds, sds, admin, diagnostics, api, bootstrap, monitoring] = ports[..] else { bail!("not seven ports") };
        Ok(Ports { xds, sds, admin, diagnostics, api, bootstrap, monitoring })
    }
}

fn spawn(launch: &Launch, ports: Ports, folder: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = match &launch.cpus {
        Some(cpus) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cpus]).arg(&launch.program);
            command
        }
        None => Command::new(&launch.program),
    };
    command
        .args(["--log-level", &launch.log_level, "run"])
        .env("HOME", folder)
        .env("KUMA_GENERAL_WORK_DIR", folder.join("state"))
        .env("KUMA_XDS_SERVER_GRPC_PORT", ports.xds.to_string())
        .env("KUMA_SDS_SERVER_GRPC_PORT", ports.sds.to_string())
        .env("KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT", ports.monitoring.to_string())
        .env("KUMA_XDS_SERVER_DIAGNOSTICS_PORT", ports.diagnostics.to_string())
        .env("KUMA_ADMIN_SERVER_LOCAL_PORT", ports.admin.to_string())
        .env("KUMA_API_SERVER_PORT", ports.api.to_string())
        .env("KUMA_BOOTSTRAP_SERVER_PORT", ports.bootstrap.to_string())
        .envs(launch.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", launch.program.display()))
}

/// CPU seconds of this process.
pub(crate) fn own_cpu_seconds() -> f64 {
    cpu_seconds(std::process::id()).unwrap_or_default()
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5).
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which may contain any character, ends at the last parenthesis; the next field is the third.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let sum = ticks()? + ticks()?;
    Some(sum as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    1024 * kilobytes.unwrap_or_default()
}
