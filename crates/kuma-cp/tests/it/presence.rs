//! Which proxies count as vanished, and which are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuma_cp::presence::{ABSENCE, End, Presence, Proxy, Side, WINDOW};
use proptest::prelude::*;

const CLOSED: End = End { by_far_end: true, unproved: None };
/// The connection timed out, or we have ended the stream.
const OTHERWISE: End = End { by_far_end: false, unproved: None };

/// Drives a [`Presence`] as the program does, and records which proxies are gone.
struct World {
    presence: Presence,
    now: Instant,
    gone: BTreeSet<String>,
    /// Proxies that were kept or restored because of a mass disconnect.
    kept: Vec<String>,
    /// Whether streams without a token are trusted.
    trusted: bool,
    /// Proxies with a stream of an Envoy that has said that it accepts connections.
    serves: BTreeSet<String>,
}

fn proxy(name: &str) -> Proxy {
    (Arc::from("default"), Arc::from(name))
}

fn instance(name: &str) -> String {
    format!("kuma-dp of {name}")
}

impl World {
    fn new() -> World {
        World {
            presence: Presence::default(),
            now: Instant::now(),
            gone: BTreeSet::new(),
            kept: Vec::new(),
            trusted: true,
            serves: BTreeSet::new(),
        }
    }

    /// A world with this many connected proxies, `p0` and so on.
    fn of(proxies: usize) -> World {
        let mut world = World::new();
        for number in 0..proxies {
            world.comes(&format!("p{number}"));
        }
        world
    }

    fn comes(&mut self, name: &str) {
        self.open(name, Side::Envoy);
        self.open(name, Side::KumaDp(&instance(name)));
    }

    fn open(&mut self, name: &str, side: Side<'_>) {
        if self.presence.opened(&proxy(name), side, true) {
            self.gone.remove(name);
        }
    }

    fn close(&mut self, name: &str, side: Side<'_>, end: End) {
        let served = side == Side::Envoy && self.serves.remove(name);
        if self.presence.closed(&proxy(name), side, end, served, self.now) {
            self.gone.remove(name);
        }
    }

    /// Both its streams end.
    fn ends(&mut self, name: &str, end: End) {
        self.close(name, Side::Envoy, end);
        self.close(name, Side::KumaDp(&instance(name)), end);
    }

    fn leaves(&mut self, name: &str) -> bool {
        let has_left = self.presence.leaves(&proxy(name), &instance(name), true);
        if has_left {
            self.gone.insert(name.to_owned());
        }
        has_left
    }

    fn configured(&mut self, name: &str, fresh: bool) {
        if self.presence.configured(&proxy(name), fresh, !self.serves.insert(name.to_owned())) {
            self.gone.remove(name);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.presence.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.expire();
        }
        self.now = end;
    }

    /// Handles deadlines, and returns the proxies that have vanished.
    fn expire(&mut self) -> Vec<String> {
        let expired = self.presence.expire(self.now);
        self.kept.extend(expired.kept.iter().chain(&expired.back).map(|(_, name)| name.to_string()));
        for (_, name) in expired.back {
            assert!(self.gone.remove(&*name), "{name} was not gone");
        }
        let mut vanished = Vec::new();
        for (one, unproved) in expired.due {
            if self.presence.confirm_vanished(&one, unproved.is_empty() || self.trusted, self.now) {
                self.gone.insert(one.1.to_string());
                vanished.push(one.1.to_string());
            }
        }
        vanished
    }

    fn gone(&self) -> Vec<&str> {
        self.gone.iter().map(String::as_str).collect()
    }
}

fn seconds(seconds: f32) -> Duration {
    Duration::from_secs_f32(seconds)
}

#[test]
fn a_proxy_that_ends_vanishes_after_five_seconds() {
    for proxies in 2..6 {
        let mut world = World::of(proxies);
        world.ends("p0", CLOSED);
        world.pass(seconds(4.9));
        assert_eq!(world.gone(), Vec::<&str>::new(), "of {proxies}");
        world.pass(seconds(0.2));
        assert_eq!(world.gone(), ["p0"], "of {proxies}");
    }
}

#[test]
fn a_proxy_that_reconnects_in_time_never_vanishes() {
    for side in [Side::Envoy, Side::KumaDp("another one")] {
        let mut world = World::of(4);
        world.ends("p0", CLOSED);
        world.pass(seconds(4.9));
        world.open("p0", side);
        world.pass(seconds(60.0));
        assert_eq!(world.gone(), Vec::<&str>::new());
    }
}

