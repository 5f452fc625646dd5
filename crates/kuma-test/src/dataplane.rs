//! kuma-dp with its Envoy as processes.

use std::process::Command;

use serde_json::Value;

use crate::{ControlPlane, Process, envoy_binary, eventually, ports::free_port, program};

/// A running kuma-dp and its Envoy.
pub struct Dataplane {
    process: Process,
    admin: u16,
    http: reqwest::Client,
}

impl Dataplane {
    /// Starts one with a token of its own.
    pub fn start(cp: &ControlPlane, mesh: &str, name: &str) -> Dataplane {
        let token = cp.token_file(mesh, name);
        let token = token.to_str().expect("a temporary path is UTF-8").to_owned();
        Dataplane::start_with(cp, mesh, name, &["--dataplane-token-file", &token])
    }

    /// Starts one with further arguments; without a token unless they name one.
    pub fn start_with(cp: &ControlPlane, mesh: &str, name: &str, arguments: &[&str]) -> Dataplane {
        let admin = free_port();
        let mut command = Command::new(program("kuma-dp"));
        command
            .arg("run")
            .args(["--name", name, "--mesh", mesh, "--cp-address", &cp.api_url()])
            .args(["--admin-port", &admin.to_string()])
            .args(arguments)
            .env("HOME", cp.folder())
            .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy_binary())
            // Revoked flows end within the drain time; tests wait for that.
            .env("KUMA_DATAPLANE_DRAIN_TIME", "2s");
        let process = Process::start(&format!("{mesh}.{name}"), &mut command, cp.folder());
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Dataplane { process, admin, http }
    }

    /// kuma-dp's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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
        let response = self
            .http
            .get(self.url("/stats"))
            .query(&[("format", "json"), ("filter", &format!("^{}$", regex_escape(name)))])
            .send()
            .await;
        let body: Value = response.expect("Envoy's admin answers").json().await.expect("JSON");
        body["stats"]
            .as_array()
            .and_then(|stats| stats.iter().find(|stat| stat["name"] == name))
            .and_then(|stat| stat["value"].as_u64())
            .unwrap_or(0)
    }

    /// Envoy's whole configuration as it shows it.
    pub async fn config_dump(&self) -> String {
        let response = self.http.get(self.url("/config_dump?include_eds")).send().await.expect("Envoy's admin answers");
        response.text().await.expect("text")
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_ascii_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}
