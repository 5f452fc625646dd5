//! A scripted client: requests and responses are short lines, so that a test reads as a dialogue.
//!
//! Types are one letter: `C`lusters, `E`ndpoints, `S`ecrets, `L`isteners, e`X`tension configs, `R`outes. A snapshot is
//! `C a:1 b:1>a; E a:1`: clusters `a` and `b` in version 1, where `b` requires the endpoints `a`. `a:1?` is a
//! placeholder, `a:1!` is held. A response is `C a:1 b:1 -c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_xds::grpc::Status;
use kuma_xds::{
    DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, Event, Node, Request, Resource, ResourceType, Response,
    Session, Snapshot, StreamState, Variant,
};

pub(crate) const LETTERS: [(char, ResourceType); 6] = [
    ('C', ResourceType::Cluster),
    ('E', ResourceType::Endpoint),
    ('S', ResourceType::Secret),
    ('L', ResourceType::Listener),
    ('X', ResourceType::ExtensionConfig),
    ('R', ResourceType::Route),
];

pub(crate) fn letter(resource_type: ResourceType) -> char {
    LETTERS[resource_type as usize].0
}

pub(crate) fn of_letter(text: &str) -> ResourceType {
    let found = LETTERS.iter().find(|(letter, _)| text.starts_with(*letter));
    found.unwrap_or_else(|| panic!("{text} names no type")).1
}

pub(crate) fn snapshot(text: &str) -> Snapshot {
    let mut builder = Snapshot::builder();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = part.split_whitespace();
        let resource_type = of_letter(words.next().expect("a type"));
        for word in words {
            builder.insert(Arc::new(resource(resource_type, word)));
        }
    }
    builder.build()
}

fn resource(resource_type: ResourceType, word: &str) -> Resource {
    let (word, required) = match word.split_once('>') {
        Some((word, required)) => (word, Some(required)),
        None => (word, None),
    };
    let (name, version) = word.split_once(':').expect("name:version");
    let plain = version.trim_end_matches(['?', '!']);
    let made = match version.chars().last() {
        Some('!') => Resource::held(resource_type, name, plain),
        Some('?') => Resource::with_version(resource_type, name, plain, b"").placeholder(),
        _ => Resource::with_version(resource_type, name, plain, version.as_bytes()),
    };
    match required.map(|required| required.split_once('/').unwrap_or(("E", required))) {
        Some((letter, name)) => made.requiring([(of_letter(letter), Arc::from(name))]),
        None => made,
    }
}

pub(crate) fn show(response: &Response) -> String {
    let mut line = letter(response.resource_type()).to_string();
    for resource in response.resources() {
        line += &format!(" {}:{}", resource.name(), resource.version());
    }
    for name in response.removed() {
        line += &format!(" -{name}");
    }
    line
}

pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) events: Vec<Event>,
    variant: Variant,
    has_named_node: bool,
    /// Per type, the newest response.
    last: BTreeMap<ResourceType, Response>,
    /// Per type, in the SotW variant, its subscription, and the version that it accepted last.
    names: BTreeMap<ResourceType, Vec<String>>,
    accepted: BTreeMap<ResourceType, String>,
}

impl Client {
    pub(crate) fn new(variant: Variant) -> Client {
        Client {
            session: Session::new(variant),
            events: Vec::new(),
            variant,
            has_named_node: false,
            last: BTreeMap::new(),
            names: BTreeMap::new(),
            accepted: BTreeMap::new(),
        }
    }

    pub(crate) fn delta(text: &str) -> Client {
        let mut client = Client::new(Variant::Delta);
        client.serve(text);
        client
    }

    pub(crate) fn sotw(text: &str) -> Client {
        let mut client = Client::new(Variant::Sotw);
        client.serve(text);
        client
    }

    pub(crate) fn serve(&mut self, text: &str) -> Vec<String> {
        self.serve_snapshot(snapshot(text))
    }

    pub(crate) fn serve_snapshot(&mut self, snapshot: Snapshot) -> Vec<String> {
        self.session.on_state(StreamState::Serve(Arc::new(snapshot)));
        self.drain()
    }

    pub(crate) fn hold(&mut self) {
        self.session.on_state(StreamState::Hold);
    }

