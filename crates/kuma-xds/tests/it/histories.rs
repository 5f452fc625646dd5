//! Random histories: however messages and changes are interleaved, the client ends with the resources that it should
//! have.
//!
//! The client is a separate model of the protocol that shares no code with the session. Requests and responses wait in
//! queues, so that they cross.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kuma_xds::{
    DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, Node, Request, Resource, ResourceType, Response, Session,
    Snapshot, StreamState, Variant,
};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Resources as (type, name, version), by index.
type World = Vec<(usize, usize, u8)>;

#[derive(Clone, Debug)]
enum Step {
    /// The server sends a response, if it has one.
    Respond,
    /// The client takes the oldest response, and accepts or refuses it.
    Take {
        accept: bool,
    },
    /// The server takes the oldest request.
    Request,
    Subscribe {
        resource_type: usize,
        name: usize,
    },
    Unsubscribe {
        resource_type: usize,
        name: usize,
    },
    SubscribeAll {
        resource_type: usize,
    },
    UnsubscribeAll {
        resource_type: usize,
    },
    Serve(World),
    Hold,
    Reconnect,
}

fn worlds() -> impl Strategy<Value = World> {
    prop::collection::vec((0..ResourceType::COUNT, 0..NAMES.len(), 1..3_u8), 0..12)
}

fn steps() -> impl Strategy<Value = Step> {
    let resource_type = || 0..ResourceType::COUNT;
    let name = || 0..NAMES.len();
    prop_oneof![
        8 => Just(Step::Respond),
        8 => prop::bool::weighted(0.8).prop_map(|accept| Step::Take { accept }),
        8 => Just(Step::Request),
        4 => (resource_type(), name()).prop_map(|(resource_type, name)| Step::Subscribe { resource_type, name }),
        3 => (resource_type(), name()).prop_map(|(resource_type, name)| Step::Unsubscribe { resource_type, name }),
        2 => resource_type().prop_map(|resource_type| Step::SubscribeAll { resource_type }),
        1 => resource_type().prop_map(|resource_type| Step::UnsubscribeAll { resource_type }),
        4 => worlds().prop_map(Step::Serve),
        1 => Just(Step::Hold),
        1 => Just(Step::Reconnect),
    ]
}

fn snapshot(world: &World) -> Snapshot {
    let mut builder = Snapshot::builder();
    for (resource_type, name, version) in world {
        let resource_type = ResourceType::ALL[*resource_type];
        let name = NAMES[*name];
        let resource = Resource::with_version(resource_type, name, version.to_string(), &[*version]);
        let resource = match resource_type {
            ResourceType::Cluster => resource.requiring([(ResourceType::Endpoint, Arc::from(name))]),
            _ => resource,
        };
        builder.insert(Arc::new(resource));
    }
    builder.build()
}

/// The client's state of one type.
#[derive(Default)]
struct Known {
    started: bool,
    /// SotW: it subscribes to all by an empty list.
    is_tacit: bool,
    all: bool,
    names: BTreeSet<String>,
    /// What it was sent, refused or not, which is what the server compares with.
    held: BTreeMap<String, String>,
    refused: BTreeSet<String>,
    /// SotW: what it had when it accepted `version`.
    accepted: BTreeMap<String, String>,
    nonce: String,
    version: String,
    /// How often a resource may be sent unchanged: it was requested, or its cluster was sent.
    credit: BTreeMap<String, usize>,
}

