//! Extensions: v2 found them by name and gave them a `config` of no type; v3 finds them by the type of their config.

use serde_json::{Map, Value as Json, json};

use super::Edit;
use crate::descriptors::TYPE_URL_PREFIX;

/// What an extension extends. One name may mean two things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Category {
    Network,
    Http,
    Listener,
    AccessLog,
    TransportSocket,
    RetryHostPredicate,
    RetryPriority,
}

/// What a message of this name is one of, if it holds an extension.
pub(super) fn category(message: &str) -> Option<Category> {
    Some(match message {
        "envoy.config.listener.v3.Filter" => Category::Network,
        "envoy.config.listener.v3.ListenerFilter" => Category::Listener,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => Category::Http,
        "envoy.config.accesslog.v3.AccessLog" => Category::AccessLog,
        "envoy.config.core.v3.TransportSocket" => Category::TransportSocket,
        "envoy.config.route.v3.RetryPolicy.RetryHostPredicate" => Category::RetryHostPredicate,
        "envoy.config.route.v3.RetryPolicy.RetryPriority" => Category::RetryPriority,
        _ => return None,
    })
}

/// Gives an extension its type.
pub(super) fn configured(edit: &mut Edit<'_>, category: Category) {
    if edit.has("typed_config") || edit.has("config_discovery") {
        return;
    }
    let name = match edit.object.get("name") {
        Some(Json::String(name)) => name.clone(),
        // What is wrong with the name is told when it is read.
        _ => return,
    };
    let config = edit.take("config");
    let Some(message) = type_of(category, &name) else {
        if config.is_some() {
            edit.wrong("config", format!("no type is known for {name:?}: write it as \"typed_config\" with \"@type\""));
        }
        return;
    };
    match config {
        None => edit.put("typed_config", typed(message, Map::new())),
        Some(Json::Object(fields)) => {
            edit.put("typed_config", typed(message, fields));
            edit.alias("typed_config", "config");
        }
        Some(_) => edit.wrong("config", "expected a mapping"),
    }
}

/// Gives what a route says to HTTP filters its types.
pub(super) fn per_filter(edit: &mut Edit<'_>) {
    let Some(config) = edit.take("per_filter_config") else { return };
    let Json::Object(by_name) = config else {
        return edit.wrong("per_filter_config", "expected a mapping");
    };
    let mut typed_by_name = Map::new();
    for (name, config) in by_name {
        let message = PER_ROUTE.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, message)| *message);
        match (message, config) {
            (Some(message), Json::Object(fields)) => {
                typed_by_name.insert(name, typed(message, fields));
            }
            (Some(_), _) => edit.wrong(&crate::entry("per_filter_config", &name), "expected a mapping"),
            (None, _) => edit.wrong(
                &crate::entry("per_filter_config", &name),
                "no type is known for it: write it in \"typed_per_filter_config\" with \"@type\"",
            ),
        }
    }
    edit.put("typed_per_filter_config", Json::Object(typed_by_name));
    edit.alias("typed_per_filter_config", "per_filter_config");
}

/// An `Any`.
pub(super) fn typed(message: &str, fields: Map<String, Json>) -> Json {
    let mut any = Map::from_iter([("@type".to_owned(), json!(format!("{TYPE_URL_PREFIX}{message}")))]);
    any.extend(fields);
    Json::Object(any)
}

/// The v3 message that configures an extension of v2.
fn type_of(category: Category, name: &str) -> Option<&'static str> {
    let known = EXTENSIONS.iter().find(|(of, names, _)| *of == category && names.contains(&name));
    known.map(|(.., message)| *message)
}

use Category::{AccessLog, Http, Listener, Network, RetryHostPredicate, RetryPriority, TransportSocket};

