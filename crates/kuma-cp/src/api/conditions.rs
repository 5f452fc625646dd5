//! Conditional requests (RFC 9110, section 13): read, change, and write only if nobody else has written meanwhile.
//!
//! The tag of a document is a hash of what a reader gets, so it is the same in every process and after a restart.

use std::hash::Hasher as _;

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};
use kuma_store::Stored;
use rustc_hash::FxHasher;

use crate::documents::Change;
use crate::http::json;

/// The conditions of a request.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Debug)]
enum Tags {
    /// `*`: any document at all.
    Any,
    /// These.
    These(Vec<String>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: HeaderName) -> Option<Tags> {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek()?;
        let text: Vec<&str> =
            values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
        match text.iter().any(|tag| tag.trim() == "*") {
            true => Some(Tags::Any),
            // A weak tag names the same document: ours are equal only if all bytes are.
            false => Some(Tags::These(text.iter().map(|tag| tag.trim().trim_start_matches("W/").to_owned()).collect())),
        }
    }

    fn names(&self, tag: Option<&HeaderValue>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(tag)) => tags.iter().any(|one| one.as_bytes() == tag.as_bytes()),
        }
    }
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Conditions {
        Conditions { if_match: Tags::read(headers, IF_MATCH), if_none_match: Tags::read(headers, IF_NONE_MATCH) }
    }

    /// Whether a reader who asks only for news has this already.
    pub(super) fn has_already(&self, tag: &HeaderValue) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.names(Some(tag)))
    }

    /// Makes them the condition of a change.
    pub(super) fn apply_to(self, change: Change) -> Change {
        if self.if_match.is_none() && self.if_none_match.is_none() {
            return change;
        }
        change.only_if(move |stored| self.are_met(stored))
    }

    /// Whether a document is as the writer of a request thinks.
    fn are_met(&self, stored: Option<&Stored>) -> bool {
        let tag = stored.map(|stored| tag(&json::pretty(&stored.document().to_json())));
        self.if_match.as_ref().is_none_or(|tags| tags.names(tag.as_ref()))
            && !self.if_none_match.as_ref().is_some_and(|tags| tags.names(tag.as_ref()))
    }
}

/// The tag of a body.
pub(super) fn tag(body: &[u8]) -> HeaderValue {
    let mut hasher = FxHasher::default();
    hasher.write(body);
    hasher.write_usize(body.len());
    let text = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
}
