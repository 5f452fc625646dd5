//! Which database is used, and how it is reached.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which database is used, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Where the server may be: names or addresses, each with a port of its own if it ends in `:PORT`, or folders of
    /// Unix sockets. The first that takes writes is used.
    pub hosts: Vec<String>,
    /// The port of hosts that name none.
    pub port: u16,
    /// Who we are.
    pub user: String,
    /// How we show it.
    pub password: Password,
    /// The database.
    pub db_name: String,
    /// How long one address may take to let us in; zero for no limit.
    pub connection_timeout: Duration,
    /// Connections open at once; 0 for as many as are of use, which is three.
    pub max_open_connections: u32,
    /// How connections are secured.
    pub tls: PostgresTls,
}

impl Default for PostgresConfig {
    fn default() -> PostgresConfig {
        PostgresConfig {
            hosts: vec!["127.0.0.1".into()],
            port: 15432,
            user: "kuma".into(),
            password: Password::Text("kuma".into()),
            db_name: "kuma".into(),
            connection_timeout: Duration::from_secs(5),
            max_open_connections: 0,
            tls: PostgresTls::default(),
        }
    }
}

/// A password; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Text(String),
    /// A file that has it in its first line. It is read at every connection, so that it may change.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Password::Text(_) => f.write_str("*****"),
            Password::File(path) => path.fmt(f),
        }
    }
}

/// How connections are secured. The files are read at every connection, so that they may be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresTls {
    /// What is checked.
    pub mode: TlsMode,
    /// Certificates that the server's is checked against, PEM; for the modes that check.
    pub ca: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disable,
    /// TLS with any server.
    VerifyNone,
    /// The certificate must come from a CA that is trusted.
    VerifyCa,
    /// It must also name the host.
    VerifyFull,
}

/// One place where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Socket(PathBuf, u16),
    Tcp(String, u16),
}

impl Host {
    fn parse(text: &str, port: u16) -> Host {
        let text = text.trim();
        if text.starts_with('/') {
            return Host::Socket(Path::new(text).into(), port);
        }
        let (name, own_port) = match text.rsplit_once(':') {
            // Other colons are those of an IPv6 address without a port.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse().ok()),
            _ => (text, None),
        };
        match own_port {
            Some(port) => Host::Tcp(without_brackets(name).into(), port),
            None => Host::Tcp(without_brackets(text).into(), port),
        }
    }

    /// Whether nobody else can listen on the way.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Host::Socket(..) => true,
            Host::Tcp(name, _) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }
}

fn without_brackets(name: &str) -> &str {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Socket(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
            Host::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl PostgresConfig {
    pub(crate) fn places(&self) -> Vec<Host> {
        self.hosts.iter().map(|host| Host::parse(host, self.port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_addresses_and_folders() {
        for (text, shown, local) in [
            ("db.example", "db.example:15432", false),
            (" db.example:5432", "db.example:5432", false),
            ("127.0.0.1", "127.0.0.1:15432", true),
            ("localhost:1", "localhost:1", true),
            ("::1", "[::1]:15432", true),
            ("[::1]", "[::1]:15432", true),
            ("[2001:db8::1]:5432", "[2001:db8::1]:5432", false),
            ("/run/postgresql", "/run/postgresql/.s.PGSQL.15432", true),
        ] {
            let host = Host::parse(text, 15432);
            assert_eq!((host.to_string().as_str(), host.is_local()), (shown, local), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = PostgresConfig { password: Password::Text("open sesame".into()), ..PostgresConfig::default() };
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
