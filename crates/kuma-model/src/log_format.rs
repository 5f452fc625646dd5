//! The format of a line of an access log: text with command operators between `%` signs.
//!
//! Most operators are Envoy's own and left to it; a few are ours and are filled in before Envoy sees the format. Envoy
//! refuses a whole listener for one operator that it does not know, so a format is checked when it is written: what
//! [`parse`] accepts, Envoy 1.40 accepts.

use crate::decode::did_you_mean;

/// The format where a backend has none.
pub const DEFAULT: &str = "[%START_TIME%] \
    %KUMA_SOURCE_ADDRESS%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) took %DURATION%ms, sent \
    %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes";

/// The format for requests where a backend has none.
pub const DEFAULT_HTTP: &str = "[%START_TIME%] \
    %KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) \
    \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% took %DURATION%ms, sent %BYTES_SENT% \
    bytes, received: %BYTES_RECEIVED% bytes, host \"%REQ(:AUTHORITY)%\", id \"%REQ(X-REQUEST-ID)%\"";

/// A piece of a format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// Text, and operators of Envoy, as they are written.
    Envoys(&'a str),
    /// A placeholder of ours.
    Ours(Placeholder),
}

/// What the control plane fills in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placeholder {
    /// `<address>:0` of the proxy that logs. The port means nothing; older formats expect it.
    SourceAddress,
    /// The same without the port.
    SourceAddressWithoutPort,
    /// The service that connects.
    SourceService,
    /// The service that is connected to.
    DestinationService,
}

/// Why a text is no format. Positions count characters from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogFormatError {
    /// A `%` that begins no operator.
    #[error(
        "expected a command operator to start at position {position}, instead got: {found:?} (a percent sign is \
         written %%)"
    )]
    NoOperator {
        /// Of the `%`.
        position: usize,
        /// What begins there.
        found: String,
    },
    /// An operator that neither we nor Envoy know.
    #[error("{}", did_you_mean(&format!("unknown command operator {name:?} at position {position}"), name, names()))]
    Unknown {
        /// Of its `%`.
        position: usize,
        /// Its name.
        name: String,
    },
    /// An operator of Envoy whose arguments only a running Envoy can check.
    #[error("command operator {name:?} at position {position} is not supported")]
    Unsupported {
        /// Of its `%`.
        position: usize,
        /// Its name.
        name: String,
    },
    /// Arguments that the operator does not take, or lacks.
    #[error("command {command:?} at position {position} {problem}")]
    Arguments {
        /// Of its `%`.
        position: usize,
        /// As it is written.
        command: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Takes a format apart.
///
/// # Errors
/// The first mistake in it.
pub fn parse(format: &str) -> Result<Vec<Part<'_>>, LogFormatError> {
    let mut parts = Vec::new();
    // What was read and belongs to Envoy.
    let mut begin = 0;
    let mut at = 0;
    while let Some(found) = format[at..].find('%') {
        let start = at + found;
        if format[start + 1..].starts_with('%') {
            at = start + 2;
            continue;
        }
        let command = Command::read(&format[start..]).ok_or_else(|| LogFormatError::NoOperator {
            position: position(format, start),
            found: snippet(&format[start..]),
        })?;
        at = start + command.written.len();
        match PLACEHOLDERS.iter().find(|(name, _)| *name == command.name) {
            Some((_, placeholder)) => {
                command.check(Arguments::None).map_err(|problem| command.refused(format, start, problem))?;
                if begin < start {
                    parts.push(Part::Envoys(&format[begin..start]));
                }
                parts.push(Part::Ours(*placeholder));
                begin = at;
            }
            None => match arguments_of(command.name) {
                Some(arguments) => {
                    command.check(arguments).map_err(|problem| command.refused(format, start, problem))?;
                }
                None => {
                    let (position, name) = (position(format, start), command.name.to_owned());
                    return Err(match UNSUPPORTED.contains(&command.name) {
                        true => LogFormatError::Unsupported { position, name },
                        false => LogFormatError::Unknown { position, name },
                    });
                }
            },
        }
    }
    if begin < format.len() {
        parts.push(Part::Envoys(&format[begin..]));
    }
    Ok(parts)
}

/// What the value of a field is in a log of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKind {
    /// Text, with any number of operators in it.
    Text,
    /// What one operator gives; `null` where it knows nothing.
    Value,
    /// The same, and it is a number.
    Number,
}

