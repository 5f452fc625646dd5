//! A header block as a request, and what makes one malformed (RFC 9113, sections 8.1 to 8.3).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// What a field counts for beside its name and value (section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Takes the fields of a header block, one after the other.
pub(crate) struct Fields {
    limit: usize,
    size: usize,
    is_malformed: bool,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
}

/// What a header block is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// Larger than what we have said that we take.
    TooLarge,
    Malformed,
}

impl Fields {
    /// For a block of at most `limit` bytes, counted as section 6.5.2 does.
    pub(crate) fn new(limit: usize) -> Fields {
        Fields {
            limit,
            size: 0,
            is_malformed: false,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            headers: HeaderMap::new(),
        }
    }

    /// Takes a field. One that is too much, or that is not as it should be, is noted and dropped.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size = self.size.saturating_add(name.len() + value.len() + FIELD_OVERHEAD);
        if self.size <= self.limit && !self.is_malformed {
            self.is_malformed = self.field(name, value).is_none();
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if let [b':', name @ ..] = name {
            return self.pseudo_header(name, value);
        }
        let padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if padded(value.first()) || padded(value.last()) {
            return None;
        }
        let name = HeaderName::from_lowercase(name).ok()?;
        let of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || name == TE && value != b"trailers";
        if of_connection {
            return None;
        }
        self.headers.append(name, HeaderValue::from_bytes(value).ok()?);
        Some(())
    }

    fn pseudo_header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if !self.headers.is_empty() {
            return None;
        }
        match name {
            b"method" => once(&mut self.method, Method::from_bytes(value).ok()?),
            b"scheme" => once(&mut self.scheme, Scheme::try_from(value).ok()?),
            b"authority" => {
                once(&mut self.authority, Authority::from_maybe_shared(Bytes::copy_from_slice(value)).ok()?)
            }
            b"path" => once(&mut self.path, path(value)?),
            _ => None,
        }
    }

    /// The request that these fields are.
    pub(crate) fn into_request(self) -> Result<Request<()>, Unfit> {
        self.check()?;
        let method = self.method.ok_or(Unfit::Malformed)?;
        let mut uri = http::uri::Parts::default();
        let is_complete = if method == Method::CONNECT {
            self.scheme.is_none() && self.path.is_none() && self.authority.is_some()
        } else {
            // Without an authority a Uri has no scheme either.
            uri.scheme = self.authority.as_ref().and(self.scheme.clone());
            self.scheme.is_some() && self.path.is_some()
        };
        if !is_complete {
            return Err(Unfit::Malformed);
        }
        uri.authority = self.authority;
        uri.path_and_query = self.path;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unfit::Malformed)?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }

    /// Whether these fields may come after a body.
    pub(crate) fn check_trailers(self) -> Result<(), Unfit> {
        self.check()?;
        match (self.method, self.scheme, self.authority, self.path) {
            (None, None, None, None) => Ok(()),
            _ => Err(Unfit::Malformed),
        }
    }

    fn check(&self) -> Result<(), Unfit> {
        if self.is_malformed {
            return Err(Unfit::Malformed);
        }
        if self.size > self.limit {
            return Err(Unfit::TooLarge);
        }
        Ok(())
    }
}

/// The length of the body that a request announces: none, or one.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Unfit> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let digits = length.as_bytes();
    if lengths.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Unfit::Malformed);
    }
    length.to_str().ok().and_then(|digits| digits.parse().ok()).map(Some).ok_or(Unfit::Malformed)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    match slot.replace(value) {
        None => Some(()),
        Some(_) => None,
    }
}

