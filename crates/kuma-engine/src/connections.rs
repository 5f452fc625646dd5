//! The connected proxies and their streams, and what each of them was given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_store::Revision;
use kuma_xds::{ResourceType, Snapshot, SnapshotBuilder, StreamState};
use tokio::sync::watch;

use crate::content::same_lists;
use crate::gate::{Caller, Standing};
use crate::identities::StreamIdentity;
use crate::receipts::{Answered, Settled};
use crate::recovery::Recovery;

/// Identifies a stream for the life of the process.
pub type StreamId = u64;

/// Is told what a stream may do, first before it is served and again when that has changed. `alone`: nobody speaks for
/// its Dataplane on another stream.
pub type OnStanding = Box<dyn FnMut(&Standing, bool) + Send>;

/// A stream that was opened.
pub struct OpenStream {
    /// Its id.
    pub id: StreamId,
    /// Name of the Dataplane that the client claims to be.
    pub proxy: Arc<str>,
    /// Who claims it.
    pub caller: Caller,
    /// Envoy's admin server on its own machine, if it has one.
    pub admin: Option<SocketAddr>,
    /// Is told what the stream may do, if anybody is.
    pub on_standing: Option<OnStanding>,
    /// Whether its first request reported configuration that it got before this process started.
    pub returning: bool,
    /// Whether it is a stream for secrets only (SDS).
    pub only_secrets: bool,
    /// The channel for its state.
    pub state: watch::Sender<StreamState>,
}

/// A stream that is open.
pub(crate) struct Stream {
    pub(crate) proxy: Arc<str>,
    pub(crate) caller: Caller,
    pub(crate) only_secrets: bool,
    /// Whether it has been found to speak for its Dataplane.
    pub(crate) speaks: bool,
    admin: Option<SocketAddr>,
    /// `None` once there is nothing more to tell.
    on_standing: Option<OnStanding>,
    state: watch::Sender<StreamState>,
    /// The configuration that the client has from before the start of this process, until it is replaced.
    pub(crate) recovery: Option<Recovery>,
    pub(crate) identity: StreamIdentity,
    /// The revision of its last snapshot.
    given: Revision,
    /// The client's last answer.
    pub(crate) settled: Settled,
}

/// The result of [`Stream::give`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// The stream already had the state.
    Nothing,
    /// The state has changed.
    Changed,
}

impl Stream {
    /// Sets the state of the stream, if it differs. A changed snapshot gets at least the revision `revision`, since the
    /// documents at that revision are the reason for the change.
    pub(crate) fn give(&mut self, state: StreamState, revision: Revision) -> Given {
        let mut given = Given::Nothing;
        self.state.send_if_modified(|current| {
            let same = match (&*current, &state) {
                (StreamState::Hold, StreamState::Hold) => true,
                (StreamState::Serve(before), StreamState::Serve(after)) => {
                    same_lists(before, after) && before.generation() == after.generation()
                }
                _ => false,
            };
            if same {
                return false;
            }
            given = Given::Changed;
            if let StreamState::Serve(snapshot) = &state {
                self.given = snapshot.revision().max(revision);
            }
            *current = match state {
                StreamState::Serve(snapshot) if snapshot.revision() < revision => {
                    StreamState::Serve(Arc::new(snapshot.to_builder().revision(revision).build()))
                }
                state => state,
            };
            true
        });
        given
    }
}

/// A connected proxy. Streams of one proxy share everything but the identity.
#[derive(Default)]
pub(crate) struct Proxy {
    pub(crate) streams: BTreeSet<StreamId>,
    /// Envoy's admin server, as the latest stream says that speaks for the Dataplane.
    pub(crate) admin: Option<SocketAddr>,
    /// Why it cannot offer the metrics that its mesh asks for, as last reported.
    pub(crate) metrics_problem: Option<String>,
    /// How often its log files have been tried again, because it could not open one.
    pub(crate) log_attempt: u32,
    /// The time of the next attempt and the pause before it, while the proxy refuses an extension config.
    pub(crate) log_retry: Option<(SystemTime, Duration)>,
    /// Its configuration without its certificate; `None` without a Dataplane.
    pub(crate) config: Option<Arc<Snapshot>>,
}

impl Proxy {
    /// Sets a new configuration. Returns whether it differs from the previous one.
    pub(crate) fn replace(&mut self, builder: SnapshotBuilder) -> bool {
        let config = match &self.config {
            Some(before) => builder.build_after(before),
            None => builder.build(),
        };
        let changed = self.config.as_ref().is_none_or(|before| !same_lists(before, &config));
        if changed {
            self.config = Some(Arc::new(config));
        }
        changed
    }

    /// Its configuration's secret of this name.
    pub(crate) fn has_secret(&self, name: &str) -> bool {
        self.config.as_ref().is_some_and(|config| config.get(ResourceType::Secret, name).is_some())
    }
}

/// All streams of a mesh and their proxies.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) proxies: BTreeMap<Arc<str>, Proxy>,
    /// Boxed, because a hash table reserves space for up to twice as many entries.
    streams: HashMap<StreamId, Box<Stream>>,
}

