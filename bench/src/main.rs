//! `xdsload` stands for many Envoys: it loads an xDS control plane and measures what reaches each of them.
//!
//! `xdsload connect` drives any control plane. `xdsload run` starts kuma-cp, makes a mesh over its HTTP API and runs
//! scenarios; each prints one line of JSON.

mod any;
mod arrivals;
mod connection;
mod fleet;
mod hostile;
mod lab;
mod markers;
mod mesh;
mod meter;
mod names;
mod node;
mod plot;
mod process;
mod references;
mod report;
mod scenarios;
mod session;
#[cfg(test)]
mod stranger;
mod types;
mod verify;
mod wire;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::lab::Plan;
use crate::mesh::Shape;
use crate::process::{Launch, Store};
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
    /// Connect to any xDS control plane, make changes by any command, and report what comes.
    Connect(any::Connect),
    /// Start kuma-cp, make a mesh and run scenarios.
    Run(Run),
    /// Run the scenario `growth` in meshes of many sizes; some minutes.
    Growth(Growth),
    /// Draw the curves of growth.
    Plot(plot::Plot),
}

#[derive(Args)]
struct Run {
    /// What to run, in this order.
    #[arg(value_enum, required = true)]
    scenarios: Vec<Scenario>,
    /// The program to measure.
    #[arg(long, default_value = "target/dist/kuma-cp")]
    kuma_cp: PathBuf,
    /// Its log level.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Processors that kuma-cp may run on, in taskset's words.
    #[arg(long)]
    cpus: Option<String>,
    /// Further variables of its environment, as NAME=VALUE; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Where it keeps its documents. PostgreSQL is started for each scenario, from the folder of programs that
    /// `POSTGRES_BIN` names.
    #[arg(long, value_enum, default_value = "memory")]
    store: Store,
    /// Control planes on that store, which has to be PostgreSQL for more than one. Documents are written to the first,
    /// and proxies connect to all of them in turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    control_planes: u8,
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
    /// TrafficPermissions beside the one that lets everyone in, each from one service to another.
    #[arg(long, default_value_t = 0)]
    policies: u32,
    /// Leave mTLS off.
    #[arg(long)]
    no_mtls: bool,
    /// Connect without TLS and without tokens; needs `--no-mtls`.
    #[arg(long, requires = "no_mtls")]
    plain: bool,
    #[arg(long, value_enum, default_value = "delta")]
    variant: Variant,
    /// Extensions that each node lists; the default makes the 61 KB of Envoy 1.40.
    #[arg(long, default_value_t = node::EXTENSIONS)]
    node_extensions: usize,
    /// How many proxies may be on their way to their first configuration at a time; by default all.
    #[arg(long)]
    at_once: Option<usize>,
    /// Wait, before memory is looked at for the last time, until the allocator has given back what is not needed (12
    /// s).
    #[arg(long)]
    settle: bool,
    /// How often each change is made.
    #[arg(long, default_value_t = 20)]
    repeats: u32,
    /// Hostile clients on each port, in the scenario `hostile`.
    #[arg(long, default_value_t = 300)]
    hostile: u32,
    /// Seconds of the scenarios that go on for a while.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Args)]
struct Growth {
    /// The program to measure.
    #[arg(long, default_value = "target/dist/kuma-cp")]
    kuma_cp: PathBuf,
    /// How often each change is made.
    #[arg(long, default_value_t = 10)]
    repeats: u32,
    /// Numbers of proxies, with 20 outbounds and 5 instances each.
    #[arg(short = 'n', long, value_delimiter = ',', num_args = 0.., default_values_t = [100, 1000, 5000, 15_000])]
    proxies: Vec<u32>,
    /// Numbers of outbounds, with 1,000 proxies; none if no number follows.
    #[arg(short = 'k', long, value_delimiter = ',', num_args = 0.., default_values_t = [5, 100, 200])]
    outbounds: Vec<u32>,
    /// Numbers of instances of each service, with 1,000 proxies; none if no number follows.
    #[arg(short = 'r', long, value_delimiter = ',', num_args = 0.., default_values_t = [1, 50])]
    instances: Vec<u32>,
}

/// How many proxies connect at a time there: a storm of more is a scenario of its own (`run connect -n 15000`).
const GROWTH_AT_ONCE: usize = 1000;

/// Proxies, outbounds and instances of the mesh in which growth varies one of them at a time.
const BASE: [u32; 3] = [1000, 20, 5];

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads).enable_all().build()?;
    runtime.block_on(async {
        // On a worker rather than on this thread, so that `--threads` is all there is.
        match cli.command {
            Command::Connect(arguments) => tokio::spawn(any::run(arguments, cli.threads)).await?,
            Command::Run(arguments) => tokio::spawn(run(arguments, cli.threads)).await?,
            Command::Growth(arguments) => tokio::spawn(growth(arguments, cli.threads)).await?,
            Command::Plot(arguments) => plot::run(&arguments),
        }
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is not NAME=VALUE".to_owned()),
    }
}

