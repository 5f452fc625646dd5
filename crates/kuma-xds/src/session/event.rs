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

/// Something the application may want to act on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The client says that it holds configuration from an earlier stream. Comes before the `Subscribed` of the type, and
    /// only with its first request.
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
        /// The client's reason: one line of at most [`MAX_NACK_MESSAGE`] bytes.
        message: String,
    },
    /// The client was sent all that it subscribed to of this revision, and has answered all of it.
    Settled {
        /// See [`Snapshot::revision`](crate::Snapshot::revision).
        revision: u64,
        /// See [`Snapshot::mark`](crate::Snapshot::mark).
        mark: u64,
        /// Whether the last answer of every type was an ACK.
        accepted: bool,
    },
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
