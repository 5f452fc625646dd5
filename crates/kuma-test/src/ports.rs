//! Free ports.

use std::net::{Ipv6Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Where free ports are looked for: below those that the system takes for the near end of outgoing connections, of which
/// tests make thousands. One of those could take a port between the moment it was found free and the moment a program
/// under test binds it.
const FIRST: u16 = 12_000;
const NUMBER: u16 = 20_000;

/// So many ports lie between the beginnings of two processes whose ids follow each other.
const STRIDE: u32 = 131;

/// A port that nothing listens on, on any address. Not handed out twice by one process; and tests that run in several
/// processes at a time begin to look at different places.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = || (std::process::id().wrapping_mul(STRIDE) % u32::from(NUMBER)) as u16;
    let mut offset = next.unwrap_or_else(begin);
    for _ in 0..NUMBER {
        let port = FIRST + offset;
        offset = (offset + 1) % NUMBER;
        *next = Some(offset);
        let taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
        // On a machine without IPv6 nothing can listen there, and the error is another one.
        let everywhere = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
        if everywhere.is_err_and(taken) || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        return port;
    }
    panic!("no port from {FIRST} on is free");
}