#[test]
fn timeouts_and_streams_ended_by_the_control_plane_do_not_count() {
    let mut world = World::of(4);
    world.ends("p0", OTHERWISE);
    world.close("p1", Side::Envoy, CLOSED);
    world.close("p1", Side::KumaDp(&instance("p1")), OTHERWISE);
    // Only the kuma-dp has ended; the Envoy still runs.
    world.close("p2", Side::KumaDp(&instance("p2")), CLOSED);
    world.pass(seconds(60.0));
    assert_eq!(world.gone(), Vec::<&str>::new());
}

#[test]
fn an_envoy_without_a_kuma_dp_never_vanishes() {
    let mut world = World::of(3);
    world.open("by-hand", Side::Envoy);
    world.close("by-hand", Side::Envoy, CLOSED);
    world.pass(seconds(60.0));
    assert_eq!(world.gone(), Vec::<&str>::new());
}

#[test]
fn a_mass_disconnect_keeps_all_proxies_and_restores_vanished_ones() {
    let mut world = World::of(40);
    world.ends("p0", CLOSED);
    world.pass(seconds(6.0));
    assert_eq!(world.gone(), ["p0"]);
    for number in 1..30 {
        world.ends(&format!("p{number}"), CLOSED);
    }
    world.pass(seconds(60.0));
    assert_eq!((world.gone(), world.kept.len()), (Vec::new(), 30));
    // After they have reconnected, a single one of them can vanish again.
    for number in 0..30 {
        world.comes(&format!("p{number}"));
    }
    world.ends("p3", CLOSED);
    world.pass(seconds(6.0));
    assert_eq!(world.gone(), ["p3"]);
}

#[test]
fn the_last_proxy_to_reconnect_after_a_mass_disconnect_is_kept() {
    let mut world = World::of(100);
    for number in 0..90 {
        world.ends(&format!("p{number}"), CLOSED);
    }
    world.pass(seconds(3.0));
    for number in 0..89 {
        world.comes(&format!("p{number}"));
    }
    world.pass(seconds(60.0));
    assert_eq!((world.gone(), world.kept.len()), (Vec::new(), 1));
}

#[test]
fn the_limit_of_a_mass_disconnect() {
    for (proxies, may) in [(1, 0), (2, 1), (3, 1), (4, 2), (10, 2), (59, 2), (60, 3), (200, 10)] {
        for (ending, all_gone) in [(may, true), (may + 1, false)] {
            let mut world = World::of(proxies);
            for number in 0..ending.min(proxies) {
                world.ends(&format!("p{number}"), CLOSED);
            }
            world.pass(seconds(9.0));
            let gone = world.gone().len();
            assert_eq!(gone, if all_gone { may } else { 0 }, "{ending} of {proxies} ended");
        }
    }
}

#[test]
fn a_vanished_proxy_is_back_when_it_accepts_connections() {
    let vanished = || {
        let mut world = World::of(4);
        world.ends("p0", CLOSED);
        world.pass(seconds(6.0));
        assert_eq!(world.gone(), ["p0"]);
        world
    };
    // Another Envoy with another kuma-dp: back once it has its listeners.
    let mut world = vanished();
    world.open("p0", Side::KumaDp("another one"));
    world.open("p0", Side::Envoy);
    assert_eq!(world.gone(), ["p0"]);
    world.configured("p0", true);
    assert_eq!(world.gone(), Vec::<&str>::new());
    // The same Envoy with the listeners that it had.
    let mut world = vanished();
    world.open("p0", Side::Envoy);
    world.configured("p0", false);
    assert_eq!(world.gone(), Vec::<&str>::new());
    // The same kuma-dp, which Envoy does not outlive.
    let mut world = vanished();
    world.open("p0", Side::KumaDp(&instance("p0")));
    assert_eq!(world.gone(), Vec::<&str>::new());
}

#[test]
fn a_draining_proxy_that_reconnects_is_not_back() {
    let mut world = World::of(2);
    assert!(world.leaves("p0"));
    world.close("p0", Side::Envoy, CLOSED);
    world.open("p0", Side::Envoy);
    world.configured("p0", false);
    assert_eq!(world.gone(), ["p0"]);
    world.ends("p0", CLOSED);
    world.pass(seconds(60.0));
    world.comes("p0");
    world.configured("p0", true);
    assert_eq!(world.gone(), Vec::<&str>::new());
}

