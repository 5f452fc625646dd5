//! Which Dataplanes have a running proxy, which proxies have announced that they stop, and which have vanished.
//!
//! A pure state machine: events and times are its input, changes of state its output. `departures.rs` runs it. It
//! covers only the lifetime of this process: a Dataplane that has not connected to it is in none of these states.
//!
//! A proxy is **absent** when both of its streams (Envoy's for configuration, kuma-dp's for reports) have ended because
//! the remote side closed the connection. An absent proxy that opens neither of them within [`ABSENCE`] has
//! **vanished**. The operating system closes the connections of a process that ends for any reason. A host that is cut
//! off from the network closes nothing; its streams time out, which does not make the proxy absent, since it may still
//! serve its clients. Streams that the control plane ends do not count either. An Envoy without kuma-dp has one stream
//! only and never becomes absent.
//!
//! **Mass disconnects.** A switch, a firewall or a load balancer between proxies and the control plane can close the
//! connections of running proxies, usually of many at once. When too many proxies become absent within [`WINDOW`], none
//! of them is considered vanished, and those that already were are restored.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Mesh and name of a Dataplane.
pub type Proxy = (Arc<str>, Arc<str>);

/// How long both streams have to be closed before a proxy counts as vanished. A running Envoy reconnects within 2.4 s.
pub const ABSENCE: Duration = Duration::from_secs(5);

/// The period over which absent proxies are counted to detect a mass disconnect.
pub const WINDOW: Duration = Duration::from_secs(10);

/// When a deadline is handled later than this, the control plane itself was stalled, and reconnects may still be
/// queued: the deadline starts again.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// A mass disconnect is more than this many proxies within [`WINDOW`], ...
const MIN_MASS_DISCONNECT: usize = 2;
/// ... and more than one in this many of those connected.
const MASS_DISCONNECT_FRACTION: usize = 20;

/// Which side of a proxy opened a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side<'a> {
    /// Envoy, for its configuration.
    Envoy,
    /// The kuma-dp with this instance id, for its reports.
    KumaDp(&'a str),
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Whether the remote side closed the connection.
    pub by_far_end: bool,
    /// The address that the stream came from; `None` if a token proved which Dataplane it belongs to.
    pub unproved: Option<IpAddr>,
}

/// The result of [`Presence::expire`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Expired {
    /// Proxies that were absent for [`ABSENCE`], with the addresses of their streams that had no token. The caller
    /// decides whether those addresses are trusted, and calls [`Presence::confirm_vanished`].
    pub due: Vec<(Proxy, Vec<IpAddr>)>,
    /// Absent proxies that stay endpoints because of a mass disconnect.
    pub kept: Vec<Proxy>,
    /// Vanished proxies that become endpoints again because of a mass disconnect.
    pub back: Vec<Proxy>,
}

/// The state of all proxies that have connected to this process.
#[derive(Debug, Default)]
pub struct Presence {
    /// Boxed, because a hash table has unused room for up to as many entries as it has.
    proxies: HashMap<Proxy, Box<Entry>>,
    /// Deadlines of absent proxies.
    absent: BTreeSet<(Instant, Proxy)>,
    /// When proxies became absent, for the last [`WINDOW`].
    recently_absent: VecDeque<(Instant, Proxy)>,
    /// How many proxies have an open Envoy stream.
    connected: usize,
}

#[derive(Debug, Default)]
struct Entry {
    envoy: Streams,
    kuma_dp: Streams,
    /// The kuma-dp processes that run for the Dataplane. There may be two for a while: by mistake, or while one
    /// replaces the other.
    instances: BTreeMap<String, Instance>,
    /// The instance id of the kuma-dp whose stream ended last.
    last: String,
    /// How many Envoys have said that they accept connections and are still connected.
    serving: usize,
    state: State,
}

impl Entry {
    /// Whether a proxy that is said to have left runs: an Envoy serves, a kuma-dp runs, and none is draining whose
    /// Envoy that might be.
    fn ends_departure(&self) -> bool {
        let instances = || self.instances.values();
        self.state == State::Left
            && self.serving > 0
            && instances().any(|one| !one.leaving)
            && !instances().any(|one| one.leaving)
    }
}

/// The streams of one side of a proxy.
#[derive(Debug, Default)]
struct Streams {
    open: usize,
    /// How the last stream ended that did.
    end: Option<End>,
}

#[derive(Debug, Default)]
struct Instance {
    /// Whether a token proved that it is of the Dataplane.
    proved: bool,
    /// Open streams of this kuma-dp. For a moment there may be two: it reconnects before the old stream is seen to end.
    streams: usize,
    leaving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Present,
    /// The remote side closed both streams; the proxy vanishes at this time unless it reconnects.
    Absent { until: Instant },
    /// A kuma-dp announced that its Envoy stops.
    Left,
    /// Both streams stayed closed for [`ABSENCE`].
    Vanished { at: Instant },
}

