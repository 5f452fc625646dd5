//! `kuma-prometheus-sd` keeps a file from which Prometheus learns where the proxies of all meshes offer their metrics
//! (`file_sd_configs`).
//!
//! It stays connected to the monitoring assignment server of the control plane, which its HTTP API's catalog names, and
//! writes the file anew whenever the list changes. While the control plane is away the file stays as it is.
//!
//! Where to read: [`config`] (every setting), [`run`] (the life of the process), then the parts it calls.

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
    // Name look-ups run on a helper thread and may hang for long: nobody waits for their answer any more.
    runtime.shutdown_background();
    ended
}

/// `off` still lets warnings through: Prometheus would go on with an old list, and nobody would know why.
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