impl FieldKind {
    /// The kind of a field of that format, once [`Part::Ours`] is filled in.
    pub fn of(format: &str) -> FieldKind {
        match Command::read(format).filter(|command| command.written == format) {
            Some(command) if NUMBERS.contains(&command.name) => FieldKind::Number,
            Some(_) => FieldKind::Value,
            None => FieldKind::Text,
        }
    }
}

/// Every operator of Envoy that [`parse`] accepts, each written in a way that it accepts.
pub fn examples() -> impl Iterator<Item = String> {
    OPERATORS.iter().flat_map(|(arguments, names)| {
        let example = match arguments {
            Arguments::None | Arguments::Time => "",
            Arguments::Header => "(x-one?x-two):10",
            Arguments::Text => "(a):10",
            Arguments::TextAlone => "(a)",
            Arguments::FilterState => "(a:PLAIN):10",
        };
        names.iter().map(move |name| format!("%{name}{example}%"))
    })
}

/// `%NAME(arguments):length%`.
struct Command<'a> {
    written: &'a str,
    name: &'a str,
    /// Envoy takes empty parentheses for none.
    arguments: Option<&'a str>,
    has_length: bool,
}

impl<'a> Command<'a> {
    /// Reads the one that a text begins with.
    fn read(text: &'a str) -> Option<Command<'a>> {
        let body = text.strip_prefix('%')?;
        let is_of_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let (name, rest) = body.split_at(body.bytes().take_while(is_of_name).count());
        if name.is_empty() {
            return None;
        }
        let (arguments, has_length, rest) = match rest.strip_prefix('(') {
            None => length(rest).map(|(has_length, rest)| (None, has_length, rest))?,
            // They end at the first `)` behind which the command ends too.
            Some(rest) => rest.match_indices(')').find_map(|(end, _)| {
                let (has_length, after) = length(&rest[end + 1..])?;
                Some((Some(&rest[..end]), has_length, after))
            })?,
        };
        if arguments.is_some_and(|arguments| arguments.contains(['\n', '\r'])) {
            return None;
        }
        let written = &text[..text.len() - rest.len()];
        Some(Command { written, name, arguments: arguments.filter(|arguments| !arguments.is_empty()), has_length })
    }

    fn check(&self, allowed: Arguments) -> Result<(), &'static str> {
        match (allowed, self.arguments) {
            (Arguments::None, Some(_)) => Err("does not support arguments or a max length"),
            (Arguments::None | Arguments::Time | Arguments::TextAlone, _) if self.has_length => {
                Err("does not support a max length")
            }
            (Arguments::None | Arguments::Time, _) => Ok(()),
            (Arguments::Header, None) => Err("requires a header and optionally an alternative header as its argument"),
            (Arguments::Header, Some(headers)) => {
                if headers.matches('?').count() > 1 {
                    return Err("has more than 1 alternative header");
                }
                let is_of_header = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
                match headers.split('?').all(|header| !header.is_empty() && header.chars().all(is_of_header)) {
                    true => Ok(()),
                    false => Err("requires names of headers"),
                }
            }
            (_, None) => Err("requires an argument in parentheses"),
            (Arguments::Text | Arguments::TextAlone, Some(_)) => Ok(()),
            (Arguments::FilterState, Some(arguments)) => match arguments.split_once(':') {
                Some(("", _)) => Err("requires a key as its argument"),
                None | Some((_, "PLAIN" | "TYPED")) => Ok(()),
                Some(_) => Err("requires a key, and PLAIN or TYPED behind a colon, as its argument"),
            },
        }
    }

    fn refused(&self, format: &str, start: usize, problem: &'static str) -> LogFormatError {
        LogFormatError::Arguments { position: position(format, start), command: snippet(self.written), problem }
    }
}

/// Reads `:<length>`, if it is there, and the `%` at the end.
fn length(text: &str) -> Option<(bool, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((false, rest));
    }
    let rest = text.strip_prefix(':')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // More would not fit into Envoy's number.
    (1..=9).contains(&digits).then(|| rest[digits..].strip_prefix('%')).flatten().map(|rest| (true, rest))
}

fn position(format: &str, byte: usize) -> usize {
    format[..byte].chars().count() + 1
}

fn snippet(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut snippet: String = text.chars().take(LONGEST).collect();
    if snippet.len() < text.len() {
        snippet.push('…');
    }
    snippet
}

fn names() -> impl Iterator<Item = &'static str> {
    let envoys = OPERATORS.iter().flat_map(|(_, names)| names.iter().copied());
    PLACEHOLDERS.iter().map(|(name, _)| *name).chain(envoys)
}

