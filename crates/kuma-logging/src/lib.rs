//! What the long-running programs say of themselves, on standard error: one set of flags, and one start.
//!
//! Left out: what is said. Each program, and each crate of it, uses `tracing`.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use tracing_subscriber::filter::LevelFilter;

/// Value of `--log-level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogLevel {
    /// Nothing, or as little as the program finds tolerable.
    Off,
    /// What it cannot do.
    Error,
    /// What may go wrong, too.
    Warn,
    /// What it does, too.
    Info,
    /// Everything.
    Debug,
}

/// Value of `--log-format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, in colour on a terminal.
    #[default]
    Text,
    /// A JSON object a line, for programs.
    Json,
}

/// How a program logs.
#[derive(Clone, Copy, Debug)]
pub struct Logging {
    /// As the flag says.
    pub level: LogLevel,
    /// What is logged at least, whatever the flag says: a program that waits in silence looks like one that works.
    pub at_least: LevelFilter,
    /// The crate that the level is about, where others only say errors; without, it is about all.
    pub only: Option<&'static str>,
    /// As the flag says.
    pub format: LogFormat,
}

impl Logging {
    /// Begins to log. To be called once.
    pub fn start(self) {
        let Logging { level, at_least, only, format } = self;
        let level = filter(level).max(at_least);
        let targets = match only {
            Some(own) => Targets::new().with_default(LevelFilter::ERROR).with_target(own, level),
            None => Targets::new().with_default(level),
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match format {
            LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(lines).with(targets).init();
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_includes_those_before_it() {
        let levels = LogLevel::value_variants().iter().map(|&level| filter(level));
        assert!(levels.clone().zip(levels.skip(1)).all(|(less, more)| less < more));
    }
}
