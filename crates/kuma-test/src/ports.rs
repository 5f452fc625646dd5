//! Free ports.

use std::net::{Ipv6Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The range of ports that are handed out. It is below the system's ephemeral ports: tests make thousands of
/// connections, and one of those could take a port before the program under test binds it.
const PORTS: Range<u16> = 12_000..32_000;

/// Ports are reserved in blocks of this size; most tests need one.
const BLOCK: u16 = 50;

/// The blocks that this process has reserved, and the unused ports of the last one.
struct Reserved {
    /// Listeners on the first port of each block, which is not handed out.
    locks: Vec<TcpListener>,
    left: Range<u16>,
}

/// A port on which nothing listens, on any address. While this process runs, the port is not handed out again, neither
/// here nor in other test processes.
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

/// Reserves the first free block by listening on its first port, which the system frees when the process ends.
fn reserve() -> (TcpListener, Range<u16>) {
    for first in PORTS.step_by(usize::from(BLOCK)) {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", first)) {
            return (listener, first + 1..first + BLOCK);
        }
    }
    panic!("all ports in {PORTS:?} are reserved");
}

fn is_free(port: u16) -> bool {
    let taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    // Only "in use" counts: on a machine without IPv6 this fails with another error.
    let everywhere = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    !everywhere.is_err_and(taken) && TcpListener::bind(("127.0.0.1", port)).is_ok()
}
