//! A sample service: it sends back what it receives.
//!
//! It is meant for trying out a mesh with `nc` and `curl`. Data on a connection is echoed until the connection ends. An
//! HTTP/1.x request is answered with its own text, which shows what a proxy has changed in it.
//!
//! - [`args`]: the command line, in the spellings that Go's `flag` package accepts.
//! - [`server`]: listens, and handles connections.
//! - [`http`]: detects HTTP requests and their ends. Pure.

mod args;
mod http;
mod server;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use args::{Command, USAGE};

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Command::Run { port }) => match run(port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {error:#}");
                ExitCode::FAILURE
            }
        },
        Ok(Command::Help) => print(USAGE),
        Ok(Command::Version { detailed }) => print(&kuma_version::text(detailed)),
        Err(message) => {
            eprint!("{message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Prints a result. If the reader closes the pipe, as `| head` does, that is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn run(port: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("could not start")?;
    runtime.block_on(async {
        let listener = server::listen(port).with_context(|| format!("could not listen on port {port}"))?;
        let bound = listener.local_addr().context("could not read the port")?.port();
        eprintln!("Kuma TCP Echo - Listening to connections on port {bound}");
        tokio::select! {
            () = server::serve(listener) => Ok(()),
            stopped = stop_signal() => stopped.context("could not wait for signals"),
        }
    })
}

/// Waits for Ctrl-C or SIGTERM. Without a handler, neither would have an effect on the first process of a container.
async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
