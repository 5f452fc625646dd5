//! The access log of an outbound's connections or requests.

use envoy_api::envoy::config::accesslog::v3::{AccessLog as Logger, access_log::ConfigType};
use envoy_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_api::envoy::config::core::v3::substitution_format_string::Format;
use envoy_api::envoy::config::core::v3::{
    ApiVersion, DataSource, GrpcService, SubstitutionFormatString, data_source::Specifier,
};
use envoy_api::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use envoy_api::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_api::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_api::value::Kind;
use envoy_api::{Any, Duration, Packed, Struct};
use kuma_model::log_format::FieldKind;
use serde_json::{Map, Value, json};

use crate::key::{AccessLog, LogFormat};
use crate::names;

/// How long Envoy may buffer entries. Entries still in the buffer when Envoy ends are lost, so this is shorter than the
/// time that `kuma-dp` waits between the end of the last connection and that of Envoy.
const FLUSH_INTERVAL: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// Envoy's logger for connections.
pub(crate) fn of_connections(log: &AccessLog) -> Logger {
    match log {
        AccessLog::File { path, format, attempt } => named(&file_logger(*attempt), &file(path, format)),
        AccessLog::Tcp { address, format } => {
            let config = TcpGrpcAccessLogConfig { common_config: Some(tcp(address, format)) };
            named("envoy.access_loggers.tcp_grpc", &config)
        }
    }
}

/// Envoy's logger for requests.
pub(crate) fn of_requests(log: &AccessLog) -> Logger {
    match log {
        AccessLog::File { path, format, attempt } => named(&file_logger(*attempt), &file(path, format)),
        AccessLog::Tcp { address, format } => {
            let common_config = Some(tcp(address, format));
            let config = HttpGrpcAccessLogConfig { common_config, ..HttpGrpcAccessLogConfig::default() };
            named("envoy.access_loggers.http_grpc", &config)
        }
    }
}

/// Name of a logger that writes a file. Envoy ignores the name; it makes the bytes of each attempt different.
fn file_logger(attempt: u32) -> String {
    match attempt {
        0 => "envoy.access_loggers.file".to_owned(),
        attempt => format!("envoy.access_loggers.file#{attempt}"),
    }
}

fn named<M: Packed>(name: &str, config: &M) -> Logger {
    Logger { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(Any::pack(config))), ..Logger::default() }
}

fn file(path: &str, format: &LogFormat) -> FileAccessLog {
    let format = match format {
        LogFormat::Text(line) => Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(line.to_string())),
            ..DataSource::default()
        }),
        LogFormat::Json(fields) => Format::JsonFormat(envoys_fields(&parsed(fields))),
    };
    FileAccessLog {
        path: path.to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(format),
            ..SubstitutionFormatString::default()
        })),
    }
}

/// A log that goes to kuma-dp. The log's name tells it the collector's address. A line of text is a custom tag of the
/// entry, so Envoy formats it, with all its operators, as it would for a file. For JSON each field is a custom tag, and
/// kuma-dp builds the object, so that quotes in a client's data are escaped.
fn tcp(address: &str, format: &LogFormat) -> CommonGrpcAccessLogConfig {
    let (name, custom_tags) = match format {
        LogFormat::Text(line) => (line.to_string(), vec![tag(names::ACCESS_LOG_RECORD.to_owned(), line)]),
        LogFormat::Json(fields) => {
            let mut tags = Vec::new();
            let layout = laid_out(&parsed(fields), &mut tags);
            (Value::Object(layout).to_string(), tags)
        }
    };
    CommonGrpcAccessLogConfig {
        log_name: format!("{address};{name}"),
        transport_api_version: ApiVersion::V3 as i32,
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: names::ACCESS_LOG_SINK.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        buffer_flush_interval: Some(FLUSH_INTERVAL),
        custom_tags,
        ..CommonGrpcAccessLogConfig::default()
    }
}

fn tag(name: String, format: &str) -> CustomTag {
    CustomTag { tag: name, r#type: Some(custom_tag::Type::Value(format.to_owned())), ..CustomTag::default() }
}

/// The fields of a JSON format. It was serialised by us, so it always parses.
fn parsed(fields: &str) -> Map<String, Value> {
    serde_json::from_str(fields).unwrap_or_default()
}

fn envoys_fields(fields: &Map<String, Value>) -> Struct {
    let read = |(name, value): (&String, &Value)| {
        let kind = match value {
            Value::Object(fields) => Kind::StructValue(envoys_fields(fields)),
            other => Kind::StringValue(other.as_str().unwrap_or_default().to_owned()),
        };
        (name.clone(), envoy_api::Value { kind: Some(kind) })
    };
    Struct { fields: fields.iter().map(read).collect() }
}

/// The same object with each string replaced by `[number, kind]`; the string becomes the tag of that number. kuma-dp
/// reads this layout (`kuma-dp/src/access_log/record.rs`).
fn laid_out(fields: &Map<String, Value>, tags: &mut Vec<CustomTag>) -> Map<String, Value> {
    let mut layout = Map::new();
    for (name, value) in fields {
        let place = match value {
            Value::Object(fields) => Value::Object(laid_out(fields, tags)),
            other => {
                let format = other.as_str().unwrap_or_default();
                let number = tags.len();
                let kind = match FieldKind::of(format) {
                    FieldKind::Text => "text",
                    FieldKind::Value => "value",
                    FieldKind::Number => "number",
                };
                // Envoy refuses a tag with an empty value. An empty field needs no tag.
                if !format.is_empty() {
                    tags.push(tag(format!("{}{number}", names::ACCESS_LOG_FIELD), format));
                }
                json!([number, kind])
            }
        };
        layout.insert(name.clone(), place);
    }
    layout
}
