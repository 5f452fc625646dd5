//! Which proxies are there, which have said that they leave, and which have vanished.
//!
//! A pure state machine: events and moments in, changes out; `departures.rs` runs it. It speaks of this life of this
//! control plane alone: a Dataplane that has not connected in it is neither here nor gone.
//!
//! **Vanished** is a proxy whose two streams, Envoy's and kuma-dp's, both ended because the far end closed the
//! connection, and neither of which is back after [`ABSENCE`]. A process that ends, however it does, has its
//! connections closed by its system. A host that cannot be reached any more closes nothing: that is silence, and proves
//! nothing, since it may serve its clients all the same. Nor does a stream that we have ended. An Envoy without a
//! kuma-dp has one stream, which is not enough.
//!
//! **The guard.** A switch, a firewall or a load balancer between us and the proxies can close connections of proxies
//! that live. It closes those of many, so when many vanish within [`WINDOW`] all of them are kept until they come back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Mesh and name of a Dataplane.
pub type Proxy = (Arc<str>, Arc<str>);

/// How long both streams have to stay away. An Envoy that lives is back after at most 2.4 s.
pub const ABSENCE: Duration = Duration::from_secs(5);

/// Those that vanish within this time vanish together.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A deadline that is seen so late says that we have slept ourselves; who is back may wait to be let in.
const LATE: Duration = Duration::from_secs(1);

/// So many may vanish together without being many, however few there are. Else it is one in [`MANY`] of those
/// connected.
const FEW: usize = 2;
const MANY: usize = 20;

/// Whose stream it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side<'a> {
    /// Envoy's, for configuration.
    Envoy,
    /// That of the kuma-dp of this instance, for its reports.
    KumaDp(&'a str),
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Whether the far end has closed the connection.
    pub by_far_end: bool,
    /// The address that the stream came from, unless a token proved whose it was.
    pub unproved: Option<IpAddr>,
}

/// What the passing of time has shown.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Lapsed {
    /// These have been away for long enough, if what their streams said of themselves is to be believed; see
    /// [`Presence::vanishes`].
    pub due: Vec<(Proxy, Vec<IpAddr>)>,
    /// These are kept although they have, since many vanished.
    pub kept: Vec<Proxy>,
    /// These had vanished and count again: many have followed them.
    pub back: Vec<Proxy>,
}

/// All proxies that there is something to be known of.
#[derive(Debug, Default)]
pub struct Presence {
    /// Boxed: a table of them has room for up to twice as many.
    proxies: HashMap<Proxy, Box<Entry>>,
    absent: BTreeSet<(Instant, Proxy)>,
    /// Who vanished when, for the guard.
    vanished: VecDeque<(Instant, Proxy)>,
    /// How many have a stream of Envoy's.
    connected: usize,
}

#[derive(Debug, Default)]
struct Entry {
    envoy: Streams,
    kuma_dp: Streams,
    /// The kuma-dps that run for the Dataplane. There may be two for a while, by mistake or at a change of shifts.
    instances: BTreeMap<String, Instance>,
    /// The last one that ran.
    last: String,
    state: State,
}

/// The streams of one side.
#[derive(Debug, Default)]
struct Streams {
    open: usize,
    /// How the last one ended that did.
    end: Option<End>,
}

#[derive(Debug, Default)]
struct Instance {
    /// One kuma-dp may have two streams for a moment: it is back before we see that the old one is gone.
    streams: usize,
    leaving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Here,
    /// Both streams were closed; until then they may come back.
    Absent { until: Instant },
    /// A kuma-dp said that it leaves.
    Left,
    /// Both streams stayed away.
    Vanished { at: Instant },
}

impl Streams {
    fn is_closed(&self) -> bool {
        self.open == 0 && self.end.is_some_and(|end| end.by_far_end)
    }
}

