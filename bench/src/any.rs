//! Drives any xDS control plane: nothing of ours is built in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::HeaderName;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use crate::arrivals::{self, Expected, per_change};
use crate::connection::{self, Target};
use crate::fleet::{Fleet, Settings};
use crate::lab::LIMIT;
use crate::markers::Fresh;
use crate::meter::Meter;
use crate::node::Pattern;
use crate::process::Watched;
use crate::report::distribution;
use crate::session::Variant;

#[derive(Args)]
pub(crate) struct Connect {
    /// Host and port of the control plane.
    #[arg(long)]
    address: String,
    /// File with the CA of the control plane, PEM. Without this or `--insecure` the connections are plain.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// TLS with whatever certificate the control plane shows.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Name that the certificate of the control plane must have; by default the host of the address.
    #[arg(long)]
    server_name: Option<String>,
    /// Our addresses to connect from, in turn; the ports of one are enough for some 28,000 connections.
    #[arg(long = "source")]
    sources: Vec<IpAddr>,
    /// Proxies.
    #[arg(short = 'n', long, default_value_t = 100)]
    proxies: u32,
    /// How many may be on their way to their first configuration at a time; by default all.
    #[arg(long)]
    at_once: Option<usize>,
    /// Id of each node; `{i}` is its number, here and below.
    #[arg(long, default_value = "default.dp-{i}")]
    node_id: String,
    /// Cluster of each node.
    #[arg(long, default_value = "xdsload")]
    node_cluster: String,
    /// Metadata of each node: a JSON object, or `@FILE` with one.
    #[arg(long, default_value = "")]
    metadata: String,
    /// Headers of every stream, `name: value`.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    #[arg(long, value_enum, default_value = "delta")]
    variant: Variant,
    /// Extensions that each node lists; the default makes the 61 KB of Envoy 1.40.
    #[arg(long, default_value_t = crate::node::EXTENSIONS)]
    node_extensions: usize,
    /// Seconds to stay connected once all are complete.
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Process of the control plane, to report its CPU seconds and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Shell command that makes a change. In it `{address}` or `{name}` stands for something new, by which the change is
    /// noticed at each proxy: an IPv4 address, or a name that is part of a resource.
    #[arg(long)]
    change: Option<String>,
    /// How often the change is made.
    #[arg(long, default_value_t = 20, requires = "change")]
    repeats: u32,
    /// How many proxies, from the first on, the change concerns; by default all.
    #[arg(long, requires = "change")]
    concerned: Option<u32>,
}

/// Connects everyone, makes the changes, and prints one line of JSON.
pub(crate) async fn run(arguments: Connect, threads: usize) -> anyhow::Result<()> {
    let server = arguments.pid.map(Watched::new).unwrap_or_default();
    let settings = settings(&arguments).await?;
    let clients = (0..arguments.proxies).map(|number| (number, None)).collect();
    let storm = Meter::start(&server, None);
    let fleet = Fleet::start(settings, &Arc::default(), clients)?;
    fleet.complete(LIMIT + Duration::from_millis(10) * arguments.proxies).await?;
    let storm = storm.read(&server, Some(&fleet));
    tokio::time::sleep(Duration::from_secs(arguments.hold)).await;
    let mut line = json!({
        "proxies": fleet.len(), "variant": format!("{:?}", arguments.variant),
        "ms_to_complete": distribution(&fleet.first_complete()),
        "connecting": storm.fields(threads),
    });
    if let Some(command) = &arguments.change {
        line["changing"] = changes(&arguments, command, &server, &fleet, threads).await?;
    }
    line["connected"] = fleet.connected().into();
    line["errors"] = json!(fleet.errors());
    println!("{line}");
    let sound = fleet.errors().is_empty();
    fleet.stop().await;
    ensure!(sound, "streams have failed");
    Ok(())
}

async fn settings(arguments: &Connect) -> anyhow::Result<Settings> {
    let address = tokio::net::lookup_host(&arguments.address).await.ok().and_then(|mut addresses| addresses.next());
    let address = address.with_context(|| format!("{:?} is not HOST:PORT, or has no address", arguments.address))?;
    let name = match &arguments.server_name {
        Some(name) => name.clone(),
        None => arguments.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']).to_owned(),
    };
    let name = || ServerName::try_from(name).context("--server-name");
    let tls = match &arguments.ca {
        Some(path) => {
            let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some((connection::tls(&pem)?, name()?))
        }
        None if arguments.insecure => Some((connection::tls_with_anybody()?, name()?)),
        None => None,
    };
    let metadata = match arguments.metadata.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| path.to_owned())?,
        None => arguments.metadata.clone(),
    };
    Ok(Settings {
        target: Target {
            address,
            tls,
            path: arguments.variant.path(),
            headers: arguments.headers.iter().map(|text| header(text)).collect::<anyhow::Result<_>>()?,
            sources: arguments.sources.clone(),
        },
        variant: arguments.variant,
        node: Pattern {
            cluster: arguments.node_cluster.clone(),
            metadata,
            ..Pattern::new(&arguments.node_id, arguments.node_extensions)
        },
        at_once: arguments.at_once.unwrap_or(usize::MAX),
    })
}

fn header(text: &str) -> anyhow::Result<(HeaderName, String)> {
    let (name, value) = text.split_once(':').with_context(|| format!("{text:?} is not `name: value`"))?;
    Ok((HeaderName::from_bytes(name.trim().as_bytes())?, value.trim().to_owned()))
}

async fn changes(
    arguments: &Connect,
    command: &str,
    server: &Watched,
    fleet: &Fleet,
    threads: usize,
) -> anyhow::Result<Value> {
    let fresh = Fresh::default();
    let concerned: BTreeSet<u32> = (0..arguments.concerned.unwrap_or(arguments.proxies)).collect();
    let meter = Meter::start(server, Some(fleet));
    let mut changes = Vec::new();
    for round in 0..arguments.repeats {
        let (placeholder, marker) = match (command.contains("{address}"), command.contains("{name}")) {
            (true, false) => ("{address}", fresh.address()),
            (false, true) => ("{name}", fresh.name()),
            _ => bail!("the command of --change has to contain one of {{address}} and {{name}}"),
        };
        let command = command.replace(placeholder, &marker).replace("{round}", &round.to_string());
        let expected = Expected { marker: &marker, gone_from: None, concerned: &concerned };
        changes.push(arrivals::measure(fleet, expected, shell(&command)).await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usage = meter.read(server, Some(fleet));
    let mut fields = arrivals::summary(&changes);
    fields.extend(usage.fields(threads));
    fields.insert("server_cpu_ms_per_change".to_owned(), per_change(usage.server * 1e3, &changes));
    Ok(Value::Object(fields))
}

/// Runs a command; how long it took.
async fn shell(command: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let output = tokio::process::Command::new("sh").args(["-c", command]).output().await?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{command}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(took)
}
