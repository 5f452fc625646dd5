//! What the operating system asks of this process.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that kuma-dp answers.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Started from a terminal, SIGHUP says that the terminal has gone: the process is to end, not to re-read a file.
    hangup_stops: bool,
}

/// One of them, as it came in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
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
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => if self.hangup_stops { Asked::Stop("SIGHUP") } else { Asked::Reload },
        }
    }

    /// Waits for a signal to end, and forgets the others.
    pub(crate) async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}