impl Presence {
    /// A stream was opened. Returns whether a proxy that had vanished is known to be back by that: its kuma-dp is the
    /// one that was there before, and so is its Envoy, which does not outlive it.
    pub fn opened(&mut self, proxy: &Proxy, side: Side<'_>) -> bool {
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
                entry.instances.entry(instance.to_owned()).or_default().streams += 1;
            }
        }
        match entry.state {
            State::Absent { until } => {
                self.absent.remove(&(until, proxy.clone()));
                entry.state = State::Here;
            }
            State::Vanished { .. } if is_back => entry.state = State::Here,
            _ => {}
        }
        is_back
    }

    /// How many kuma-dps run for a Dataplane.
    pub fn kuma_dps(&self, proxy: &Proxy) -> usize {
        self.proxies.get(proxy).map_or(0, |entry| entry.instances.len())
    }

    /// A stream ended.
    pub fn closed(&mut self, proxy: &Proxy, side: Side<'_>, end: End, now: Instant) {
        let Some(entry) = self.proxies.get_mut(proxy) else { return };
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
        if entry.state == State::Here && entry.envoy.is_closed() && entry.kuma_dp.is_closed() {
            let until = now + ABSENCE;
            entry.state = State::Absent { until };
            self.absent.insert((until, proxy.clone()));
            self.forget_old(now);
            self.vanished.push_back((now, proxy.clone()));
        }
        self.tidy(proxy);
    }

    /// A kuma-dp says that its Envoy ends. Returns whether the proxy has left by that: not if another kuma-dp goes on.
    pub fn leaves(&mut self, proxy: &Proxy, instance: &str) -> bool {
        let entry = self.proxies.entry(proxy.clone()).or_default();
        if let Some(known) = entry.instances.get_mut(instance) {
            known.leaving = true;
        }
        let others = entry.instances.iter().any(|(name, one)| name != instance && !one.leaving);
        if !others {
            if let State::Absent { until } = entry.state {
                self.absent.remove(&(until, proxy.clone()));
            }
            entry.state = State::Left;
        }
        self.tidy(proxy);
        !others
    }

    /// An Envoy takes connections: `fresh` if it has just been given all its configuration, else it has come back with
    /// what it had. Returns whether a proxy that had left is back: one that is on its way out is not, by coming back
    /// once more.
    pub fn configured(&mut self, proxy: &Proxy, fresh: bool) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        let is_back = match entry.state {
            State::Left => fresh,
            State::Vanished { .. } => true,
            State::Here | State::Absent { .. } => false,
        };
        if is_back {
            entry.state = State::Here;
        }
        is_back
    }

    /// The next moment at which [`Presence::lapse`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.absent.first().map(|(until, _)| *until)
    }

    /// Looks at those that have been away for long enough.
    pub fn lapse(&mut self, now: Instant) -> Lapsed {
        let over: Vec<(Instant, Proxy)> = self.absent.iter().take_while(|(until, _)| *until <= now).cloned().collect();
        if !over.is_empty() && self.many(now) {
            return self.keep_all(now);
        }
        let mut lapsed = Lapsed::default();
        for (until, proxy) in over {
            let Some(entry) = self.proxies.get_mut(&proxy) else { continue };
            if now > until + LATE {
                self.absent.remove(&(until, proxy.clone()));
                let until = now + ABSENCE;
                entry.state = State::Absent { until };
                self.absent.insert((until, proxy));
            } else {
                let ends = [&entry.envoy, &entry.kuma_dp].into_iter().filter_map(|streams| streams.end);
                lapsed.due.push((proxy, ends.filter_map(|end| end.unproved).collect()));
            }
        }
        lapsed
    }

    /// Keeps those that are away, and puts back those that went first and were taken for dead before the others
    /// followed.
    fn keep_all(&mut self, now: Instant) -> Lapsed {
        let mut lapsed = Lapsed::default();
        lapsed.kept.extend(std::mem::take(&mut self.absent).into_iter().map(|(_, proxy)| proxy));
        let recently = |entry: &Entry| matches!(entry.state, State::Vanished { at } if now - at <= WINDOW);
        let back = self.proxies.iter().filter(|(_, entry)| recently(entry));
        lapsed.back.extend(back.map(|(proxy, _)| proxy.clone()));
        for proxy in lapsed.kept.iter().chain(&lapsed.back) {
            if let Some(entry) = self.proxies.get_mut(proxy) {
                entry.state = State::Here;
            }
            self.tidy(proxy);
        }
        lapsed
    }

    /// One of those that were due has vanished, if it is `believed` and has not come back meanwhile; which is returned.
    pub fn vanishes(&mut self, proxy: &Proxy, believed: bool, now: Instant) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        let State::Absent { until } = entry.state else { return false };
        if until > now {
            return false;
        }
        self.absent.remove(&(until, proxy.clone()));
        entry.state = if believed { State::Vanished { at: now } } else { State::Here };
        self.tidy(proxy);
        believed
    }

    /// The Dataplane is deleted: what was known is of no use to another one of that name. Returns whether there was
    /// any.
    pub fn forget(&mut self, proxy: &Proxy) -> bool {
        let Some(entry) = self.proxies.get_mut(proxy) else { return false };
        if let State::Absent { until } = entry.state {
            self.absent.remove(&(until, proxy.clone()));
        }
        let was_here = std::mem::take(&mut entry.state) == State::Here;
        self.tidy(proxy);
        !was_here
    }

    /// How many have said that they leave, and how many have vanished.
    pub fn gone(&self) -> (usize, usize) {
        let of = |wanted: fn(&State) -> bool| self.proxies.values().filter(|entry| wanted(&entry.state)).count();
        (of(|state| *state == State::Left), of(|state| matches!(state, State::Vanished { .. })))
    }

    /// Whether so many have vanished of late that it cannot be they who ended. Those that came back count too: of what
    /// happened to all of them, they tell that it was something else.
    fn many(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        let vanished = self.vanished.iter().map(|(_, proxy)| proxy).collect::<HashSet<_>>().len();
        let absent = self.absent.len();
        // Nor can it be told that it was not our own network when fewer are left than have gone.
        vanished > FEW.max((self.connected + absent) / MANY) || vanished > self.connected
    }

    fn forget_old(&mut self, now: Instant) {
        while self.vanished.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.vanished.pop_front();
        }
    }

    /// Lets go of a proxy of which there is nothing left to know.
    fn tidy(&mut self, proxy: &Proxy) {
        let is_over = |entry: &Entry| entry.state == State::Here && entry.envoy.open == 0 && entry.kuma_dp.open == 0;
        if self.proxies.get(proxy).is_some_and(|entry| is_over(entry)) {
            self.proxies.remove(proxy);
        }
    }
}