impl Streams {
    fn is_closed(&self) -> bool {
        self.open == 0 && self.end.is_some_and(|end| end.by_far_end)
    }
}

impl Presence {
    /// Records that a stream was opened; `proved`: a token proved which Dataplane it belongs to. Returns whether this
    /// shows that a proxy runs that had vanished or left: the stream is from the same kuma-dp as before, whose Envoy
    /// does not outlive it, or from one that runs beside an Envoy that serves.
    pub fn opened(&mut self, proxy: &Proxy, side: Side<'_>, proved: bool) -> bool {
        let entry = self.proxies.entry(proxy.clone()).or_default();
        let mut is_back = false;
        match side {
            Side::Envoy => {
                self.connected += usize::from(entry.envoy.open == 0);
                entry.envoy.open += 1;
            }
            Side::KumaDp(instance) => {
                is_back = matches!(entry.state, State::Vanished { .. }) && entry.last == instance;
                entry.kuma_dp.open += 1;
                let known = entry.instances.entry(instance.to_owned()).or_default();
                known.streams += 1;
                known.proved |= proved;
                is_back |= entry.ends_departure();
            }
        }
        match entry.state {
            State::Absent { until } => {
                self.absent.remove(&(until, proxy.clone()));
                entry.state = State::Present;
            }
            _ if is_back => entry.state = State::Present,
            _ => {}
        }
        is_back
    }

    /// How many kuma-dp processes run for a Dataplane.
    pub fn kuma_dps(&self, proxy: &Proxy) -> usize {
        self.proxies.get(proxy).map_or(0, |entry| entry.instances.len())
    }

    /// Records that a stream ended; `served`: it was of an Envoy that accepts connections. Returns whether this shows
    /// that a proxy runs that had left: the kuma-dp that said so is gone, and another one runs.
    pub fn closed(&mut self, proxy: &Proxy, side: Side<'_>, end: End, served: bool, now: Instant) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        entry.serving -= usize::from(served);
        let streams = match side {
            Side::Envoy => {
                self.connected -= usize::from(entry.envoy.open == 1);
                &mut entry.envoy
            }
            Side::KumaDp(instance) => {
                entry.last = instance.to_owned();
                if let Some(known) = entry.instances.get_mut(instance) {
                    known.streams -= 1;
                    if known.streams == 0 {
                        entry.instances.remove(instance);
                    }
                }
                &mut entry.kuma_dp
            }
        };
        streams.open = streams.open.saturating_sub(1);
        streams.end = Some(end);
        let is_back = entry.ends_departure();
        if is_back {
            entry.state = State::Present;
        }
        if entry.state == State::Present && entry.envoy.is_closed() && entry.kuma_dp.is_closed() {
            let until = now + ABSENCE;
            entry.state = State::Absent { until };
            self.absent.insert((until, proxy.clone()));
            self.forget_before_window(now);
            self.recently_absent.push_back((now, proxy.clone()));
        }
        self.remove_if_unused(proxy);
        is_back
    }

    /// Records the announcement of a kuma-dp that its Envoy stops. Returns whether the proxy has left: it has not if
    /// another kuma-dp runs for the same Dataplane. One that is not proved does not speak against one that is.
    pub fn leaves(&mut self, proxy: &Proxy, instance: &str, proved: bool) -> bool {
        let entry = self.proxies.entry(proxy.clone()).or_default();
        if let Some(known) = entry.instances.get_mut(instance) {
            known.leaving = true;
        }
        let counts = |one: &Instance| !one.leaving && (one.proved || !proved);
        let others = entry.instances.iter().any(|(name, one)| name != instance && counts(one));
        if !others {
            if let State::Absent { until } = entry.state {
                self.absent.remove(&(until, proxy.clone()));
            }
            entry.state = State::Left;
        }
        self.remove_if_unused(proxy);
        !others
    }