/// Whoever said that it had left was wrong, or another one runs in its place.
#[test]
fn a_kuma_dp_that_runs_beside_an_envoy_that_serves_ends_a_departure() {
    let left = || {
        let mut world = World::of(2);
        world.configured("p0", true);
        world.close("p0", Side::KumaDp(&instance("p0")), OTHERWISE);
        assert!(world.presence.leaves(&proxy("p0"), "somebody", true));
        world.gone.insert("p0".into());
        world
    };
    let mut world = left();
    world.open("p0", Side::KumaDp(&instance("p0")));
    assert_eq!(world.gone(), Vec::<&str>::new(), "it runs again, and its Envoy has served all the time");
    let mut world = left();
    world.close("p0", Side::Envoy, OTHERWISE);
    world.open("p0", Side::KumaDp(&instance("p0")));
    assert_eq!(world.gone(), ["p0"], "it is not known whether its Envoy serves");
    world.open("p0", Side::Envoy);
    world.configured("p0", false);
    assert_eq!(world.gone(), Vec::<&str>::new());

    // What serves may be the Envoy of the one that drains.
    let mut world = World::of(2);
    world.configured("p0", true);
    assert!(world.leaves("p0"));
    world.open("p0", Side::KumaDp("next"));
    assert_eq!(world.gone(), ["p0"]);
    world.open("p0", Side::Envoy);
    world.configured("p0", false);
    assert_eq!(world.gone(), ["p0"]);
    // Until that is gone.
    world.close("p0", Side::KumaDp(&instance("p0")), CLOSED);
    assert_eq!(world.gone(), Vec::<&str>::new());
}

#[test]
fn who_is_not_proved_does_not_speak_against_who_is() {
    let mut world = World::of(2);
    world.presence.opened(&proxy("p0"), Side::KumaDp("stranger"), false);
    assert!(!world.presence.leaves(&proxy("p0"), "stranger", false), "the proved one runs");
    world.presence.opened(&proxy("p0"), Side::KumaDp("another stranger"), false);
    assert!(world.leaves("p0"), "no stranger keeps it");
}

#[test]
fn a_proxy_leaves_when_the_last_of_its_kuma_dps_does() {
    let mut world = World::of(3);
    world.open("p0", Side::Envoy);
    world.open("p0", Side::KumaDp("second"));
    assert_eq!(world.presence.kuma_dps(&proxy("p0")), 2);
    assert!(!world.leaves("p0"), "the second one still runs");
    assert!(world.presence.leaves(&proxy("p0"), "second", true), "both leave");

    let mut world = World::of(3);
    world.open("p0", Side::Envoy);
    world.open("p0", Side::KumaDp("second"));
    world.ends("p0", CLOSED);
    world.pass(seconds(60.0));
    assert_eq!(world.gone(), Vec::<&str>::new());
    world.close("p0", Side::Envoy, CLOSED);
    world.close("p0", Side::KumaDp("second"), CLOSED);
    world.pass(seconds(6.0));
    assert_eq!(world.gone(), ["p0"]);
}

#[test]
fn streams_that_are_not_trusted_make_no_proxy_vanish() {
    let unproved = End { by_far_end: true, unproved: Some([192, 0, 2, 1].into()) };
    for trusted in [false, true] {
        let mut world = World::of(4);
        world.trusted = trusted;
        world.ends("p0", unproved);
        world.pass(seconds(60.0));
        assert_eq!(world.gone().len(), usize::from(trusted));
    }
}

#[test]
fn a_deadline_that_is_handled_late_starts_again() {
    let mut world = World::of(4);
    world.ends("p0", CLOSED);
    // The control plane was stalled; proxies that have reconnected may still be queued.
    world.now += seconds(30.0);
    assert_eq!(world.expire(), Vec::<String>::new());
    world.pass(seconds(4.9));
    assert_eq!(world.gone(), Vec::<&str>::new());
    world.pass(seconds(0.2));
    assert_eq!(world.gone(), ["p0"]);
}

