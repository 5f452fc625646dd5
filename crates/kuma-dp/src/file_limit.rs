//! The limit of open files, and so of Envoy's connections: each connection through it needs two file descriptors. Envoy
//! 1.40 crashes when it cannot open another one, and all connections end with it.

use std::thread::available_parallelism;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// If the limit allows fewer connections than this, kuma-dp warns: an application may need more.
const LOW: u64 = 8_192;

/// Raises the limit of this process, which Envoy inherits, to the maximum that the system allows. Returns the number of
/// connections that this limit allows Envoy; `None` if there is no limit.
pub(crate) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut limit = current;
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => limit = maximum,
            Err(error) => tracing::warn!("the limit of open files could not be raised to {maximum:?}: {error}"),
        }
    }
    let files = limit?;
    let connections = connections(files, available_parallelism().map_or(1, usize::from));
    if connections < LOW {
        tracing::warn!(
            "the limit of open files is {files}, so Envoy takes at most {connections} connections at a time and \
             refuses further ones. Raise the hard limit, such as with LimitNOFILE=65536 of a systemd unit, or 'ulimit \
             -Hn' before kuma-dp"
        );
    }
    Some(connections)
}

/// The number of connections, after subtracting the files that Envoy needs for itself: some for each of its threads,
/// one of which runs for each core, and a socket for each thread and listener. A Dataplane has some dozens of
/// listeners.
fn connections(files: u64, cores: usize) -> u64 {
    let own = 64 + 48 * cores as u64;
    ((files - own.min(files / 2)) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_two_files_and_envoy_needs_some_itself() {
        for (files, cores, expected) in
            [(1, 1, 1), (256, 2, 64), (1_024, 2, 432), (1_024, 64, 256), (65_536, 4, 32_640), (1 << 20, 8, 524_064)]
        {
            assert_eq!(connections(files, cores), expected, "{files} files, {cores} cores");
        }
    }
}
