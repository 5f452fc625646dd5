//! `tracing` of a Mesh: where proxies send traces to.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::decode::{self, Decode, element};
use crate::omit;
use crate::violations::Violations;

/// The trace backends of a mesh.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Name of the backend that is used; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub default_backend: String,
    /// The backends.
    pub backends: Vec<TracingBackend>,
    /// The older way to name a backend: kept as written, without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipkin: Option<ZipkinAddress>,
}

/// Where Zipkin is, in the older form.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct ZipkinAddress {
    /// Any text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
}

/// Where traces go.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct TracingBackend {
    /// What the backend is called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Percentage of requests that are traced; all if unset.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_needless_fraction")]
    pub sampling: Option<f64>,
    /// Zipkin's collector. Valid documents have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipkin: Option<Zipkin>,
}

/// A collector that speaks Zipkin's protocol.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zipkin {
    /// Where it takes spans, by http and with an explicit port: `http://zipkin.internal:9411/api/v2/spans`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Whether trace ids have 128 bits.
    #[serde(rename = "traceId128bit", skip_serializing_if = "omit::is_false")]
    pub trace_id_128bit: bool,
    /// `httpJsonV1`, `httpJson` or `httpProto`; `httpJson` if empty. Envoy knows the first no more: it means `httpJson`
    /// too.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
}

impl Tracing {
    pub(super) fn validate(&self, violations: &mut Violations) {
        let mut names = BTreeSet::new();
        for (index, backend) in self.backends.iter().enumerate() {
            let path = element("tracing.backends", index);
            backend.validate(&path, violations);
            if !names.insert(&backend.name) && !backend.name.is_empty() {
                let message = format!("{:?} name is already used for another backend", backend.name);
                violations.add(format!("{path}.name"), message);
            }
        }
        if !self.default_backend.is_empty() && !names.contains(&self.default_backend) {
            violations.add("tracing.defaultBackend", "has to be set to one of the tracing backend in mesh");
        }
    }
}

impl TracingBackend {
    fn validate(&self, path: &str, violations: &mut Violations) {
        if self.name.is_empty() {
            violations.add(format!("{path}.name"), "cannot be empty");
        }
        if self.sampling.is_some_and(|percentage| !(0.0..=100.0).contains(&percentage)) {
            violations.add(format!("{path}.sampling"), "has to be in [0.0 - 100.0] range");
        }
        let Some(zipkin) = &self.zipkin else {
            violations.add(path, r#"has to have "zipkin": it would trace nothing"#);
            return;
        };
        if let Err(problem) = read_url(&zipkin.url) {
            violations.add(format!("{path}.zipkin.url"), problem);
        }
        if !["", "httpJsonV1", "httpJson", "httpProto"].contains(&zipkin.api_version.as_str()) {
            let message = "has invalid value. Allowed values: httpJsonV1, httpJson, httpProto";
            violations.add(format!("{path}.zipkin.apiVersion"), message);
        }
    }
}

impl Zipkin {
    /// Where it takes spans; `None` if the URL says no such place.
    pub fn collector(&self) -> Option<Collector<'_>> {
        read_url(&self.url).ok()
    }
}

/// Where spans are sent to: what a URL says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collector<'a> {
    /// Name or address; an IPv6 address is without brackets.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Host and port as they stand in the URL.
    pub authority: &'a str,
    /// Path and query; empty if the URL has neither.
    pub path: &'a str,
}

/// Reads the URL of a collector, or says what is wrong with it.
fn read_url(url: &str) -> Result<Collector<'_>, &'static str> {
    const INVALID: &str = "invalid URL";
    if url.is_empty() {
        return Err("cannot be empty");
    }
    if url.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(INVALID);
    }
    let (scheme, rest) = url.split_once("://").ok_or(INVALID)?;
    if scheme.eq_ignore_ascii_case("https") {
        return Err("https is not supported: proxies send spans by http");
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(INVALID);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("user name and password are not supported");
    }
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok().then_some(address).ok_or(INVALID)?,
        None => host,
    };
    if host.is_empty() {
        return Err(INVALID);
    }
    let port = match port.strip_prefix(':') {
        None | Some("") => return Err("port has to be explicitly specified"),
        Some(port) => decode::port(port).ok_or(INVALID)?,
    };
    Ok(Collector { host, port, authority, path: path.split('#').next().unwrap_or_default() })
}

/// A whole percentage is written without a fraction, as proto3's JSON does.
fn without_needless_fraction<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.fract() == 0.0 && (0.0..=100.0).contains(value) => serializer.serialize_u8(*value as u8),
        value => value.serialize(serializer),
    }
}

impl Decode for Tracing {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Tracing> {
        decode::object(value, path, violations, |fields| Tracing {
            default_backend: fields.get("defaultBackend"),
            backends: fields.get("backends"),
            zipkin: fields.member("zipkin", |zipkin| ZipkinAddress { address: zipkin.get("address") }),
        })
    }
}

