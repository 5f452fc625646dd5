//! Lists in pieces: `?size=` and `?offset=`. A list that is asked for without them is whole, as documented.

use kuma_model::Violation;
use serde_json::{Value, json};

use crate::http::ApiError;
use crate::http::error::cause;

/// Most items of one piece.
pub(super) const MAX_SIZE: usize = 1000;

/// Largest offset: that of a list longer than any.
pub(super) const MAX_OFFSET: usize = u32::MAX as usize;

/// The piece that a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Page {
    size: Option<usize>,
    offset: Option<usize>,
}

impl Page {
    /// Reads it out of a query.
    pub(super) fn of(query: &str, title: &str) -> Result<Page, ApiError> {
        let mut page = Page::default();
        let mut causes: Vec<Violation> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let digits = (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())).then(|| value.parse());
            match (&*name, digits) {
                ("size", Some(Ok(size @ 1..=MAX_SIZE))) => page.size = Some(size),
                ("size", _) => causes.push(cause("size", format!("must be a number in the range [1, {MAX_SIZE}]"))),
                ("offset", Some(Ok(offset @ 0..=MAX_OFFSET))) => page.offset = Some(offset),
                ("offset", _) => {
                    causes.push(cause("offset", format!("must be a number in the range [0, {MAX_OFFSET}]")))
                }
                _ => {}
            }
        }
        if causes.is_empty() { Ok(page) } else { Err(ApiError::invalid(title, causes)) }
    }

    /// The body: that piece of `all`, where it goes on, and how many there are.
    pub(super) fn body(self, all: Vec<Value>, path: &str, query: &str) -> Value {
        if self == Page::default() {
            return json!({ "items": all });
        }
        let (total, offset, size) = (all.len(), self.offset.unwrap_or(0), self.size.unwrap_or(MAX_SIZE));
        let end = offset.saturating_add(size);
        let next = (end < total).then(|| {
            let others =
                url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "offset" && name != "size");
            let mut next = url::form_urlencoded::Serializer::new(String::new());
            next.extend_pairs(others).append_pair("size", &size.to_string()).append_pair("offset", &end.to_string());
            format!("{path}?{}", next.finish())
        });
        let items: Vec<Value> = all.into_iter().skip(offset).take(size).collect();
        json!({ "items": items, "next": next, "total": total })
    }
}
