//! What kuma-dp itself reads out of the bootstrap that it passes on to Envoy.
//!
//! The control plane names its xDS server, and the CA that vouches for it, in one place only: the cluster
//! `ads_cluster`. kuma-dp's own stream goes to the same server, so it takes both from there, in the spelling of either
//! JSON (`trustedCa`) or YAML (`trusted_ca`). The rest is Envoy's business.

use serde::Deserialize;

/// What matters to kuma-dp.
#[derive(Debug, PartialEq)]
pub(crate) struct Facts {
    /// Envoy's admin interface, which may be there although kuma-dp asked for none (`params.adminPort`).
    pub(crate) admin: Option<Address>,
    /// The control plane's xDS server.
    pub(crate) xds: Option<XdsServer>,
}

/// A host (name or IP address) and a port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where the xDS server is and how to know it.
#[derive(Debug, PartialEq)]
pub(crate) struct XdsServer {
    /// The first one, and those of further control planes of the same mesh.
    pub(crate) addresses: Vec<Address>,
    /// `None` = plain HTTP/2.
    pub(crate) tls: Option<ServerTls>,
}

/// How to know a TLS server.
#[derive(Debug, PartialEq)]
pub(crate) struct ServerTls {
    /// PEM of the certificates to trust.
    pub(crate) trusted_ca: String,
    /// Server name to send, if not the host.
    pub(crate) sni: Option<String>,
    /// Names one of which the server's certificate must carry; empty = any.
    pub(crate) names: Vec<String>,
}

/// Reads a bootstrap in YAML or JSON.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn read(text: &[u8]) -> Result<Facts, String> {
    let bootstrap: Bootstrap = serde_saphyr::from_slice(text).map_err(|error| error.to_string())?;
    let ads_cluster = bootstrap.static_resources.clusters.into_iter().find(|cluster| cluster.name == "ads_cluster");
    Ok(Facts {
        admin: bootstrap.admin.and_then(|admin| admin.address.into_socket()),
        xds: ads_cluster.map(Cluster::into_server).transpose()?,
    })
}

#[derive(Deserialize)]
struct Bootstrap {
    #[serde(default)]
    admin: Option<Admin>,
    #[serde(default, alias = "staticResources")]
    static_resources: StaticResources,
}

#[derive(Deserialize)]
struct Admin {
    #[serde(default)]
    address: AnyAddress,
}

#[derive(Deserialize, Default)]
struct StaticResources {
    #[serde(default)]
    clusters: Vec<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    name: String,
    #[serde(default, alias = "loadAssignment")]
    load_assignment: LoadAssignment,
    #[serde(default, alias = "transportSocket")]
    transport_socket: Option<TransportSocket>,
}

#[derive(Deserialize, Default)]
struct LoadAssignment {
    #[serde(default)]
    endpoints: Vec<Locality>,
}

#[derive(Deserialize)]
struct Locality {
    #[serde(default, alias = "lbEndpoints")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Deserialize)]
struct LbEndpoint {
    #[serde(default)]
    endpoint: Endpoint,
}

#[derive(Deserialize, Default)]
struct Endpoint {
    #[serde(default)]
    address: AnyAddress,
}

#[derive(Deserialize, Default)]
struct AnyAddress {
    #[serde(default, alias = "socketAddress")]
    socket_address: Option<SocketAddress>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    #[serde(alias = "portValue")]
    port_value: u16,
}

#[derive(Deserialize)]
struct TransportSocket {
    #[serde(default, alias = "typedConfig")]
    typed_config: UpstreamTls,
}

#[derive(Deserialize, Default)]
struct UpstreamTls {
    #[serde(default)]
    sni: String,
    #[serde(default, alias = "commonTlsContext")]
    common_tls_context: CommonTls,
}

#[derive(Deserialize, Default)]
struct CommonTls {
    #[serde(default, alias = "validationContext")]
    validation_context: ValidationContext,
}

#[derive(Deserialize, Default)]
struct ValidationContext {
    #[serde(default, alias = "trustedCa")]
    trusted_ca: DataSource,
    #[serde(default, alias = "matchTypedSubjectAltNames")]
    match_typed_subject_alt_names: Vec<SanMatcher>,
}

#[derive(Deserialize, Default)]
struct DataSource {
    #[serde(default, alias = "inlineString")]
    inline_string: String,
}

#[derive(Deserialize)]
struct SanMatcher {
    #[serde(default, alias = "sanType")]
    san_type: String,
    #[serde(default)]
    matcher: StringMatcher,
}

#[derive(Deserialize, Default)]
struct StringMatcher {
    #[serde(default)]
    exact: String,
}

impl AnyAddress {
    fn into_socket(self) -> Option<Address> {
        let SocketAddress { address, port_value } = self.socket_address?;
        (port_value != 0).then_some(Address { host: address, port: port_value })
    }
}

impl Cluster {
    fn into_server(self) -> Result<XdsServer, String> {
        let addresses: Vec<Address> = (self.load_assignment.endpoints.into_iter())
            .flat_map(|locality| locality.lb_endpoints)
            .filter_map(|endpoint| endpoint.endpoint.address.into_socket())
            .collect();
        if addresses.is_empty() {
            return Err("ads_cluster has no address".to_owned());
        }
        let tls = self.transport_socket.map(|socket| socket.typed_config.into_tls()).transpose()?;
        Ok(XdsServer { addresses, tls })
    }
}

impl UpstreamTls {
    /// What cannot be understood here is refused, never read as *trust anybody*.
    fn into_tls(self) -> Result<ServerTls, String> {
        let ValidationContext { trusted_ca, match_typed_subject_alt_names: matchers } =
            self.common_tls_context.validation_context;
        if trusted_ca.inline_string.is_empty() {
            return Err("ads_cluster has TLS without an inline trusted_ca".to_owned());
        }
        let names = matchers
            .into_iter()
            .map(|matcher| match matcher.san_type.as_str() {
                "DNS" | "IP_ADDRESS" if !matcher.matcher.exact.is_empty() => Ok(matcher.matcher.exact),
                other => Err(format!(
                    "ads_cluster demands a subject alternative name of type {other:?} in a way that \
                    kuma-dp does not know"
                )),
            })
            .collect::<Result<_, _>>()?;
        let sni = (!self.sni.is_empty()).then_some(self.sni);
        Ok(ServerTls { trusted_ca: trusted_ca.inline_string, sni, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAKE: &str = "
node: {id: default.web-1, cluster: web}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 30001}}}
static_resources:
  clusters:
  - name: access_log_sink
    load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /run/x.sock}}}}]}]}
  - name: ads_cluster
    load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, \
    port_value: 5678}}}}]}]}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: cp.internal
        common_tls_context:
          validation_context:
            trusted_ca: {inline_string: \"PEM\"}
            match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: cp.internal}}]
