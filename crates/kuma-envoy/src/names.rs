//! The names of generated resources. They show in statistics, and users' dashboards depend on them: they never change.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use kuma_model::SERVICE_TAG;

/// The secret with a proxy's own certificate and key.
pub const IDENTITY_CERT: &str = "identity_cert";
/// The secret with the roots by which clients verify servers.
pub const MESH_CA: &str = "mesh_ca";
/// The cluster of the control plane's xDS server. It is part of the bootstrap, and Envoy ignores a cluster of this name
/// from CDS.
pub const ADS_CLUSTER: &str = "ads_cluster";
/// The cluster of kuma-dp's receiver of access logs. It is part of the bootstrap, and Envoy ignores a cluster of this
/// name from CDS.
pub const ACCESS_LOG_SINK: &str = "access_log_sink";
/// The custom tag of an access log entry that holds the line to send. kuma-dp reads it.
pub const ACCESS_LOG_RECORD: &str = "kuma.record";
/// Prefix of the custom tags that hold the fields of a JSON log; the field's number follows. kuma-dp reads them.
pub const ACCESS_LOG_FIELD: &str = "kuma.field.";
/// The secret with the dataplane token, in the bootstrap.
pub const DATAPLANE_TOKEN: &str = "dataplane_token";
/// The listener that offers metrics to Prometheus.
pub const METRICS: &str = "kuma:metrics:prometheus";
/// The cluster of Envoy's own admin server.
pub const ADMIN_CLUSTER: &str = "kuma:envoy:admin";
/// The listener that takes the redirected connections of a transparent proxy that its machine dials.
pub const CATCH_ALL: &str = "catch_all";
/// The same for connections over IPv6.
pub const CATCH_ALL_IPV6: &str = "catch_all_ipv6";
/// The listener that accepts redirected connections from other machines.
pub const CATCH_ALL_INBOUND: &str = "catch_all_inbound";
/// The same for connections over IPv6.
pub const CATCH_ALL_INBOUND_IPV6: &str = "catch_all_inbound_ipv6";
/// The cluster that connects to a redirected connection's original destination.
pub const PASS_THROUGH: &str = "pass_through";
/// The name of a cluster that does not exist: a connection to it is reset.
pub const NOWHERE: &str = "kuma:nowhere";
/// An identity that no proxy can have: the trust domain is the mesh's name, which holds no dot.
pub const NOBODY: &str = "spiffe://nobody.invalid/nobody";

/// `localhost:<port>`: the application behind an inbound.
pub fn local_cluster(port: u16) -> String {
    format!("localhost:{port}")
}

/// `inbound:<address>:<port>`, with brackets around an IPv6 address.
pub fn inbound_listener(address: IpAddr, port: u16) -> String {
    format!("inbound:{}", SocketAddr::new(address, port))
}

/// Whether a listener of this name is an inbound.
pub fn is_inbound(listener: &str) -> bool {
    listener.starts_with("inbound:")
}

/// `outbound:<address>:<port>`, with brackets around an IPv6 address.
pub fn outbound_listener(address: IpAddr, port: u16) -> String {
    format!("outbound:{}", SocketAddr::new(address, port))
}

/// `allowed:<inbound>`: the secret with the identities that an inbound's TLS handshake admits.
pub fn allowed_peers(inbound: &str) -> String {
    format!("allowed:{inbound}")
}

/// `rbac:<inbound>`: the extension config with an inbound's permissions.
pub fn rbac(inbound: &str) -> String {
    format!("rbac:{inbound}")
}

/// `split:<outbound>`: the extension config with an outbound's destinations.
pub fn split(outbound: &str) -> String {
    format!("split:{outbound}")
}

/// `http:<listener>`: the extension config that handles the requests of an inbound or outbound.
pub fn http(listener: &str) -> String {
    format!("http:{listener}")
}

/// `http-rbac:<inbound>`: the extension config with an inbound's permissions for requests.
pub fn http_rbac(inbound: &str) -> String {
    format!("http-rbac:{inbound}")
}

/// `inbound:<service>`: the routes of an inbound, which are part of its listener's filter.
pub fn inbound_routes(service: &str) -> String {
    format!("inbound:{service}")
}

/// `outbound:<service>`: the routes to a service, the same for each outbound to it.
pub fn outbound_routes(service: &str) -> String {
    format!("outbound:{service}")
}

/// `tracing:<backend>`: the cluster of a collector of traces. A backend can have any name, so special characters are
/// escaped as in [`service_cluster`].
pub fn tracing_cluster(backend: &str) -> String {
    format!("tracing:{}", escaped(backend))
}

