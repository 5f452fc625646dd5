//! Who sent a request: somebody on this machine, or somebody else who only looks like it.
//!
//! Ports without authentication trust this machine. A browser or a proxy on this machine can be made to act for
//! somebody else, so the address alone proves nothing: the headers that both must send are looked at too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN, VIA};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Both ends of the connection that a request came over. The server puts it into every request's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The client.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// What `may_write` decides by.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// `None` counts as "from elsewhere".
    pub connection: Option<Connection>,
    /// Target of the request; its authority, if it has one, must be ours too.
    pub uri: &'a Uri,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// The name that the operator gave this control plane, beside `localhost` and its addresses.
    pub advertised_hostname: &'a str,
    /// Whether the configuration lists this very `Origin` as one of the operator's own.
    pub origin_listed: bool,
    /// `apiServer.allowRemoteWrites`.
    pub allow_remote: bool,
}

/// Why a request is not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The peer is another machine, a proxy on this one, or unknown.
    OtherMachine,
    /// A proxy passed the request on: its header.
    Forwarded(String),
    /// The `Host` is not ours, or missing: a name that was made to point here.
    ForeignHost(String),
    /// A page of another site sent it.
    ForeignOrigin(String),
    /// The browser says that the page and we are not the same origin.
    CrossSite,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMachine => f.write_str("The request does not come from this machine's loopback address"),
            Self::Forwarded(header) => {
                write!(f, "The request was forwarded by a proxy (header {header})")
            }
            Self::ForeignHost(host) if host.is_empty() => f.write_str("The request has no usable Host header"),
            Self::ForeignHost(host) => {
                write!(f, "The host {host:?} is not a name of this control plane")
            }
            Self::ForeignOrigin(origin) => {
                write!(f, "A page of another origin ({origin:?}) sent the request")
            }
            Self::CrossSite => f.write_str("A page of another site sent the request"),
        }
    }
}

/// Whether the HTTP API takes a write: from this machine, directly, and not on behalf of a web page of somebody else.
/// With `allow_remote` other machines and proxies may write too, web pages of others still not.
pub fn may_write(context: &WriteContext<'_>) -> Result<(), Refusal> {
    let WriteContext { connection, uri, headers, advertised_hostname, origin_listed, allow_remote } = *context;
    if !allow_remote {
        let connection = connection.filter(is_same_machine).ok_or(Refusal::OtherMachine)?;
        not_forwarded(headers)?;
        let local = connection.local.ip().to_canonical();
        hosts_are(uri, headers, |host| {
            is_loopback(host) || host_ip(host) == Some(local) || host.eq_ignore_ascii_case(advertised_hostname)
        })?;
    }
    if origin_listed {
        return Ok(());
    }
    // Any name may be made to point here while a page of it is open (DNS rebinding), but no address, nor our own name.
    let is_fixed =
        |host: &str| is_loopback(host) || host_ip(host).is_some() || host.eq_ignore_ascii_case(advertised_hostname);
    let own = |origin: &str| {
        let is_own = |host: &Authority| is_origin_of(origin, host) && is_fixed(host.host());
        hosts(uri, headers).is_ok_and(|hosts| hosts.iter().all(is_own))
    };
    not_from_another_page(headers, own)
}

/// Whether the administrative port answers: stricter than [`may_write`], since there is nothing to opt out of.
pub fn may_administer(connection: Option<Connection>, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    connection.filter(is_same_machine).ok_or(Refusal::OtherMachine)?;
    not_forwarded(headers)?;
    hosts_are(uri, headers, is_loopback)?;
    not_from_another_page(headers, |origin| origin_authority(origin).is_some_and(|at| is_loopback(at.host())))
}

/// Whether a request with a client certificate was meant by its holder: a browser that has the certificate would show
/// it for the page of anybody.
pub fn may_use_certificate(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    not_forwarded(headers)?;
    let own = |origin: &str| hosts(uri, headers).is_ok_and(|hosts| hosts.iter().all(|host| is_origin_of(origin, host)));
    not_from_another_page(headers, own)
}

/// Whether the client is on this machine, whatever it acts for. Only loopback counts: a connection from another address
/// of this machine may be one that a proxy on it passes through for another machine.
pub(super) fn is_same_machine(connection: &Connection) -> bool {
    connection.peer.ip().to_canonical().is_loopback()
}

fn not_forwarded(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in headers.keys() {
        let text = name.as_str();
        if matches!(text, "forwarded" | "x-real-ip") || name == VIA || text.starts_with("x-forwarded") {
            return Err(Refusal::Forwarded(text.to_string()));
        }
    }
    Ok(())
}

/// Every host that the request names: of its target and of its `Host` header.
fn hosts(uri: &Uri, headers: &HeaderMap) -> Result<Vec<Authority>, Refusal> {
    let mut hosts: Vec<Authority> = uri.authority().cloned().into_iter().collect();
    for value in headers.get_all(HOST) {
        let text = value.to_str().map_err(|_| Refusal::ForeignHost(String::new()))?;
        hosts.push(text.parse().map_err(|_| Refusal::ForeignHost(text.to_string()))?);
    }
    if hosts.is_empty() { Err(Refusal::ForeignHost(String::new())) } else { Ok(hosts) }
}

fn hosts_are(uri: &Uri, headers: &HeaderMap, ours: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    match hosts(uri, headers)?.iter().find(|authority| authority.as_str().contains('@') || !ours(authority.host())) {
        Some(foreign) => Err(Refusal::ForeignHost(foreign.to_string())),
        None => Ok(()),
    }
}

/// Browsers say in `Sec-Fetch-Site` how the page and we are related, and in `Origin` whose page it is; programs send
/// neither.
fn not_from_another_page(headers: &HeaderMap, ours: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    for value in headers.get_all("sec-fetch-site") {
        if !matches!(value.as_bytes(), b"none" | b"same-origin") {
            return Err(Refusal::CrossSite);
        }
    }
    for value in headers.get_all(ORIGIN) {
        let origin = value.to_str().unwrap_or("");
        if !ours(origin) {
            return Err(Refusal::ForeignOrigin(origin.to_string()));
        }
    }
    Ok(())
}

fn host_ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host_ip(host).is_some_and(|ip| ip.is_loopback())
}

fn origin_authority(origin: &str) -> Option<Authority> {
    let (scheme, rest) = origin.split_once("://")?;
    matches!(scheme, "http" | "https").then(|| rest.parse().ok())?
}

/// Whether `origin` is the origin of pages that `host` itself serves: same name, same port.
fn is_origin_of(origin: &str, host: &Authority) -> bool {
    let default_port = if origin.starts_with("https:") { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    origin_authority(origin).is_some_and(|at| at.host().eq_ignore_ascii_case(host.host()) && port(&at) == port(host))
}
