//! A PostgreSQL server for tests: its own, on a free port, in a temporary folder.
//!
//! Its programs are in the folder that the variable `POSTGRES_BIN` names (`scripts/get-postgres.sh` prints one), or
//! where Debian puts them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::{Password, PostgresConfig};

/// How long a server may take to start, stop or answer. Only a broken one takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom servers run as if we are root: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// The password of the user `kuma`.
pub const PASSWORD: &str = "kuma's \"pass\\word\" %40 #ü?&=+";

/// Over its socket everybody is let in; over TCP only with a password.
const HBA: &str = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A running server. It is stopped and its data are removed when this is dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    postmaster: Child,
    databases: AtomicU32,
}

impl Server {
    /// A new server, with these lines in its configuration.
    ///
    /// # Panics
    /// It cannot be started; also below.
    pub fn start(settings: &[&str]) -> Server {
        let folder = folder();
        let data = folder.path().join("data");
        copy(&template(), &data);
        fs::write(data.join("pg_hba.conf"), HBA).expect("a list of who may connect");
        let server = Server::run(folder, settings);
        server.sql("postgres", &format!("CREATE ROLE kuma LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''")));
        server
    }

    /// A server that follows this one.
    pub fn standby(&self, settings: &[&str]) -> Server {
        let folder = folder();
        let data = folder.path().join("data");
        let mut command = as_server("pg_basebackup");
        command.args(["-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-h"]).arg(self.folder.path());
        run(command.args(["-p", &self.port.to_string(), "-D"]).arg(&data));
        Server::run(folder, settings)
    }

    fn run(folder: TempDir, settings: &[&str]) -> Server {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        for _ in 0..5 {
            let port = free_port();
            let mut postmaster = postmaster(folder.path(), port, &settings);
            if is_up(folder.path(), port, &mut postmaster) {
                return Server { folder, port, settings, postmaster, databases: AtomicU32::new(0) };
            }
            // Somebody else may have taken the port meanwhile.
            let _ = postmaster.kill();
            let _ = postmaster.wait();
        }
        panic!("PostgreSQL does not start: {}", log(folder.path()));
    }

    /// A new, empty database of the user `kuma`, and how to reach it.
    pub fn database(&self) -> PostgresConfig {
        let name = format!("kuma {}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" OWNER kuma"));
        self.config(&name)
    }

    /// How the user `kuma` reaches a database.
    pub fn config(&self, database: &str) -> PostgresConfig {
        PostgresConfig {
            hosts: vec![self.address()],
            password: Password::Text(PASSWORD.into()),
            db_name: database.into(),
            ..PostgresConfig::default()
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as the superuser, and returns what it prints, without headings.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = as_server("psql");
        command
            .args(["-AtqX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(self.folder.path());
        run(command.args(["-p", &self.port.to_string(), "-c", sql]))
    }

    /// Runs SQL while nobody is connected to a database.
    pub fn alone(&self, database: &str, sql: &[String]) {
        let allow = |allowed: bool| format!("ALTER DATABASE \"{database}\" WITH ALLOW_CONNECTIONS {allowed}");
        self.sql("postgres", &allow(false));
        self.cut(database);
        sql.iter().for_each(|sql| drop(self.sql("postgres", sql)));
        self.sql("postgres", &allow(true));
    }

    /// Ends all connections to a database.
    pub fn cut(&self, database: &str) {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        self.sql("postgres", &sql);
    }

    /// Stops it at once, as a crash does, and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Stops it at once, as a crash does.
    pub fn stop(&mut self) {
        signal(&self.postmaster, Signal::QUIT);
        let _ = self.postmaster.wait();
    }

    /// Starts it again, on the same port.
    pub fn start_again(&mut self) {
        self.postmaster = postmaster(self.folder.path(), self.port, &self.settings);
        assert!(is_up(self.folder.path(), self.port, &mut self.postmaster), "{}", log(self.folder.path()));
    }

    /// Stops all its processes where they are, or has them go on.
    pub fn freeze(&self, frozen: bool) {
        let sign = if frozen { Signal::STOP } else { Signal::CONT };
        signal(&self.postmaster, sign);
        for child in children(self.postmaster.id()) {
            let _ = kill_process(child, sign);
        }
    }

    /// Makes a standby a server that takes writes.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote(true, 60)");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.freeze(false);
        self.stop();
    }
}

/// The programs that run as the server does.
pub fn as_server(program: &str) -> Command {
    let mut command = Command::new(bin().join(program));
    as_nobody(&mut command);
    // Messages in one language, whatever that of the machine is.
    command.env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// Has a program run without the rights of root, which servers want.
pub fn as_nobody(command: &mut Command) {
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// A folder that the server may write to.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("kuma-postgres-").tempdir().expect("a temporary folder");
    own(folder.path());
    folder
}

/// Makes a file or folder the server's.
pub fn own(path: &Path) {
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("what the server owns");
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn bin() -> PathBuf {
    if let Some(folder) = std::env::var_os("POSTGRES_BIN") {
        return folder.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("postgres").exists());
    folders.max().expect("PostgreSQL: run scripts/get-postgres.sh and set POSTGRES_BIN to the folder that it prints")
}

/// An empty server's data, made once for all tests.
fn template() -> PathBuf {
    let program = std::env::current_exe().expect("the test program");
    let version = run(Command::new(bin().join("postgres")).arg("--version"));
    let version: String = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let template = program.with_file_name(format!("postgres-{version}"));
    if !template.exists() {
        let made = folder();
        let data = made.path().join("data");
        let mut command = as_server("initdb");
        command.args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1", "-D"]);
        run(command.arg(&data));
        let part = template.with_extension(std::process::id().to_string());
        copy(&data, &part);
        // Of several that make it at once the first wins.
        if fs::rename(&part, &template).is_err() {
            let _ = fs::remove_dir_all(&part);
        }
    }
    template
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-r").arg(from).arg(to));
    if getuid().is_root() {
        run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(to));
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("a folder of our own");
}

fn postmaster(folder: &Path, port: u16, settings: &[String]) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let mut command = as_server("postgres");
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off", "shared_buffers=32MB", "jit=off"]
        .into_iter()
        .chain(settings.iter().map(String::as_str))
    {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("PostgreSQL")
}

fn is_up(folder: &Path, port: u16, postmaster: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut command = as_server("psql");
        command.args(["-AtqX", "-U", "postgres", "-d", "postgres", "-c", "SELECT 1", "-h"]).arg(folder);
        let answer = command.args(["-p", &port.to_string()]).output().expect("psql");
        if answer.status.success() {
            return true;
        }
        if postmaster.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn signal(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<Pid> {
    let tasks = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    tasks.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
