//! Detects whether a connection begins with an HTTP/1.x request, and where that request ends (RFC 9112).
//!
//! It parses only what an echo needs: the request line, and the fields with the length of the body. All functions work
//! on the bytes received so far, and can be called again when there are more.

/// Largest size of a request, head and body together.
pub(crate) const MAX_REQUEST: usize = 1 << 20;

/// Largest size of request line and fields together.
const MAX_HEAD: usize = 64 << 10;

/// Longest request line. More bytes without a line end are not HTTP.
const MAX_LINE: usize = 8 << 10;

/// Common methods. If the first bytes are the beginning of one of them, it waits for the rest of the line.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What the first bytes of a connection look like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First<'a> {
    /// Certainly no HTTP request.
    Raw,
    /// Maybe the beginning of a request line: more bytes are needed.
    Undecided,
    /// A request begins here.
    Request(RequestLine<'a>),
}

/// `GET /path HTTP/1.1`, taken apart. All three are printable ASCII.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct RequestLine<'a> {
    /// Such as `GET`.
    pub(crate) method: &'a str,
    /// Path, or whole URL, as sent.
    pub(crate) target: &'a str,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) version: &'a str,
}

/// Classifies the bytes received since the connection was opened.
pub(crate) fn first(received: &[u8]) -> First<'_> {
    let Some(end) = received.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if may_begin_request(received) { First::Undecided } else { First::Raw };
    };
    let line = received[..end].strip_suffix(b"\r").unwrap_or(&received[..end]);
    request_line(line).map_or(First::Raw, First::Request)
}

fn may_begin_request(received: &[u8]) -> bool {
    received.len() < MAX_LINE
        && METHODS.iter().any(|method| {
            let method = method.as_bytes();
            let common = method.len().min(received.len());
            received[..common] == method[..common]
                && received.get(method.len()).is_none_or(|byte| *byte == b' ')
                && received.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r'))
        })
}

fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let whole = words.next().is_none();
    let printable = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    let token = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    (whole && token && printable(method) && printable(target) && matches!(version, "HTTP/1.1" | "HTTP/1.0"))
        .then_some(RequestLine { method, target, version })
}

/// How much of a request has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is not complete. `expects_continue`: the client waits for `100 Continue` before it sends the body.
    Partial {
        /// The head is complete and asks for an interim answer.
        expects_continue: bool,
    },
    /// The request is complete, and has this many bytes.
    Complete(usize),
    /// It is longer than [`MAX_REQUEST`], or will be by its own length field.
    TooLarge,
}

/// Returns how much of the request has arrived. To be called only after [`first`] has found a request.
pub(crate) fn progress(received: &[u8]) -> Progress {
    let more = |expects_continue, limit| match received.len() {
        length if length >= limit => Progress::TooLarge,
        _ => Progress::Partial { expects_continue },
    };
    let Some(head) = head_length(received) else {
        return more(false, MAX_HEAD);
    };
    let fields = String::from_utf8_lossy(&received[..head]);
    let field = |name: &str| {
        fields
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let body = &received[head..];
    let length = match field("transfer-encoding") {
        Some(coding) if coding.to_ascii_lowercase().ends_with("chunked") => chunked_length(body),
        // An invalid length counts as none: the text is only echoed.
        _ => Some(
            field("content-length")
                .and_then(|value| value.parse::<u64>().ok())
                .map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        ),
    };
    match length.map(|length| head.saturating_add(length)) {
        Some(whole) if whole > MAX_REQUEST => Progress::TooLarge,
        Some(whole) if whole <= received.len() => Progress::Complete(whole),
        _ => {
            let expects_continue = field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
            more(expects_continue, MAX_REQUEST)
        }
    }
}

/// Length of the request line and fields with the empty line at their end. Bare line feeds are accepted.
fn head_length(received: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(end) = received[start..].iter().position(|byte| *byte == b'\n').map(|end| start + end) {
        if start > 0 && matches!(&received[start..end], b"" | b"\r") {
            return Some(end + 1);
        }
        start = end + 1;
    }
    None
}

/// Length of a chunked body with its last chunk and trailers, if it is complete (RFC 9112, 7.1). Malformed chunks count
/// as the end of the body.
fn chunked_length(body: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    loop {
        let line_end = at + body.get(at..)?.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&body[at..line_end]);
        let digits = line.trim().split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            return Some(at);
        };
        at = line_end + 1;
        if size == 0 {
            // Trailers end with an empty line, which is there even without trailers.
            loop {
                let end = at + body.get(at..)?.iter().position(|byte| *byte == b'\n')?;
                let empty = matches!(&body[at..end], b"" | b"\r");
                at = end + 1;
                if empty {
                    return Some(at);
                }
            }
        }
        // The chunk's bytes are followed by a line end.
        at = at.saturating_add(size);
        at = match body.get(at..) {
            Some([b'\r', b'\n', ..]) => at + 2,
            Some([b'\n', ..]) => at + 1,
            Some([] | [b'\r']) | None => return (at > MAX_REQUEST).then_some(at),
            Some(_) => return Some(at),
        };
    }
}

