//! Finds the SSH session in which kumactl runs.

use std::path::PathBuf;

/// How many ancestor processes are looked at, such as shells, sudo, and a terminal multiplexer.
const ANCESTORS: usize = 32;

/// The local port of the SSH session, if there is one. The variable is looked for in all ancestors, since sudo removes
/// it.
pub(crate) fn port() -> Option<u16> {
    let mut process = std::process::id();
    for _ in 0..ANCESTORS {
        let folder = PathBuf::from(format!("/proc/{process}"));
        if let Some(port) = std::fs::read(folder.join("environ")).ok().and_then(|environ| port_in(&environ)) {
            return Some(port);
        }
        process = parent(&std::fs::read_to_string(folder.join("stat")).ok()?)?;
    }
    None
}

/// The last part of `SSH_CONNECTION=<client> <port> <server> <port>`.
fn port_in(environ: &[u8]) -> Option<u16> {
    let variable = environ.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    std::str::from_utf8(variable).ok()?.split(' ').nth(3)?.parse().ok()
}

/// The parent's process id: the field after the state. The name before it is in parentheses and may hold any character.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|&parent| parent != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_server() {
        assert_eq!(port_in(b"A=1\0SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 2222\0B=2\0"), Some(2222));
        assert_eq!(port_in(b"XSSH_CONNECTION=192.0.2.1 50000 192.0.2.2 2222\0"), None);
        assert_eq!(port_in(b"SSH_CONNECTION=\0"), None);
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent("1 (init) S 0 1 1 0"), None);
    }
}