impl Known {
    fn wants(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn allow(&mut self, name: &str) {
        *self.credit.entry(name.to_owned()).or_default() += 1;
    }

    fn spend(&mut self, name: &str) -> bool {
        match self.credit.get_mut(name) {
            Some(credit) if *credit > 0 => {
                *credit -= 1;
                true
            }
            _ => false,
        }
    }
}

struct Play {
    variant: Variant,
    session: Session,
    state: StreamState,
    has_named_node: bool,
    is_resumed: bool,
    nonces: BTreeSet<String>,
    to_client: VecDeque<Response>,
    to_server: VecDeque<Request>,
    known: [Known; ResourceType::COUNT],
    /// Set when the client treats clusters as Envoy does.
    warming: Option<Warming>,
}

/// Envoy requests the endpoints of a cluster when it has the cluster, uses the cluster when it has both, and sends the
/// ACK of clusters only when all of them are warm.
#[derive(Default)]
struct Warming {
    /// New or changed, and without endpoints since then.
    cold: BTreeSet<String>,
    /// Clusters that accept connections.
    ready: BTreeSet<String>,
    withholds_ack: bool,
}

impl Play {
    fn new(variant: Variant) -> Play {
        Play {
            variant,
            session: Session::new(variant),
            state: StreamState::Hold,
            has_named_node: false,
            is_resumed: false,
            nonces: BTreeSet::new(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            known: Default::default(),
            warming: None,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Respond => {
                self.respond();
            }
            Step::Take { accept } => {
                self.take(*accept);
            }
            Step::Request => {
                self.request();
            }
            Step::Subscribe { resource_type, name } => {
                let known = &mut self.known[*resource_type];
                known.names.insert(NAMES[*name].to_owned());
                known.allow(NAMES[*name]);
                known.is_tacit = false;
                self.change(*resource_type, &[NAMES[*name]], &[]);
            }
            Step::Unsubscribe { resource_type, name } => {
                let known = &mut self.known[*resource_type];
                if !known.started {
                    return;
                }
                known.names.remove(NAMES[*name]);
                known.allow(NAMES[*name]);
                let wants = known.wants(NAMES[*name]);
                if !wants {
                    known.held.remove(NAMES[*name]);
                }
                self.change(*resource_type, &[], &[NAMES[*name]]);
            }
            Step::SubscribeAll { resource_type } => {
                if self.known[*resource_type].started && !self.is_quiet() {
                    // A response to an earlier subscription to all must not count as the answer to this one.
                    return;
                }
                let known = &mut self.known[*resource_type];
                NAMES.iter().for_each(|name| known.allow(name));
                known.all = true;
                let is_tacit = !known.started && [0, 3].contains(resource_type);
                known.is_tacit = is_tacit;
                self.change(*resource_type, if is_tacit { &[] } else { &["*"] }, &[]);
            }
            Step::UnsubscribeAll { resource_type } => {
                let known = &mut self.known[*resource_type];
                if !known.started || !known.all {
                    return;
                }
                known.all = false;
                if known.is_tacit && self.variant == Variant::Sotw {
                    // The empty list subscribes to all: only a list with a name can undo that.
                    known.names.insert(NAMES[0].to_owned());
                    known.allow(NAMES[0]);
                }
                known.is_tacit = false;
                let names = known.names.clone();
                known.held.retain(|name, _| names.contains(name));
                self.change(*resource_type, &[], &["*"]);
            }
            Step::Serve(world) => self.set(StreamState::Serve(Arc::new(snapshot(world)))),
            Step::Hold => self.set(StreamState::Hold),
            Step::Reconnect => self.reconnect(),
        }
    }

    fn is_quiet(&self) -> bool {
        self.to_client.is_empty() && self.to_server.is_empty()
    }

    fn set(&mut self, state: StreamState) {
        if let (StreamState::Serve(snapshot), Variant::Sotw) = (&state, self.variant) {
            // S3: deletion is implicit, so a resource that exists again may be sent again.
            for resource_type in [ResourceType::Endpoint, ResourceType::Route] {
                let gone = NAMES.iter().filter(|name| snapshot.get(resource_type, name).is_none());
                gone.for_each(|name| self.known[resource_type as usize].allow(name));
            }
        }
        self.state = state.clone();
        self.session.on_state(state);
    }

    fn respond(&mut self) -> bool {
        let Some(response) = self.session.poll(&mut Vec::new()) else {
            return false;
        };
        assert!(self.nonces.insert(response.nonce()), "C2: a nonce came twice");
        self.to_client.push_back(response);
        true
    }

    fn take(&mut self, accept: bool) -> bool {
        let Some(response) = self.to_client.pop_front() else {
            return false;
        };
        let index = response.resource_type() as usize;
        let known = &mut self.known[index];
        known.nonce = response.nonce();
        if accept {
            known.version = response.version_info().to_owned();
        }
        let mut is_news = !response.removed().is_empty();
        let mut changed = Vec::new();
        let mut repeated = Vec::new();
        let mut named = BTreeSet::new();
        for resource in response.resources() {
            let name = resource.name().to_string();
            assert!(named.insert(name.clone()), "C10: {name} came twice in a response");
            if !known.wants(&name) {
                is_news = true;
                continue;
            }
            if known.held.get(&name).map(String::as_str) == Some(resource.version()) {
                repeated.push(name.clone());
            } else {
                is_news = true;
                changed.push(name.clone());
            }
            match accept {
                true => known.refused.remove(&name),
                false => known.refused.insert(name.clone()),
            };
            known.held.insert(name, resource.version().to_owned());
        }
        let is_whole = self.variant == Variant::Sotw && ![1, 5].contains(&index);
        if self.variant == Variant::Sotw && [0, 3].contains(&index) {
            let before = known.held.len();
            known.held.retain(|name, _| named.contains(name));
            known.refused.retain(|name| named.contains(name));
            is_news |= known.held.len() < before;
        }
        for name in response.removed() {
            known.held.remove(&**name);
            known.refused.remove(&**name);
        }
        if accept {
            known.accepted = known.held.clone();
        }
        if is_whole {
            let is_asked = is_news || NAMES.iter().any(|name| known.spend(name));
            assert!(is_asked, "{:?} came again unasked: {repeated:?}", response.resource_type());
        } else {
            for name in repeated {
                assert!(known.spend(&name), "{:?} {name} came again unasked", response.resource_type());
            }
        }
        if index == ResourceType::Cluster as usize {
            let endpoints = &mut self.known[ResourceType::Endpoint as usize];
            named.iter().for_each(|name| endpoints.allow(name));
        }
        match self.warming.take() {
            None => self.answer(index, accept),
            Some(warming) => self.warm(warming, &response, changed),
        }
        true
    }

    /// Answers as Envoy does.
    fn warm(&mut self, mut warming: Warming, response: &Response, changed: Vec<String>) {
        let index = response.resource_type() as usize;
        if response.resource_type() == ResourceType::Cluster {
            warming.cold.extend(changed);
            let held: BTreeSet<String> = self.known[index].held.keys().cloned().collect();
            warming.cold.retain(|name| held.contains(name));
            warming.ready.retain(|name| held.contains(name));
            self.known[ResourceType::Endpoint as usize].started = true;
            let asked = self.known[ResourceType::Endpoint as usize].names.clone();
            for name in (0..NAMES.len()).filter(|name| held.contains(NAMES[*name]) != asked.contains(NAMES[*name])) {
                let resource_type = ResourceType::Endpoint as usize;
                match held.contains(NAMES[name]) {
                    true => self.step(&Step::Subscribe { resource_type, name }),
                    false => self.step(&Step::Unsubscribe { resource_type, name }),
                }
            }
            warming.withholds_ack = true;
        } else {
            self.answer(index, true);
        }
        if response.resource_type() == ResourceType::Endpoint {
            for resource in response.resources() {
                warming.cold.remove(&**resource.name());
                if self.known[ResourceType::Cluster as usize].held.contains_key(&**resource.name()) {
                    warming.ready.insert(resource.name().to_string());
                }
            }
            for name in response.removed() {
                warming.cold.remove(&**name);
                warming.ready.remove(&**name);
            }
        }
        if warming.withholds_ack && warming.cold.is_empty() {
            warming.withholds_ack = false;
            self.answer(ResourceType::Cluster as usize, true);
        }
        self.warming = Some(warming);
    }

    /// What Envoy does after 15 s. Returns whether there was anything to do.
    fn give_up_warming(&mut self) -> bool {
        let Some(warming) = self.warming.as_mut().filter(|warming| warming.withholds_ack) else {
            return false;
        };
        warming.withholds_ack = false;
        warming.cold.clear();
        self.answer(ResourceType::Cluster as usize, true);
        true
    }

    fn request(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else {
            return false;
        };
        self.session.on_request(request, &mut Vec::new()).expect("a good request");
        true
    }

    fn answer(&mut self, index: usize, accept: bool) {
        let error_detail = (!accept).then(|| ErrorDetail { code: 13, message: "bad".to_owned() });
        let request = match self.variant {
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: ResourceType::ALL[index].type_url().to_owned(),
                response_nonce: self.known[index].nonce.clone(),
                error_detail,
                ..Default::default()
            }),
            Variant::Sotw => match self.sotw_request(index) {
                Request::Sotw(request) => Request::Sotw(DiscoveryRequest { error_detail, ..request }),
                Request::Delta(_) => unreachable!(),
            },
        };
        self.push(request);
    }

