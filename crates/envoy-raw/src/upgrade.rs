//! From Envoy's v2 API to v3: one message of JSON at a time, just before it is read as the v3 message.
//!
//! Most of v2 reads as v3 as it stands, with another type URL; field numbers and names were kept. What is here is the
//! rest: fields that were renamed or replaced between the two, and extensions, which v2 configured by name and a
//! `config` of no type. Done to what was written for v2 alone: a v3 text with such a field is wrong, and is told so.

mod extensions;

use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value as Json, json};

use crate::{Problem, child};

type Object = Map<String, Json>;

/// Names of the transport socket that is TLS.
const TLS_SOCKETS: [&str; 2] = ["tls", "envoy.transport_sockets.tls"];

/// What an upgrade leaves to say.
#[derive(Default)]
pub(crate) struct Upgraded {
    /// Paths that are not as the user wrote them.
    pub(crate) aliases: Vec<Alias>,
    /// What could not be brought to v3.
    pub(crate) problems: Vec<Problem>,
}

/// A path in the v3 message, and the same place as the user wrote it.
pub(crate) struct Alias {
    v3: String,
    v2: String,
}

/// Problems with the paths that the user wrote.
pub(crate) fn shown(mut problems: Vec<Problem>, aliases: &[Alias]) -> Vec<Problem> {
    let mut inner_first: Vec<&Alias> = aliases.iter().collect();
    inner_first.sort_by_key(|alias| std::cmp::Reverse(alias.v3.len()));
    for problem in &mut problems {
        for alias in &inner_first {
            let rest = problem.path.strip_prefix(alias.v3.as_str());
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
                problem.path = format!("{}{rest}", alias.v2);
            }
        }
    }
    problems
}

/// Brings the fields of one message to v3; what they hold follows when it is read.
pub(crate) fn message(descriptor: &MessageDescriptor, object: &mut Object, path: &str) -> Upgraded {
    let mut edit = Edit { object, path, upgraded: Upgraded::default() };
    for version in ["resource_api_version", "transport_api_version"] {
        if descriptor.get_field_by_name(version).is_some() {
            edit.take(version);
            edit.put(version, json!("V3"));
        }
    }
    match descriptor.full_name() {
        "envoy.config.cluster.v3.Cluster" => cluster(&mut edit),
        "envoy.config.listener.v3.Listener" => listener(&mut edit),
        "envoy.config.listener.v3.FilterChain" => edit.tls_context("DownstreamTlsContext"),
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck" => http_health_check(&mut edit),
        "envoy.config.route.v3.RouteMatch" => edit.safe_regex("regex", "safe_regex"),
        "envoy.config.route.v3.RouteAction" => route_action(&mut edit),
        "envoy.config.route.v3.CorsPolicy" => cors(&mut edit),
        "envoy.config.route.v3.HeaderMatcher" => edit.safe_regex("regex_match", "safe_regex_match"),
        "envoy.config.route.v3.QueryParameterMatcher" => query_parameter(&mut edit),
        "envoy.type.matcher.v3.StringMatcher" => edit.safe_regex("regex", "safe_regex"),
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => manager(&mut edit),
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing" => {
            tracing(&mut edit);
        }
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext" => {
            edit.each("verify_subject_alt_name", "match_subject_alt_names", |name| json!({"exact": name}));
        }
        _ => {}
    }
    if descriptor.get_field_by_name("typed_per_filter_config").is_some() {
        extensions::per_filter(&mut edit);
    }
    if let Some(category) = extensions::category(descriptor.full_name()) {
        extensions::configured(&mut edit, category);
    }
    edit.upgraded
}

/// One message being edited. Fields are found by both of their names.
struct Edit<'a> {
    object: &'a mut Object,
    path: &'a str,
    upgraded: Upgraded,
}

