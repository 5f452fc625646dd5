//! Which web pages of other origins may use the HTTP API (cross-origin resource sharing, Fetch standard).
//!
//! The documented default is `.*`: pages of anybody. Such a page may read, as the documents promise; it may not write,
//! since nobody who wrote `.*` had a particular page in mind. No answer ever allows credentials.

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use regex::Regex;

/// Longest entry of `apiServer.corsAllowedDomains`, in bytes.
const MAX_ENTRY: usize = 1024;

/// What a page sees of the headers of an answer, beside those that the standard lets it see.
const EXPOSED: &str = "kuma-revision, kuma-epoch";

/// Origins that nobody can own (RFC 2606, section 2). A pattern that matches one matches everybody.
const NOBODY: &[&str] = &["http://nobody.invalid", "https://nobody.invalid", "null"];

/// What pages of an origin may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Grant {
    /// Nothing: the browser keeps our answers from them.
    Nothing,
    /// Read.
    Read,
    /// Read and write: the operator named this origin.
    Full,
}

/// The compiled list of allowed origins.
#[derive(Debug, Default)]
pub struct Origins(Vec<Entry>);

#[derive(Debug)]
enum Entry {
    /// `https://gui.example.com:8443`.
    Origin(String),
    /// `gui.example.com`: any scheme and port.
    Host(String),
    Pattern(Regex, Grant),
}

impl Origins {
    /// Compiles the entries: each is an origin, a host name, or a regular expression for a whole origin. The error
    /// names the entry.
    pub fn new(entries: &[String]) -> Result<Self, String> {
        entries.iter().map(|entry| Entry::new(entry)).collect::<Result<_, _>>().map(Self)
    }

    /// What pages of `origin` may do.
    pub fn grant(&self, origin: &str) -> Grant {
        self.0.iter().map(|entry| entry.grant(origin)).max().unwrap_or(Grant::Nothing)
    }

    /// What the page that sent these headers may do; `Nothing` if no page did.
    pub fn grant_of(&self, headers: &HeaderMap) -> Grant {
        let mut values = headers.get_all(ORIGIN).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(origin), None) => self.grant(origin),
            _ => Grant::Nothing,
        }
    }
}

impl Entry {
    fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_ENTRY {
            return Err(format!("an entry is longer than {MAX_ENTRY} bytes"));
        }
        // A dot in a plain name means a dot: as a pattern, `gui.example.com` would let `guiXexample.com` in.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        if text.chars().all(plain) {
            let entry = if text.contains("://") { Self::Origin } else { Self::Host };
            return Ok(entry(text.to_ascii_lowercase()));
        }
        let pattern = Regex::new(&format!("^(?:{text})$"))
            .map_err(|_| format!("{text:?} is neither an origin nor a regular expression"))?;
        let wide = NOBODY.iter().any(|origin| pattern.is_match(origin));
        Ok(Self::Pattern(pattern, if wide { Grant::Read } else { Grant::Full }))
    }

    fn grant(&self, origin: &str) -> Grant {
        let (matches, grant) = match self {
            Self::Origin(own) => (own == origin, Grant::Full),
            Self::Host(own) => {
                let authority = origin.split_once("://").map(|(_, rest)| rest.parse::<Authority>());
                (matches!(authority, Some(Ok(authority)) if authority.host() == own), Grant::Full)
            }
            Self::Pattern(pattern, grant) => (pattern.is_match(origin), *grant),
        };
        if matches { grant } else { Grant::Nothing }
    }
}

/// The answer to a browser that asks whether its page may send a request.
pub fn preflight(grant: Grant, origin: Option<&HeaderValue>, methods: &'static str) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    let allowed = match grant {
        Grant::Nothing => None,
        Grant::Read => Some("GET, HEAD"),
        Grant::Full => Some(methods),
    };
    if let (Some(allowed), Some(origin)) = (allowed, origin) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allowed));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type"));
    }
    headers.insert(VARY, HeaderValue::from_static("origin"));
    response
}

/// Lets the page see `response`, if it may.
pub fn expose(response: &mut Response, grant: Grant, method: &Method, origin: Option<&HeaderValue>) {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    if let Some(origin) = origin
        && (grant == Grant::Full || grant == Grant::Read && reading)
    {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
}