/// The response: status line, fields, and, unless the method is HEAD, the text as body. The connection is closed after
/// it.
pub(crate) fn response(status: &str, text: &[u8], method: &str) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    )
    .into_bytes();
    if method != "HEAD" {
        response.extend_from_slice(text);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let get = RequestLine { method: "GET", target: "/a?b=c", version: "HTTP/1.1" };
        for (received, expected) in [
            ("GET /a?b=c HTTP/1.1\r\n", First::Request(get)),
            ("GET /a?b=c HTTP/1.1\nHost: x\n", First::Request(get)),
            ("FIND * HTTP/1.0\r\n", First::Request(RequestLine { method: "FIND", target: "*", version: "HTTP/1.0" })),
            ("G", First::Undecided),
            ("POST", First::Undecided),
            ("GET /a HT", First::Undecided),
            ("hello", First::Raw),
            ("GETS", First::Raw),
            ("GET \u{1}", First::Raw),
            ("PING\r\n", First::Raw),
            ("GET /\r\n", First::Raw),
            ("GET / HTTP/2.0\r\n", First::Raw),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", First::Raw),
            ("one two three\n", First::Raw),
            ("\n", First::Raw),
        ] {
            assert_eq!(first(received.as_bytes()), expected, "{received:?}");
        }
        assert_eq!(first(format!("GET /{}", "a".repeat(MAX_LINE)).as_bytes()), First::Raw);
        assert_eq!(first(b"GET \xff HTTP/1.1\r\n"), First::Raw);
    }

    #[test]
    fn where_a_request_ends() {
        for (received, expected) in [
            ("GET / HTTP/1.1\r\n", Progress::Partial { expects_continue: false }),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\nleft over", Progress::Complete(27)),
            ("GET / HTTP/1.1\n\n", Progress::Complete(16)),
            ("PUT / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nab", Progress::Partial { expects_continue: false }),
            ("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", Progress::Complete(40)),
            ("PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\nabcd", Progress::Complete(37)),
            ("PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", Progress::TooLarge),
            (
                "PUT / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
                Progress::Partial { expects_continue: true },
            ),
        ] {
            assert_eq!(progress(received.as_bytes()), expected, "{received:?}");
        }
        let long = |length| format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(length));
        assert_eq!(progress(long(1000).as_bytes()), Progress::Partial { expects_continue: false });
        assert_eq!(progress(long(MAX_HEAD).as_bytes()), Progress::TooLarge);
    }

    #[test]
    fn a_chunked_body_ends_with_its_last_chunk() {
        let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "3\r\nabc\r\nA;x=y\r\n0\r\n\r\n67890\r\n0\r\nT: 1\r\n\r\n";
        for end in 0..body.len() {
            let received = format!("{head}{}", &body[..end]);
            assert_eq!(progress(received.as_bytes()), Progress::Partial { expects_continue: false }, "{received:?}");
        }
        let whole = Progress::Complete(head.len() + body.len());
        assert_eq!(progress(format!("{head}{body}left over").as_bytes()), whole);
        assert_eq!(progress(format!("{head}no chunks\r\n").as_bytes()), Progress::Complete(head.len()));
        assert_eq!(progress(format!("{head}ffffffffffffffff\r\n").as_bytes()), Progress::TooLarge);
    }
}