/// The extensions of v2 that Envoy 1.40 still has, by all their names.
const EXTENSIONS: &[(Category, &[&str], &str)] = &[
    (
        Network,
        &["envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ),
    (
        Network,
        &["envoy.http_connection_manager", "envoy.filters.network.http_connection_manager"],
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    (Network, &["envoy.filters.network.rbac"], "envoy.extensions.filters.network.rbac.v3.RBAC"),
    (Network, &["envoy.echo", "envoy.filters.network.echo"], "envoy.extensions.filters.network.echo.v3.Echo"),
    (
        Network,
        &["envoy.ext_authz", "envoy.filters.network.ext_authz"],
        "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
    ),
    (
        Network,
        &["envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"],
        "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",
    ),
    (
        Network,
        &["envoy.ratelimit", "envoy.filters.network.ratelimit"],
        "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
    ),
    (
        Network,
        &["envoy.redis_proxy", "envoy.filters.network.redis_proxy"],
        "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
    ),
    (Network, &["envoy.filters.network.sni_cluster"], "envoy.extensions.filters.network.sni_cluster.v3.SniCluster"),
    (Network, &["envoy.filters.network.thrift_proxy"], "envoy.extensions.filters.network.thrift_proxy.v3.ThriftProxy"),
    (Network, &["envoy.filters.network.dubbo_proxy"], "envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy"),
    (
        Network,
        &["envoy.filters.network.zookeeper_proxy"],
        "envoy.extensions.filters.network.zookeeper_proxy.v3.ZooKeeperProxy",
    ),
    (Network, &["envoy.filters.network.direct_response"], "envoy.extensions.filters.network.direct_response.v3.Config"),
    (
        Network,
        &["envoy.filters.network.local_ratelimit"],
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    ),
    (Http, &["envoy.router", "envoy.filters.http.router"], "envoy.extensions.filters.http.router.v3.Router"),
    (Http, &["envoy.buffer", "envoy.filters.http.buffer"], "envoy.extensions.filters.http.buffer.v3.Buffer"),
    (Http, &["envoy.cors", "envoy.filters.http.cors"], "envoy.extensions.filters.http.cors.v3.Cors"),
    (Http, &["envoy.csrf", "envoy.filters.http.csrf"], "envoy.extensions.filters.http.csrf.v3.CsrfPolicy"),
    (Http, &["envoy.ext_authz", "envoy.filters.http.ext_authz"], "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"),
    (Http, &["envoy.fault", "envoy.filters.http.fault"], "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    (
        Http,
        &["envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"],
        "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
    ),
    (
        Http,
        &["envoy.filters.http.grpc_http1_reverse_bridge"],
        "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
    ),
    (
        Http,
        &["envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"],
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    ),
    (Http, &["envoy.filters.http.grpc_stats"], "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"),
    (Http, &["envoy.grpc_web", "envoy.filters.http.grpc_web"], "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
    (Http, &["envoy.filters.http.header_to_metadata"], "envoy.extensions.filters.http.header_to_metadata.v3.Config"),
    (
        Http,
        &["envoy.health_check", "envoy.filters.http.health_check"],
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    ),
    (
        Http,
        &["envoy.ip_tagging", "envoy.filters.http.ip_tagging"],
        "envoy.extensions.filters.http.ip_tagging.v3.IPTagging",
    ),
    (Http, &["envoy.filters.http.jwt_authn"], "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
    (Http, &["envoy.lua", "envoy.filters.http.lua"], "envoy.extensions.filters.http.lua.v3.Lua"),
    (Http, &["envoy.filters.http.original_src"], "envoy.extensions.filters.http.original_src.v3.OriginalSrc"),
    (
        Http,
        &["envoy.rate_limit", "envoy.filters.http.ratelimit"],
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    ),
    (Http, &["envoy.filters.http.rbac"], "envoy.extensions.filters.http.rbac.v3.RBAC"),
    (Http, &["envoy.filters.http.tap"], "envoy.extensions.filters.http.tap.v3.Tap"),
    (Http, &["envoy.filters.http.on_demand"], "envoy.extensions.filters.http.on_demand.v3.OnDemand"),
    (
        Listener,
        &["envoy.listener.tls_inspector", "envoy.filters.listener.tls_inspector"],
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
    (
        Listener,
        &["envoy.listener.http_inspector", "envoy.filters.listener.http_inspector"],
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    ),
    (
        Listener,
        &["envoy.listener.original_dst", "envoy.filters.listener.original_dst"],
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    ),
    (
        Listener,
        &["envoy.listener.original_src", "envoy.filters.listener.original_src"],
        "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    ),
    (
        Listener,
        &["envoy.listener.proxy_protocol", "envoy.filters.listener.proxy_protocol"],
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ),
    (
        AccessLog,
        &["envoy.file_access_log", "envoy.access_loggers.file"],
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    ),
    (
        AccessLog,
        &["envoy.http_grpc_access_log", "envoy.access_loggers.http_grpc"],
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    ),
    (
        AccessLog,
        &["envoy.tcp_grpc_access_log", "envoy.access_loggers.tcp_grpc"],
        "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    ),
    (
        TransportSocket,
        &["raw_buffer", "envoy.transport_sockets.raw_buffer"],
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    ),
    (TransportSocket, &["envoy.transport_sockets.alts"], "envoy.extensions.transport_sockets.alts.v3.Alts"),
    (
        RetryHostPredicate,
        &["envoy.retry_host_predicates.previous_hosts"],
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    ),
    (
        RetryHostPredicate,
        &["envoy.retry_host_predicates.omit_canary_hosts"],
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
    ),
    (
        RetryPriority,
        &["envoy.retry_priorities.previous_priorities"],
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    ),
];

/// What a route may say to an HTTP filter.
const PER_ROUTE: &[(&[&str], &str)] = &[
    (&["envoy.buffer", "envoy.filters.http.buffer"], "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"),
    (&["envoy.csrf", "envoy.filters.http.csrf"], "envoy.extensions.filters.http.csrf.v3.CsrfPolicy"),
    (
        &["envoy.ext_authz", "envoy.filters.http.ext_authz"],
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
    ),
    (&["envoy.fault", "envoy.filters.http.fault"], "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    (&["envoy.filters.http.rbac"], "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_one_of_envoys() {
        let all = EXTENSIONS.iter().map(|(.., message)| message).chain(PER_ROUTE.iter().map(|(_, message)| message));
        for message in all {
            let resolved = crate::descriptors::get().resolve(&format!("{TYPE_URL_PREFIX}{message}"));
            assert!(resolved.is_ok_and(|(_, v2)| !v2), "{message}");
        }
    }

    #[test]
    fn a_name_means_one_thing() {
        for (category, names, message) in EXTENSIONS {
            for name in *names {
                assert_eq!(type_of(*category, name), Some(*message), "{category:?} {name}");
            }
        }
    }
}