impl Decode for TracingBackend {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<TracingBackend> {
        decode::object(value, path, violations, |fields| TracingBackend {
            name: fields.get("name"),
            sampling: fields.opt("sampling"),
            zipkin: fields.member("zipkin", |zipkin| Zipkin {
                url: zipkin.get("url"),
                trace_id_128bit: zipkin.get("traceId128bit"),
                api_version: zipkin.get("apiVersion"),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Mesh;
    use crate::kinds::testing::{refused, stored};

    #[test]
    fn both_forms_are_read() {
        for (yaml, kept) in [
            ("tracing: {}", "{}"),
            ("tracing: {zipkin: {address: 'zipkin:9411'}}", r#"{"zipkin":{"address":"zipkin:9411"}}"#),
            (
                "tracing: {defaultBackend: z, backends: [{name: z, sampling: 100.0, zipkin: {url: \
                 'http://zipkin:9411/api/v1/spans',
                    traceId128bit: true, apiVersion: httpJsonV1}}, {name: y, sampling: 12.5, zipkin: {url: \
                    'http://y:1'}}]}",
                concat!(
                    r#"{"defaultBackend":"z","backends":[{"name":"z","sampling":100,"#,
                    r#""zipkin":{"url":"http://zipkin:9411/api/v1/spans","traceId128bit":true,"#,
                    r#""apiVersion":"httpJsonV1"}},{"name":"y","sampling":12.5,"zipkin":{"url":"http://y:1"}}]}"#,
                ),
            ),
        ] {
            let expected = format!(r#"{{"mtls":{{"ca":{{"builtin":{{}}}}}},"tracing":{kept}}}"#);
            assert_eq!(stored::<Mesh>(yaml), expected);
        }
    }

    #[test]
    fn backends_are_checked() {
        refused::<Mesh>(
            "
            tracing:
              defaultBackend: none
              backends:
              - {zipkin: {}}
              - {name: a, sampling: 100.1, zipkin: {url: 'http://zipkin', apiVersion: httpXml}}
              - {name: a, sampling: -1, zipkin: {url: 'zipkin:9411'}}
              - {name: b, sampling: much}
              - {name: c, zipkin: null}
              - {name: d}",
            r#"
            tracing.backends[3].sampling: must be a number
            tracing.backends[0].name: cannot be empty
            tracing.backends[0].zipkin.url: cannot be empty
            tracing.backends[1].sampling: has to be in [0.0 - 100.0] range
            tracing.backends[1].zipkin.url: port has to be explicitly specified
            tracing.backends[1].zipkin.apiVersion: has invalid value. Allowed values: httpJsonV1, httpJson, httpProto
            tracing.backends[2].sampling: has to be in [0.0 - 100.0] range
            tracing.backends[2].zipkin.url: invalid URL
            tracing.backends[2].name: "a" name is already used for another backend
            tracing.backends[4].zipkin.url: cannot be empty
            tracing.backends[5]: has to have "zipkin": it would trace nothing
            tracing.defaultBackend: has to be set to one of the tracing backend in mesh"#,
        );
    }

    #[test]
    fn urls_name_a_host_and_a_port() {
        let read = |url| read_url(url).map(|found| (found.host, found.port, found.authority, found.path));
        for (url, host, port, authority, path) in [
            ("http://zipkin:9411", "zipkin", 9411, "zipkin:9411", ""),
            ("http://zipkin:80/api?x=1#y", "zipkin", 80, "zipkin:80", "/api?x=1"),
            ("HTTP://[::1]:9411/", "::1", 9411, "[::1]:9411", "/"),
            ("http://10.0.0.1:1#x", "10.0.0.1", 1, "10.0.0.1:1", ""),
        ] {
            assert_eq!(read(url), Ok((host, port, authority, path)));
        }
        for portless in ["http://zipkin", "http://zipkin:/", "http://[::1]/x", "http://zipkin?a:1"] {
            assert_eq!(read(portless), Err("port has to be explicitly specified"), "{portless}");
        }
        for bad in [
            "zipkin:9411",
            "ftp://zipkin:21",
            "http://",
            "http://:80",
            "http://[]:80",
            "http://[zipkin]:80",
            "http://zipkin:http",
            "http://zipkin:0",
            "http://zip kin:80",
            "://a:1",
        ] {
            assert_eq!(read(bad), Err("invalid URL"), "{bad}");
        }
        assert_eq!(read(""), Err("cannot be empty"));
        assert_eq!(read("https://zipkin:443/"), Err("https is not supported: proxies send spans by http"));
        assert_eq!(read("http://u:p@zipkin:80"), Err("user name and password are not supported"));
    }
}
