//! The catalog: where the other servers of this control plane are, for programs that only know this one.

use serde::Serialize;

use crate::config::Config;

/// The answer to `GET /catalog`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Catalog {
    apis: Apis,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Apis {
    bootstrap: Url,
    /// Where tokens are issued; with an empty `localUrl` no token is asked for. An older name of `admin`.
    dataplane_token: Admin,
    admin: Admin,
    monitoring_assignment: Url,
    /// Where several documents are changed in one commit; not there where nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Url>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Url {
    url: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Admin {
    local_url: String,
    public_url: String,
}

impl Catalog {
    /// The catalog of a control plane with this configuration, which is complete (see [`Config::complete`]).
    pub fn new(config: &Config) -> Self {
        let host = host_of_url(&config.general.advertised_hostname);
        let (api_server, admin_server) = (&config.api_server, &config.admin_server);
        let public = &admin_server.public;
        let admin = Admin {
            local_url: format!("http://localhost:{}", admin_server.local.port),
            public_url: match public.enabled {
                true => format!("https://{host}:{}", public.port),
                false => String::new(),
            },
        };
        let dataplane_token = match admin_server.apis.dataplane_token.enabled {
            true => admin.clone(),
            false => Admin::default(),
        };
        Self {
            apis: Apis {
                bootstrap: Url { url: format!("http://{host}:{}", config.bootstrap_server.port) },
                dataplane_token,
                admin,
                monitoring_assignment: Url {
                    url: format!("grpc://{host}:{}", config.monitoring_assignment_server.grpc_port),
                },
                changes: (!api_server.read_only)
                    .then(|| Url { url: format!("http://{host}:{}/changes", api_server.port) }),
            },
        }
    }
}

/// An IPv6 address stands in brackets in a URL (RFC 3986, section 3.2.2).
fn host_of_url(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_string(),
    }
}
