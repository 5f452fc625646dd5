//! Detects another kuma-dp for the same Dataplane on this machine: its Envoy already has the ports that this one needs.
//!
//! Each kuma-dp holds a lock: a socket in the abstract namespace (unix(7)), which belongs to the network namespace, as
//! ports do, and ends with its process. Any user of the machine can create such a socket, so a conflict only causes a
//! warning.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crate::config::Config;

/// The lock of this process, held until it is dropped.
pub(crate) struct SingleInstance {
    _lock: Option<UnixListener>,
}

impl SingleInstance {
    /// Takes the lock, or warns which process has it.
    pub(crate) fn claim(config: &Config) -> SingleInstance {
        let Config { mesh, name, cp_address, .. } = config;
        let address = lock_address(config);
        let _lock = match address.as_ref().map(UnixListener::bind_addr) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {
                let process =
                    address.as_ref().ok().and_then(owner).map_or(String::new(), |pid| format!(" (process {pid})"));
                tracing::warn!(
                    "another kuma-dp{process} runs Dataplane {name:?} of mesh {mesh:?} of {cp_address} on this \
                    machine. Its Envoy has the ports of the Dataplane, so the Envoy of this one cannot open them \
                    (\"Address already in use\"): stop one of the two, or give each a Dataplane of its own"
                );
                None
            }
            Ok(bound) => bound.ok(),
            Err(_) => None,
        };
        SingleInstance { _lock }
    }
}

/// The address of the lock. It holds a hash, since such an address is short.
fn lock_address(config: &Config) -> io::Result<SocketAddr> {
    let mut hash = DefaultHasher::new();
    (&config.mesh, &config.name, config.cp_address.to_string()).hash(&mut hash);
    SocketAddr::from_abstract_name(format!("kuma-dp/{:016x}", hash.finish()))
}

/// The process that holds the lock.
fn owner(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}
