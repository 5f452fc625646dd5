//! Measures any xDS control plane, without knowledge of Kuma.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use http::HeaderName;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::arrivals::{self, Expected, per_change};
use crate::connection::{self, Identity, Target};
use crate::fleet::{Fleet, Settings};
use crate::lab::{LIMIT, LIMIT_PER_PROXY};
use crate::markers::Fresh;
use crate::meter::Meter;
use crate::node::Pattern;
use crate::process::Watched;
use crate::report::distribution;
use crate::session::{Shared, Variant};
use crate::types::ApiVersion;
use crate::verify::{failure, verify};

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
    /// File with a certificate of ours and its chain, PEM, where the control plane asks for one.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// File with the key of that certificate, PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
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
    /// Header of every stream, `name: value`; may be repeated.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    #[arg(long, value_enum, default_value = "delta")]
    variant: Variant,
    /// Version of Envoy's API, in the path and in the names of the types.
    #[arg(long, value_enum, default_value = "v3")]
    api: ApiVersion,
    /// Extensions that each node lists; the default makes the 61 KB of Envoy 1.40.
    #[arg(long, default_value_t = crate::node::EXTENSIONS)]
    node_extensions: usize,
    /// Seconds to stay connected once all are complete.
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Seconds to wait before memory is looked at for the last time.
    #[arg(long, default_value_t = 0)]
    settle: u64,
    /// Process of the control plane, on this machine, to report its CPU seconds and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Shell command that makes a change. In it `{address}` or `{name}` stands for something new, by which the change
    /// is noticed at each proxy: an IPv4 address, or a name that is part of a resource. `{round}` counts from 0.
    #[arg(long)]
    change: Option<String>,
    /// How often the change is made.
    #[arg(long, default_value_t = 20, requires = "change")]
    repeats: u32,
    /// How many proxies, from the first on, the change concerns; by default all.
    #[arg(long, requires = "change")]
    concerned: Option<u32>,
    /// Name of a resource of which every stream gets one of its own, such as a certificate made for it; may be
    /// repeated.
    #[arg(long = "own")]
    own: Vec<String>,
    /// Leave out the check at the end that every proxy holds what a fresh one of its name gets.
    #[arg(long)]
    no_verify: bool,
}

/// How long to look for an address that accepts connections.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects all clients, makes the changes, verifies the resources of all clients, and prints one line of JSON.
pub(crate) async fn run(arguments: Connect, threads: usize) -> anyhow::Result<()> {
    let line = measure(&arguments, threads).await?;
    println!("{line}");
    match line["failure"].as_str() {
        Some(failure) => bail!("this run does not count: {failure}"),
        None => Ok(()),
    }
}

async fn measure(arguments: &Connect, threads: usize) -> anyhow::Result<Value> {
    let server = arguments.pid.map(Watched::new).unwrap_or_default();
    if let Some(pid) = arguments.pid {
        ensure!(server.rss() > 0, "there is no process {pid}");
    }
    let settings = settings(arguments).await?;
    let over = match &settings.targets[0].tls {
        Some(_) => "over TLS",
        None => "over plain connections, which they are without --ca and --insecure",
    };
    let clients = (0..arguments.proxies).map(|number| (number, None)).collect();
    let shared: Arc<Shared> = Arc::default();
    let limit = LIMIT + LIMIT_PER_PROXY * arguments.proxies;
    let storm = Meter::start(&[&server], None);
    let fleet = Fleet::start(settings, &shared, clients)?;
    fleet.complete(limit).await.context(over)?;
    let storm = storm.read(&[&server], Some(&fleet));
    tokio::time::sleep(Duration::from_secs(arguments.hold)).await;
    let mut line = json!({
        "proxies": fleet.len(), "variant": format!("{:?}", arguments.variant), "api": format!("{:?}", arguments.api),
        "ms_to_complete": distribution(&fleet.first_complete()),
        "connecting": storm.fields(threads),
    });
    if let Some(command) = &arguments.change {
        line["changing"] = changes(arguments, command, &server, &fleet, threads).await?;
    }
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    line["settled_rss"] = server.rss().into();
    let (connected, errors) = (fleet.connected(), fleet.errors());
    // Clients that have just reconnected have got everything anew, so there is nothing to verify.
    let verified = if arguments.no_verify || !errors.is_empty() {
        None
    } else {
        let own: Vec<_> = arguments.own.iter().map(|name| shared.names.id(name)).collect();
        Some(verify(&fleet, &shared, &own, limit).await.context("the check at the end")?)
    };
    let count = |field: &str| line["changing"][field].as_u64().unwrap_or_default();
    let failure = failure(verified.as_ref(), &errors, count("missing"), count("wrong"));
    line["connected"] = connected.into();
    line["errors"] = json!(errors);
    line["verified"] = verified.map_or(Value::Null, |verified| verified.to_json());
    line["failure"] = failure.into();
    fleet.stop().await;
    Ok(line)
}

