//! What a session tells the application.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::limits::MAX_NACK_MESSAGE;

/// A name that a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The name, or `*` for all.
    pub name: Arc<str>,
    /// The version that the client reports to hold from an earlier stream. Never in the SotW variant.
    pub reported: Option<Box<str>>,
}

/// A resource whose latest version the client has refused. It goes on with what it had, if it had any. Ends when the
/// client accepts a later version, or when the resource is taken away.
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
    /// Whether the client goes on with an older version of it. Otherwise it has nothing by that name: a listener is not
    /// open.
    pub has_older: bool,
}

/// A name that the client has asked for and got no answer to, since there is no such secret or extension config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unanswered {
    /// The type.
    pub resource_type: ResourceType,
    /// The name.
    pub name: Arc<str>,
    /// The revision of the latest snapshot for which the client was sent something that may refer to it.
    pub revision: u64,
}

/// Something the application may want to act on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The client says that it holds configuration from an earlier stream. Comes before the `Subscribed` of the type,
    /// and only with its first request.
    Reported {
        /// Of this type.
        resource_type: ResourceType,
        /// Name and version of each resource. Empty in the SotW variant, where a client reports only that it has some.
        versions: Vec<(Arc<str>, Box<str>)>,
    },
    /// The client asks for these: for the first time, or once more.
    Subscribed {
        /// Of this type.
        resource_type: ResourceType,
        /// Without those that it already was subscribed to and did not name again.
        subscriptions: Vec<Subscription>,
    },
    /// The client does not want these any more.
    Unsubscribed {
        /// Of this type.
        resource_type: ResourceType,
        /// May hold `*`.
        names: Vec<Arc<str>>,
    },
    /// The client asks for these secrets or extension configs, and the snapshot has none of them. They stay unanswered
    /// until it has. Said once for each time they are asked for.
    Unknown {
        /// Of this type.
        resource_type: ResourceType,
        /// The names.
        names: Vec<Arc<str>>,
    },
    /// A response was handed out by [`Session::poll`](super::Session::poll).
    Sent {
        /// Of this type.
        resource_type: ResourceType,
    },
    /// The client accepted a response.
    Acked {
        /// Of this type.
        resource_type: ResourceType,
    },
    /// The client refused a response. The good resources in it may be live nevertheless.
    Nacked {
        /// Of this type.
        resource_type: ResourceType,
        /// The resources that the client's reason names, or all of the response if it names none.
        names: Vec<Arc<str>>,
        /// The client's reason: one line of at most [`MAX_NACK_MESSAGE`] bytes.
        message: Arc<str>,
    },
    /// The client was sent all that it subscribed to of this revision, and has answered all of it.
    Settled {
        /// See [`Snapshot::revision`](crate::Snapshot::revision).
        revision: u64,
        /// See [`Snapshot::generation`](crate::Snapshot::generation).
        generation: u64,
        /// The resources whose latest version the client has refused; empty: it has accepted everything.
        refused: Vec<Refusal>,
        /// The secrets and extension configs that the client asks for and that the snapshot does not have. What refers
        /// to them waits for them.
        unanswered: Vec<Unanswered>,
    },
}

/// Those of `names` that a client's reason names: as words of their own, so that `inbound:10.0.0.1:80` is not found in
/// `inbound:10.0.0.1:8080`.
pub(super) fn named<'a>(message: &str, names: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let is_part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '{' | '}' | '=');
    let is_named = |name: &str| {
        !name.is_empty()
            && message.match_indices(name).any(|(at, _)| {
                let before = message[..at].chars().next_back();
                let mut behind = message[at + name.len()..].chars();
                let (next, after_next) = (behind.next(), behind.next());
                // Envoy ends a name with a colon and a space, and has colons and full stops inside of names.
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

/// Makes one readable line of Envoy's message, which comes in several, with control characters and repeated spaces.
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
