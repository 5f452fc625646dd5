//! The syntax of ports and networks on the command line.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A port or a range of ports: `8080`, `9000-9010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// From a port to a port, both included.
    pub(crate) const fn new(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    /// Whether a port is one of them.
    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> PortRange {
        PortRange::new(port, port)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            // Digits only: Rust would also parse `+80`.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|&port| digits && port != 0)
        };
        match (port(first.trim()), port(last.trim())) {
            (Some(first), Some(last)) if first <= last => Ok(PortRange::new(first, last)),
            _ => Err("it must be a port from 1 to 65535, or a range such as 9000-9010".to_owned()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// An address or a network: `192.0.2.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The name of its address family in nft.
    pub(crate) fn family(self) -> &'static str {
        if self.address.is_ipv4() { "ip" } else { "ip6" }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let parsed = address.trim().parse::<IpAddr>().ok().and_then(|address| {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(whole), |prefix| prefix.trim().parse().ok())?;
            (prefix <= whole).then_some(Network { address, prefix })
        });
        parsed.ok_or_else(|| "it must be an address or a network, such as 10.0.0.0/8".to_owned())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, printed) in [("22", "22"), ("9000-9010", "9000-9010"), ("80-80", "80"), (" 1 - 65535 ", "1-65535")] {
            assert_eq!(text.parse::<PortRange>().expect(text).to_string(), printed);
        }
        for text in ["", "0", "65536", "9010-9000", "1-", "-1", "+80", "a", "1-2-3", "80;flush ruleset"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        for (text, printed) in
            [("192.0.2.1", "192.0.2.1/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("fd00::/8", "fd00::/8"), ("::1", "::1/128")]
        {
            assert_eq!(text.parse::<Network>().expect(text).to_string(), printed);
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "example.com", "10.0.0.0/8 return; flush ruleset"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