fn path(value: &[u8]) -> Option<PathAndQuery> {
    match value {
        [b'/', ..] | b"*" => PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(value)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "https"), (":authority", "cp"), (":path", "/a")];

    fn read(fields: &[(&str, &str)]) -> Result<Request<()>, Unfit> {
        let mut taken = Fields::new(1000);
        for (name, value) in fields {
            taken.push(name.as_bytes(), value.as_bytes());
        }
        taken.into_request()
    }

    #[test]
    fn a_request() {
        let request = read(&[&GOOD[..], &[("te", "trailers"), ("x", "1"), ("x", "2")]].concat()).expect("fit");
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "https://cp/a"));
        assert_eq!(request.headers().get_all("x").iter().count(), 2);
        let without_authority = [GOOD[0], GOOD[1], GOOD[3]];
        assert_eq!(read(&without_authority).expect("fit").uri(), "/a");
        assert!(read(&[(":method", "CONNECT"), (":authority", "cp:80")]).is_ok());
    }

    #[test]
    fn what_is_malformed() {
        let cases: [(&str, &[(&str, &str)]); 21] = [
            ("8.3.1 no method", &GOOD[1..]),
            ("8.3.1 no scheme", &[GOOD[0], GOOD[2], GOOD[3]]),
            ("8.3.1 no path", &GOOD[..3]),
            ("8.3.1 an empty path", &[GOOD[0], GOOD[1], (":path", "")]),
            ("8.3.1 a path that is none", &[GOOD[0], GOOD[1], (":path", "a")]),
            ("8.3.1 two methods", &[GOOD[0], GOOD[0], GOOD[1], GOOD[3]]),
            ("8.3.1 two schemes", &[GOOD[0], GOOD[1], GOOD[1], GOOD[3]]),
            ("8.3.1 two paths", &[GOOD[0], GOOD[1], GOOD[3], GOOD[3]]),
            ("8.3 a pseudo-header of responses", &[GOOD[0], GOOD[1], GOOD[3], (":status", "200")]),
            ("8.3 a pseudo-header that there is not", &[GOOD[0], GOOD[1], GOOD[3], (":protocol", "x")]),
            ("8.3 a pseudo-header behind others", &[GOOD[0], GOOD[1], ("x", "1"), GOOD[3]]),
            ("8.2.1 an uppercase name", &[GOOD[0], GOOD[1], GOOD[3], ("X", "1")]),
            ("8.2.1 an empty name", &[GOOD[0], GOOD[1], GOOD[3], ("", "1")]),
            ("8.2.1 a NUL", &[GOOD[0], GOOD[1], GOOD[3], ("x", "1\0")]),
            ("8.2.1 a line feed", &[GOOD[0], GOOD[1], GOOD[3], ("x", "1\n2")]),
            ("8.2.1 a blank before", &[GOOD[0], GOOD[1], GOOD[3], ("x", " 1")]),
            ("8.2.1 a blank behind", &[GOOD[0], GOOD[1], GOOD[3], ("x", "1\t")]),
            ("8.2.2 of the connection", &[GOOD[0], GOOD[1], GOOD[3], ("connection", "close")]),
            ("8.2.2 transfer-encoding", &[GOOD[0], GOOD[1], GOOD[3], ("transfer-encoding", "chunked")]),
            ("8.2.2 te", &[GOOD[0], GOOD[1], GOOD[3], ("te", "gzip")]),
            ("8.5 CONNECT with a path", &[(":method", "CONNECT"), GOOD[2], GOOD[3]]),
        ];
        for (name, fields) in cases {
            assert_eq!(read(fields).expect_err(name), Unfit::Malformed, "{name}");
        }
    }

    #[test]
    fn what_is_too_large() {
        let read = |length| {
            let mut fields = Fields::new(1000);
            for (name, value) in GOOD {
                fields.push(name.as_bytes(), value.as_bytes());
            }
            fields.push(b"x", &vec![b'v'; length]);
            fields.into_request()
        };
        let others: usize = GOOD.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum();
        let room = 1000 - others - "x".len() - FIELD_OVERHEAD;
        assert!(read(room).is_ok());
        assert_eq!(read(room + 1).expect_err("one too many"), Unfit::TooLarge);
    }

    #[test]
    fn lengths_of_bodies() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            content_length(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["17"]), Ok(Some(17)));
        for bad in [&["1", "1"][..], &["-1"], &["+1"], &[""], &["99999999999999999999999"], &["1 "]] {
            assert_eq!(of(bad), Err(Unfit::Malformed), "{bad:?}");
        }
    }
}
