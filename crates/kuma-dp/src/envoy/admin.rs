//! A client of Envoy's admin interface, with the few requests that a drain needs.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::bootstrap::Address;
use crate::http_client::{self, Answer, NoAnswer};

/// How long a request may take. Envoy answers from its main thread, which may be busy with configuration.
const LIMIT: Duration = Duration::from_secs(2);
/// The listener that offers metrics. Its connections are not waited for.
const METRICS: &str = "kuma:metrics:prometheus";

/// A client of the admin interface.
pub(crate) struct Admin {
    base: Url,
}

/// Why a request to the admin interface failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("Envoy's admin interface does not answer")]
    NoAnswer(#[from] NoAnswer),
    #[error("Envoy's admin interface answered {path} with status {status}")]
    Status { path: &'static str, status: StatusCode },
    #[error("Envoy's admin interface answered {path} in an unknown form")]
    Form { path: &'static str, source: serde_json::Error },
}

impl Admin {
    /// The admin interface at the address in a bootstrap. `None` if that is no TCP address.
    pub(crate) fn new(address: &Address) -> Option<Admin> {
        let host: IpAddr = address.host.parse().ok()?;
        let host = match host {
            // It listens on all addresses, so also on loopback.
            IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Some(Admin { base: Url::parse(&format!("http://{host}:{}", address.port)).ok()? })
    }

    /// Starts to drain all listeners: HTTP clients are asked to close their connections. New connections are still
    /// accepted until the drain time is over.
    pub(crate) async fn drain_listeners(&self) -> Result<(), AdminError> {
        let path = "/drain_listeners";
        let answer = http_client::post(&self.url(path, "graceful"), Bytes::new(), LIMIT).await?;
        successful(path, answer).map(|_| ())
    }

    /// The name in statistics of the listener that offers metrics, if there is one.
    pub(crate) async fn metrics_listener(&self) -> Result<Option<String>, AdminError> {
        let listeners: Listeners = self.json("/listeners", "format=json").await?;
        Ok(listeners.metrics_stat_name())
    }

    /// How many connections all listeners have now: inbounds, outbounds, pass-through and those of raw resources, but
    /// not `metrics` and the admin interface itself.
    pub(crate) async fn active_connections(&self, metrics: Option<&str>) -> Result<u64, AdminError> {
        let query = r"format=json&type=Gauges&filter=^listener\..*\.downstream_cx_active$";
        let stats: Stats = self.json("/stats", query).await?;
        Ok(stats.active(metrics))
    }

    async fn json<T: DeserializeOwned>(&self, path: &'static str, query: &str) -> Result<T, AdminError> {
        let answer = successful(path, http_client::get(&self.url(path, query), LIMIT).await?)?;
        serde_json::from_slice(&answer.body).map_err(|source| AdminError::Form { path, source })
    }

    fn url(&self, path: &str, query: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(Some(query));
        url
    }
}

fn successful(path: &'static str, answer: Answer) -> Result<Answer, AdminError> {
    if answer.status == StatusCode::OK { Ok(answer) } else { Err(AdminError::Status { path, status: answer.status }) }
}

#[derive(Deserialize)]
struct Listeners {
    #[serde(default)]
    listener_statuses: Vec<ListenerStatus>,
}

#[derive(Deserialize)]
struct ListenerStatus {
    #[serde(default)]
    name: String,
    #[serde(default)]
    local_address: LocalAddress,
}

#[derive(Deserialize, Default)]
struct LocalAddress {
    socket_address: Option<SocketAddress>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: IpAddr,
    #[serde(default)]
    port_value: u16,
}

#[derive(Deserialize)]
struct Stats {
    stats: Vec<Stat>,
}

#[derive(Deserialize)]
struct Stat {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: u64,
}

impl Listeners {
    /// The listener's name in statistics: its address with `_` in place of `:`.
    fn metrics_stat_name(self) -> Option<String> {
        let metrics = self.listener_statuses.into_iter().find(|listener| listener.name == METRICS)?;
        let SocketAddress { address, port_value } = metrics.local_address.socket_address?;
        Some(std::net::SocketAddr::new(address, port_value).to_string().replace(':', "_"))
    }
}

impl Stats {
    fn active(&self, metrics: Option<&str>) -> u64 {
        let counts = |stat: &&Stat| {
            let listener =
                stat.name.strip_prefix("listener.").and_then(|name| name.strip_suffix(".downstream_cx_active"));
            // The counts of the threads are already part of the listener's count.
            let of_thread = |name: &str| name.contains(".worker_") || name.ends_with(".main_thread");
            listener.is_some_and(|name| name != "admin" && Some(name) != metrics && !of_thread(name))
        };
        self.stats.iter().filter(counts).map(|stat| stat.value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_listeners_but_those_of_operators() {
        let listeners = r#"{"listener_statuses":[
            {"name":"inbound:pipe","local_address":{"pipe":{"path":"/x"}}},
            {"name":"kuma:metrics:prometheus",
             "local_address":{"socket_address":{"address":"0.0.0.0","port_value":5670}}}]}"#;
        let metrics = serde_json::from_str::<Listeners>(listeners).unwrap().metrics_stat_name();
        assert_eq!(metrics.as_deref(), Some("0.0.0.0_5670"));
        assert_eq!(serde_json::from_str::<Listeners>("{}").unwrap().metrics_stat_name(), None);
        let stats = r#"{"stats":[
            {"name":"listener.127.0.0.1_10000.downstream_cx_active","value":2},
            {"name":"listener.127.0.0.1_10000.worker_0.downstream_cx_active","value":1},
            {"name":"listener.[__1]_10001.downstream_cx_active","value":3},
            {"name":"listener.127.0.0.1_20000.downstream_cx_active","value":10},
            {"name":"listener.0.0.0.0_15001.downstream_cx_active","value":20},
            {"name":"listener.users_own.prefix.downstream_cx_active","value":40},
            {"name":"listener.0.0.0.0_5670.downstream_cx_active","value":100},
            {"name":"listener.admin.downstream_cx_active","value":100},
            {"name":"listener.admin.main_thread.downstream_cx_active","value":100}]}"#;
        let stats = serde_json::from_str::<Stats>(stats).unwrap();
        assert_eq!((stats.active(metrics.as_deref()), stats.active(None)), (75, 175));
    }

    #[test]
    fn addresses_that_listen_everywhere_are_asked_here() {
        for (host, base) in [
            ("127.0.0.1", Some("http://127.0.0.1:9901/")),
            ("0.0.0.0", Some("http://127.0.0.1:9901/")),
            ("::", Some("http://[::1]:9901/")),
            ("fd00::1", Some("http://[fd00::1]:9901/")),
            ("not an address", None),
        ] {
            let admin = Admin::new(&Address { host: host.to_owned(), port: 9901 });
            assert_eq!(admin.as_ref().map(|admin| admin.base.as_str()), base);
        }
    }
}