fn arguments_of(name: &str) -> Option<Arguments> {
    OPERATORS.iter().find(|(_, names)| names.contains(&name)).map(|(arguments, _)| *arguments)
}

/// `KUMA_DOWNSTREAM_CLUSTER` is the source by another name: documents use it.
const PLACEHOLDERS: &[(&str, Placeholder)] = &[
    ("KUMA_SOURCE_ADDRESS", Placeholder::SourceAddress),
    ("KUMA_SOURCE_ADDRESS_WITHOUT_PORT", Placeholder::SourceAddressWithoutPort),
    ("KUMA_SOURCE_SERVICE", Placeholder::SourceService),
    ("KUMA_DOWNSTREAM_CLUSTER", Placeholder::SourceService),
    ("KUMA_DESTINATION_SERVICE", Placeholder::DestinationService),
];

/// What an operator takes between its name and its end.
#[derive(Clone, Copy)]
enum Arguments {
    /// Nothing.
    None,
    /// A format of time, if it likes.
    Time,
    /// A header and, behind a `?`, another one; then a length, if it likes.
    Header,
    /// Some text; then a length, if it likes.
    Text,
    /// Some text and no length.
    TextAlone,
    /// A key and how to print what is there; then a length, if it likes.
    FilterState,
}

/// Their arguments are expressions or lists of their own.
const UNSUPPORTED: &[&str] = &["CEL", "COALESCE", "COMMON_DURATION", "METADATA", "QUERY_PARAMS", "STREAM_INFO_REQ"];

/// What Envoy writes as a number into a file of JSON.
const NUMBERS: &[&str] = &[
    "BYTES_RECEIVED",
    "BYTES_RETRANSMITTED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION",
    "GRPC_STATUS_NUMBER",
    "PACKETS_RETRANSMITTED",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_DURATION",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "ROUTE_RESOLUTION_COUNT",
    "ROUTE_RESOLUTION_TIME_US",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
];

