//! One connection to the server that takes writes.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Socket};

use crate::config::{Host, Password, PostgresConfig, TlsMode};
use crate::failure::describe;
use crate::tls::{Connector, Stream};

/// A broken path is noticed after this long without an answer.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// What has to be polled for a connection.
pub(crate) type Driver = Connection<Socket, Stream<Socket>>;

type Connected = (Client, Driver);

/// Tries each place in turn, and of a place each address. Only a server that takes writes is taken.
///
/// # Errors
/// What happened at each place.
pub(crate) async fn connect(config: &PostgresConfig) -> Result<Connected, String> {
    let password = read_password(&config.password)?;
    let connector = Connector::new(&config.tls)?;
    let places = config.places();
    if places.is_empty() {
        return Err("no host is configured".into());
    }
    let mut errors = Vec::new();
    for place in places {
        let limit = match config.connection_timeout {
            Duration::ZERO => Duration::MAX,
            limit => limit,
        };
        let base = settings(config, &password);
        let connected = match &place {
            Host::Socket(folder, port) => {
                let mut settings = base;
                // Nobody else can listen on a socket, and the server offers no TLS on it.
                settings.host_path(folder).port(*port).ssl_mode(SslMode::Disable);
                attempt(&settings, &connector, limit).await
            }
            Host::Tcp(name, port) => over_tcp(base, &connector, name, *port, limit).await,
        };
        match connected {
            Ok(connected) => return Ok(connected),
            Err(error) => errors.push(format!("{place}: {error}")),
        }
    }
    Err(errors.join("; "))
}

async fn over_tcp(
    base: Config,
    connector: &Connector,
    name: &str,
    port: u16,
    limit: Duration,
) -> Result<Connected, String> {
    let found = timeout(limit, lookup_host((name, port))).await.map_err(|_| late(limit))?;
    let addresses: Vec<IpAddr> = found.map_err(|error| error.to_string())?.map(|address| address.ip()).collect();
    let mut last = Err("it has no address".to_owned());
    for address in addresses {
        let mut settings = base.clone();
        settings.host(name).hostaddr(address).port(port);
        last = attempt(&settings, connector, limit).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn attempt(settings: &Config, connector: &Connector, limit: Duration) -> Result<Connected, String> {
    match timeout(limit, settings.connect(connector.clone())).await {
        Ok(connected) => connected.map_err(|error| describe(&error)),
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// Values are set one by one and never as a text, so that they may hold any character.
fn settings(config: &PostgresConfig, password: &str) -> Config {
    let mut settings = Config::new();
    settings
        .user(&*config.user)
        .password(password)
        .dbname(&*config.db_name)
        .application_name("kuma-cp")
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .tcp_user_timeout(DEAD_AFTER)
        .keepalives_idle(DEAD_AFTER)
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .ssl_mode(match config.tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::VerifyNone | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    settings
}

fn read_password(password: &Password) -> Result<String, String> {
    match password {
        Password::Text(text) => Ok(text.clone()),
        Password::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            match text.lines().next() {
                Some(line) if !line.is_empty() => Ok(line.to_owned()),
                _ => Err(format!("{}: there is no password in its first line", path.display())),
            }
        }
    }
}