    /// Everything that the session has to send now.
    pub(crate) fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(response) = self.session.poll(&mut self.events) {
            lines.push(show(&response));
            self.last.insert(response.resource_type(), response);
        }
        lines
    }

    pub(crate) fn nonce(&self, text: &str) -> String {
        self.last.get(&of_letter(text)).map_or_else(String::new, Response::nonce)
    }

    pub(crate) fn last(&self, text: &str) -> &Response {
        &self.last[&of_letter(text)]
    }

    /// Delta: `E +a -b`. SotW: `E a b`, the whole subscription. With the newest nonce if there is one.
    pub(crate) fn ask(&mut self, text: &str) -> Vec<String> {
        let nonce = match self.variant {
            Variant::Delta => String::new(),
            Variant::Sotw => self.nonce(text),
        };
        self.ask_with_nonce(text, &nonce)
    }

    pub(crate) fn ask_with_nonce(&mut self, text: &str, nonce: &str) -> Vec<String> {
        let (resource_type, words) = words(text);
        let request = match self.variant {
            Variant::Delta => delta(resource_type, &words, nonce),
            Variant::Sotw => {
                self.names.insert(resource_type, words.iter().map(ToString::to_string).collect());
                self.sotw_request(resource_type, nonce)
            }
        };
        self.send(request).expect("a good request")
    }

    /// The first request of a type after a reconnect. Delta: what it holds, as `a:1`. SotW: the version of the type.
    pub(crate) fn come_back(&mut self, text: &str, holding: &str) -> Vec<String> {
        let (resource_type, words) = words(text);
        let request = match self.variant {
            Variant::Delta => {
                let Request::Delta(mut request) = delta(resource_type, &words, "") else { unreachable!() };
                let pairs = holding.split_whitespace().map(|word| word.split_once(':').expect("name:version"));
                request.initial_resource_versions = pairs.map(|(a, b)| (a.into(), b.into())).collect();
                Request::Delta(request)
            }
            Variant::Sotw => {
                self.names.insert(resource_type, words.iter().map(ToString::to_string).collect());
                self.accepted.insert(resource_type, holding.to_owned());
                self.sotw_request(resource_type, "")
            }
        };
        self.send(request).expect("a good request")
    }

    /// Accepts the newest response of a type, and returns what is sent then.
    pub(crate) fn ack(&mut self, text: &str) -> Vec<String> {
        let resource_type = of_letter(text);
        let nonce = self.nonce(text);
        if self.variant == Variant::Sotw {
            let version = self.last[&resource_type].version_info().to_owned();
            self.accepted.insert(resource_type, version);
        }
        self.answer(resource_type, &nonce, None)
    }

    /// Accepts the newest response of every type.
    pub(crate) fn ack_all(&mut self) -> Vec<String> {
        let types: Vec<ResourceType> = self.last.keys().copied().collect();
        types.into_iter().flat_map(|resource_type| self.ack(&letter(resource_type).to_string())).collect()
    }

    pub(crate) fn nack(&mut self, text: &str, message: &str) -> Vec<String> {
        let error = ErrorDetail { code: 13, message: message.to_owned() };
        let nonce = self.nonce(text);
        self.answer(of_letter(text), &nonce, Some(error))
    }

    pub(crate) fn answer(
        &mut self,
        resource_type: ResourceType,
        nonce: &str,
        error: Option<ErrorDetail>,
    ) -> Vec<String> {
        let request = match self.variant {
            Variant::Delta => {
                let Request::Delta(mut request) = delta(resource_type, &[], nonce) else { unreachable!() };
                request.error_detail = error;
                Request::Delta(request)
            }
            Variant::Sotw => {
                let Request::Sotw(mut request) = self.sotw_request(resource_type, nonce) else { unreachable!() };
                request.error_detail = error;
                Request::Sotw(request)
            }
        };
        self.send(request).expect("a good answer")
    }

    pub(crate) fn send(&mut self, mut request: Request) -> Result<Vec<String>, Status> {
        if !self.has_named_node {
            self.has_named_node = true;
            let node = Some(Node { id: "default.web-1".to_owned(), ..Node::default() });
            match &mut request {
                Request::Sotw(request) => request.node = node,
                Request::Delta(request) => request.node = node,
            }
        }
        self.session.on_request(request, &mut self.events)?;
        Ok(self.drain())
    }

    fn sotw_request(&self, resource_type: ResourceType, nonce: &str) -> Request {
        Request::Sotw(DiscoveryRequest {
            version_info: self.accepted.get(&resource_type).cloned().unwrap_or_default(),
            resource_names: self.names.get(&resource_type).cloned().unwrap_or_default(),
            type_url: resource_type.type_url().to_owned(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        })
    }

    /// Takes the events since the last time, but for `Settled` and `Sent`, as lines.
    pub(crate) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events).iter().filter_map(show_event).collect()
    }
}

fn words(text: &str) -> (ResourceType, Vec<&str>) {
    let mut words = text.split_whitespace();
    (of_letter(words.next().expect("a type")), words.collect())
}

fn delta(resource_type: ResourceType, words: &[&str], nonce: &str) -> Request {
    let names = |sign| {
        let stripped = words.iter().filter_map(move |word| word.strip_prefix(sign));
        stripped.map(str::to_owned).collect()
    };
    Request::Delta(DeltaDiscoveryRequest {
        type_url: resource_type.type_url().to_owned(),
        resource_names_subscribe: names('+'),
        resource_names_unsubscribe: names('-'),
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    })
}

fn show_event(event: &Event) -> Option<String> {
    let list = |names: &[Arc<str>]| names.join(" ");
    Some(match event {
        Event::Reported { resource_type, versions } => {
            let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name}:{version}")).collect();
            format!("{} reported {}", letter(*resource_type), versions.join(" "))
        }
        Event::Subscribed { resource_type, subscriptions } => {
            let shown = subscriptions.iter().map(|subscription| match &subscription.reported {
                Some(version) => format!("{}:{version}", subscription.name),
                None => subscription.name.to_string(),
            });
            format!("{} subscribed {}", letter(*resource_type), shown.collect::<Vec<_>>().join(" "))
        }
        Event::Unsubscribed { resource_type, names } => {
            format!("{} unsubscribed {}", letter(*resource_type), list(names))
        }
        Event::Unknown { resource_type, names } => format!("{} unknown {}", letter(*resource_type), list(names)),
        Event::Acked { resource_type } => format!("{} acked", letter(*resource_type)),
        Event::Nacked { resource_type, message, .. } => format!("{} nacked {message}", letter(*resource_type)),
        Event::Sent { .. } | Event::Settled { .. } => return None,
    })
}