";

    fn server(host: &str, tls: Option<ServerTls>) -> XdsServer {
        XdsServer { addresses: vec![Address { host: host.to_owned(), port: 5678 }], tls }
    }

    #[test]
    fn reads_yaml_in_snake_case() {
        let tls = ServerTls {
            trusted_ca: "PEM".to_owned(),
            sni: Some("cp.internal".to_owned()),
            names: vec!["cp.internal".to_owned()],
        };
        assert_eq!(
            read(SNAKE.as_bytes()).unwrap(),
            Facts {
                admin: Some(Address { host: "127.0.0.1".to_owned(), port: 30001 }),
                xds: Some(server("localhost", Some(tls))),
            }
        );
    }

    #[test]
    fn reads_json_in_camel_case() {
        let json = r#"{"staticResources":{"clusters":[{"name":"ads_cluster",
            "loadAssignment":{"endpoints":[{"lbEndpoints":[
                {"endpoint":{"address":{"socketAddress":{"address":"::1","portValue":5678}}}}]}]},
            "transportSocket":{"typedConfig":{"commonTlsContext":{
                "validationContext":{"trustedCa":{"inlineString":"PEM"}}}}}}]}}"#;
        let tls = ServerTls { trusted_ca: "PEM".to_owned(), sni: None, names: vec![] };
        assert_eq!(read(json.as_bytes()).unwrap(), Facts { admin: None, xds: Some(server("::1", Some(tls))) });
    }

    #[test]
    fn all_addresses_are_read() {
        let endpoint = "{endpoint: {address: {socket_address: {address: other, port_value: 5679}}}}";
        let first = "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost";
        let yaml = SNAKE.replace(first, &first.replace("[{endpoint", &format!("[{endpoint}, {{endpoint")));
        let addresses = read(yaml.as_bytes()).unwrap().xds.unwrap().addresses;
        let named: Vec<_> = addresses.iter().map(|address| (address.host.as_str(), address.port)).collect();
        assert_eq!(named, [("other", 5679), ("localhost", 5678)]);
    }

    #[test]
    fn plain_text_is_plain_text() {
        let yaml = SNAKE.split_once("    transport_socket:").unwrap().0;
        assert_eq!(read(yaml.as_bytes()).unwrap().xds, Some(server("localhost", None)));
        assert_eq!(read(b"{}").unwrap(), Facts { admin: None, xds: None });
    }

    #[test]
    fn tls_that_is_not_understood_is_never_weakened() {
        for (from, to) in [
            ("trusted_ca: {inline_string: \"PEM\"}", "trusted_ca: {filename: /ca.pem}"),
            ("san_type: DNS", "san_type: URI"),
            ("exact: cp.internal", "prefix: cp."),
        ] {
            assert!(SNAKE.contains(from));
            read(SNAKE.replace(from, to).as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_bootstrap_is_an_error() {
        for text in ["- a", "static_resources: 7", "{", "\u{0}"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
