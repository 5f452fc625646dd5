//! How long kuma-cp takes from its start to ready when its store holds many documents.
//!
//!     cargo run --profile dist -p kuma-cp --example cold_start -- 10000
//!
//! No store that outlives the process exists yet, so this process fills a memory store first and then starts the
//! control plane on it, by the very path that `kuma-cp run` takes: all servers are bound, everything is read, and the
//! engine has made a mesh of it. What a database would add is the time to read its rows. One line of JSON.

use std::sync::Arc;
use std::time::Instant;

use kuma_cp::config;
use kuma_model::Document;
use kuma_store::{MemoryStore, Store, Write};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Dataplanes of each service, and services that each dials, as in docs/performance.md.
const INSTANCES: usize = 5;
const OUTBOUNDS: usize = 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dataplanes = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse::<usize>())?;
    let store = Arc::new(MemoryStore::new());
    let mesh = json!({"type": "Mesh", "name": "default", "mtls": {"enabled": false}});
    let documents = [mesh].into_iter().chain((0..dataplanes).map(|number| dataplane(number, dataplanes / INSTANCES)));
    let parsed: Result<Vec<Document>, _> = documents.map(|document| Document::parse(&document)).collect();
    let writes = parsed.map_err(|violations| anyhow::anyhow!("{violations}"))?.into_iter().map(Write::Put).collect();
    store.commit(writes).await?;

    let folder = tempfile::tempdir()?;
    let (stored, cpu) = (anonymous_bytes()?, cpu_seconds()?);
    let begun = Instant::now();
    let running = kuma_cp::run::start_on(store, configuration(folder.path())?, None).await?;
    let ready = begun.elapsed();
    // The mesh's task answers in the order in which it was asked, so the documents are in by then.
    anyhow::ensure!(running.audit().await.is_empty(), "the audit has found a difference");
    let consistent = begun.elapsed();
    println!(
        "{}",
        json!({
            "build": if cfg!(debug_assertions) { "debug" } else { "release" }, "dataplanes": dataplanes,
            "ms_to_ready": milliseconds(ready.as_secs_f64()), "ms_to_mesh_made": milliseconds(consistent.as_secs_f64()),
            "cpu_ms": milliseconds(cpu_seconds()? - cpu), "store_bytes": stored,
            "engine_bytes": anonymous_bytes()?.saturating_sub(stored),
        })
    );
    running.stop().await;
    Ok(())
}

fn configuration(folder: &std::path::Path) -> anyhow::Result<config::Config> {
    let ports =
        config::ENV.iter().filter(|(name, _)| name.ends_with("_PORT") && !name.contains("DATAPLANE_TOKEN_SERVER"));
    let chosen = ports.map(|(name, _)| ((*name).to_owned(), "0".to_owned()));
    let work_dir = ("KUMA_GENERAL_WORK_DIR".to_owned(), folder.join("state").display().to_string());
    Ok(config::load(None, chosen.chain([work_dir]))?.config)
}

fn dataplane(number: usize, services: usize) -> Value {
    let outbound = |index: usize| {
        let service = (number * 7 + index * (services / OUTBOUNDS).max(1)) % services.max(1);
        json!({"interface": format!(":{}", 20_000 + index), "service": format!("svc-{service}")})
    };
    let address = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    json!({
        "type": "Dataplane", "mesh": "default", "name": format!("dp-{number}"),
        "networking": {
            "inbound": [{
                "interface": format!("{address}:8080:9090"),
                "tags": {"service": format!("svc-{}", number % services.max(1)), "version": "v1", "zone": "east"},
            }],
            "outbound": (0..OUTBOUNDS.min(services)).map(outbound).collect::<Vec<_>>(),
        },
    })
}

fn milliseconds(seconds: f64) -> Value {
    json!((seconds * 1e4).round() / 10.0)
}

/// As proc_pid_status(5) has it.
fn anonymous_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(1024 * line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default())
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
}