impl Edit<'_> {
    /// Takes a field out; `null` is no value.
    fn take(&mut self, name: &str) -> Option<Json> {
        let (snake, camel) = (self.object.shift_remove(name), self.object.shift_remove(&camel_case(name)));
        snake.or(camel).filter(|value| !value.is_null())
    }

    fn has(&self, name: &str) -> bool {
        self.object.contains_key(name) || self.object.contains_key(&camel_case(name))
    }

    /// Sets a field that is not there.
    fn put(&mut self, name: &str, value: Json) {
        if !self.has(name) {
            self.object.insert(name.to_owned(), value);
        }
    }

    /// Notes that what is at `v3`, below this message, was written at `v2`.
    fn alias(&mut self, v3: &str, v2: &str) {
        self.upgraded.aliases.push(Alias { v3: child(self.path, v3), v2: child(self.path, v2) });
    }

    fn wrong(&mut self, field: &str, reason: impl Into<String>) {
        self.upgraded.problems.push(Problem { path: child(self.path, field), reason: reason.into() });
    }

    fn rename(&mut self, v2: &str, v3: &str) {
        if let Some(value) = self.take(v2) {
            self.put(v3, value);
            self.alias(v3, v2);
        }
    }

    /// A regular expression of the standard library that v2 had; the one there is now is RE2's.
    fn safe_regex(&mut self, v2: &str, v3: &str) {
        if let Some(regex) = self.take(v2) {
            self.put(v3, json!({"regex": regex}));
            self.alias(&format!("{v3}.regex"), v2);
        }
    }

    /// Moves each element of a list to another list.
    fn each(&mut self, v2: &str, v3: &str, into: impl Fn(Json) -> Json) {
        if let Some(values) = self.take(v2) {
            let values: Vec<Json> = listed(values).into_iter().map(into).collect();
            self.put(v3, Json::Array(values));
            self.alias(v3, v2);
        }
    }

    /// TLS, which is one of several transport sockets now. Named as one, it is of this type here.
    fn tls_context(&mut self, message: &str) {
        let message = format!("envoy.extensions.transport_sockets.tls.v3.{message}");
        let name = if self.object.contains_key("transportSocket") { "transportSocket" } else { "transport_socket" };
        if let Some(Json::Object(socket)) = self.object.get_mut(name)
            && socket.get("name").and_then(Json::as_str).is_some_and(|name| TLS_SOCKETS.contains(&name))
            && let Some(Json::Object(fields)) = socket.shift_remove("config")
        {
            socket.entry("typed_config").or_insert(extensions::typed(&message, fields));
            self.alias("transport_socket.typed_config", "transport_socket.config");
        }
        let Some(context) = self.take("tls_context") else { return };
        let Json::Object(fields) = context else {
            return self.wrong("tls_context", "expected a mapping");
        };
        let typed_config = extensions::typed(&message, fields);
        self.put("transport_socket", json!({"name": "envoy.transport_sockets.tls", "typed_config": typed_config}));
        self.alias("transport_socket.typed_config", "tls_context");
    }
}

fn cluster(edit: &mut Edit<'_>) {
    edit.tls_context("UpstreamTlsContext");
    edit.rename("drain_connections_on_host_removal", "ignore_health_on_host_removal");
    if let Some(hosts) = edit.take("hosts") {
        let name = edit.object.get("name").cloned().unwrap_or_default();
        let endpoints: Vec<Json> =
            listed(hosts).into_iter().map(|address| json!({"endpoint": {"address": address}})).collect();
        for index in 0..endpoints.len() {
            let v3 = format!("load_assignment.endpoints[0].lb_endpoints[{index}].endpoint.address");
            edit.alias(&v3, &format!("hosts[{index}]"));
        }
        edit.put("load_assignment", json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}));
    }
    const ORIGINAL_DST_LB: u64 = 4;
    if let Some(policy) = edit.take("lb_policy") {
        let original_dst = policy == json!("ORIGINAL_DST_LB") || policy == json!(ORIGINAL_DST_LB);
        edit.put("lb_policy", if original_dst { json!("CLUSTER_PROVIDED") } else { policy });
    }
}

