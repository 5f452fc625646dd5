//! The command line tool of users: reads and changes the documents of a control plane, over its HTTP API.
//!
//! One file per verb in [`commands`], and none per kind of resource: what can be listed, applied and deleted, and what
//! a table shows, comes from `kuma_model::KINDS`.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0, 1 for a failure, 2 for a command line that makes no
//! sense; with `--wait` 3 if time ran out, and 4 if a proxy refused a change; of `diff` 3 if there is a difference.

mod admin;
mod admin_tls;
mod age;
mod certificate;
mod cli;
mod client;
mod commands;
mod config;
mod config_file;
mod failure;
mod fetch;
mod firewall;
mod input;
mod output;
mod session;
mod ssh;
mod table;
mod template;
mod unified;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use commands::Outcome;
use failure::Failure;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(cli) {
        Ok(Outcome { text, code }) => match std::io::stdout().write_all(text.as_bytes()) {
            // If the reader closes the pipe, as `| head` does, that is no failure.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("Error: could not write the result: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::from(code),
        },
        Err(failure) => {
            eprint!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command and returns its output for stdout and the exit code.
fn run(cli: cli::Cli) -> Result<Outcome, Failure> {
    // The crypto provider of all TLS in this process. An error only means that it is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("could not start: {error}")))?;
    runtime.block_on(commands::run(cli))
}
