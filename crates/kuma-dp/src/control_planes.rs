//! Several control planes that serve the same mesh: any of them answers, and Envoy and kuma-dp know them all.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kuma_wire::bootstrap::BootstrapRequest;
use tokio::time::Instant;
use url::Url;

use crate::config::Addresses;
use crate::control_plane::{self, Catalog, Failure, Server};

/// How long the other control planes may take to answer when one has answered. They are known by an assumed address
/// then.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

/// A failure, and the address of the control plane that it concerns.
pub(crate) type Failed<'a> = (&'a Url, Failure);

/// What control planes have answered.
#[derive(Debug)]
pub(crate) struct ControlPlanes<'a> {
    /// In the order of their addresses.
    answers: Vec<(&'a Url, Result<Catalog, Failure>)>,
    /// Where all of them serve xDS.
    xds_servers: Vec<String>,
}

impl<'a> ControlPlanes<'a> {
    /// Asks all for their catalogs at the same time.
    pub(crate) async fn ask(addresses: &'a Addresses) -> ControlPlanes<'a> {
        let mut asked: FuturesUnordered<_> = (addresses.iter().enumerate())
            .map(|(index, url)| async move { (index, url, control_plane::catalog(url).await) })
            .collect();
        let mut answers = Vec::new();
        let mut deadline = None;
        loop {
            let next = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, asked.next()).await.unwrap_or(None),
                None => asked.next().await,
            };
            let Some(answer) = next else { break };
            if answer.2.is_ok() {
                deadline.get_or_insert_with(|| Instant::now() + WAIT_FOR_OTHERS);
            }
            answers.push(answer);
        }
        answers.sort_by_key(|(index, ..)| *index);
        let answers: Vec<_> = answers.into_iter().map(|(_, url, answer)| (url, answer)).collect();
        let xds_servers = if addresses.others.is_empty() { Vec::new() } else { xds_servers(addresses, &answers) };
        ControlPlanes { answers, xds_servers }
    }

    /// Whether they issue dataplane tokens, and so may ask for one.
    pub(crate) fn issue_tokens(&self) -> bool {
        self.answers.iter().any(|(_, answer)| answer.as_ref().is_ok_and(|catalog| catalog.issues_tokens))
    }

    /// Envoy's bootstrap configuration, in YAML or JSON, from the first that gives one.
    ///
    /// # Errors
    /// None gives one: the reason of each.
    pub(crate) async fn bootstrap(self, request: &BootstrapRequest<'_>) -> Result<Bytes, Vec<Failed<'a>>> {
        let ControlPlanes { answers, xds_servers } = self;
        let request = BootstrapRequest { xds_servers: &xds_servers, ..*request };
        let mut failed = Vec::new();
        for (url, answer) in answers {
            let given = match answer {
                Ok(catalog) => control_plane::bootstrap(&catalog, &request).await,
                Err(failure) => Err(failure),
            };
            match given {
                Ok(text) => {
                    for (url, failure) in failed {
                        let failure = anyhow::Error::from(failure);
                        tracing::warn!("{failure:#}; the control plane at {url} is passed over");
                    }
                    return Ok(text);
                }
                Err(failure) => failed.push((url, failure)),
            }
        }
        Err(failed)
    }
}

/// The xDS server of each control plane. One that has not answered is assumed to serve it on the host of its API and
/// on the port that another one uses.
fn xds_servers(addresses: &Addresses, answers: &[(&Url, Result<Catalog, Failure>)]) -> Vec<String> {
    let catalogs = || answers.iter().filter_map(|(url, answer)| Some((*url, answer.as_ref().ok()?)));
    let Some(port) = catalogs().find_map(|(_, catalog)| catalog.xds.as_ref().map(|server| server.port)) else {
        return Vec::new();
    };
    let known = |url: &Url| {
        let catalog = catalogs().find(|(answered, _)| *answered == url);
        catalog.map(|(_, catalog)| catalog.xds.as_ref().map(Server::to_string))
    };
    let assumed = |url: &Url| url.host_str().map(|host| format!("{host}:{port}"));
    addresses.iter().filter_map(|url| known(url).unwrap_or_else(|| assumed(url))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn those_that_do_not_answer_are_assumed_to_use_the_same_port() {
        let addresses = Addresses {
            first: url("http://a:5681"),
            others: vec![url("https://b:1/kuma"), url("http://[::1]:5681"), url("http://d:5681")],
        };
        let catalog = |xds: Option<(&str, u16)>| Catalog {
            bootstrap: url("http://x:5682"),
            issues_tokens: false,
            xds: xds.map(|(host, port)| Server { host: host.into(), port }),
        };
        let d = &addresses.others[2];
        // `b` has answered and is of a release that does not tell.
        let answers = [(&addresses.others[0], Ok(catalog(None))), (d, Ok(catalog(Some(("2001:db8::1", 7)))))];
        assert_eq!(xds_servers(&addresses, &answers), ["a:7", "[::1]:7", "[2001:db8::1]:7"]);
        assert_eq!(xds_servers(&addresses, &answers[..1]), [] as [&str; 0]);
    }
}