fn listener(edit: &mut Edit<'_>) {
    let Some(deprecated) = edit.take("deprecated_v1") else { return };
    let mut deprecated = match deprecated {
        Json::Object(fields) => fields,
        _ => return edit.wrong("deprecated_v1", "expected a mapping"),
    };
    let bind = deprecated.shift_remove("bind_to_port").or_else(|| deprecated.shift_remove("bindToPort"));
    if let Some(bind) = bind {
        edit.put("bind_to_port", bind);
        edit.alias("bind_to_port", "deprecated_v1.bind_to_port");
    }
    if let Some((unknown, _)) = deprecated.iter().next() {
        edit.wrong(&format!("deprecated_v1.{unknown}"), "unknown field; there is \"bind_to_port\" alone");
    }
}

fn http_health_check(edit: &mut Edit<'_>) {
    if edit.take("use_http2") == Some(json!(true)) {
        edit.put("codec_client_type", json!("HTTP2"));
    }
    if let Some(name) = edit.take("service_name") {
        edit.put("service_name_matcher", json!({"prefix": name}));
        edit.alias("service_name_matcher.prefix", "service_name");
    }
}

fn route_action(edit: &mut Edit<'_>) {
    edit.rename("host_rewrite", "host_rewrite_literal");
    edit.rename("auto_host_rewrite_header", "host_rewrite_header");
    if let Some(policy) = edit.take("request_mirror_policy") {
        edit.put("request_mirror_policies", json!([policy]));
        edit.alias("request_mirror_policies[0]", "request_mirror_policy");
    }
}

fn cors(edit: &mut Edit<'_>) {
    let mut origins = Vec::new();
    origins.extend(edit.take("allow_origin").into_iter().flat_map(listed).map(|origin| {
        // v2 took the one origin `*` for all.
        if origin == json!("*") { json!({"safe_regex": {"regex": ".*"}}) } else { json!({"exact": origin}) }
    }));
    let regexes = edit.take("allow_origin_regex").into_iter().flat_map(listed);
    origins.extend(regexes.map(|regex| json!({"safe_regex": {"regex": regex}})));
    if !origins.is_empty() {
        edit.put("allow_origin_string_match", Json::Array(origins));
        edit.alias("allow_origin_string_match", "allow_origin");
    }
    if edit.take("enabled") == Some(json!(false)) {
        edit.put("filter_enabled", json!({"default_value": {"numerator": 0}}));
    }
}

fn query_parameter(edit: &mut Edit<'_>) {
    let regex = edit.take("regex") == Some(json!(true));
    if let Some(value) = edit.take("value") {
        let matcher = if regex { json!({"safe_regex": {"regex": value}}) } else { json!({"exact": value}) };
        edit.put("string_match", matcher);
        edit.alias("string_match", "value");
    } else {
        edit.put("present_match", json!(true));
    }
}

fn manager(edit: &mut Edit<'_>) {
    if let Some(timeout) = edit.take("idle_timeout") {
        let mut options = match edit.take("common_http_protocol_options") {
            Some(Json::Object(options)) => options,
            _ => Object::new(),
        };
        options.entry("idle_timeout").or_insert(timeout);
        edit.put("common_http_protocol_options", Json::Object(options));
        edit.alias("common_http_protocol_options.idle_timeout", "idle_timeout");
    }
}

fn tracing(edit: &mut Edit<'_>) {
    // The listener's `traffic_direction` says it now.
    edit.take("operation_name");
    edit.each("request_headers_for_tags", "custom_tags", |name| json!({"tag": name, "request_header": {"name": name}}));
}

/// The elements of a list, or the one value in its place.
fn listed(value: Json) -> Vec<Json> {
    match value {
        Json::Array(elements) => elements,
        one => vec![one],
    }
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}
