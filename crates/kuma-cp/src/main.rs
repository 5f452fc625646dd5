//! `kuma-cp`, the control plane.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kuma_cp::config::Config;
use kuma_cp::store_command::{self, StoreArgs};
use kuma_logging::{LevelFilter, LogFormat, LogLevel, Logging};
use kuma_store_postgres::Migration;
use tokio::signal::unix::{SignalKind, signal};

// Gives memory back after a storm of connections; the default allocator keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The control plane of Kuma, a universal service mesh.
#[derive(Parser)]
#[command(name = "kuma-cp", disable_version_flag = true)]
struct Cli {
    /// How much to log.
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
    /// How to log: text for people, JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane until it is told to stop.
    #[command(after_help = kuma_cp::config::reference::help())]
    Run(RunArgs),
    /// Prepare the database that documents are kept in.
    #[command(subcommand)]
    Migrate(Migrate),
    /// Check, copy and restore the file that documents are kept in (store.type file).
    Store(StoreArgs),
    /// Show the version.
    Version {
        /// Show the build as well.
        #[arg(short = 'a', long)]
        detailed: bool,
    },
}

#[derive(Subcommand)]
enum Migrate {
    /// Make the tables of store.postgres, or bring them to this version. `run` does so as well.
    Up(RunArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Configuration file, YAML. Variables of the environment override it.
    #[arg(short = 'c', long = "config-file")]
    config_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Version { detailed } => {
            print!("{}", kuma_version::text(detailed));
            ExitCode::SUCCESS
        }
        Command::Run(args) => logged(cli.log_level, cli.log_format, || run(&args)),
        Command::Migrate(Migrate::Up(args)) => logged(cli.log_level, cli.log_format, || migrate(&args)),
        Command::Store(args) => match store(&args) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("Error: {error:#}");
                store_command::exit_code(&error).into()
            }
        },
    }
}

fn logged(level: LogLevel, format: LogFormat, work: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    Logging { level, at_least: LevelFilter::OFF, only: None, format }.start();
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(config_file: Option<&Path>) -> anyhow::Result<Config> {
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = kuma_cp::config::load(config_file, environment)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn store(args: &StoreArgs) -> anyhow::Result<String> {
    args.run(&load(args.config_file.as_deref())?, home().as_deref())
}

fn migrate(args: &RunArgs) -> anyhow::Result<()> {
    let config = load(args.config_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime.context("cannot start the runtime")?.block_on(kuma_cp::stores::migrate(&config))? {
        Migration::Done => "been",
        Migration::UpToDate => "already been",
    };
    println!("DB has {done} migrated for Kuma {}", kuma_version::VERSION);
    Ok(())
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    kuma_cp::no_dumps::forbid();
    let config = load(args.config_file.as_deref())?;
    kuma_cp::file_limit::raise();
    let home = home();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // The store may be waited for.
        let mut running = tokio::select! {
            started = kuma_cp::run::start(config, home.as_deref()) => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        tokio::select! {
            ended = running.failed() => return Err(ended),
            _ = terminate.recv() => tracing::info!("asked to stop (SIGTERM)"),
            _ = interrupt.recv() => tracing::info!("asked to stop (SIGINT)"),
        }
        tokio::select! {
            () = running.stop() => Ok(()),
            _ = terminate.recv() => anyhow::bail!("told to stop twice: stopped at once"),
            _ = interrupt.recv() => anyhow::bail!("told to stop twice: stopped at once"),
        }
    })
}
