//! What is noted of each connection of an outbound, or of each request.

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
use envoy_api::{Any, Duration, Packed};

use crate::key::AccessLog;
use crate::names;

/// How long Envoy may keep entries back. Those that it keeps when it ends are lost, so it is shorter than what `kuma-dp`
/// waits between the end of the last connection and that of Envoy.
const FLUSH_INTERVAL: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// Envoy's logger of connections for a log.
pub(crate) fn of_connections(log: &AccessLog) -> Logger {
    match log {
        AccessLog::File { path, format } => named("envoy.access_loggers.file", &file(path, format)),
        AccessLog::Tcp { address, format } => {
            let config = TcpGrpcAccessLogConfig { common_config: Some(tcp(address, format)) };
            named("envoy.access_loggers.tcp_grpc", &config)
        }
    }
}

/// Envoy's logger of requests for a log.
pub(crate) fn of_requests(log: &AccessLog) -> Logger {
    match log {
        AccessLog::File { path, format } => named("envoy.access_loggers.file", &file(path, format)),
        AccessLog::Tcp { address, format } => {
            let common_config = Some(tcp(address, format));
            let config = HttpGrpcAccessLogConfig { common_config, ..HttpGrpcAccessLogConfig::default() };
            named("envoy.access_loggers.http_grpc", &config)
        }
    }
}

fn named<M: Packed>(name: &str, config: &M) -> Logger {
    Logger { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(Any::pack(config))), ..Logger::default() }
}

fn file(path: &str, format: &str) -> FileAccessLog {
    let line = DataSource { specifier: Some(Specifier::InlineString(format.to_owned())), ..DataSource::default() };
    FileAccessLog {
        path: path.to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(Format::TextFormatSource(line)),
            ..SubstitutionFormatString::default()
        })),
    }
}

/// To kuma-dp, which learns from the log's name where the lines go. The line itself is a tag of each entry, so Envoy makes
/// it, with all its operators, just as it would for a file.
fn tcp(address: &str, format: &str) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: format!("{address};{format}"),
        transport_api_version: ApiVersion::V3 as i32,
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: names::ACCESS_LOG_SINK.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        buffer_flush_interval: Some(FLUSH_INTERVAL),
        custom_tags: vec![CustomTag {
            tag: names::ACCESS_LOG_RECORD.to_owned(),
            r#type: Some(custom_tag::Type::Value(format.to_owned())),
            ..CustomTag::default()
        }],
        ..CommonGrpcAccessLogConfig::default()
    }
}