impl Connections {
    /// Whether no proxy is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether there are streams, and all their clients have configuration from this process. A client with
    /// configuration from before a restart may have had another Mesh.
    pub(crate) fn all_know_the_mesh(&self) -> bool {
        let knows = |stream: &Stream| stream.recovery.is_none() && !stream.identity.may_hold_unknown();
        !self.is_empty() && self.streams.values().all(|stream| knows(stream))
    }

    /// How many streams are open.
    pub(crate) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Adds a stream. Returns whether its proxy is new and has to be planned.
    pub(crate) fn open(&mut self, stream: OpenStream, recovery: Option<Recovery>) -> bool {
        let OpenStream { id, proxy, caller, admin, on_standing, returning, only_secrets, state } = stream;
        let identity = StreamIdentity::new(returning);
        let name = proxy.clone();
        self.proxies.entry(proxy.clone()).or_default().streams.insert(id);
        let (given, settled) = (0, Settled::default());
        let stream = Stream {
            proxy,
            caller,
            only_secrets,
            speaks: false,
            admin,
            on_standing,
            state,
            recovery,
            identity,
            given,
            settled,
        };
        self.streams.insert(id, Box::new(stream));
        self.proxies.get(&*name).is_none_or(|entry| entry.config.is_none())
    }

    /// Notes what a stream may do. Returns whether its proxy is to be planned: it speaks for a Dataplane whose admin
    /// server is another one than before.
    pub(crate) fn note_standing(&mut self, id: StreamId, standing: &Standing) -> bool {
        let Some(proxy) = self.stream(id).map(|stream| stream.proxy.clone()) else { return false };
        let alone = !self.streams_of(&proxy).any(|stream| stream.speaks);
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if let Some(tell) = &mut stream.on_standing {
            tell(standing, alone);
        }
        if !standing.speaks() {
            return false;
        }
        (stream.speaks, stream.on_standing) = (true, None);
        // A stream for secrets alone does not say.
        let admin = stream.admin;
        let Some(entry) = self.proxies.get_mut(&proxy).filter(|entry| admin.is_some() && entry.admin != admin) else {
            return false;
        };
        entry.admin = admin;
        true
    }

    /// The streams of a proxy that have not been found to speak for it.
    pub(crate) fn unheard(&self, proxy: &str) -> Vec<(StreamId, Caller)> {
        let ids = self.proxies.get(proxy).into_iter().flat_map(|proxy| &proxy.streams);
        let unheard = ids.filter_map(|id| Some((*id, self.stream(*id).filter(|stream| !stream.speaks)?.caller)));
        unheard.collect()
    }

    /// Whether a token proves one of a proxy's streams.
    pub(crate) fn is_proved(&self, proxy: &str) -> bool {
        self.streams_of(proxy).any(|stream| stream.caller.authenticated)
    }

    /// The streams of a proxy that speak for it; all of them if none does.
    pub(crate) fn voices_of(&self, proxy: &str) -> impl Iterator<Item = &Stream> {
        let some_speak = self.streams_of(proxy).any(|stream| stream.speaks);
        self.streams_of(proxy).filter(move |stream| stream.speaks || !some_speak)
    }

    /// Removes a stream. If it was the last one of its proxy, the proxy is removed and returned too.
    pub(crate) fn close(&mut self, id: StreamId) -> Option<(Stream, Option<Proxy>)> {
        let stream = self.streams.remove(&id)?;
        let proxy = self.proxies.get_mut(&stream.proxy)?;
        proxy.streams.remove(&id);
        let gone = if proxy.streams.is_empty() { self.proxies.remove(&stream.proxy) } else { None };
        Some((*stream, gone))
    }

    /// A stream that is open.
    pub(crate) fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id).map(|stream| &**stream)
    }

    /// A stream that is open.
    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(&id).map(|stream| &mut **stream)
    }

    /// The streams of a proxy.
    pub(crate) fn streams_of(&self, proxy: &str) -> impl Iterator<Item = &Stream> {
        let ids = self.proxies.get(proxy).into_iter().flat_map(|proxy| &proxy.streams);
        ids.filter_map(|id| self.stream(*id))
    }

    /// How often the log files of a proxy have been tried again.
    pub(crate) fn log_attempt(&self, proxy: &str) -> u32 {
        self.proxies.get(proxy).map_or(0, |proxy| proxy.log_attempt)
    }

    /// The combined answers of a proxy's streams. `head` is the revision up to which everything was given.
    pub(crate) fn answered(&self, proxy: &str, head: Revision) -> Answered<'_> {
        let mut answered = Answered { up_to: head, revision: head, ..Answered::default() };
        for Stream { given, settled, .. } in self.voices_of(proxy) {
            if settled.revision < *given {
                answered.up_to = answered.up_to.min(settled.revision);
            }
            answered.revision = answered.revision.min(settled.revision);
            answered.refused.extend(&settled.refused);
            answered.unanswered.extend(&settled.unanswered);
        }
        answered
    }

    /// The admin server of a connected proxy, if it has one.
    pub(crate) fn admin(&self, proxy: &str) -> Option<SocketAddr> {
        self.proxies.get(proxy)?.admin
    }
}
