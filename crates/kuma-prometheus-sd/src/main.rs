//! `kuma-prometheus-sd` writes a file with the metrics addresses of the proxies of all meshes, for `file_sd_configs` of
//! Prometheus.
//!
//! It stays connected to the monitoring assignment server of the control plane, whose address is in the catalog of the
//! HTTP API, and writes the file whenever the list changes. While the control plane is away, the file stays as it is.
//!
//! Start reading at [`config`] (every setting) and [`run`] (the life of the process).

mod assignments;
mod catalog;
mod config;
mod output;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kuma_logging::{LevelFilter, LogFormat, LogLevel, Logging};

use crate::config::{Config, Flags};

/// Prometheus service discovery adapter for native integration with Kuma.
#[derive(Parser)]
#[command(name = "kuma-prometheus-sd", disable_version_flag = true)]
struct Cli {
    /// How much to log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep the file for Prometheus up to date until told to stop
    #[command(after_help = "Flags beat environment variables, and those beat the defaults.")]
    Run(Flags),
    /// Print version
    Version {
        /// Print the commit and the date of the build too
        #[arg(short = 'a', long)]
        detailed: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Version { detailed } => {
            print!("{}", kuma_version::text(detailed));
            ExitCode::SUCCESS
        }
        Command::Run(flags) => {
            logging(cli.log_level).start();
            match launch(flags) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("Error: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn launch(flags: Flags) -> anyhow::Result<()> {
    let config = Config::check(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run::run(config));
    // DNS look-ups run on a helper thread and can hang for long; the process does not wait for them.
    runtime.shutdown_background();
    ended
}

/// `off` still shows warnings: otherwise nobody would know why Prometheus uses an old list.
fn logging(level: LogLevel) -> Logging {
    Logging { level, at_least: LevelFilter::WARN, only: None, format: LogFormat::Text }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
