//! kuma-dp's own stream: it says that its proxy runs, drains, or has exited.
//!
//! A word of a proxy that leaves takes its endpoints away from its clients at once. What a stream that ends says is up
//! to `presence.rs`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kuma_ca::Claims;
use kuma_engine::{Caller, Standing};
use kuma_wire::lifecycle::{Report, State};
use kuma_xds::grpc::{BoxBody, CONTENT_TYPE_GRPC, Code, FrameDecoder, Status};
use kuma_xds::server::{Peer, RequestBody};
use prost::Message as _;

use crate::ads::{Ads, are_names, caller, check_claims, end_of_token};
use crate::departures::StreamGuard;
use crate::log_limit::LogLimit;
use crate::presence::Proxy;

/// Largest report, in bytes.
const MAX_REPORT: usize = 16 * 1024;

/// Longest name of a kuma-dp's run, in bytes.
const MAX_INSTANCE: usize = 128;

/// How long a stream may stay without a report.
const FIRST_REPORT_WITHIN: Duration = Duration::from_secs(15);

/// After how long it is looked again whether a report counts that did not.
const ASK_AGAIN: Duration = Duration::from_secs(2);

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
            if claims.is_some() {
                peer.has_proved_itself();
            }
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
        let caller = caller(peer, claims);
        let mut guard: Option<StreamGuard> = None;
        // The first report, which says whose stream it is.
        let mut first: Option<Report> = None;
        // That a proxy runs, which does not count yet: its Dataplane may come, or get another address.
        let mut unheard: Option<Report> = None;
        let deadline = tokio::time::Instant::now() + FIRST_REPORT_WITHIN;
        let mut expired = std::pin::pin!(expires(claims));
        loop {
            let refused = async {
                match &first {
                    // Who has proved all there is to prove is never refused.
                    Some(report) if !caller.authenticated || !caller.encrypted => {
                        self.ads.engine.refuses(&report.mesh, &proxy(report).1, caller).await
                    }
                    _ => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                biased;
                // So that kuma-dp can say it: without a token its proxy has nothing, from when the mesh has mTLS on.
                refusal = refused => return Err(refusal),
                refusal = &mut expired => return Err(refusal),
                frame = body.frame() => match frame {
                    Some(frame) => frame,
                    None => break,
                },
                () = tokio::time::sleep_until(deadline), if first.is_none() => {
                    return Err(Status::new(Code::DeadlineExceeded, "the first report did not come in time"));
                }
                () = tokio::time::sleep(ASK_AGAIN), if unheard.is_some() => {
                    if let Some(report) = unheard.take() {
                        let heard = self.hear(&report, peer, caller, &mut guard).await?;
                        unheard = (!heard).then_some(report);
                    }
                    continue;
                }
            };
            if let Ok(Ok(data)) = frame.map(Frame::into_data) {
                decoder.push(data);
            }
            while let Some(message) = decoder.next_message()? {
                let report = Report::decode(message)
                    .map_err(|_| Status::new(Code::InvalidArgument, "not a report of a dataplane"))?;
                check_report(&report, first.as_ref())?;
                check_claims(claims, &report.mesh, &report.name)?;
                let heard = self.hear(&report, peer, caller, &mut guard).await?;
                first.get_or_insert_with(|| report.clone());
                unheard = (!heard && report.state() == State::Running).then_some(report);
            }
        }
        Ok(())
    }

    /// Notes what a kuma-dp reports, if that counts; returns whether it does.
    async fn hear(
        &self,
        report: &Report,
        peer: &Peer,
        caller: Caller,
        guard: &mut Option<StreamGuard>,
    ) -> Result<bool, Status> {
        let dataplane = proxy(report);
        match self.ads.engine.standing(&report.mesh, &dataplane.1, caller).await {
            Standing::Refused(status) => return Err(status),
            Standing::Speaks => {}
            standing @ (Standing::Unknown | Standing::Stranger) => {
                static LIMIT: LogLimit = LogLimit::new();
                if matches!(standing, Standing::Stranger) && guard.is_none() && LIMIT.allows() {
                    tracing::warn!(mesh = %report.mesh, dataplane = %report.name, peer = %peer.address,
                        state = ?report.state(),
                        "a kuma-dp reports without a token and not from where its Dataplane is, or beside one that \
                         has proved itself: passed over");
                }
                return Ok(false);
            }
        }
        tracing::info!(mesh = %report.mesh, dataplane = %report.name, state = ?report.state(), "kuma-dp reports");
        match report.state() {
            State::Unknown => {}
            // That kuma-dp runs does not say that its Envoy listens yet; Envoy's own stream does.
            State::Running => {
                let departures = &self.ads.departures;
                guard.get_or_insert_with(|| {
                    departures.kuma_dp(&dataplane, &report.instance, peer, caller.authenticated)
                });
            }
            State::Draining => self.ends(report, "it drains", caller),
            State::EnvoyExited => self.ends(report, "its Envoy has ended", caller),
        }
        Ok(true)
    }

    /// A kuma-dp says that its Envoy ends: its clients are not to dial it any more.
    fn ends(&self, report: &Report, what: &str, caller: Caller) {
        // For people, in one line that fits where they look.
        let detail: String = report.detail.chars().filter(|c| !kuma_model::steers(*c)).take(MAX_DETAIL).collect();
        let why = if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") };
        if !self.ads.departures.leaves(&proxy(report), &report.instance, caller.authenticated, why) {
            tracing::warn!(mesh = %report.mesh, dataplane = %report.name,
                "a kuma-dp of the dataplane ends while another one runs: the endpoints stay");
        }
    }
}

/// One stream is of one kuma-dp, and what it says is what a kuma-dp says.
/// Waits until a token expires; for ever, where it does not.
async fn expires(claims: Option<&Claims>) -> Status {
    let Some((end, outcome)) = claims.and_then(end_of_token) else { return std::future::pending().await };
    tokio::time::sleep(end.duration_since(SystemTime::now()).unwrap_or_default()).await;
    outcome
}

fn check_report(report: &Report, first: Option<&Report>) -> Result<(), Status> {
    let refused = |why: &str| Err(Status::new(Code::InvalidArgument, why));
    if !are_names(&report.mesh, &report.name) {
        return refused("mesh and name have to be those of a Dataplane");
    }
    if report.instance.len() > MAX_INSTANCE {
        return refused("the instance is too long");
    }
    let is_other =
        |first: &Report| (&first.mesh, &first.name, &first.instance) != (&report.mesh, &report.name, &report.instance);
    match first.is_some_and(is_other) {
        true => refused("a stream of reports is of one Dataplane and one kuma-dp"),
        false => Ok(()),
    }
}

fn proxy(report: &Report) -> Proxy {
    (Arc::from(report.mesh.as_str()), Arc::from(report.name.as_str()))
}
