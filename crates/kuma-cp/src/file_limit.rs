//! How many files the process may have open. Each proxy is a connection, and each connection a file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that the system allows: the 1,024 that many systems begin with are as many proxies.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, ?current, ?maximum, "the limit of open files stays low"),
    }
}

/// How the files that the process may have open are shared, so that no port can take those of the others.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Connections of proxies: most of them.
    pub proxies: usize,
    /// Connections of each other server.
    pub each_server: usize,
}

impl Shares {
    /// Those of this process.
    pub fn of_this_process() -> Shares {
        // Without a limit the memory is one.
        let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
        Shares::of(files.unwrap_or(usize::MAX))
    }

    fn of(files: usize) -> Shares {
        let others = (files.saturating_sub(OWN) / 8).clamp(8 * LEAST_OF_A_SERVER, 8 * MOST_OF_A_SERVER);
        let proxies = files.saturating_sub(OWN + others).clamp(1, MOST_PROXIES);
        Shares { proxies, each_server: others / 8 }
    }
}

/// What the process opens itself: its store, its log, its listeners.
const OWN: usize = 32;

/// Of the other servers there are seven. Together they have an eighth, but each at least this.
const LEAST_OF_A_SERVER: usize = 8;

/// More connections than these would not be served well.
const MOST_PROXIES: usize = 1 << 17;
const MOST_OF_A_SERVER: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_share_takes_the_files_of_the_others() {
        for files in [256, 1024, 4096, 20_000, 65_536, 1 << 20] {
            let Shares { proxies, each_server } = Shares::of(files);
            assert!(OWN + proxies + 7 * each_server < files, "{files}");
            assert!(proxies >= files / 2 || proxies == MOST_PROXIES, "{files}");
            assert!(each_server >= LEAST_OF_A_SERVER, "{files}");
        }
        assert_eq!(Shares::of(20_000).proxies, 17_472);
        let many = Shares::of(usize::MAX);
        assert_eq!((many.proxies, many.each_server), (MOST_PROXIES, MOST_OF_A_SERVER));
    }
}
