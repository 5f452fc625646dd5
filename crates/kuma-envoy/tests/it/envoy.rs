//! A running Envoy.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use kuma_envoy::{BootstrapParams, bootstrap};
use kuma_test::ports::free_port;
use kuma_test::{Process, envoy_binary, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ads::Ads;

/// How long Envoy keeps the connections of a listener that was replaced, in seconds.
pub(crate) const DRAIN_SECONDS: u64 = 2;

/// The token that the server has to receive.
pub(crate) const TOKEN: &str = "a.dataplane.token";

/// An Envoy with our bootstrap.
pub(crate) struct Envoy {
    admin: u16,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Envoy {
    /// Starts an Envoy that connects to this server.
    pub(crate) fn start(ads: &Ads) -> Envoy {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("a path in UTF-8").to_owned();
        std::fs::write(path("token"), TOKEN).expect("a token file");
        let admin = free_port();
        let params = BootstrapParams {
            mesh: "default",
            name: "web-1",
            service: "web",
            admin: Some(SocketAddr::from(([127, 0, 0, 1], admin))),
            admin_access_log_path: "/dev/null",
            xds_servers: &[("localhost", ads.port)],
            xds_connect_timeout: Duration::from_secs(5),
            xds_ca_pem: &ads.ca_pem,
            token_path: Some(&path("token")),
            access_log_socket: &path("access-log.sock"),
            max_connections: None,
        };
        std::fs::write(path("bootstrap.json"), bootstrap(&params).to_string()).expect("a bootstrap file");
        let process = Process::start(
            "envoy",
            Command::new(envoy_binary())
                .args(["-c", &path("bootstrap.json"), "--drain-time-s", &DRAIN_SECONDS.to_string()])
                .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]),
            folder.path(),
        );
        Envoy { admin, _process: process, _folder: folder }
    }

    /// Waits until Envoy is live and has accepted everything that is served.
    pub(crate) async fn has_accepted(&self, ads: &Ads, what: &str) {
        eventually(what, || async {
            let live = self.get("/ready").await.is_some_and(|answer| answer.contains("LIVE"));
            (live && ads.is_accepted()).then_some(())
        })
        .await;
        for waiting in ["listener_manager.total_listeners_warming", "cluster_manager.warming_clusters"] {
            eventually(&format!("{what}: no {waiting}"), || async {
                (self.statistic(waiting).await == 0).then_some(())
            })
            .await;
        }
    }

    /// A statistic; 0 if there is none.
    pub(crate) async fn statistic(&self, name: &str) -> u64 {
        let all = self.get("/stats").await.expect("the admin server answers");
        all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok()).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Option<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.admin)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.ok()?;
        // The body may be chunked. The sizes of chunks are lines of their own, which match no statistic.
        Some(answer)
    }
}