async fn settings(arguments: &Connect) -> anyhow::Result<Settings> {
    let address = resolve(&arguments.address).await?;
    let name = match &arguments.server_name {
        Some(name) => name.clone(),
        None => arguments.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']).to_owned(),
    };
    let name = || ServerName::try_from(name).context("--server-name");
    let identity = match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => Some(Identity { chain: read(cert)?, key: read(key)? }),
        _ => None,
    };
    let identity = identity.as_ref();
    let tls = match &arguments.ca {
        Some(path) => Some((connection::tls(&read(path)?, identity)?, name()?)),
        None if arguments.insecure => Some((connection::tls_with_anybody(identity)?, name()?)),
        None => None,
    };
    let metadata = match arguments.metadata.strip_prefix('@') {
        Some(path) => read(Path::new(path))?,
        None => arguments.metadata.clone(),
    };
    Ok(Settings {
        targets: vec![Target {
            address,
            authority: arguments.address.clone(),
            tls,
            path: arguments.variant.path(arguments.api),
            headers: arguments.headers.iter().map(|text| header(text)).collect::<anyhow::Result<_>>()?,
            sources: arguments.sources.clone(),
        }],
        variant: arguments.variant,
        api: arguments.api,
        node: Pattern {
            cluster: arguments.node_cluster.clone(),
            metadata,
            ..Pattern::new(&arguments.node_id, arguments.node_extensions)
        },
        at_once: arguments.at_once.unwrap_or(usize::MAX),
    })
}

/// The first address of a host that accepts connections.
async fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let not_one = || format!("{address:?} is not HOST:PORT, or has no address");
    let mut outcome = Err(anyhow!(not_one()));
    for candidate in tokio::net::lookup_host(address).await.with_context(not_one)? {
        outcome = match tokio::time::timeout(PATIENCE, TcpStream::connect(candidate)).await {
            Ok(Ok(_)) => return Ok(candidate),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot connect to {candidate}")),
            Err(_) => Err(anyhow!("nobody answers at {candidate}")),
        };
    }
    outcome
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
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
    let fresh = Fresh::anywhere();
    let concerned: BTreeSet<u32> = (0..arguments.concerned.unwrap_or(arguments.proxies)).collect();
    let meter = Meter::start(&[server], Some(fleet));
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
        if changes.last().is_some_and(|change| change.since_asked.is_empty()) {
            // The other clients would not succeed either, and each would take as long.
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usage = meter.read(&[server], Some(fleet));
    let mut fields = arrivals::summary(&changes);
    fields.extend(usage.fields(threads));
    fields.insert("server_cpu_ms_per_change".to_owned(), per_change(usage.server * 1e3, &changes));
    Ok(Value::Object(fields))
}

/// Runs a command. Returns how long it took.
async fn shell(command: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let output = tokio::process::Command::new("sh").args(["-c", command]).output().await?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{command}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::stranger::Stranger;
    use crate::{Cli, Command};

    /// Runs `xdsload connect` with three proxies against somebody else's control plane.
    async fn connect(stranger: &Stranger, arguments: &[&str]) -> anyhow::Result<Value> {
        let address = stranger.address.to_string();
        let command = ["xdsload", "connect", "--address", &address, "-n", "3", "--node-id", "web~{i}"];
        let Command::Connect(connect) = Cli::try_parse_from([&command, arguments].concat())?.command else {
            bail!("another command")
        };
        measure(&connect, 1).await
    }

    #[tokio::test]
    async fn drives_whoever_speaks_xds() -> anyhow::Result<()> {
        let stranger = Stranger::start(None).await?;
        let change = format!("printf %s '{{address}}' > {}", stranger.file.path().display());
        for variant in ["delta", "sotw"] {
            for api in ["v3", "v2"] {
                let arguments = ["--variant", variant, "--api", api, "--change", &change, "--repeats", "2"];
                let line = connect(&stranger, &arguments).await?;
                assert_eq!(line["failure"], Value::Null, "{line}");
                let counts = [&line["changing"]["ms_from_request"]["count"], &line["verified"]["resources"]];
                // A cluster, its endpoints and a listener each.
                assert_eq!(counts, [6, 9], "{line}");
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn finds_the_one_who_was_forgotten() -> anyhow::Result<()> {
        let stranger = Stranger::start(Some("web~1")).await?;
        let change = format!("printf %s '{{address}}' > {}", stranger.file.path().display());
        // Client 2 gets a change that should not concern it, and client 1 is not waited for.
        let line = connect(&stranger, &["--change", &change, "--repeats", "1", "--concerned", "1"]).await?;
        let failure = line["failure"].as_str().unwrap_or_default();
        assert!(failure.contains("1 clients hold something else"), "{line}");
        assert!(failure.contains("web~1: Endpoint backend is another"), "{line}");
        assert!(failure.contains("reached whom they do not concern: 1"), "{line}");
        Ok(())
    }

    #[tokio::test]
    async fn says_at_once_why_nobody_gets_through() -> anyhow::Result<()> {
        let stranger = Stranger::start(None).await?;
        let refused = connect(&stranger, &["-H", "authorization: bad"]).await.expect_err("refused");
        assert!(format!("{refused:#}").contains("grpc-status 16: no such token"), "{refused:#}");
        let encrypted = connect(&stranger, &["--insecure"]).await.expect_err("it speaks no TLS");
        assert!(format!("{encrypted:#}").starts_with("over TLS: nobody gets everything; "), "{encrypted:#}");
        Ok(())
    }
}
