//! Whether another kuma-dp runs the same Dataplane on this machine: its Envoy has the ports that this one's is to open.
//!
//! The mark is a socket in the abstract namespace (unix(7)): it is where the ports are, in the network namespace, and
//! goes with its process. Anybody on the machine can make such a mark, so it leads to a warning and no more.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crate::config::Config;

/// The mark of this process, for as long as it lives.
pub(crate) struct OnlyOne {
    _mark: Option<UnixListener>,
}

impl OnlyOne {
    /// Makes the mark, or says who has made it.
    pub(crate) fn claim(config: &Config) -> OnlyOne {
        let Config { mesh, name, cp_address, .. } = config;
        let mark = mark(config);
        let _mark = match mark.as_ref().map(UnixListener::bind_addr) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {
                let process =
                    mark.as_ref().ok().and_then(holder).map_or(String::new(), |pid| format!(" (process {pid})"));
                tracing::warn!(
                    "another kuma-dp{process} runs Dataplane {name:?} of mesh {mesh:?} of {cp_address} on this \
                     machine. Its Envoy has the ports of the Dataplane, so that of this one cannot open them \
                     (\"Address already in use\"): stop one of both, or give each a Dataplane of its own"
                );
                None
            }
            Ok(bound) => bound.ok(),
            Err(_) => None,
        };
        OnlyOne { _mark }
    }
}

/// Names are short, and the hash is for what may be long.
fn mark(config: &Config) -> io::Result<SocketAddr> {
    let mut hash = DefaultHasher::new();
    (&config.mesh, &config.name, config.cp_address.as_str()).hash(&mut hash);
    SocketAddr::from_abstract_name(format!("kuma-dp/{:016x}", hash.finish()))
}

/// The process that has made the mark.
fn holder(mark: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(mark).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}
