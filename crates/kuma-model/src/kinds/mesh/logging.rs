//! `logging` of a Mesh: where TrafficLogs can send logs to.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::decode::{self, Decode, Fields, element};
use crate::log_format;
use crate::violations::Violations;

/// The log backends of a mesh.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// Name of the backend for TrafficLogs that name none; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub default_backend: String,
    /// The backends.
    pub backends: Vec<LoggingBackend>,
}

/// Where logs go.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct LoggingBackend {
    /// How TrafficLogs call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A line of the log, with placeholders; the built-in format if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// The fields of a record in JSON, in place of a line of text: each a text with placeholders, or an object of
    /// fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Map<String, Value>>,
    /// Where to. Valid documents have it.
    #[serde(flatten)]
    pub sink: Option<LogSink>,
}

/// The kinds of log backend. In JSON a field of the backend: `"file": {"path": …}` or `"tcp": {"address": …}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LogSink {
    /// A file on the machine of the proxy.
    File {
        /// Its path.
        path: String,
    },
    /// A server that takes lines over TCP.
    Tcp {
        /// Its `HOST:PORT`.
        address: String,
    },
}

impl Logging {
    pub(super) fn validate(&self, violations: &mut Violations) {
        let mut names = BTreeSet::new();
        for (index, backend) in self.backends.iter().enumerate() {
            let path = element("logging.backends", index);
            backend.validate(&path, violations);
            if !names.insert(&backend.name) && !backend.name.is_empty() {
                let message = format!("{:?} name is already used for another backend", backend.name);
                violations.add(format!("{path}.name"), message);
            }
        }
        if !self.default_backend.is_empty() && !names.contains(&self.default_backend) {
            violations.add("logging.defaultBackend", "has to be set to one of the logging backend in mesh");
        }
    }
}

impl LoggingBackend {
    fn validate(&self, path: &str, violations: &mut Violations) {
        if self.name.is_empty() {
            violations.add(format!("{path}.name"), "cannot be empty");
        }
        if let Err(error) = log_format::parse(&self.format) {
            violations.add(format!("{path}.format"), format!("format string is not valid: {error}"));
        }
        if let Some(fields) = &self.json {
            if !self.format.is_empty() {
                violations.add(path, r#"only one of "format" and "json" can be set"#);
            }
            check_fields(&format!("{path}.json"), fields, violations);
        }
        match &self.sink {
            Some(LogSink::File { path: file }) if file.is_empty() => {
                violations.add(format!("{path}.file.path"), "cannot be empty");
            }
            Some(LogSink::Tcp { address }) if address.is_empty() => {
                violations.add(format!("{path}.tcp.address"), "cannot be empty");
            }
            Some(LogSink::Tcp { address }) if !is_host_and_port(address) => {
                violations.add(format!("{path}.tcp.address"), "has to be in format of HOST:PORT");
            }
            None => violations.add(path, r#"has to have one of "file" and "tcp": it would log nothing"#),
            Some(_) => {}
        }
    }
}

/// Checks the fields of a format in JSON.
fn check_fields(path: &str, fields: &Map<String, Value>, violations: &mut Violations) {
    if fields.is_empty() {
        violations.add(path, "must have at least one field");
    }
    for (name, value) in fields {
        let path = decode::child(path, name);
        match value {
            Value::String(format) => {
                if let Err(error) = log_format::parse(format) {
                    violations.add(path, format!("format string is not valid: {error}"));
                }
            }
            Value::Object(fields) => check_fields(&path, fields, violations),
            _ => violations.add(path, "must be a text, which may have command operators, or an object of fields"),
        }
    }
}

/// Whether a text is a name, an IPv4 address or an IPv6 address in brackets, followed by a port.
fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let host_fits = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '[', ']', '/']) && !host.contains(char::is_whitespace),
    };
    host_fits && decode::port(port).is_some()
}

impl Decode for Logging {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Logging> {
        decode::object(value, path, violations, |fields| Logging {
            default_backend: fields.get("defaultBackend"),
            backends: fields.get("backends"),
        })
    }
}

impl Decode for LoggingBackend {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<LoggingBackend> {
        decode::object(value, path, violations, |fields| LoggingBackend {
            name: fields.get("name"),
            format: fields.get("format"),
            json: fields.opt("json"),
            sink: read_sink(fields),
        })
    }
}

