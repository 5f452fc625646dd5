//! kuma-dp's own stream: it says that its proxy runs, drains, or has exited.
//!
//! A word of a proxy that leaves takes its endpoints away from its clients at once. Silence, or a stream that ends, says
//! nothing: no fault removes an endpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Tells this kuma-dp from another one of the same Dataplane; made anew at each start.
    #[prost(string, tag = "5")]
    pub instance: String,
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

/// Takes reports, and knows which kuma-dps run for each Dataplane.
///
/// There may be two for a while, by mistake or at a change of shifts. The one that leaves must not take the endpoints of the
/// one that stays: only the word of the last one counts.
pub struct Lifecycle {
    ads: Arc<Ads>,
    running: Mutex<HashMap<(String, String), BTreeMap<String, usize>>>,
}

impl Lifecycle {
    /// Nobody has reported yet.
    pub fn new(ads: Arc<Ads>) -> Arc<Lifecycle> {
        Arc::new(Lifecycle { ads, running: Mutex::default() })
    }

    /// Answers one stream of reports: at once, so that kuma-dp knows that it is heard, and with an outcome at its end.
    pub fn report(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> BoxFuture<'static, Response<BoxBody>> {
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

    async fn listen(&self, peer: &Peer, claims: Option<&Claims>, mut body: Incoming) -> Result<(), Status> {
        let mut decoder = FrameDecoder::new(MAX_REPORT);
        let mut attending: Option<Attending<'_>> = None;
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
                tracing::info!(mesh = %report.mesh, dataplane = %report.name, state = ?report.state(), "kuma-dp reports");
                match report.state() {
                    State::Unknown => {}
                    // That kuma-dp runs does not say that its Envoy listens yet; Envoy's own stream does.
                    State::Running => {
                        attending.get_or_insert_with(|| self.attend(&report));
                    }
                    State::Draining | State::EnvoyExited => self.ends(&report, peer, claims).await,
                }
            }
        }
        Ok(())
    }

    /// Notes that a kuma-dp runs, for as long as the value lives.
    fn attend(&self, report: &Report) -> Attending<'_> {
        let dataplane = (report.mesh.clone(), report.name.clone());
        let mut running = self.running();
        let instances = running.entry(dataplane.clone()).or_default();
        *instances.entry(report.instance.clone()).or_default() += 1;
        if instances.len() > 1 {
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name,
                "{} kuma-dps run for the dataplane; each needs a Dataplane of its own", instances.len());
        }
        Attending { lifecycle: self, dataplane, instance: report.instance.clone() }
    }

    /// A kuma-dp says that its Envoy ends: its clients are not to dial it any more.
    async fn ends(&self, report: &Report, peer: &Peer, claims: Option<&Claims>) {
        let proxy: Arc<str> = Arc::from(report.name.as_str());
        let engine = &self.ads.engine;
        if !self.is_last(report) {
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name,
                "a kuma-dp of the dataplane ends while another one runs: the endpoints stay");
        } else if claims.is_some() || engine.believes(&report.mesh, proxy.clone(), peer.address.ip()).await {
            engine.set_departed(&report.mesh, proxy, true);
        } else {
            // Without a token it may be anybody; a proxy that is not connected has nothing to take away.
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name, peer = %peer.address,
                "an end was reported without a token and not from where the proxy is: passed over");
        }
    }

    /// Whether no other kuma-dp runs for the Dataplane.
    fn is_last(&self, report: &Report) -> bool {
        let dataplane = (report.mesh.clone(), report.name.clone());
        self.running().get(&dataplane).is_none_or(|instances| instances.keys().all(|other| *other == report.instance))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<(String, String), BTreeMap<String, usize>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream on which a kuma-dp has said that it runs.
struct Attending<'a> {
    lifecycle: &'a Lifecycle,
    dataplane: (String, String),
    instance: String,
}

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        let mut running = self.lifecycle.running();
        let Some(instances) = running.get_mut(&self.dataplane) else { return };
        // One kuma-dp may have two streams for a moment: it is back before we see that the old one is gone.
        if let Some(streams) = instances.get_mut(&self.instance) {
            *streams -= 1;
            if *streams == 0 {
                instances.remove(&self.instance);
            }
        }
        if instances.is_empty() {
            running.remove(&self.dataplane);
        }
    }
}
