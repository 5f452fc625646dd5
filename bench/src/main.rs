//! `xdsload` stands for many Envoys: it loads an xDS control plane and measures what reaches each of them.
//!
//! `xdsload connect` drives any control plane. `xdsload run` starts kuma-cp, makes a mesh over its HTTP API and runs
//! scenarios; each prints one line of JSON.

mod connection;
mod fleet;
mod lab;
mod markers;
mod mesh;
mod names;
mod process;
mod references;
mod report;
mod scenarios;
mod session;
mod types;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use http::{HeaderName, HeaderValue};
use rustls_pki_types::ServerName;
use serde_json::json;

use crate::fleet::{Fleet, Settings};
use crate::lab::Plan;
use crate::mesh::Shape;
use crate::process::Launch;
use crate::scenarios::Scenario;
use crate::session::Variant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Stands for many Envoys and measures a control plane.
#[derive(Parser)]
struct Cli {
    /// Threads of the generator.
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Connect to any xDS control plane, and report what comes.
    Connect(Connect),
    /// Start kuma-cp, make a mesh and run scenarios.
    Run(Run),
}

#[derive(Args)]
struct Connect {
    /// Address and port of the control plane.
    #[arg(long)]
    address: SocketAddr,
    /// File with the CA of the control plane, PEM. Without it the connections are plain.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Name that the certificate of the control plane must have.
    #[arg(long, default_value = "localhost")]
    server_name: String,
    /// Proxies.
    #[arg(short = 'n', long, default_value_t = 100)]
    proxies: u32,
    /// Id of each node; `{i}` is its number.
    #[arg(long, default_value = "default.dp-{i}")]
    node_id: String,
    /// File with the metadata of the nodes, an encoded google.protobuf.Struct.
    #[arg(long)]
    metadata: Option<PathBuf>,
    /// Headers of every stream, `name: value`.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    #[arg(long, value_enum, default_value = "delta")]
    variant: Variant,
    /// Extensions that each node lists; 516 make the 61 KB of Envoy 1.40.
    #[arg(long, default_value_t = 516)]
    node_extensions: usize,
    /// Seconds to stay connected once all are complete.
    #[arg(long, default_value_t = 0)]
    hold: u64,
}

#[derive(Args)]
struct Run {
    /// What to run, in this order.
    #[arg(value_enum, required = true)]
    scenarios: Vec<Scenario>,
    /// The program to measure.
    #[arg(long, default_value = "target/release/kuma-cp")]
    kuma_cp: PathBuf,
    /// Its log level.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Processors that kuma-cp may run on, in taskset's words.
    #[arg(long)]
    cpus: Option<String>,
    /// Proxies, each with a Dataplane.
    #[arg(short = 'n', long, default_value_t = 1000)]
    proxies: u32,
    /// Services; by default as many as `--instances` allows.
    #[arg(short = 's', long)]
    services: Option<u32>,
    /// Outbounds of each Dataplane.
    #[arg(short = 'k', long, default_value_t = 20)]
    outbounds: u32,
    /// Dataplanes of each service.
    #[arg(short = 'r', long, default_value_t = 5)]
    instances: u32,
    /// Leave mTLS off.
    #[arg(long)]
    no_mtls: bool,
    /// Connect without TLS and without tokens; needs `--no-mtls`.
    #[arg(long, requires = "no_mtls")]
    plain: bool,
    #[arg(long, value_enum, default_value = "delta")]
    variant: Variant,
    /// Extensions that each node lists; 516 make the 61 KB of Envoy 1.40.
    #[arg(long, default_value_t = 516)]
    node_extensions: usize,
    /// How often each change is made.
    #[arg(long, default_value_t = 20)]
    repeats: u32,
    /// Seconds of the scenarios that go on for a while.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads).enable_all().build()?;
    runtime.block_on(async {
        // On a worker rather than on this thread, so that `--threads` is all there is.
        match cli.command {
            Command::Connect(arguments) => tokio::spawn(connect(arguments)).await?,
            Command::Run(arguments) => tokio::spawn(run(arguments, cli.threads)).await?,
        }
    })
}

async fn run(arguments: Run, threads: usize) -> anyhow::Result<()> {
    let services = arguments.services.unwrap_or((arguments.proxies / arguments.instances.max(1)).max(1));
    let plan = Plan {
        launch: Launch { program: arguments.kuma_cp, log_level: arguments.log_level, cpus: arguments.cpus },
        shape: Shape {
            dataplanes: arguments.proxies,
            services,
            instances: arguments.instances,
            outbounds: arguments.outbounds,
            mtls: !arguments.no_mtls,
        },
        variant: arguments.variant,
        tls: !arguments.plain,
        node_extensions: arguments.node_extensions,
        repeats: arguments.repeats,
        seconds: arguments.seconds,
        threads,
    };
    for scenario in arguments.scenarios {
        let report = scenario.run(plan.clone()).await.with_context(|| format!("{scenario:?} has failed"))?;
        println!("{report}");
        eprintln!("{}", summary(&report));
    }
    Ok(())
}

/// What a report says, for people.
fn summary(report: &serde_json::Value) -> String {
    let result = &report["result"];
    let runs = result["runs"].as_array().map_or_else(|| vec![result.clone()], Clone::clone);
    let lines = runs.into_iter().map(|mut run| {
        if let Some(fields) = run.as_object_mut() {
            fields.remove("usage");
        }
        format!("\n  {run}")
    });
    format!(
        "{} of {} proxies{}",
        report["scenario"].as_str().unwrap_or_default(),
        report["proxies"],
        lines.collect::<String>()
    )
}

async fn connect(arguments: Connect) -> anyhow::Result<()> {
    let header = |text: &String| {
        let (name, value) = text.split_once(':').context("a header is `name: value`")?;
        anyhow::Ok((HeaderName::from_bytes(name.trim().as_bytes())?, HeaderValue::from_str(value.trim())?))
    };
    let tls = match &arguments.ca {
        Some(path) => {
            let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some((connection::tls(&pem)?, ServerName::try_from(arguments.server_name)?))
        }
        None => None,
    };
    let settings = Settings {
        target: connection::Target {
            address: arguments.address,
            tls,
            path: arguments.variant.path(),
            headers: arguments.headers.iter().map(header).collect::<anyhow::Result<_>>()?,
        },
        variant: arguments.variant,
        node_id: arguments.node_id,
        metadata: arguments.metadata.map(std::fs::read).transpose()?.unwrap_or_default(),
        node_extensions: arguments.node_extensions,
    };
    let clients = (0..arguments.proxies).map(|number| (number, None)).collect();
    let fleet = Fleet::start(settings, Arc::default(), clients);
    fleet.complete(lab::LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(arguments.hold)).await;
    let totals = fleet.totals();
    println!(
        "{}",
        json!({
            "proxies": fleet.len(), "connected": fleet.connected(),
            "ms_to_complete": report::distribution(&fleet.first_complete()),
            "messages": totals.messages, "bytes": totals.bytes, "resources": totals.resources,
            "resent": totals.resent, "removed": totals.removed, "errors": fleet.errors(),
            "generator_cpu_s": process::own_cpu_seconds(),
        })
    );
    fleet.stop().await;
    Ok(())
}