fn read_sink(fields: &mut Fields<'_>) -> Option<LogSink> {
    match fields.one_of(&["file", "tcp"])? {
        "file" => fields.member("file", |file| LogSink::File { path: file.get("path") }),
        _ => fields.member("tcp", |tcp| LogSink::Tcp { address: tcp.get("address") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Mesh;
    use crate::kinds::testing::{read, refused, stored};

    #[test]
    fn a_backend_is_a_file_or_a_server() {
        let yaml = "
            logging:
              defaultBackend: logstash
              backends:
              - {name: file, format: '%START_TIME%', file: {path: /tmp/access.log}}
              - {name: logstash, tcp: {address: 'logstash.internal:9000'}}";
        let expected = r#""logging":{"defaultBackend":"logstash","backends":["#.to_owned()
            + r#"{"name":"file","format":"%START_TIME%","file":{"path":"/tmp/access.log"}},"#
            + r#"{"name":"logstash","tcp":{"address":"logstash.internal:9000"}}]}"#;
        assert!(stored::<Mesh>(yaml).contains(&expected));
        let backends = read::<Mesh>(yaml).logging.expect("logging").backends;
        assert_eq!(backends[1].sink, Some(LogSink::Tcp { address: "logstash.internal:9000".into() }));
    }

    #[test]
    fn backends_are_checked() {
        refused::<Mesh>(
            r#"
            logging:
              defaultBackend: other
              backends:
              - {file: {}}
              - {name: a, tcp: null}
              - {name: a, tcp: {address: 'host'}}
              - {name: a, tcp: {address: ':9000'}, file: null}
              - {name: "q\"", format: '[%START_TIME%] 100% of %NONSENSE%', file: {path: x}}
              - {name: "q\"", tcp: {addres: 'a:1'}}
              - {name: neither}
              - {name: nothing, file: }"#,
            "
            logging.backends[3]: only one of \"file\" and \"tcp\" can be set
            logging.backends[5].tcp.addres: unknown field; did you mean \"address\"?
            logging.backends[0].name: cannot be empty
            logging.backends[0].file.path: cannot be empty
            logging.backends[1].tcp.address: cannot be empty
            logging.backends[2].tcp.address: has to be in format of HOST:PORT
            logging.backends[2].name: \"a\" name is already used for another backend
            logging.backends[4].format: format string is not valid: expected a command operator to start at position \
            19, instead got: \"% of %NONSENSE%\" (a percent sign is written %%)
            logging.backends[5].tcp.address: cannot be empty
            logging.backends[5].name: \"q\\\"\" name is already used for another backend
            logging.backends[6]: has to have one of \"file\" and \"tcp\": it would log nothing
            logging.backends[7].file.path: cannot be empty
            logging.defaultBackend: has to be set to one of the logging backend in mesh",
        );
    }

    #[test]
    fn a_format_in_json_is_fields_with_operators() {
        let backend =
            r#"{"name":"a","json":{"z":"%DURATION% ms","a":{"user agent":"%REQ(USER-AGENT)%"}},"file":{"path":"/a"}}"#;
        let stored = stored::<Mesh>(&format!("logging: {{backends: [{backend}]}}"));
        assert!(stored.contains(backend), "{stored}");
        refused::<Mesh>(
            "
            logging:
              backends:
              - {name: a, file: {path: /a}, json: {}}
              - {name: b, file: {path: /a}, format: x, json: {a: '%DURATIONS%', b: 5, c: {d.e: [], f: {}, g: null}}}
              - {name: c, file: {path: /a}, json: '{}'}",
            "
            logging.backends[2].json: must be an object, not a string
            logging.backends[0].json: must have at least one field
            logging.backends[1]: only one of \"format\" and \"json\" can be set
            logging.backends[1].json.a: format string is not valid: unknown command operator \"DURATIONS\" at \
            position 1; did you mean \"DURATION\"?
            logging.backends[1].json.b: must be a text, which may have command operators, or an object of fields
            logging.backends[1].json.c[\"d.e\"]: must be a text, which may have command operators, or an object of \
            fields
            logging.backends[1].json.c.f: must have at least one field
            logging.backends[1].json.c.g: must be a text, which may have command operators, or an object of fields",
        );
    }

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["a:1", "10.0.0.1:65535", "[::1]:9000", "log_stash.internal:080"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in
            ["", "a", ":1", "a:", "a:0", "a:65536", "a:b", "a:+1", "::1:9000", "[::1]", "[]:1", "a b:1", "http://a:1"]
        {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