    fn change(&mut self, index: usize, subscribe: &[&str], unsubscribe: &[&str]) {
        self.known[index].started = true;
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let request = match self.variant {
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: ResourceType::ALL[index].type_url().to_owned(),
                resource_names_subscribe: owned(subscribe),
                resource_names_unsubscribe: owned(unsubscribe),
                ..Default::default()
            }),
            Variant::Sotw => self.sotw_request(index),
        };
        self.push(request);
    }

    fn sotw_request(&self, index: usize) -> Request {
        let known = &self.known[index];
        let star = (known.all && !known.is_tacit).then(|| "*".to_owned());
        Request::Sotw(DiscoveryRequest {
            type_url: ResourceType::ALL[index].type_url().to_owned(),
            resource_names: known.names.iter().cloned().chain(star).collect(),
            response_nonce: known.nonce.clone(),
            version_info: known.version.clone(),
            ..Default::default()
        })
    }

    fn push(&mut self, mut request: Request) {
        if !std::mem::replace(&mut self.has_named_node, true) {
            let node = Some(Node { id: "default.web-1".to_owned(), ..Default::default() });
            match &mut request {
                Request::Sotw(request) => request.node = node,
                Request::Delta(request) => request.node = node,
            }
        }
        self.to_server.push_back(request);
    }

    fn reconnect(&mut self) {
        self.session = Session::new(self.variant);
        self.session.on_state(self.state.clone());
        self.has_named_node = false;
        self.nonces.clear();
        self.to_client.clear();
        self.to_server.clear();
        if let Some(warming) = &mut self.warming {
            // A server cannot know what was warming when the stream ended; Envoy stops warming after 15 s.
            warming.withholds_ack = false;
            warming.cold.clear();
        }
        self.is_resumed = !self.known[0].held.is_empty() || !self.known[0].version.is_empty();
        for index in 0..ResourceType::COUNT {
            let known = &mut self.known[index];
            // It does not have what it refused.
            let refused = std::mem::take(&mut known.refused);
            match self.variant {
                Variant::Delta => known.held.retain(|name, _| !refused.contains(name)),
                Variant::Sotw => {
                    known.held = known.accepted.clone();
                    let (all, names) = (known.all, &known.names);
                    known.held.retain(|name, _| all || names.contains(name));
                }
            }
            known.nonce.clear();
            known.credit.clear();
            let is_wanted = known.all || !known.names.is_empty();
            if !known.started || !is_wanted {
                known.started = false;
                known.held.clear();
                known.accepted.clear();
                known.version.clear();
                continue;
            }
            known.is_tacit = known.all && known.names.is_empty() && [0, 3].contains(&index);
            let request = match self.variant {
                Variant::Delta => {
                    let star = (known.all && !known.is_tacit).then(|| "*".to_owned());
                    Request::Delta(DeltaDiscoveryRequest {
                        type_url: ResourceType::ALL[index].type_url().to_owned(),
                        resource_names_subscribe: known.names.iter().cloned().chain(star).collect(),
                        initial_resource_versions: known.held.clone(),
                        ..Default::default()
                    })
                }
                Variant::Sotw => {
                    NAMES.iter().for_each(|name| known.allow(name));
                    self.sotw_request(index)
                }
            };
            self.push(request);
        }
    }

    /// Delivers messages until there are none.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut has_moved = false;
            while self.request() {
                has_moved = true;
            }
            while self.respond() {
                has_moved = true;
            }
            while self.take(true) {
                has_moved = true;
            }
            if !has_moved {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&self) {
        let StreamState::Serve(snapshot) = &self.state else {
            return;
        };
        let refuses = self.known[3..].iter().any(|known| known.refused.iter().any(|name| known.wants(name)));
        let may_linger = refuses || (self.is_resumed && !self.known[3].started);
        for (index, known) in self.known.iter().enumerate().filter(|(_, known)| known.started) {
            let resource_type = ResourceType::ALL[index];
            let may_keep = match resource_type {
                ResourceType::Cluster => may_linger,
                ResourceType::Endpoint => may_linger || self.variant == Variant::Sotw,
                ResourceType::Secret | ResourceType::ExtensionConfig => true,
                ResourceType::Listener => false,
                ResourceType::Route => self.variant == Variant::Sotw,
            };
            for name in NAMES {
                let held = known.held.get(name).map(String::as_str);
                let wanted = known.wants(name).then(|| snapshot.get(resource_type, name)).flatten();
                match wanted {
                    Some(wanted) => assert_eq!(held, Some(wanted.version()), "{resource_type:?} {name}"),
                    None => assert!(held.is_none() || may_keep, "{resource_type:?} {name} is still held"),
                }
            }
        }
    }
}

