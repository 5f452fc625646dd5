//! Finds a free port for Envoy's admin interface, and reserves it among the kuma-dps of this machine.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::config::PortRange;

/// A port that was free on the loopback interface a moment ago, and that no other kuma-dp picks while this lives.
///
/// Envoy needs some hundred milliseconds before it binds the port, so two kuma-dps that start together would both find
/// it free. Therefore a socket in the abstract namespace marks the port as reserved: like a port it belongs to the
/// network namespace, it leaves no file behind, and the kernel frees it however this process ends.
pub(crate) struct AdminPort {
    pub(crate) port: u16,
    _announced: UnixListener,
}

impl AdminPort {
    /// The lowest port of the range that is free on 127.0.0.1.
    ///
    /// # Errors
    /// All of them are taken.
    pub(crate) fn reserve(range: PortRange) -> anyhow::Result<AdminPort> {
        for port in range.low..=range.high {
            let Some(announced) = announce(port) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(AdminPort { port, _announced: announced });
            }
        }
        anyhow::bail!(
            "unable to find a free port in the range {range} for Envoy's admin interface on 127.0.0.1; \
             choose another range with --admin-port (KUMA_DATAPLANE_ADMIN_PORT)"
        )
    }
}

fn announce(port: u16) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("kuma-dp/admin-port/{port}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lowest_free_port_and_shares_none() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let low = taken.local_addr().unwrap().port().min(u16::MAX - 100);
        let range = PortRange { low, high: low + 100 };
        let first = AdminPort::reserve(range).unwrap();
        let second = AdminPort::reserve(range).unwrap();
        assert!(low < first.port && first.port < second.port);
        let port = first.port;
        drop(first);
        assert_eq!(AdminPort::reserve(range).unwrap().port, port);
    }

    #[test]
    fn says_which_range_is_full() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let Err(error) = AdminPort::reserve(PortRange { low: port, high: port }) else { panic!("{port} is taken") };
        assert!(error.to_string().starts_with(&format!("unable to find a free port in the range {port} ")), "{error}");
    }
}
