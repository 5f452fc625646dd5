//! What the xDS server (5678, 5677) shows: a certificate of the xDS CA that is renewed while the server runs, or the
//! one that the user has set.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kuma_ca::XdsCa;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::identity;
use crate::metrics::Metrics;

/// Makes the xDS server's certificate anew before it ends.
pub(crate) struct Renewal {
    made: Option<(XdsCa, Vec<String>, SystemTime)>,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    metrics: Arc<Metrics>,
}

/// What the xDS server shows, and the PEM that proxies pin: the CA, or the certificate that the user has set.
pub(crate) fn xds_tls(
    config: &Config,
    ca: XdsCa,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(watch::Receiver<Arc<rustls::ServerConfig>>, String, Renewal)> {
    let sds = &config.sds_server;
    if !sds.tls_cert_file.is_empty() {
        let read = |path: &str, setting: &str| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}; see {setting}"))
        };
        let chain = read(&sds.tls_cert_file, "sdsServer.tlsCertFile (KUMA_SDS_SERVER_TLS_CERT_FILE)")?;
        let key = kuma_ca::Secret::new(read(&sds.tls_key_file, "sdsServer.tlsKeyFile (KUMA_SDS_SERVER_TLS_KEY_FILE)")?);
        let (tls, receiver) =
            watch::channel(identity::grpc_tls(&chain, key.expose()).context("sdsServer.tlsCertFile and tlsKeyFile")?);
        metrics.certificate("xds_server", &chain);
        return Ok((receiver, chain, Renewal { made: None, tls, metrics: metrics.clone() }));
    }
    let hosts = vec![config.general.advertised_hostname.clone(), config.bootstrap_server.params.xds_host.clone()];
    let (first, renew_at) = server_config(&ca, &hosts, metrics)?;
    metrics.certificate("xds_ca", ca.cert_pem());
    let (tls, receiver) = watch::channel(first);
    let pinned = ca.cert_pem().to_owned();
    Ok((receiver, pinned, Renewal { made: Some((ca, hosts, renew_at)), tls, metrics: metrics.clone() }))
}

fn server_config(
    ca: &XdsCa,
    hosts: &[String],
    metrics: &Metrics,
) -> anyhow::Result<(Arc<rustls::ServerConfig>, SystemTime)> {
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).filter(|host| !host.is_empty()).collect();
    let leaf = identity::server_leaf(ca, &hosts, SystemTime::now())
        .context("general.advertisedHostname (KUMA_GENERAL_ADVERTISED_HOSTNAME) or bootstrapServer.params.xdsHost")?;
    metrics.certificate("xds_server", &leaf.chain_pem);
    let config = identity::grpc_tls(&leaf.chain_pem, leaf.key_pem.expose())?;
    Ok((config, leaf.renewal_time(rand::random())))
}

impl Renewal {
    /// The longest sleep: certificates go by the wall clock, which may be set while we sleep.
    const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
    /// Pause after a failure.
    const RETRY: Duration = Duration::from_secs(60);

    /// Renews until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let pause = match &mut self.made {
                None => Self::LONGEST_SLEEP,
                Some((_, _, renew_at)) if SystemTime::now() < *renew_at => {
                    renew_at.duration_since(SystemTime::now()).unwrap_or_default().min(Self::LONGEST_SLEEP)
                }
                Some((ca, hosts, renew_at)) => match server_config(ca, hosts, &self.metrics) {
                    Ok((config, next)) => {
                        self.tls.send_replace(config);
                        *renew_at = next;
                        continue;
                    }
                    Err(error) => {
                        tracing::error!("cannot renew the certificate of the xDS server: {error:#}");
                        Self::RETRY
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}