/// `<service>`, or `<service>{k1=v1,k2=v2}` where a destination has more tags than `service`, sorted.
///
/// Different destinations have different names, and none has the name of another cluster. A service with a reserved
/// name ([`is_reserved`]) is followed by `{}`, and in tags and names of backends each of `{},=\` is escaped by a
/// backslash.
pub fn service_cluster<'a>(service: &str, tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut others: Vec<String> = tags
        .into_iter()
        .filter(|(key, _)| key.as_str() != SERVICE_TAG)
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect();
    let own = if is_reserved(service) { "{}" } else { "" };
    if others.is_empty() {
        return format!("{service}{own}");
    }
    others.sort_unstable();
    format!("{service}{own}{{{}}}", others.join(","))
}

/// Whether a name belongs to a cluster of our own that is not for a service. Users' templates and dashboards depend on
/// these names, so a service with such a name gets another cluster name (see [`service_cluster`]).
pub fn is_reserved(cluster: &str) -> bool {
    [ADS_CLUSTER, ACCESS_LOG_SINK, PASS_THROUGH].contains(&cluster)
        || ["localhost:", "kuma:", "tracing:"].iter().any(|prefix| cluster.starts_with(prefix))
}

fn escaped(text: &str) -> Cow<'_, str> {
    let special = ['\\', ',', '=', '{', '}'];
    if !text.contains(special) {
        return text.into();
    }
    text.chars().flat_map(|c| special.contains(&c).then_some('\\').into_iter().chain([c])).collect()
}

/// A name as a part of a statistic's name, in which dots and colons are separators.
pub fn stat_prefix(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn listeners_are_named_by_their_address() {
        assert_eq!(inbound_listener(ip("192.168.0.1"), 80), "inbound:192.168.0.1:80");
        assert_eq!(outbound_listener(ip("127.0.0.1"), 10000), "outbound:127.0.0.1:10000");
        assert_eq!(inbound_listener(ip("::1"), 80), "inbound:[::1]:80");
        assert_eq!(allowed_peers("inbound:192.168.0.1:80"), "allowed:inbound:192.168.0.1:80");
        assert_eq!(rbac("inbound:192.168.0.1:80"), "rbac:inbound:192.168.0.1:80");
        assert_eq!(split("outbound:127.0.0.1:10000"), "split:outbound:127.0.0.1:10000");
        assert_eq!(http("outbound:127.0.0.1:10000"), "http:outbound:127.0.0.1:10000");
        assert_eq!(http_rbac("inbound:192.168.0.1:80"), "http-rbac:inbound:192.168.0.1:80");
    }

    #[test]
    fn a_cluster_is_named_by_its_service_and_other_tags() {
        let tags = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        assert_eq!(service_cluster("redis", &tags(&[("service", "redis")])), "redis");
        assert_eq!(service_cluster("redis", &tags(&[("version", "1.0"), ("service", "redis")])), "redis{version=1.0}");
        // Sorted as pairs: `-` sorts before `=`.
        assert_eq!(service_cluster("db", &tags(&[("a", "1"), ("a-b", "2"), ("service", "db")])), "db{a-b=2,a=1}");
    }

    #[test]
    fn no_two_destinations_and_no_reserved_cluster_share_a_name() {
        let tags = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        let ours = [ADS_CLUSTER, ACCESS_LOG_SINK, PASS_THROUGH, NOWHERE, ADMIN_CLUSTER].map(str::to_owned);
        let ours: Vec<String> = ours
            .into_iter()
            .chain([local_cluster(80), tracing_cluster("a"), tracing_cluster("a{b=c}"), tracing_cluster("a{}")])
            .collect();
        let services = ours[..7].iter().map(String::as_str).chain(["kuma:", "localhost:", "a", "tracing"]);
        let other_tags =
            [&[][..], &[("b", "c")], &[("b", "c"), ("d", "e")], &[("b", "c,d=e")], &[("b", "c\\"), ("d", "e")]];
        let pairs = [&[("b=c", "d")][..], &[("b", "c=d")], &[("", "")]];
        let mut names: Vec<String> = services
            .flat_map(|service| other_tags.iter().chain(&pairs).map(|pairs| service_cluster(service, &tags(pairs))))
            .chain(ours.clone())
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{names:#?}");
        assert_eq!(service_cluster("localhost:80", &tags(&[])), "localhost:80{}");
        assert_eq!(service_cluster("ads_cluster", &tags(&[("version", "1")])), "ads_cluster{}{version=1}");
        assert_eq!(service_cluster("localhost", &tags(&[])), "localhost");
    }

    #[test]
    fn statistics_have_no_foreign_dots() {
        assert_eq!(stat_prefix("localhost:8080"), "localhost_8080");
        assert_eq!(stat_prefix("db{role=master}"), "db_role_master_");
        assert_eq!(stat_prefix("web-1_a"), "web-1_a");
    }
}
