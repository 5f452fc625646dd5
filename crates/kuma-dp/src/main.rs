//! `kuma-dp` starts Envoy for one Dataplane and looks after it.
//!
//! It requests Envoy's bootstrap configuration from the control plane, runs Envoy as a child process that cannot
//! outlive it, reports Envoy's state to the control plane on a stream of its own, and drains Envoy before it ends.
//! Envoy gets all other configuration directly from the control plane, over xDS.
//!
//! Start reading at [`config`] (every setting) and [`run`] (the life of the process, from top to bottom). Everything
//! runs on one thread: that keeps the process small, and the kernel ends Envoy when the *thread* that started it ends
//! (see [`envoy::guard`]).

mod access_log;
mod admin_port;
mod backoff;
mod bootstrap;
mod config;
mod control_plane;
mod control_planes;
mod drain;
mod envoy;
mod file_limit;
mod files;
mod http_client;
mod lifecycle;
mod no_dumps;
mod run;
mod runtime_dir;
mod signals;
mod single_instance;
mod tls;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kuma_logging::{LevelFilter, LogFormat, LogLevel, Logging};

use crate::config::{Config, Flags};

/// Dataplane manager for Envoy-based service mesh.
#[derive(Parser)]
#[command(name = "kuma-dp", disable_version_flag = true)]
struct Cli {
    /// How much to log on standard error; warnings and errors are always shown
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Off)]
    log_level: LogLevel,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Launch Envoy for a Dataplane
    #[command(after_help = "Flags beat environment variables, and those beat the defaults.\n\
        KUMA_DATAPLANE_DRAIN_TIME (30s) has no flag: how long connections may take to end when kuma-dp is stopped.")]
    Run(Flags),
    /// Print version
    Version {
        /// Print the commit and the date of the build too
        #[arg(short = 'a', long)]
        detailed: bool,
    },
    /// Replaces itself by Envoy, with its life tied to kuma-dp's
    #[command(hide = true)]
    EnvoyGuard {
        /// Process id of the kuma-dp that starts Envoy
        parent: i32,
        /// Envoy and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Version { detailed } => {
            print!("{}", kuma_version::text(detailed));
            ExitCode::SUCCESS
        }
        Command::EnvoyGuard { parent, command } => {
            let error = envoy::guard::become_envoy(parent, &command);
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
        Command::Run(flags) => {
            logging(cli.log_level).start();
            match launch(&flags) {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    eprintln!("Error: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn launch(flags: &Flags) -> anyhow::Result<u8> {
    for warning in config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!("{warning}");
    }
    let config = Config::load(flags, |variable| std::env::var_os(variable))?;
    tls::install_provider();
    // One thread, for the reason given at the top.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(run::run(config));
    // DNS look-ups run on a helper thread and can hang for long; the process does not wait for them.
    runtime.shutdown_background();
    code
}

/// `off` still shows warnings: otherwise a kuma-dp that waits for an unreachable control plane looks like one that
/// works.
fn logging(level: LogLevel) -> Logging {
    Logging { level, at_least: LevelFilter::WARN, only: Some("kuma_dp"), format: LogFormat::Text }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