#[test]
fn deleted_and_unknown_dataplanes_have_no_state() {
    let mut world = World::of(3);
    world.leaves("p0");
    world.ends("p0", CLOSED);
    assert_eq!(world.presence.count_gone(), (1, 0));
    world.presence.forget(&proxy("p0"));
    assert_eq!(world.presence.count_gone(), (0, 0));
    world.ends("p1", CLOSED);
    world.presence.forget(&proxy("p1"));
    assert_eq!(world.presence.next_deadline(), None);
    world.close("unknown", Side::Envoy, CLOSED);
    assert_eq!(world.presence.next_deadline(), None);
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

#[derive(Clone, Debug)]
enum Step {
    Comes(usize),
    Open(usize, bool),
    Close(usize, bool, bool),
    Ends(usize),
    Leaves(usize),
    Configured(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => name.clone().prop_map(Step::Comes),
        2 => (name.clone(), any::<bool>()).prop_map(|(name, envoy)| Step::Open(name, envoy)),
        2 => (name.clone(), any::<bool>(), any::<bool>()).prop_map(|(name, envoy, far)| Step::Close(name, envoy, far)),
        4 => name.clone().prop_map(Step::Ends),
        1 => name.clone().prop_map(Step::Leaves),
        1 => (name, any::<bool>()).prop_map(|(name, fresh)| Step::Configured(name, fresh)),
        4 => (0..9000_u64).prop_map(Step::Pass),
    ]
}

/// What somebody would write down who only watches the streams of one proxy.
#[derive(Default)]
struct Notes {
    open: [usize; 2],
    ends: [Option<(Instant, bool)>; 2],
    /// When both had been closed by the far end.
    vanished: Vec<Instant>,
}

impl Notes {
    fn closed(&mut self, side: usize, by_far_end: bool, now: Instant, is_gone: bool) {
        self.open[side] -= 1;
        self.ends[side] = Some((now, by_far_end));
        // Of one that had said so it is no news.
        if self.is_away() && !is_gone {
            self.vanished.push(now);
        } else if !is_gone {
            self.forget();
        }
    }

    /// Of whoever has no stream and is not missed nothing is remembered.
    fn forget(&mut self) {
        if self.open == [0, 0] {
            self.ends = [None, None];
        }
    }

    fn is_away(&self) -> bool {
        self.open == [0, 0] && self.ends.iter().all(|end| end.is_some_and(|(_, by_far_end)| by_far_end))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn nobody_is_gone_without_proof_and_never_many(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        let mut notes: BTreeMap<&str, Notes> = NAMES.iter().map(|name| (*name, Notes::default())).collect();
        for step in &steps {
            let (mut opens, mut closes) = (Vec::new(), Vec::new());
            match *step {
                Step::Comes(name) => opens.extend([(name, 0), (name, 1)]),
                Step::Open(name, envoy) => opens.push((name, usize::from(envoy))),
                Step::Close(name, envoy, by_far_end) => closes.push((name, usize::from(envoy), by_far_end)),
                Step::Ends(name) => closes.extend([(name, 0, true), (name, 1, true)]),
                _ => {}
            }
            let side = |name: &str,
            side: usize| if side == 1 { (Side::Envoy, String::new()) } else { (Side::KumaDp(""), instance(name)) };
            for (name, number) in opens {
                let name = NAMES[name];
                notes.get_mut(name).expect("known").open[number] += 1;
                match side(name, number) {
                    (Side::Envoy, _) => world.open(name, Side::Envoy),
                    (_, instance) => world.open(name, Side::KumaDp(&instance)),
                }
            }
            for (name, number, by_far_end) in closes {
                let name = NAMES[name];
                let noted = notes.get_mut(name).expect("known");
                if noted.open[number] == 0 {
                    continue;
                }
                noted.closed(number, by_far_end, world.now, world.gone.contains(name));
                let end = if by_far_end { CLOSED } else { OTHERWISE };
                match side(name, number) {
                    (Side::Envoy, _) => world.close(name, Side::Envoy, end),
                    (_, instance) => world.close(name, Side::KumaDp(&instance), end),
                }
            }
            match *step {
                Step::Leaves(name) => drop(world.leaves(NAMES[name])),
                Step::Configured(name, fresh) if notes[NAMES[name]].open[1] > 0 => world.configured(NAMES[name], fresh),
                Step::Pass(millis) => {
                    let end = world.now + Duration::from_millis(millis);
                    while let Some(deadline) = world.presence.next_deadline().filter(|deadline| *deadline <= end) {
                        world.now = world.now.max(deadline);
                        let vanished = world.expire();
                        for name in world.kept.drain(..) {
                            notes.get_mut(name.as_str()).expect("known").forget();
                        }
                        for name in &vanished {
                            let noted = &notes[name.as_str()];
                            prop_assert!(noted.is_away(), "{} is here", name);
                            let last = noted.ends.iter().flatten().map(|(at, _)| *at).max().expect("ended");
                            prop_assert!(world.now >= last + ABSENCE, "{} was given up too early", name);
                        }
                        let now = world.now;
                        let recent = |noted: &Notes| noted.vanished.iter().any(|at| now - *at <= WINDOW);
                        let many = notes.values().filter(|noted| recent(noted)).count();
                        let connected = notes.values().filter(|noted| noted.open[1] > 0).count();
                        if many > 2 || many > connected {
                            prop_assert_eq!(&vanished, &Vec::<String>::new(), "{} vanished, {} are left", many,
                                connected);
                        }
                    }
                    world.now = end;
                }
                _ => {}
            }
            let (left, vanished) = world.presence.count_gone();
            prop_assert_eq!(left + vanished, world.gone.len(), "what it says of itself is what it has said");
        }
    }
}
