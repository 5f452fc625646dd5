//! References between resources: by name, over the ADS stream.

use envoy_api::Packed;
use envoy_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_api::envoy::config::core::v3::{AggregatedConfigSource, ApiVersion, ConfigSource, ExtensionConfigSource};
use envoy_api::envoy::config::listener::v3::{Filter, filter};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;

/// The config source of every reference. Its bytes must never change: when the source of a listener's secrets changes,
/// Envoy 1.40 drops the listener's certificates and does not ask for them again.
pub(crate) fn source() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A secret, by SDS.
pub(crate) fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(source()) }
}

/// A network filter whose configuration is an extension config of the filter's name, by ECDS. The listener waits for
/// it; if it does not arrive in time, Envoy closes every connection.
pub(crate) fn filter<M: Packed>(name: String) -> Filter {
    Filter { name, config_type: Some(filter::ConfigType::ConfigDiscovery(extension::<M>())) }
}

/// The same for an HTTP filter. A change of it takes effect with the next request, also on open connections.
pub(crate) fn http_filter<M: Packed>(name: String) -> HttpFilter {
    HttpFilter {
        name,
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(extension::<M>())),
        ..HttpFilter::default()
    }
}

fn extension<M: Packed>() -> ExtensionConfigSource {
    ExtensionConfigSource {
        config_source: Some(source()),
        type_urls: vec![M::TYPE_URL.to_owned()],
        ..ExtensionConfigSource::default()
    }
}