    /// Records that an Envoy accepts connections. `fresh`: it has just received its whole configuration; otherwise it
    /// has reconnected with the configuration that it had. `again`: its stream has said so before. Returns whether a
    /// proxy that had left or vanished is back. A proxy that has left is back with a fresh configuration, or if its
    /// kuma-dp runs: one that is draining may still reconnect.
    pub fn configured(&mut self, proxy: &Proxy, fresh: bool, again: bool) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        entry.serving += usize::from(!again);
        let is_back = match entry.state {
            State::Left => fresh || entry.ends_departure(),
            State::Vanished { .. } => true,
            State::Present | State::Absent { .. } => false,
        };
        if is_back {
            entry.state = State::Present;
        }
        is_back
    }

    /// The next deadline, when [`Presence::expire`] has to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.absent.first().map(|(until, _)| *until)
    }

    /// Handles all deadlines up to `now`.
    pub fn expire(&mut self, now: Instant) -> Expired {
        let over: Vec<(Instant, Proxy)> = self.absent.iter().take_while(|(until, _)| *until <= now).cloned().collect();
        if !over.is_empty() && self.is_mass_disconnect(now) {
            return self.keep_all(now);
        }
        let mut expired = Expired::default();
        for (until, proxy) in over {
            let Some(entry) = self.proxies.get_mut(&proxy) else { continue };
            if now > until + MAX_DELAY {
                self.absent.remove(&(until, proxy.clone()));
                let until = now + ABSENCE;
                entry.state = State::Absent { until };
                self.absent.insert((until, proxy));
            } else {
                let ends = [&entry.envoy, &entry.kuma_dp].into_iter().filter_map(|streams| streams.end);
                expired.due.push((proxy, ends.filter_map(|end| end.unproved).collect()));
            }
        }
        expired
    }

    /// Handles a mass disconnect: absent proxies become present again, and so do those that vanished within [`WINDOW`],
    /// before the mass disconnect was recognised.
    fn keep_all(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        expired.kept.extend(std::mem::take(&mut self.absent).into_iter().map(|(_, proxy)| proxy));
        let recently = |entry: &Entry| matches!(entry.state, State::Vanished { at } if now - at <= WINDOW);
        let back = self.proxies.iter().filter(|(_, entry)| recently(entry));
        expired.back.extend(back.map(|(proxy, _)| proxy.clone()));
        for proxy in expired.kept.iter().chain(&expired.back) {
            if let Some(entry) = self.proxies.get_mut(proxy) {
                entry.state = State::Present;
            }
            self.remove_if_unused(proxy);
        }
        expired
    }

    /// Marks an absent proxy whose deadline has passed as vanished if `trusted`, else as present. Returns whether it
    /// has vanished; if it has reconnected meanwhile nothing changes.
    pub fn confirm_vanished(&mut self, proxy: &Proxy, trusted: bool, now: Instant) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        let State::Absent { until } = entry.state else { return false };
        if until > now {
            return false;
        }
        self.absent.remove(&(until, proxy.clone()));
        entry.state = if trusted { State::Vanished { at: now } } else { State::Present };
        self.remove_if_unused(proxy);
        trusted
    }

    /// Resets the state of a Dataplane that was deleted: it does not apply to a later Dataplane of the same name.
    /// Returns whether the state was other than present.
    pub fn forget(&mut self, proxy: &Proxy) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        if let State::Absent { until } = entry.state {
            self.absent.remove(&(until, proxy.clone()));
        }
        let was_present = std::mem::take(&mut entry.state) == State::Present;
        self.remove_if_unused(proxy);
        !was_present
    }

    /// The numbers of proxies that have left, and that have vanished.
    pub fn count_gone(&self) -> (usize, usize) {
        let of = |wanted: fn(&State) -> bool| self.proxies.values().filter(|entry| wanted(&entry.state)).count();
        (of(|state| *state == State::Left), of(|state| matches!(state, State::Vanished { .. })))
    }

    /// Whether so many proxies became absent within [`WINDOW`] that the network is the likely cause. Those that have
    /// reconnected count too: they show that the proxies did not end.
    fn is_mass_disconnect(&mut self, now: Instant) -> bool {
        self.forget_before_window(now);
        let disconnected = self.recently_absent.iter().map(|(_, proxy)| proxy).collect::<HashSet<_>>().len();
        let absent = self.absent.len();
        let limit = MIN_MASS_DISCONNECT.max((self.connected + absent) / MASS_DISCONNECT_FRACTION);
        // When fewer proxies are left than have disconnected, the cause may be the network of the control plane.
        disconnected > limit || disconnected > self.connected
    }

    fn forget_before_window(&mut self, now: Instant) {
        while self.recently_absent.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.recently_absent.pop_front();
        }
    }

    /// Removes the entry of a proxy that has no open stream and is in the initial state.
    fn remove_if_unused(&mut self, proxy: &Proxy) {
        let is_unused =
            |entry: &Entry| entry.state == State::Present && entry.envoy.open == 0 && entry.kuma_dp.open == 0;
        if self.proxies.get(proxy).is_some_and(|entry| is_unused(entry)) {
            self.proxies.remove(proxy);
        }
    }
}