fn play(variant: Variant, steps: &[Step], last: World) {
    let mut play = Play::new(variant);
    for step in steps {
        play.step(step);
    }
    play.step(&Step::Serve(last));
    play.settle();
    play.check();
    // Nothing more is sent.
    assert!(!play.respond());
}

/// Each listener refers to the cluster with the number of its version.
fn referring_worlds() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0..NAMES.len(), 0..4_u8), 0..4)
}

#[derive(Clone, Debug)]
enum Move {
    Respond,
    Take,
    Request,
    Serve(Vec<(usize, u8)>),
    Reconnect,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => Just(Move::Respond),
        6 => Just(Move::Take),
        6 => Just(Move::Request),
        3 => referring_worlds().prop_map(Move::Serve),
        1 => Just(Move::Reconnect),
    ]
}

fn referring_world(listeners: &[(usize, u8)]) -> World {
    let mut world = World::new();
    let last: BTreeMap<usize, u8> = listeners.iter().copied().collect();
    for (name, version) in last {
        world.push((ResourceType::Listener as usize, name, version));
        let of_cluster = 1 + (listeners.len() % 2) as u8;
        world.push((ResourceType::Cluster as usize, usize::from(version), of_cluster));
        world.push((ResourceType::Endpoint as usize, usize::from(version), 1));
    }
    world
}

