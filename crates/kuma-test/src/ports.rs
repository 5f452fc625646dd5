//! Free ports.

use std::fs::File;
use std::net::{Ipv6Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Where free ports are looked for: below those that the system takes for the near end of outgoing connections, of
/// which tests make thousands. One of those could take a port between the moment it was found free and the moment a
/// program under test binds it.
const PORTS: Range<u16> = 12_000..32_000;

/// Ports are reserved in blocks, more than most tests need.
const BLOCK: u16 = 50;

/// The blocks that this process has reserved, and the ports of the last one that are left.
struct Reserved {
    locks: Vec<File>,
    left: Range<u16>,
}

/// A port that nothing listens on, on any address. Not handed out again while the process runs, neither by it nor by
/// another one that runs tests.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Reserved> = Mutex::new(Reserved { locks: Vec::new(), left: 0..0 });
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = reserved.left.by_ref().find(|port| is_free(*port)) {
            return port;
        }
        let (lock, block) = reserve();
        reserved.locks.push(lock);
        reserved.left = block;
    }
}

/// Takes the first block that no process has, by a lock that the system lets go when the process ends, however it does.
fn reserve() -> (File, Range<u16>) {
    let folder = std::env::temp_dir().join("kuma-test-ports");
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for first in PORTS.step_by(usize::from(BLOCK)) {
        let path = folder.join(first.to_string());
        let file = File::options().create(true).append(true).open(path);
        if let Ok(file) = file
            && file.try_lock().is_ok()
        {
            return (file, first..first + BLOCK);
        }
    }
    panic!("all ports in {PORTS:?} are reserved: see {}", folder.display());
}

fn is_free(port: u16) -> bool {
    let taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    // On a machine without IPv6 nothing can listen there, and the error is another one.
    let everywhere = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    !everywhere.is_err_and(taken) && TcpListener::bind(("127.0.0.1", port)).is_ok()
}
