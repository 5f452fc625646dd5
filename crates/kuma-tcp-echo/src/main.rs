//! The smallest service one can put behind a dataplane: it sends back what it receives.
//!
//! Meant for trying a mesh out with `nc` and `curl`. What arrives on a connection is echoed as it comes, for as long as
//! the connection lasts; an HTTP/1.x request is answered with its own text, so that one sees what a proxy has made of
//! it.
//!
//! - [`args`]: the command line, in the spellings that Go's `flag` package accepts.
//! - [`server`]: listens, and looks after connections.
//! - [`http`]: when bytes are an HTTP request, and where it ends. Pure.

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

/// Writes a result; a reader that has gone away (`| head`) is no failure.
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

/// Ends at Ctrl-C or SIGTERM. Handled, because as the first process of a container neither would have an effect
/// otherwise.
async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