/// Make before break: at any time the clusters that the client's listeners refer to can be used.
fn check_references(play: &Play) {
    let ready = &play.warming.as_ref().expect("a client that warms").ready;
    for version in play.known[ResourceType::Listener as usize].held.values() {
        let cluster = NAMES[version.parse::<usize>().expect("a number")];
        assert!(ready.contains(cluster), "a listener refers to {cluster}, which is not ready");
    }
}

/// Two thousand histories of each kind take two seconds; `PROPTEST_CASES` sets another number.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: default.cases.max(2000), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_delta_history_ends_with_what_is_served(
        steps in prop::collection::vec(steps(), 0..80),
        last in worlds(),
    ) {
        play(Variant::Delta, &steps, last);
    }

    #[test]
    fn any_sotw_history_ends_with_what_is_served(
        steps in prop::collection::vec(steps(), 0..80),
        last in worlds(),
    ) {
        play(Variant::Sotw, &steps, last);
    }

    #[test]
    fn o1_o2_no_listener_ever_refers_to_what_is_not_ready_and_nothing_stays_cold(
        moves in prop::collection::vec(moves(), 0..120),
        last in referring_worlds(),
        is_delta in any::<bool>(),
    ) {
        let variant = if is_delta { Variant::Delta } else { Variant::Sotw };
        let mut play = Play::new(variant);
        play.warming = Some(Warming::default());
        play.step(&Step::SubscribeAll { resource_type: ResourceType::Cluster as usize });
        play.step(&Step::SubscribeAll { resource_type: ResourceType::Listener as usize });
        play.settle();
        for step in moves {
            match step {
                Move::Respond => { play.respond(); }
                Move::Take => { play.take(true); }
                Move::Request => { play.request(); }
                Move::Serve(listeners) => play.step(&Step::Serve(referring_world(&listeners))),
                // A SotW client does not say which clusters it has, so none of them can be kept for it.
                Move::Reconnect if variant == Variant::Delta => {
                    play.reconnect();
                    while play.request() {}
                }
                Move::Reconnect => {}
            }
            check_references(&play);
        }
        play.step(&Step::Serve(referring_world(&last)));
        play.settle();
        // A SotW server cannot answer that endpoints do not exist, if a cluster was deleted while the client requested
        // them; and what a client reported after a reconnect cannot be sent again.
        while (variant == Variant::Sotw || play.is_resumed) && play.give_up_warming() {
            play.settle();
        }
        check_references(&play);
        play.check();
        let warming = play.warming.as_ref().expect("a client that warms");
        assert!(warming.cold.is_empty() && !warming.withholds_ack, "{:?} stay cold", warming.cold);
    }
}

/// C2, over a long history.
#[test]
fn c2_nonces_are_unique_within_a_stream() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut play = Play::new(variant);
        play.step(&Step::SubscribeAll { resource_type: 0 });
        play.step(&Step::SubscribeAll { resource_type: 3 });
        for round in 0..10_000_usize {
            play.step(&Step::Serve(vec![(0, 0, (round % 3) as u8), (3, 1, (round % 5) as u8)]));
            play.settle();
        }
        assert!(play.nonces.len() > 15_000);
    }
}
