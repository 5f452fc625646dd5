//! kuma-cp as a process.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::machine::{Machine, command_on};
use crate::{Process, eventually, ports::free_port, program};

/// A running kuma-cp with the memory store, and a folder for its files.
pub struct ControlPlane {
    ports: Ports,
    env: Vec<(String, String)>,
    log_level: &'static str,
    process: Process,
    http: reqwest::Client,
    folder: tempfile::TempDir,
    machine: Option<String>,
    host: Ipv4Addr,
}

#[derive(Clone, Copy)]
struct Ports {
    mads: u16,
    xds: u16,
    sds: u16,
    admin: u16,
    diagnostics: u16,
    api: u16,
    bootstrap: u16,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub async fn start() -> ControlPlane {
        ControlPlane::start_with(&[]).await
    }

    /// Starts one with further variables in its environment.
    pub async fn start_with(env: &[(&str, &str)]) -> ControlPlane {
        ControlPlane::start_at("info", env, None).await
    }

    /// Starts one on another machine.
    pub async fn start_on(machine: &Machine, env: &[(&str, &str)]) -> ControlPlane {
        ControlPlane::start_at("info", env, Some(machine)).await
    }

    /// The same, with the most detailed log.
    pub async fn start_logging_all(env: &[(&str, &str)]) -> ControlPlane {
        ControlPlane::start_at("debug", env, None).await
    }

