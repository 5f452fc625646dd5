//! Warnings in answers to writes.

use axum::response::Response;
use http::HeaderValue;
use http::header::WARNING;

use crate::documents::Warning;

/// Adds each in a header of its own (RFC 7234, 5.5: code 299, who warns, the text in quotes).
pub(super) fn add(response: &mut Response, warnings: &[Warning]) {
    for Warning { text, .. } in warnings {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        // Names are quoted as in Rust, without control characters, so this does not fail.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 kuma-cp \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_a_header() {
        let mut response = Response::default();
        let warnings = [r#"of "a\nb""#, "of é"].map(|text| Warning { mesh: "default".into(), text: text.into() });
        add(&mut response, &warnings);
        let headers: Vec<&[u8]> = response.headers().get_all(WARNING).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(headers, [br#"299 kuma-cp "of \"a\\nb\"""#.as_slice(), "299 kuma-cp \"of é\"".as_bytes()]);
    }
}
