//! kuma-dp's own stream: it says that its proxy runs, drains, or has exited.
//!
//! A word of a proxy that leaves takes its endpoints away from its clients at once. Silence, or a stream that ends, says
//! nothing: no fault removes an endpoint.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use kuma_ca::Claims;
use kuma_xds::grpc::{BoxBody, CONTENT_TYPE_GRPC, Code, FrameDecoder, Status};
use kuma_xds::server::Peer;
use prost::Message as _;

use crate::ads::{Ads, check_claims};

/// The method on which kuma-dp reports.
pub const METHOD: &str = "/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report";

/// Largest report, in bytes.
const MAX_REPORT: usize = 16 * 1024;

/// What kuma-dp says of its proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Mesh of the Dataplane.
    #[prost(string, tag = "1")]
    pub mesh: String,
    /// Name of the Dataplane.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What the proxy is doing.
    #[prost(enumeration = "State", tag = "3")]
    pub state: i32,
    /// For people.
    #[prost(string, tag = "4")]
    pub detail: String,
}

/// What a proxy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// Not said.
    Unknown = 0,
    /// It takes connections.
    Running = 1,
    /// It is about to stop taking connections.
    Draining = 2,
    /// Envoy is gone.
    EnvoyExited = 3,
}

/// Answers one stream of reports: at once, so that kuma-dp knows that it is heard, and with an outcome at its end.
pub fn report(ads: Arc<Ads>, peer: Peer, request: Request<Incoming>) -> BoxFuture<'static, Response<BoxBody>> {
    Box::pin(async move {
        let (head, body) = request.into_parts();
        let claims = match ads.claims(&peer, &head.headers) {
            Ok(claims) => claims,
            Err(status) => return status.into_response(),
        };
        let end = futures_util::stream::once(async move {
            let outcome = listen(&ads, &peer, claims.as_ref(), body).await;
            Ok(Frame::trailers(outcome.err().unwrap_or_else(Status::ok).trailers()))
        });
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(end)));
        response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
        response
    })
}

async fn listen(ads: &Ads, peer: &Peer, claims: Option<&Claims>, mut body: Incoming) -> Result<(), Status> {
    let mut decoder = FrameDecoder::new(MAX_REPORT);
    while let Some(frame) = body.frame().await {
        // The connection is gone; that says nothing about the proxy.
        let Ok(frame) = frame else { return Ok(()) };
        if let Ok(data) = frame.into_data() {
            decoder.push(data);
        }
        while let Some(message) = decoder.next_message()? {
            let report = Report::decode(message)
                .map_err(|_| Status::new(Code::InvalidArgument, "not a report of a dataplane"))?;
            check_claims(claims, &report.mesh, &report.name)?;
            let proxy: Arc<str> = Arc::from(report.name.as_str());
            if claims.is_none() && !ads.engine.believes(&report.mesh, proxy.clone(), peer.address.ip()).await {
                // Without a token it may be anybody; a proxy that is not connected yet has nothing to take away.
                continue;
            }
            tracing::info!(mesh = %report.mesh, dataplane = %report.name, state = ?report.state(), "kuma-dp reports");
            // That kuma-dp runs does not say that its Envoy listens yet; Envoy's own stream does.
            if matches!(report.state(), State::Draining | State::EnvoyExited) {
                ads.engine.set_departed(&report.mesh, proxy, true);
            }
        }
    }
    Ok(())
}
