//! What kuma-dp costs beside its Envoy: from its start to the first byte of traffic, and its own memory.
//!
//!     cargo build --profile dist --workspace --bins
//!     ENVOY_BINARY=… cargo run --profile dist -p kuma-test --example sidecar
//!
//! In a mesh with mTLS, the proxy of a client is started several times, while that of the application keeps running.
//! The client tries to connect without a pause, until it has received a byte of the application through both. The
//! output is one line of JSON.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, program};
use rustix::process::Signal;
use serde_json::{Value, json};

/// How often it is started.
const STARTS: usize = 10;

/// Pause before its memory is measured.
const REST: Duration = Duration::from_secs(3);

/// Connections made through it before its memory is measured again.
const CONNECTIONS: usize = 1000;

/// The budget of its anonymous memory, in KB.
const BUDGET_KB: u64 = 10_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    let (inbound, outbound, web_inbound) = (free_port(), free_port(), free_port());
    let mut mesh = mesh("default", true);
    mesh["logging"] = json!({
        "defaultBackend": "file", "backends": [{"name": "file", "file": {"path": cp.folder().join("access.log")}}],
    });
    cp.apply(&mesh).await;
    cp.apply(&permission("default", "everyone", "*", "*")).await;
    cp.apply(&dataplane("default", "echo-1", "echo", (inbound, app.port), &[])).await;
    cp.apply(&dataplane("default", "web-1", "web", (web_inbound, app.port), &[(outbound, "echo")])).await;
    let echo = Dataplane::start(&cp, "default", "echo-1");
    echo.live().await;
    let token = cp.token_file("default", "web-1");
    let arguments = ["--dataplane-token-file", token.to_str().context("a path")?];

    let (mut started, mut first_bytes) = (Vec::new(), Vec::new());
    let mut web = None;
    for _ in 0..STARTS {
        // The previous one has to end first: its listener accepts connections until then.
        if let Some(before) = web.take() {
            stop(before);
        }
        let begun = Instant::now();
        let proxy = Dataplane::start_with(&cp, "default", "web-1", &arguments);
        let first_byte = async {
            while Client::connect(outbound).await.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            begun.elapsed()
        };
        let envoy_runs = async {
            proxy.envoy().await;
            begun.elapsed()
        };
        let limit = Duration::from_secs(60);
        let (envoy_runs, first_byte) =
            tokio::time::timeout(limit, async { tokio::join!(envoy_runs, first_byte) }).await.context("no traffic")?;
        started.push(envoy_runs);
        first_bytes.push(first_byte);
        web = Some(proxy);
    }
    let mut web = web.context("it was started")?;
    tokio::time::sleep(REST).await;
    let idle = memory(web.process().id())?;
    for _ in 0..CONNECTIONS {
        ensure!(Client::connect(outbound).await.is_some(), "traffic stopped");
    }
    tokio::time::sleep(REST).await;
    let used = memory(web.process().id())?;
    let envoy = memory(web.envoy().await)?;
    let folder = program("kuma-dp").parent().and_then(|folder| Some(folder.file_name()?.to_owned()));
    let build = folder.map(|name| name.to_string_lossy().into_owned());
    let anonymous = used["anonymous_kb"].as_u64().unwrap_or(u64::MAX);
    println!(
        "{}",
        json!({
            "build": build, "starts": STARTS,
            "ms_to_envoy": distribution(started), "ms_to_first_byte": distribution(first_bytes),
            "kuma_dp_idle": idle, "kuma_dp_after_connections": used, "connections": CONNECTIONS, "envoy": envoy,
            "budget_kb": BUDGET_KB, "within_budget": anonymous <= BUDGET_KB,
        })
    );
    Ok(())
}

/// Ends kuma-dp and its Envoy.
fn stop(mut proxy: Dataplane) {
    // A second signal skips the drain.
    proxy.process().signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(50));
    proxy.process().signal(Signal::TERM);
    proxy.process().wait(Duration::from_secs(20));
}

/// The memory of a process by kind, and its number of threads, from proc_pid_status(5).
fn memory(pid: u32) -> anyhow::Result<Value> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    Ok(json!({"anonymous_kb": field("RssAnon:"), "file_kb": field("RssFile:"), "threads": field("Threads:")}))
}

fn distribution(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at =
        |share: f64| (times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e4).round() / 10.0;
    json!({"p50": at(0.5), "max": at(1.0)})
}
