//! The events of a session.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::limits::MAX_NACK_MESSAGE;

/// A name to which a client subscribes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The name, or `*` for all.
    pub name: Arc<str>,
    /// The version that the client reports to hold from an earlier stream. Never in the SotW variant.
    pub reported: Option<Box<str>>,
}

/// A resource whose latest version the client has refused. The client keeps the previous version, if it has one. The
/// refusal ends when the client accepts a later version, or when the resource is removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// The revision of the snapshot that the refused version was sent for.
    pub revision: u64,
    /// The client's reason.
    pub message: Arc<str>,
    /// Whether the client keeps an older version of it. Otherwise it has no such resource: a listener is not open.
    pub has_older: bool,
}

/// A name that the client has requested and got no answer to, since there is no such secret or extension config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unanswered {
    /// The type.
    pub resource_type: ResourceType,
    /// The name.
    pub name: Arc<str>,
    /// The revision of the latest snapshot from which the client was sent a resource that may refer to it.
    pub revision: u64,
}

/// An event for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The client reports that it has configuration from an earlier stream. This event comes before the `Subscribed` of
    /// the type, and only with its first request.
    Reported {
        /// Of this type.
        resource_type: ResourceType,
        /// Name and version of each resource. Empty in the SotW variant, in which a client reports only that it has
        /// some.
        versions: Vec<(Arc<str>, Box<str>)>,
    },
    /// The client subscribes to these names, or requests them again.
    Subscribed {
        /// Of this type.
        resource_type: ResourceType,
        /// Without names to which it was already subscribed and which it has not named again.
        subscriptions: Vec<Subscription>,
    },
    /// The client unsubscribes from these names.
    Unsubscribed {
        /// Of this type.
        resource_type: ResourceType,
        /// May contain `*`.
        names: Vec<Arc<str>>,
    },
    /// The client requests these secrets or extension configs, and the snapshot does not have them. They stay
    /// unanswered until it does. There is one event for each request.
    Unknown {
        /// Of this type.
        resource_type: ResourceType,
        /// The names.
        names: Vec<Arc<str>>,
    },
    /// [`Session::poll`](super::Session::poll) has returned a response.
    Sent {
        /// Of this type.
        resource_type: ResourceType,
    },
    /// The client accepted a response.
    Acked {
        /// Of this type.
        resource_type: ResourceType,
    },
    /// The client refused a response. The valid resources in it may be live nevertheless.
    Nacked {
        /// Of this type.
        resource_type: ResourceType,
        /// The resources that the client's reason names, or all of the response if it names none.
        names: Vec<Arc<str>>,
        /// The client's reason: one line of at most [`MAX_NACK_MESSAGE`] bytes.
        message: Arc<str>,
    },
    /// The client was sent all resources of this revision to which it is subscribed, and has answered all of them.
    Settled {
        /// See [`Snapshot::revision`](crate::Snapshot::revision).
        revision: u64,
        /// See [`Snapshot::generation`](crate::Snapshot::generation).
        generation: u64,
        /// The resources whose latest version the client has refused; empty: it has accepted everything.
        refused: Vec<Refusal>,
        /// The secrets and extension configs that the client requests and that the snapshot does not have. Resources
        /// that refer to them wait for them.
        unanswered: Vec<Unanswered>,
    },
}

/// Those of `names` that occur in a client's reason, as whole words: `inbound:10.0.0.1:80` is not found in
/// `inbound:10.0.0.1:8080`.
pub(super) fn named<'a>(message: &str, names: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let is_part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '{' | '}' | '=');
    let is_named = |name: &str| {
        !name.is_empty()
            && message.match_indices(name).any(|(at, _)| {
                let before = message[..at].chars().next_back();
                let mut behind = message[at + name.len()..].chars();
                let (next, after_next) = (behind.next(), behind.next());
                // In Envoy's messages a colon and a space follow a name, and names may contain colons and full stops.
                let goes_on = match next {
                    Some(':' | '.') => after_next.is_some_and(is_part_of_name),
                    Some(next) => is_part_of_name(next),
                    None => false,
                };
                !before.is_some_and(|before| is_part_of_name(before) || before == ':') && !goes_on
            })
    };
    names.filter(|name| is_named(name)).cloned().collect()
}

/// Makes one readable line of Envoy's message, which may have several lines, control characters and repeated spaces.
pub(super) fn tidy(message: &str) -> String {
    let mut line = String::new();
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_NACK_MESSAGE {
            const ELLIPSIS: &str = "…";
            line.truncate(line.floor_char_boundary(MAX_NACK_MESSAGE - ELLIPSIS.len()));
            line.push_str(ELLIPSIS);
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_resources_as_whole_words() {
        let names: Vec<Arc<str>> = ["inbound:10.0.0.1:80", "inbound:10.0.0.1:8080", "web", "a"].map(Arc::from).into();
        let found = |message: &str| -> Vec<String> {
            named(message, names.iter()).iter().map(|name| name.to_string()).collect()
        };
        let bind =
            "Error adding/updating listener(s) inbound:10.0.0.1:8080: cannot bind '10.0.0.1:8080': Address in use";
        assert_eq!(found(bind), ["inbound:10.0.0.1:8080"]);
        assert_eq!(found("Error adding/updating cluster(s) web: bad, a: worse"), ["web", "a"]);
        assert_eq!(found("web-2: bad, my.web: bad, web.v2: bad, x:web: bad"), Vec::<String>::new());
        assert_eq!(found("cannot parse 'web'."), ["web"]);
        assert_eq!(found("web."), ["web"]);
        assert_eq!(found("something else"), Vec::<String>::new());
    }

    #[test]
    fn a_reason_becomes_one_line() {
        assert_eq!(
            tidy("Error adding 'bad': goo.gle/debugonly \n: Proto  constraint\tfailed\x1b[31m\0"),
            "Error adding 'bad': goo.gle/debugonly : Proto constraint failed [31m"
        );
        assert_eq!(tidy(" \n "), "");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        for text in ["é".repeat(2000), "word ".repeat(2000), "x".repeat(1024)] {
            let line = tidy(&text);
            assert!(line.len() <= MAX_NACK_MESSAGE && line.len() > MAX_NACK_MESSAGE - 8);
        }
        assert!(!tidy(&"x".repeat(1024)).ends_with('…'));
    }
}
