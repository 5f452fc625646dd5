//! The filter of overviews: `?tag=KEY:VALUE`, repeated.

use kuma_model::{Selector, Tags};

use crate::http::ApiError;
use crate::http::error::cause;

/// Reads the filter. A value may contain colons; `*` stands for any value. The same key with two values selects
/// nothing, since one inbound has one value: it is refused, so that nobody waits for an answer.
pub(super) fn tags(query: &str, title: &str) -> Result<Selector, ApiError> {
    let mut tags = Tags::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "tag" {
            continue;
        }
        let Some((key, wanted)) = value.split_once(':').filter(|(key, wanted)| !key.is_empty() && !wanted.is_empty())
        else {
            return Err(ApiError::invalid(
                title,
                vec![cause("tag", format!("{value:?} is not in the form KEY:VALUE"))],
            ));
        };
        match tags.0.insert(key.to_string(), wanted.to_string()) {
            Some(before) if before != wanted => {
                let message = format!("tag {key:?} is asked for with two values");
                return Err(ApiError::invalid(title, vec![cause("tag", message)]));
            }
            _ => {}
        }
    }
    Ok(Selector { tags })
}
