//! The signals that kuma-dp handles.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The streams of signals.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether SIGHUP means the end. If kuma-dp was started from a terminal, it means that the terminal was closed;
    /// otherwise it means to read files again.
    hangup_stops: bool,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Request {
    /// End; the name of the signal, for the log.
    Stop(&'static str),
    /// Read the token file again.
    Reload,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            hangup_stops: io::stdin().is_terminal() && io::stderr().is_terminal(),
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = self.hangup.recv() => if self.hangup_stops { Request::Stop("SIGHUP") } else { Request::Reload },
        }
    }

    /// Waits for a signal to end, and ignores the others.
    pub(crate) async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}
