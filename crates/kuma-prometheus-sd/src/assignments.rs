//! A client of monitoring assignments: one stream of v1alpha1 over gRPC.

use std::time::Duration;

use bytes::Bytes;
use envoy_api::envoy::service::discovery::v3::DiscoveryResponse;
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{CONTENT_TYPE, TE};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kuma_mads::v1alpha1::{MonitoringAssignment, STREAM_PATH, TYPE_URL};
use kuma_xds::grpc::{CONTENT_TYPE_GRPC, FrameDecoder, Status, frame};
use kuma_xds::{DiscoveryRequest, ErrorDetail, Node};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use url::Url;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// An idle stream is probed, to detect a control plane that has vanished without closing the connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// Largest list that is accepted, in bytes: that of some 100,000 proxies.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("could not connect to {0}")]
    Connect(Url, #[source] reqwest::Error),
    #[error("it answered with HTTP status {0}")]
    Http(StatusCode),
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it ended the stream with status {code}: {message}")]
    Outcome { code: u16, message: String },
    #[error("it ended the stream")]
    Silent,
    #[error("it sent what is no list of monitoring assignments: {0}")]
    Nonsense(String),
    #[error("cannot write {0}")]
    Output(String, #[source] std::io::Error),
}

/// The client, and the version of the list that it has.
pub(crate) struct Client {
    http: reqwest::Client,
    node: Node,
    /// The last accepted version; empty before the first list. The control plane does not send the same version again.
    version: String,
}

impl Client {
    /// A client with this name, which the control plane logs.
    pub(crate) fn new(name: &str) -> reqwest::Result<Client> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_LIMIT)
            .http2_keep_alive_while_idle(true)
            .user_agent(concat!("kuma-prometheus-sd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let node = Node { id: name.to_owned(), ..Node::default() };
        Ok(Client { http, node, version: String::new() })
    }

    /// Passes each list to `take` until the stream ends, and returns the reason. A list that `take` refuses counts as
    /// not received.
    pub(crate) async fn follow(
        &mut self,
        server: &Url,
        mut take: impl FnMut(Vec<MonitoringAssignment>) -> Result<(), Ended>,
    ) -> Ended {
        let ended: Result<std::convert::Infallible, Ended> = async {
            let (requests, receiver) = mpsc::channel(1);
            let first = DiscoveryRequest {
                node: Some(self.node.clone()),
                version_info: self.version.clone(),
                type_url: TYPE_URL.to_owned(),
                ..DiscoveryRequest::default()
            };
            send(&requests, &first).await;
            let mut lists = self.call(server, receiver).await?;
            loop {
                let (nonce, version, list) = match lists.next().await? {
                    Ok(list) => list,
                    Err(Refused { nonce, reason }) => {
                        let detail = ErrorDetail { code: INVALID_ARGUMENT, message: reason.clone() };
                        send(&requests, &answer(&self.version, nonce, Some(detail))).await;
                        tracing::warn!("refused a list, and kept what was there: {reason}");
                        continue;
                    }
                };
                take(list)?;
                self.version = version;
                send(&requests, &answer(&self.version, nonce, None)).await;
            }
        }
        .await;
        let Err(ended) = ended;
        ended
    }

    async fn call(&self, server: &Url, requests: mpsc::Receiver<Bytes>) -> Result<Lists, Ended> {
        let mut url = server.clone();
        url.set_path(STREAM_PATH);
        let frames = ReceiverStream::new(requests).map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(bytes)));
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, CONTENT_TYPE_GRPC)
            .header(TE, "trailers")
            .body(reqwest::Body::wrap(StreamBody::new(frames)));
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => Ended::Connect(server.clone(), error.without_url()),
            false => Ended::Broken(error.without_url().into()),
        })?;
        if response.status() != StatusCode::OK {
            return Err(Ended::Http(response.status()));
        }
        // A refusal may have no body; its status is then among the headers.
        if let Some((code, message)) = Status::from_headers(response.headers()) {
            return Err(Ended::Outcome { code, message });
        }
        let body = http::Response::<reqwest::Body>::from(response).into_body();
        Ok(Lists { body, decoder: FrameDecoder::new(MAX_LIST) })
    }
}

/// `INVALID_ARGUMENT` of gRPC's status codes.
const INVALID_ARGUMENT: i32 = 3;

/// The lists that one stream receives.
struct Lists {
    body: reqwest::Body,
    decoder: FrameDecoder,
}

/// A response with a resource that is no assignment.
struct Refused {
    nonce: String,
    reason: String,
}

/// Nonce, version, and the list itself.
type List = (String, String, Vec<MonitoringAssignment>);

impl Lists {
    async fn next(&mut self) -> Result<Result<List, Refused>, Ended> {
        loop {
            if let Some(message) = self.decoder.next_message().map_err(|status| Ended::Nonsense(status.message))? {
                let response =
                    DiscoveryResponse::decode(message).map_err(|error| Ended::Nonsense(error.to_string()))?;
                return Ok(read(response));
            }
            match self.body.frame().await {
                None => return Err(Ended::Silent),
                Some(Err(error)) => return Err(Ended::Broken(error.without_url().into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.decoder.push(piece),
                    Err(frame) => {
                        let outcome = frame.into_trailers().ok().and_then(|trailers| Status::from_headers(&trailers));
                        let (code, message) = outcome.ok_or(Ended::Silent)?;
                        return Err(Ended::Outcome { code, message });
                    }
                },
            }
        }
    }
}

fn read(response: DiscoveryResponse) -> Result<List, Refused> {
    let DiscoveryResponse { version_info, resources, nonce, .. } = response;
    let assignments = resources.into_iter().map(|any| {
        if any.type_url != TYPE_URL {
            return Err(format!("a resource of the type {:?} instead of {TYPE_URL}", any.type_url));
        }
        MonitoringAssignment::decode(any.value).map_err(|error| error.to_string())
    });
    match assignments.collect() {
        Ok(assignments) => Ok((nonce, version_info, assignments)),
        Err(reason) => Err(Refused { nonce, reason }),
    }
}

fn answer(version: &str, nonce: String, error_detail: Option<ErrorDetail>) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: version.to_owned(),
        type_url: TYPE_URL.to_owned(),
        response_nonce: nonce,
        error_detail,
        ..DiscoveryRequest::default()
    }
}

async fn send(requests: &mpsc::Sender<Bytes>, request: &DiscoveryRequest) {
    // An error means that the stream has ended, which shows when the next list is read.
    let _ = requests.send(frame(&request.encode_to_vec())).await;
}

#[cfg(test)]
mod tests {
    use envoy_api::Any;

    use super::*;

    #[test]
    fn a_list_with_something_else_in_it_is_refused_as_a_whole() {
        let response = |resources| DiscoveryResponse {
            version_info: "7".into(),
            nonce: "n".into(),
            resources,
            ..DiscoveryResponse::default()
        };
        let assignment = MonitoringAssignment { name: "a".into(), ..MonitoringAssignment::default() };
        let good = Any { type_url: TYPE_URL.into(), value: assignment.encode_to_vec().into() };
        let Ok((nonce, version, list)) = read(response(vec![good.clone()])) else { panic!("a good one is refused") };
        assert_eq!((nonce.as_str(), version.as_str(), list), ("n", "7", vec![assignment]));
        for bad in [
            Any { type_url: "other".into(), ..good.clone() },
            Any { value: Bytes::from_static(&[0x0a, 0xff]), ..good.clone() },
        ] {
            let read = read(response(vec![good.clone(), bad]));
            assert!(matches!(read, Err(Refused { nonce, .. }) if nonce == "n"));
        }
    }
}