async fn run(arguments: Run, threads: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.control_planes == 1 || arguments.store == Store::Postgres,
        "several control planes need a store that they share: --store postgres"
    );
    let services = arguments.services.unwrap_or((arguments.proxies / arguments.instances.max(1)).max(1));
    let plan = Plan {
        launch: Launch {
            program: arguments.kuma_cp,
            log_level: arguments.log_level,
            cpus: arguments.cpus,
            variables: arguments.env,
        },
        store: arguments.store,
        control_planes: arguments.control_planes.into(),
        shape: Shape {
            dataplanes: arguments.proxies,
            services,
            instances: arguments.instances,
            outbounds: arguments.outbounds,
            policies: arguments.policies,
            mtls: !arguments.no_mtls,
        },
        variant: arguments.variant,
        tls: !arguments.plain,
        node_extensions: arguments.node_extensions,
        at_once: arguments.at_once.unwrap_or(usize::MAX),
        settle: arguments.settle,
        repeats: arguments.repeats,
        hostile: arguments.hostile,
        seconds: arguments.seconds,
        threads,
    };
    let runs: Vec<(Scenario, Plan)> = arguments.scenarios.iter().map(|scenario| (*scenario, plan.clone())).collect();
    all(runs).await
}

async fn growth(arguments: Growth, threads: usize) -> anyhow::Result<()> {
    let plan = |[proxies, outbounds, instances]: [u32; 3]| Plan {
        launch: Launch {
            program: arguments.kuma_cp.clone(),
            log_level: "info".to_owned(),
            cpus: None,
            variables: Vec::new(),
        },
        store: Store::Memory,
        control_planes: 1,
        shape: Shape {
            dataplanes: proxies,
            services: (proxies / instances).max(1),
            instances,
            outbounds,
            policies: 0,
            mtls: true,
        },
        variant: Variant::Delta,
        tls: true,
        node_extensions: node::EXTENSIONS,
        at_once: GROWTH_AT_ONCE,
        settle: false,
        repeats: arguments.repeats,
        hostile: 0,
        seconds: 0,
        threads,
    };
    let sizes = sizes([&arguments.proxies, &arguments.outbounds, &arguments.instances]);
    all(sizes.into_iter().map(|size| (Scenario::Growth, plan(size))).collect()).await
}

/// The meshes in which one of the three varies, and the others are as in [`BASE`]; each once.
fn sizes(axes: [&[u32]; 3]) -> Vec<[u32; 3]> {
    let mut sizes = Vec::new();
    for (axis, values) in axes.into_iter().enumerate() {
        for &value in values {
            let mut size = BASE;
            size[axis] = value;
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    sizes
}

/// Runs scenarios one after the other; a line for each. One whose result does not count does not keep the others from
/// running.
async fn all(runs: Vec<(Scenario, Plan)>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (scenario, plan) in runs {
        match scenario.run(plan).await {
            Ok(report) => {
                println!("{}", report.line);
                eprintln!("{}", report::for_people(&report.line));
                if let Some(reason) = report.failure {
                    eprintln!("FAILED: {reason}");
                    failed.push(scenario.name());
                }
            }
            Err(error) => {
                eprintln!("FAILED: {}: {error:#}", scenario.name());
                failed.push(scenario.name());
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "these do not count: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_varies_one_at_a_time() {
        let of = |arguments: &[&str]| {
            let command = Cli::try_parse_from([&["xdsload", "growth"], arguments].concat()).expect("arguments").command;
            let Command::Growth(growth) = command else { panic!("another command") };
            sizes([&growth.proxies, &growth.outbounds, &growth.instances])
        };
        assert_eq!(of(&["-n", "100,1000", "-k", "5,20", "-r"]), [[100, 20, 5], [1000, 20, 5], [1000, 5, 5]]);
        assert_eq!(of(&["-n", "100", "-k", "-r", "50"]), [[100, 20, 5], [1000, 20, 50]]);
        assert_eq!(of(&[]).len(), 9);
    }
}
