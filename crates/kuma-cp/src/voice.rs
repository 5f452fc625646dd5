//! What is known to others of one stream of an Envoy: its insight, its metrics and its presence. They begin when the
//! engine has said what the stream may do, and not before (`kuma-engine/src/gate.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kuma_engine::{OnStanding, Standing, StreamId, Warning};
use kuma_model::UNENCRYPTED;
use kuma_xds::Event;
use kuma_xds::server::Peer;

use crate::ads::Ads;
use crate::departures::StreamGuard;
use crate::insights::SubscriptionHandle;
use crate::metrics::{Discovery, StreamMetrics};
use crate::presence::Proxy;

/// Shared by the stream, which has events, and the engine, which says what they count for.
#[derive(Default)]
pub(crate) struct Voice(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    /// The stream has ended.
    ended: bool,
    /// That it accepts connections, said before it was known whether that counts.
    configured: Option<bool>,
    subscription: Option<SubscriptionHandle>,
    /// Only where it speaks for its Dataplane.
    metrics: Option<StreamMetrics>,
    guard: Option<StreamGuard>,
}

impl Voice {
    /// What is to be told what the stream may do.
    pub(crate) fn on_standing(
        self: &Arc<Voice>,
        ads: &Ads,
        proxy: &Proxy,
        id: StreamId,
        peer: &Peer,
        proved: bool,
    ) -> OnStanding {
        let (voice, proxy, peer) = (self.clone(), proxy.clone(), peer.clone());
        let (insights, departures, metrics) = (ads.insights.clone(), ads.departures.clone(), ads.metrics.clone());
        Box::new(move |standing, alone| {
            let mut heard = voice.heard();
            if heard.ended {
                return;
            }
            let connected = || insights.connected(&proxy.0, &proxy.1, id, key_exchange(&peer), Timestamp::now());
            let warn = |messages| insights.warn(&proxy.0, Warning { proxy: proxy.1.clone(), stream: id, messages });
            match standing {
                Standing::Speaks => {
                    match heard.subscription {
                        Some(_) => warn(Vec::new()),
                        None => heard.subscription = Some(connected()),
                    }
                    heard.metrics = Some(metrics.stream(Discovery::Xds));
                    let mut guard = departures.envoy(&proxy, &peer, proved);
                    if let Some(fresh) = heard.configured.take() {
                        guard.configured(fresh);
                    }
                    heard.guard = Some(guard);
                }
                // So that one can see it and why, unless somebody is there who speaks for the Dataplane.
                Standing::Stranger if alone && heard.subscription.is_none() => {
                    heard.subscription = Some(connected());
                    warn(vec![stranger(&peer)]);
                }
                _ => {}
            }
        })
    }

    /// Notes an event. `shown` gives the revision of the store for one of the engine. Returns whether the stream speaks
    /// for its Dataplane.
    pub(crate) fn on_event(&self, event: &Event, starts: Option<bool>, shown: impl Fn(u64) -> u64) -> bool {
        let mut heard = self.heard();
        if let Some(metrics) = &heard.metrics {
            metrics.on_event(event);
        }
        match (&mut heard.guard, starts) {
            (Some(guard), Some(fresh)) => guard.configured(fresh),
            (None, Some(_)) => heard.configured = starts,
            (_, None) => {}
        }
        if let Some(subscription) = &heard.subscription {
            let now = Timestamp::now();
            match event {
                Event::Settled { revision, refused, unanswered, .. } => {
                    subscription.settled(*revision, refused, unanswered, shown, now);
                }
                Event::Sent { resource_type } => subscription.sent(*resource_type, now),
                Event::Acked { resource_type } => subscription.acked(*resource_type, now),
                Event::Nacked { resource_type, message, .. } => {
                    subscription.nacked(*resource_type, message.to_string(), now);
                }
                _ => {}
            }
        }
        heard.guard.is_some()
    }

    /// The stream has ended. Returns whether it spoke for its Dataplane.
    pub(crate) fn end(&self) -> bool {
        let heard = std::mem::replace(&mut *self.heard(), Heard { ended: true, ..Heard::default() });
        heard.guard.is_some()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_exchange(peer: &Peer) -> &'static str {
    if !peer.tls {
        return UNENCRYPTED;
    }
    peer.key_exchange.and_then(|group| group.as_str()).unwrap_or_default()
}

fn stranger(peer: &Peer) -> String {
    format!(
        "it is connected from {} without a dataplane token: that is not an address of its Dataplane, so what it \
         reports does not count (kumactl generate dataplane-token, kuma-dp run --dataplane-token-file)",
        peer.address.ip().to_canonical()
    )
}
