//! kuma-dp with its Envoy as processes.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::{ControlPlane, Process, envoy_binary, eventually, ports::free_port, program};

/// A running kuma-dp and its Envoy.
pub struct Dataplane {
    process: Process,
    admin: u16,
    http: reqwest::Client,
}

/// Options of [`Dataplane::start_as`].
pub struct Start<'a> {
    /// Its drain time. The default is 2 s: connections of revoked flows end within the drain time, and tests wait for
    /// that.
    pub drain_time: &'a str,
    /// Whether its Envoy has an admin server. Most methods of [`Dataplane`] need it.
    pub admin: bool,
    /// Its limit of open files, if it differs from that of the test.
    pub open_files: Option<u32>,
    /// Further control planes that serve its mesh.
    pub others: &'a [&'a ControlPlane],
}

impl Default for Start<'_> {
    fn default() -> Self {
        Start { drain_time: "2s", admin: true, open_files: None, others: &[] }
    }
}

impl Dataplane {
    /// Starts one with a token.
    pub fn start(cp: &ControlPlane, mesh: &str, name: &str) -> Dataplane {
        Dataplane::start_as(cp, mesh, name, &Start::default())
    }

    /// Starts one with a token and these options.
    pub fn start_as(cp: &ControlPlane, mesh: &str, name: &str, start: &Start<'_>) -> Dataplane {
        let token = cp.token_file(mesh, name);
        let token = token.to_str().expect("a temporary path is UTF-8").to_owned();
        Dataplane::run(cp, mesh, name, &["--dataplane-token-file", &token], start)
    }

    /// Starts one with further arguments. It has a token only if they name one.
    pub fn start_with(cp: &ControlPlane, mesh: &str, name: &str, arguments: &[&str]) -> Dataplane {
        Dataplane::run(cp, mesh, name, arguments, &Start::default())
    }

    fn run(cp: &ControlPlane, mesh: &str, name: &str, arguments: &[&str], start: &Start<'_>) -> Dataplane {
        let admin = free_port();
        let admin_port = if start.admin { admin.to_string() } else { String::new() };
        let mut command = match start.open_files {
            None => Command::new(program("kuma-dp")),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(program("kuma-dp"));
                shell
            }
        };
        let addresses: Vec<String> = [cp].iter().chain(start.others).map(|cp| cp.api_url()).collect();
        command
            .arg("run")
            .args(["--name", name, "--mesh", mesh, "--cp-address", &addresses.join(",")])
            .arg(format!("--admin-port={admin_port}"))
            .args(arguments)
            .env("HOME", cp.folder())
            // A proxy that is killed leaves its folder.
            .env("TMPDIR", cp.folder())
            .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy_binary())
            .env("KUMA_DATAPLANE_DRAIN_TIME", start.drain_time);
        let process = Process::start(&format!("{mesh}.{name}"), &mut command, cp.folder());
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Dataplane { process, admin, http }
    }

    /// kuma-dp's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process id of Envoy, once it has replaced the helper that starts it.
    pub async fn envoy(&self) -> u32 {
        eventually("kuma-dp starts Envoy", async || {
            let id = *self.process.children().first()?;
            let binary = std::fs::read_link(format!("/proc/{id}/exe")).ok()?;
            (binary == std::fs::canonicalize(envoy_binary()).ok()?).then_some(id)
        })
        .await
    }

    /// Waits until Envoy's admin server answers, even if Envoy does not have its configuration yet.
    pub async fn admin_answers(&self) {
        eventually("Envoy's admin server answers", async || self.http.get(self.url("/ready")).send().await.ok()).await;
    }

    /// Waits until Envoy has all its configuration.
    pub async fn live(&self) {
        eventually("Envoy is live", || async {
            let response = self.http.get(self.url("/ready")).send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// A counter or gauge of Envoy; 0 if it does not exist.
    pub async fn stat(&self, name: &str) -> u64 {
        self.stats(&format!("^{}$", regex_escape(name))).await.get(name).copied().unwrap_or(0)
    }

    /// All counters and gauges of Envoy whose name matches a regular expression.
    pub async fn stats(&self, pattern: &str) -> BTreeMap<String, u64> {
        let query = [("format", "json"), ("filter", pattern)];
        let response = self.http.get(self.url("/stats")).query(&query).send().await;
        let body: Value = response.expect("Envoy's admin answers").json().await.expect("JSON");
        let stats = body["stats"].as_array().into_iter().flatten();
        let values = stats.filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?)));
        values.collect()
    }

    /// Name and version of every resource that Envoy holds, by its config dump.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let dump: Value = serde_json::from_str(&self.config_dump().await).expect("JSON");
        let mut versions = BTreeMap::new();
        note_versions(&dump, &mut versions);
        versions
    }

    /// Envoy's config dump, including endpoints.
    pub async fn config_dump(&self) -> String {
        let response = self.http.get(self.url("/config_dump?include_eds")).send().await.expect("Envoy's admin answers");
        response.text().await.expect("text")
    }

    /// A page of Envoy's admin server.
    pub async fn admin_page(&self, path: &str) -> String {
        let response = self.http.get(self.url(path)).send().await.expect("Envoy's admin answers");
        response.text().await.expect("text")
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }
}

/// Collects the version of each object of a dump that has one.
fn note_versions(dump: &Value, versions: &mut BTreeMap<String, String>) {
    match dump {
        Value::Object(fields) => {
            if let Some(version) = fields.get("version_info").and_then(Value::as_str).filter(|text| !text.is_empty()) {
                let name = |value: &Value| -> Option<String> {
                    let name = value.get("name").or_else(|| value.get("cluster_name"))?;
                    Some(format!("{} {}", value["@type"].as_str().unwrap_or("?"), name.as_str()?))
                };
                let inner = fields.values().find_map(name);
                let own = || fields.get("name").and_then(Value::as_str).map(|name| format!("? {name}"));
                if let Some(name) = inner.or_else(own) {
                    versions.insert(name, version.to_owned());
                }
            }
            fields.values().for_each(|value| note_versions(value, versions));
        }
        Value::Array(items) => items.iter().for_each(|value| note_versions(value, versions)),
        _ => {}
    }
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_ascii_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}