    async fn start_at(log_level: &'static str, env: &[(&str, &str)], machine: Option<&Machine>) -> ControlPlane {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = Ports {
            mads: free_port(),
            xds: free_port(),
            sds: free_port(),
            admin: free_port(),
            diagnostics: free_port(),
            api: free_port(),
            bootstrap: free_port(),
        };
        let env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let host = machine.map_or(Ipv4Addr::LOCALHOST, |machine| machine.there);
        let machine = machine.map(|machine| machine.name().to_owned());
        let process = run(ports, log_level, &env, folder.path(), machine.as_deref());
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let cp = ControlPlane { ports, env, log_level, process, http, folder, machine, host };
        cp.ready().await;
        cp
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`ControlPlane::kill`], on the same ports and with the same state folder.
    pub async fn restart(&mut self) {
        self.process = run(self.ports, self.log_level, &self.env, self.folder.path(), self.machine.as_deref());
        self.ready().await;
    }

    /// Sets a variable of its environment, from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// A folder that is removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of its HTTP API.
    pub fn api_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.api)
    }

    /// The URL of its admin API.
    pub fn admin_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.admin)
    }

    /// The URL of its bootstrap API.
    pub fn bootstrap_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.bootstrap)
    }

    /// The port of its xDS server.
    pub fn xds_port(&self) -> u16 {
        self.ports.xds
    }

    /// The port of its monitoring assignment server.
    pub fn mads_port(&self) -> u16 {
        self.ports.mads
    }

    /// The port of its SDS server.
    pub fn sds_port(&self) -> u16 {
        self.ports.sds
    }

    /// The URL of its diagnostics.
    pub fn diagnostics_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.diagnostics)
    }

    /// Writes a document over the HTTP API.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn apply(&self, document: &Value) {
        let response = self.put(document).await;
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        assert!(status.is_success(), "{status} for {document}: {body}");
    }

    /// Writes a document over the HTTP API, and returns the response.
    pub async fn put(&self, document: &Value) -> reqwest::Response {
        let path = path_of(document);
        let request = self.http.put(format!("{}{path}", self.api_url())).json(document);
        request.send().await.expect("the HTTP API answers")
    }

    /// Writes a document, and returns the revision of the change.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn change(&self, document: &Value) -> u64 {
        self.change_in_epoch(document).await.0
    }

    /// Writes a document, and returns the revision and epoch of the change.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn change_in_epoch(&self, document: &Value) -> (u64, String) {
        let response = self.put(document).await;
        let (status, revision) = (response.status(), revision_of(&response));
        let body = response.text().await.unwrap_or_default();
        assert!(status.is_success(), "{status} for {document}: {body}");
        revision.expect("an answer to a write has a revision")
    }

    /// Deletes a document by its path in the HTTP API, and returns the revision of the change.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn revoke(&self, path: &str) -> u64 {
        let response = self.http.delete(format!("{}{path}", self.api_url())).send().await;
        let response = response.expect("the HTTP API answers");
        assert!(response.status().is_success(), "{} for DELETE {path}", response.status());
        revision_of(&response).expect("an answer to a write has a revision").0
    }

    /// The receipt of a change, once it is final or after a time such as `30s`.
    pub async fn receipt(&self, revision: u64, wait: &str) -> Value {
        self.get(&format!("/changes/{revision}?wait={wait}")).await
    }

    /// Status and body of a GET request to the HTTP API.
    pub async fn get_status(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.api_url())).send().await.expect("the HTTP API answers");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Deletes a document by its path in the HTTP API.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn delete(&self, path: &str) {
        let response =
            self.http.delete(format!("{}{path}", self.api_url())).send().await.expect("the HTTP API answers");
        assert!(response.status().is_success(), "{} for DELETE {path}", response.status());
    }

    /// The body of a GET request to the HTTP API.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}{path}", self.api_url())).send().await.expect("the HTTP API answers");
        response.json().await.expect("JSON")
    }

    /// Runs kumactl against it, with its own configuration.
    pub fn kumactl(&self, arguments: &[&str], input: &str) -> Output {
        let config = self.kumactl_config();
        let mut child = Command::new(program("kumactl"))
            .arg("--config-file")
            .arg(config)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kumactl starts");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).ok();
        drop(stdin);
        child.wait_with_output().expect("kumactl ends")
    }

    /// A dataplane token in a file.
    pub fn token_file(&self, mesh: &str, name: &str) -> PathBuf {
        let output = self.kumactl(&["generate", "dataplane-token", "--dataplane", name, "--mesh", mesh], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = self.folder.path().join(format!("{mesh}.{name}.token"));
        std::fs::write(&path, &output.stdout).expect("a token file");
        path
    }

    fn kumactl_config(&self) -> PathBuf {
        let path = self.folder.path().join("kumactl.yaml");
        let text = format!(
            "contexts:\n- controlPlane: local\n  name: local\ncontrolPlanes:\n- coordinates:\n    apiServer:\n      \
             url: {}\n  name: local\ncurrentContext: local\n",
            self.api_url()
        );
        std::fs::write(&path, text).expect("a configuration of kumactl");
        path
    }

    async fn ready(&self) {
        let url = format!("http://{}:{}/ready", self.host, self.ports.diagnostics);
        eventually("kuma-cp is ready", || async {
            let response = self.http.get(&url).send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }
}

fn run(ports: Ports, log_level: &str, env: &[(String, String)], folder: &Path, machine: Option<&str>) -> Process {
    let mut command = match machine {
        None => Command::new(program("kuma-cp")),
        Some(machine) => command_on(machine, program("kuma-cp")),
    };
    command
        .args(["run", "--log-level", log_level])
        .env("HOME", folder)
        .env("KUMA_GENERAL_WORK_DIR", folder.join("state"))
        .env("KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT", ports.mads.to_string())
        .env("KUMA_XDS_SERVER_GRPC_PORT", ports.xds.to_string())
        .env("KUMA_SDS_SERVER_GRPC_PORT", ports.sds.to_string())
        .env("KUMA_XDS_SERVER_DIAGNOSTICS_PORT", ports.diagnostics.to_string())
        .env("KUMA_ADMIN_SERVER_LOCAL_PORT", ports.admin.to_string())
        .env("KUMA_API_SERVER_PORT", ports.api.to_string())
        .env("KUMA_BOOTSTRAP_SERVER_PORT", ports.bootstrap.to_string())
        .envs(env.iter().map(|(name, value)| (name, value)));
    Process::start("kuma-cp", &mut command, folder)
}

/// The revision and the epoch in the headers of an answer.
fn revision_of(response: &reqwest::Response) -> Option<(u64, String)> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    Some((header("kuma-revision")?.parse().ok()?, header("kuma-epoch")?.to_owned()))
}

/// The path of a document on the HTTP API.
fn path_of(document: &Value) -> String {
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let collection = match document["type"].as_str().unwrap_or_default() {
        "Mesh" => return format!("/meshes/{}", text("name")),
        "Dataplane" => "dataplanes",
        "TrafficPermission" => "traffic-permissions",
        "TrafficRoute" => "traffic-routes",
        "TrafficLog" => "traffic-logs",
        "TrafficTrace" => "traffic-traces",
        "HealthCheck" => "health-checks",
        "ProxyTemplate" => "proxytemplates",
        other => panic!("no document of a test is a {other}"),
    };
    format!("/meshes/{}/{collection}/{}", text("mesh"), text("name"))
}