/// The operators of Envoy 1.40. Those of HTTP print `-` for a connection.
const OPERATORS: &[(Arguments, &[&str])] = &[
    (
        Arguments::None,
        &[
            "ACCESS_LOG_TYPE",
            "BYTES_RECEIVED",
            "BYTES_RETRANSMITTED",
            "BYTES_SENT",
            "CONNECTION_ID",
            "CONNECTION_TERMINATION_DETAILS",
            "CUSTOM_FLAGS",
            "DOWNSTREAM_CX_RTT",
            "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
            "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
            "DOWNSTREAM_DETECTED_CLOSE_TYPE",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_DIRECT_LOCAL_PORT",
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_DIRECT_REMOTE_PORT",
            "DOWNSTREAM_HANDSHAKE_DURATION",
            "DOWNSTREAM_HEADER_BYTES_RECEIVED",
            "DOWNSTREAM_HEADER_BYTES_SENT",
            "DOWNSTREAM_LOCAL_ADDRESS",
            "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_LOCAL_CLOSE_REASON",
            "DOWNSTREAM_LOCAL_DNS_SAN",
            "DOWNSTREAM_LOCAL_EMAIL_SAN",
            "DOWNSTREAM_LOCAL_IP_SAN",
            "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
            "DOWNSTREAM_LOCAL_PORT",
            "DOWNSTREAM_LOCAL_SUBJECT",
            "DOWNSTREAM_LOCAL_URI_SAN",
            "DOWNSTREAM_PEER_CERT",
            "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
            "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
            "DOWNSTREAM_PEER_CHAIN_SERIALS",
            "DOWNSTREAM_PEER_DNS_SAN",
            "DOWNSTREAM_PEER_EMAIL_SAN",
            "DOWNSTREAM_PEER_FINGERPRINT_1",
            "DOWNSTREAM_PEER_FINGERPRINT_256",
            "DOWNSTREAM_PEER_IP_SAN",
            "DOWNSTREAM_PEER_ISSUER",
            "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
            "DOWNSTREAM_PEER_ISSUER_SERIAL",
            "DOWNSTREAM_PEER_OTHERNAME_SAN",
            "DOWNSTREAM_PEER_SERIAL",
            "DOWNSTREAM_PEER_SUBJECT",
            "DOWNSTREAM_PEER_URI_SAN",
            "DOWNSTREAM_REMOTE_ADDRESS",
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_REMOTE_PORT",
            "DOWNSTREAM_TLS_CIPHER",
            "DOWNSTREAM_TLS_GROUP",
            "DOWNSTREAM_TLS_SESSION_ID",
            "DOWNSTREAM_TLS_VERSION",
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
            "DOWNSTREAM_WIRE_BYTES_RECEIVED",
            "DOWNSTREAM_WIRE_BYTES_SENT",
            "DURATION",
            "FILTER_CHAIN_NAME",
            "GRPC_STATUS",
            "GRPC_STATUS_NUMBER",
            "HOSTNAME",
            "LOCAL_REPLY_BODY",
            "PACKETS_RETRANSMITTED",
            "PATH",
            "PROTOCOL",
            "REQUESTED_SERVER_NAME",
            "REQUEST_DURATION",
            "REQUEST_HEADERS_BYTES",
            "REQUEST_TX_DURATION",
            "RESPONSE_CODE",
            "RESPONSE_CODE_DETAILS",
            "RESPONSE_DURATION",
            "RESPONSE_FLAGS",
            "RESPONSE_FLAGS_LONG",
            "RESPONSE_HEADERS_BYTES",
            "RESPONSE_TRAILERS_BYTES",
            "RESPONSE_TX_DURATION",
            "ROUNDTRIP_DURATION",
            "ROUTE_NAME",
            "ROUTE_RESOLUTION_COUNT",
            "ROUTE_RESOLUTION_TIME_US",
            "SPAN_ID",
            "STREAM_ID",
            "TLS_JA3_FINGERPRINT",
            "TLS_JA4_FINGERPRINT",
            "TRACE_ID",
            "UNIQUE_ID",
            "UPSTREAM_CLUSTER",
            "UPSTREAM_CLUSTER_RAW",
            "UPSTREAM_CONNECTION_ID",
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
            "UPSTREAM_CONNECTION_POOL_READY_DURATION",
            "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
            "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
            "UPSTREAM_DETECTED_CLOSE_TYPE",
            "UPSTREAM_HEADER_BYTES_RECEIVED",
            "UPSTREAM_HEADER_BYTES_SENT",
            "UPSTREAM_HOST",
            "UPSTREAM_HOSTS_ATTEMPTED",
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_HOST_NAME",
            "UPSTREAM_HOST_NAMES_ATTEMPTED",
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_HOST_NAME_WITHOUT_PORT",
            "UPSTREAM_LOCAL_ADDRESS",
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
            "UPSTREAM_LOCAL_CLOSE_REASON",
            "UPSTREAM_LOCAL_DNS_SAN",
            "UPSTREAM_LOCAL_IP_SAN",
            "UPSTREAM_LOCAL_PORT",
            "UPSTREAM_LOCAL_URI_SAN",
            "UPSTREAM_PEER_CERT",
            "UPSTREAM_PEER_DNS_SAN",
            "UPSTREAM_PEER_IP_SAN",
            "UPSTREAM_PEER_ISSUER",
            "UPSTREAM_PEER_SUBJECT",
            "UPSTREAM_PEER_URI_SAN",
            "UPSTREAM_PROTOCOL",
            "UPSTREAM_REMOTE_ADDRESS",
            "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
            "UPSTREAM_REMOTE_PORT",
            "UPSTREAM_REQUEST_ATTEMPT_COUNT",
            "UPSTREAM_SERVER_NAME",
            "UPSTREAM_TLS_CIPHER",
            "UPSTREAM_TLS_GROUP",
            "UPSTREAM_TLS_SESSION_ID",
            "UPSTREAM_TLS_VERSION",
            "UPSTREAM_TRANSPORT_FAILURE_REASON",
            "UPSTREAM_WIRE_BYTES_RECEIVED",
            "UPSTREAM_WIRE_BYTES_SENT",
            "VIRTUAL_CLUSTER_NAME",
        ],
    ),
    (
        Arguments::Time,
        &[
            "DOWNSTREAM_PEER_CERT_V_END",
            "DOWNSTREAM_PEER_CERT_V_START",
            "EMIT_TIME",
            "EMIT_TIME_LOCAL",
            "START_TIME",
            "START_TIME_LOCAL",
            "UPSTREAM_PEER_CERT_V_END",
            "UPSTREAM_PEER_CERT_V_START",
        ],
    ),
    (Arguments::Header, &["REQ", "REQUEST_HEADER", "RESP", "RESPONSE_HEADER", "RESPONSE_TRAILER", "TRAILER"]),
    (Arguments::Text, &["DYNAMIC_METADATA", "ENVIRONMENT", "QUERY_PARAM"]),
    (Arguments::TextAlone, &["CLUSTER_METADATA", "UPSTREAM_METADATA"]),
    (Arguments::FilterState, &["FILTER_STATE", "UPSTREAM_FILTER_STATE"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_envoys_are_told_apart() {
        let parts = parse("[%START_TIME(%Y-%m)%] %KUMA_SOURCE_ADDRESS%%KUMA_DOWNSTREAM_CLUSTER%->100%% %REQ(A?B):3%");
        assert_eq!(
            parts.expect("a format"),
            [
                Part::Envoys("[%START_TIME(%Y-%m)%] "),
                Part::Ours(Placeholder::SourceAddress),
                Part::Ours(Placeholder::SourceService),
                Part::Envoys("->100%% %REQ(A?B):3%"),
            ]
        );
        assert_eq!(parse("").expect("a format"), []);
        assert_eq!(parse("%%KUMA_SOURCE_SERVICE%%").expect("a format"), [Part::Envoys("%%KUMA_SOURCE_SERVICE%%")]);
        for default in [DEFAULT, DEFAULT_HTTP] {
            parse(default).expect("the default is a format");
        }
    }

    #[test]
    fn a_field_is_what_its_only_operator_is() {
        for (format, kind) in [
            ("%DURATION%", FieldKind::Number),
            ("%REQ(X-A?X-B):3%", FieldKind::Value),
            ("%START_TIME(%s)%", FieldKind::Value),
            ("%DURATION% ms", FieldKind::Text),
            ("%DURATION%%DURATION%", FieldKind::Text),
            ("100%%", FieldKind::Text),
            ("", FieldKind::Text),
        ] {
            assert_eq!(FieldKind::of(format), kind, "{format}");
        }
        let names: Vec<&str> = names().collect();
        assert_eq!(NUMBERS.iter().find(|number| !names.contains(number)), None, "all of them are operators");
    }

    #[test]
    fn every_example_is_a_format() {
        assert!(examples().count() > 100);
        for example in examples() {
            assert_eq!(parse(&example).as_deref(), Ok(&[Part::Envoys(&example)][..]));
        }
    }

    #[test]
    fn mistakes_are_named_with_their_position() {
        let no_operator = |position: usize, found: &str| {
            format!(
                "expected a command operator to start at position {position}, instead got: {found:?} (a percent sign \
                 is written %%)"
            )
        };
        for (format, expected) in [
            ("100%", no_operator(4, "%")),
            ("%START_TIME%%", no_operator(13, "%")),
            ("12345678901%TAIL", no_operator(12, "%TAIL")),
            ("é %start_time%", no_operator(3, "%start_time%")),
            ("%REQ(X)", no_operator(1, "%REQ(X)")),
            ("%REQ(X):%", no_operator(1, "%REQ(X):%")),
            ("%REQ(X\nY)%", no_operator(1, "%REQ(X\nY)%")),
            ("%DURATION(", no_operator(1, "%DURATION(")),
            ("%DURATION:1234567890%", no_operator(1, "%DURATION:1234567890%")),
            (
                "took %DURATIONS%",
                r#"unknown command operator "DURATIONS" at position 6; did you mean "DURATION"?"#.to_owned(),
            ),
            ("%_%", r#"unknown command operator "_" at position 1"#.to_owned()),
            ("%CEL(x)%", r#"command operator "CEL" at position 1 is not supported"#.to_owned()),
            (
                "a %DURATION(x)%",
                r#"command "%DURATION(x)%" at position 3 does not support arguments or a max length"#.to_owned(),
            ),
            (
                "%KUMA_SOURCE_SERVICE:3%",
                r#"command "%KUMA_SOURCE_SERVICE:3%" at position 1 does not support a max length"#.to_owned(),
            ),
            (
                "%REQ()%",
                concat!(
                    r#"command "%REQ()%" at position 1 requires a header and optionally an alternative header "#,
                    r#"as its argument"#,
                )
                .to_owned(),
            ),
            ("%REQ(X?Y?Z)%", r#"command "%REQ(X?Y?Z)%" at position 1 has more than 1 alternative header"#.to_owned()),
            ("%RESP(a b)%", r#"command "%RESP(a b)%" at position 1 requires names of headers"#.to_owned()),
            (
                "%ENVIRONMENT%",
                r#"command "%ENVIRONMENT%" at position 1 requires an argument in parentheses"#.to_owned(),
            ),
        ] {
            assert_eq!(parse(format).map_err(|error| error.to_string()), Err(expected), "{format}");
        }
    }
}
