//! The command line: `-port N` and its spellings, `version`, help.
//!
//! Parsed by hand, because the documented flag has one dash and a long name, which common parsers do not support.

/// The default port.
pub(crate) const DEFAULT_PORT: u16 = 8000;

/// Shown for help, and after a mistake.
pub(crate) const USAGE: &str = "\
Sends back what it receives on a TCP port; answers an HTTP request with its own text.

Usage: kuma-tcp-echo [-port N]
       kuma-tcp-echo version [--detailed]

  -port N, --port N    port to listen on (default 8000; 0 takes a free one)
  -h, --help           this text
";

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Listen and echo.
    Run {
        /// Port to listen on; 0 lets the system choose.
        port: u16,
    },
    /// Print the version.
    Version {
        /// With tag, commit and date.
        detailed: bool,
    },
    /// Print the usage.
    Help,
}

/// Reads the arguments (without the program's name). `Err` is a message for the user.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|first| first == "version").is_some() {
        return version(arguments);
    }
    let mut port = DEFAULT_PORT;
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Err(format!("unexpected argument: {argument}"));
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "port" => {
                let value = value.or_else(|| arguments.next()).ok_or("flag needs an argument: -port")?;
                port = value
                    .parse()
                    .map_err(|_| format!("invalid value {value:?} for flag -port: not a number from 0 to 65535"))?;
            }
            "h" | "help" => return Ok(Command::Help),
            _ => return Err(format!("flag provided but not defined: {argument}")),
        }
    }
    Ok(Command::Run { port })
}

fn version(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut detailed = false;
    for argument in arguments {
        match argument.as_str() {
            "-a" | "--detailed" => detailed = true,
            "-h" | "--help" => return Ok(Command::Help),
            _ => return Err(format!("unexpected argument of version: {argument}")),
        }
    }
    Ok(Command::Version { detailed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_spelling_of_the_port() {
        for line in ["-port 9000", "--port 9000", "-port=9000", "--port=9000", "-port 1 -port 9000"] {
            assert_eq!(parsed(line), Ok(Command::Run { port: 9000 }), "{line}");
        }
        assert_eq!(parsed(""), Ok(Command::Run { port: 8000 }));
        assert_eq!(parsed("-port 0"), Ok(Command::Run { port: 0 }));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, message) in [
            ("-port", "flag needs an argument: -port"),
            ("-port 65536", "invalid value \"65536\" for flag -port: not a number from 0 to 65535"),
            ("-port= 1", "invalid value \"\" for flag -port: not a number from 0 to 65535"),
            ("-prot 9000", "flag provided but not defined: -prot"),
            ("9000", "unexpected argument: 9000"),
            ("-", "flag provided but not defined: -"),
            ("version now", "unexpected argument of version: now"),
        ] {
            assert_eq!(parsed(line), Err(message.to_owned()), "{line}");
        }
    }

    #[test]
    fn version_and_help() {
        assert_eq!(parsed("version"), Ok(Command::Version { detailed: false }));
        assert_eq!(parsed("version -a"), Ok(Command::Version { detailed: true }));
        assert_eq!(parsed("version --detailed"), Ok(Command::Version { detailed: true }));
        for line in ["-h", "--help", "-help", "version --help"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
    }
}
