//! Prometheus as a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Process, ports::free_port};

/// The real Prometheus.
///
/// # Panics
/// If `PROMETHEUS_BINARY` does not name it.
pub fn prometheus_binary() -> PathBuf {
    let path = std::env::var_os("PROMETHEUS_BINARY").map(PathBuf::from).expect(
        "PROMETHEUS_BINARY has to name a Prometheus: run `make test`, or export it as scripts/get-prometheus.sh \
         prints it",
    );
    assert!(path.is_file(), "PROMETHEUS_BINARY is not a file: {}", path.display());
    path
}

/// A running Prometheus.
pub struct Prometheus {
    url: String,
    process: Process,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts one with this configuration (YAML), with its files in `folder`.
    pub fn start(configuration: &str, folder: &Path) -> Prometheus {
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, configuration).expect("a configuration of Prometheus");
        let port = free_port();
        let mut command = Command::new(prometheus_binary());
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start("prometheus", &mut command, folder);
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Prometheus { url: format!("http://127.0.0.1:{port}"), process, http }
    }

    /// Its log so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The labels and the value of each series that matches a query; empty while Prometheus is not ready.
    pub async fn query(&self, query: &str) -> Vec<(Value, String)> {
        let request = self.http.get(format!("{}/api/v1/query", self.url)).query(&[("query", query)]);
        let Ok(answer) = request.send().await else { return Vec::new() };
        let body: Value = answer.json().await.unwrap_or_default();
        let series = body["data"]["result"].as_array().cloned().unwrap_or_default();
        let read = |one: Value| (one["metric"].clone(), one["value"][1].as_str().unwrap_or_default().to_owned());
        series.into_iter().map(read).collect()
    }

    /// The URLs that it scrapes, sorted.
    pub async fn targets(&self) -> Vec<String> {
        let Ok(answer) = self.http.get(format!("{}/api/v1/targets", self.url)).send().await else { return Vec::new() };
        let body: Value = answer.json().await.unwrap_or_default();
        let targets = body["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let mut urls: Vec<String> =
            targets.iter().filter_map(|target| Some(target["scrapeUrl"].as_str()?.to_owned())).collect();
        urls.sort();
        urls
    }
}
