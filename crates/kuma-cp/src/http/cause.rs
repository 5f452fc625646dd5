//! Who asks for a change, with which program, and what they say about it: for people who read the history.

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderName, StatusCode};
use kuma_store::Cause;

use super::error::cause;
use super::locality::is_same_machine;
use super::{ApiError, ClientCertificate, Connection};

/// What is said about a change.
pub const NOTE: HeaderName = HeaderName::from_static("kuma-note");

/// Longest note, in bytes.
pub const MAX_NOTE: usize = 1024;

/// Longest name of a program that is kept, in characters.
const MAX_VIA: usize = 200;

/// The author is the subject of the client certificate; without one it is this machine (`local`), or the address of
/// another.
///
/// # Errors
/// The note is too long, or not UTF-8.
pub fn of(parts: &Parts, title: &str) -> Result<Cause, ApiError> {
    let author = match (parts.extensions.get::<ClientCertificate>(), parts.extensions.get::<Connection>()) {
        (Some(client), _) => client.subject(),
        (None, Some(connection)) if !is_same_machine(connection) => connection.peer.ip().to_canonical().to_string(),
        _ => "local".to_owned(),
    };
    let via = parts.headers.get(USER_AGENT).map(|name| String::from_utf8_lossy(name.as_bytes()));
    let via: String = via.unwrap_or_default().chars().take(MAX_VIA).collect();
    let invalid = |message: String| {
        let error = ApiError::new(StatusCode::BAD_REQUEST, title, "A header of the request cannot be used");
        ApiError { causes: vec![cause(NOTE.as_str(), message)], ..error }
    };
    let note = match parts.headers.get(NOTE).map(|note| std::str::from_utf8(note.as_bytes())) {
        None => "",
        Some(Ok(note)) if note.len() <= MAX_NOTE => note,
        Some(Ok(note)) => {
            return Err(invalid(format!("must not be longer than {MAX_NOTE} bytes, and has {}", note.len())));
        }
        Some(Err(_)) => return Err(invalid("must be UTF-8".to_owned())),
    };
    Ok(Cause { author: author.into(), via: via.into(), note: note.into() })
}
