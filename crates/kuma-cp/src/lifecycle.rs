//! kuma-dp's own stream: it says that its proxy runs, drains, or has exited.
//!
//! A word of a proxy that leaves takes its endpoints away from its clients at once. What a stream that ends says is up
//! to `presence.rs`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kuma_ca::Claims;
use kuma_wire::lifecycle::{Report, State};
use kuma_xds::grpc::{BoxBody, CONTENT_TYPE_GRPC, Code, FrameDecoder, Status};
use kuma_xds::server::{Peer, RequestBody};
use prost::Message as _;

use crate::ads::{Ads, check_claims};
use crate::departures::StreamGuard;
use crate::presence::Proxy;

/// Largest report, in bytes.
const MAX_REPORT: usize = 16 * 1024;

/// Characters of the detail of a report that are kept.
const MAX_DETAIL: usize = 200;

/// Takes reports.
pub struct Lifecycle {
    ads: Arc<Ads>,
}

impl Lifecycle {
    /// Nobody has reported yet.
    pub fn new(ads: Arc<Ads>) -> Arc<Lifecycle> {
        Arc::new(Lifecycle { ads })
    }

    /// Answers one stream of reports: at once, so that kuma-dp knows that it is heard, and with an outcome at its end.
    pub fn report(self: Arc<Self>, peer: Peer, request: Request<RequestBody>) -> BoxFuture<'static, Response<BoxBody>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let claims = match self.ads.claims(&peer, &head.headers) {
                Ok(claims) => claims,
                Err(status) => return status.into_response(),
            };
            let end = futures_util::stream::once(async move {
                let outcome = self.listen(&peer, claims.as_ref(), body).await;
                Ok(Frame::trailers(outcome.err().unwrap_or_else(Status::ok).trailers()))
            });
            let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(end)));
            response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
            response
        })
    }

    async fn listen(&self, peer: &Peer, claims: Option<&Claims>, mut body: RequestBody) -> Result<(), Status> {
        let mut decoder = FrameDecoder::new(MAX_REPORT);
        let mut guard: Option<StreamGuard> = None;
        // Of which mesh it is, once it has said so.
        let mut mesh: Option<String> = None;
        loop {
            let refused = async {
                match &mesh {
                    // Who has proved all there is to prove is never refused.
                    Some(mesh) if claims.is_none() || !peer.tls => {
                        self.ads.engine.refuses(mesh, claims.is_some(), peer.tls).await
                    }
                    _ => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                biased;
                // So that kuma-dp can say it: without a token its proxy has nothing, from when the mesh has mTLS on.
                refusal = refused => return Err(refusal),
                frame = body.frame() => match frame {
                    Some(frame) => frame,
                    None => break,
                },
            };
            if let Ok(Ok(data)) = frame.map(Frame::into_data) {
                decoder.push(data);
            }
            while let Some(message) = decoder.next_message()? {
                let report = Report::decode(message)
                    .map_err(|_| Status::new(Code::InvalidArgument, "not a report of a dataplane"))?;
                check_claims(claims, &report.mesh, &report.name)?;
                mesh.get_or_insert_with(|| report.mesh.clone());
                tracing::info!(mesh = %report.mesh, dataplane = %report.name, state = ?report.state(),
                    "kuma-dp reports");
                match report.state() {
                    State::Unknown => {}
                    // That kuma-dp runs does not say that its Envoy listens yet; Envoy's own stream does.
                    State::Running => {
                        guard.get_or_insert_with(|| {
                            let departures = &self.ads.departures;
                            departures.kuma_dp(&proxy(&report), &report.instance, peer, claims.is_some())
                        });
                    }
                    State::Draining => self.ends(&report, "it drains", peer, claims).await,
                    State::EnvoyExited => self.ends(&report, "its Envoy has ended", peer, claims).await,
                }
            }
        }
        Ok(())
    }

    /// A kuma-dp says that its Envoy ends: its clients are not to dial it any more.
    async fn ends(&self, report: &Report, what: &str, peer: &Peer, claims: Option<&Claims>) {
        let dataplane = proxy(report);
        let trusted = claims.is_some()
            || self.ads.engine.may_report_for(&report.mesh, dataplane.1.clone(), peer.address.ip()).await;
        // For people, in one line that fits where they look.
        let detail: String = report.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect();
        let why = if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") };
        if !trusted {
            // Without a token it may be anybody; a proxy that is not connected has nothing to take away.
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name, peer = %peer.address,
                "an end was reported without a token and not from where the proxy is: passed over");
        } else if !self.ads.departures.leaves(&dataplane, &report.instance, why) {
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name,
                "a kuma-dp of the dataplane ends while another one runs: the endpoints stay");
        }
    }
}

fn proxy(report: &Report) -> Proxy {
    (Arc::from(report.mesh.as_str()), Arc::from(report.name.as_str()))
}
