//! The catalog: where the other servers of this control plane are, for programs that only know this one.

use kuma_wire::catalog::{AdminServer, Apis, Catalog, Server};

use crate::config::Config;

/// The catalog of a control plane with this configuration, which is complete (see [`Config::complete`]).
pub fn catalog(config: &Config) -> Catalog {
    let host = host_of_url(&config.general.advertised_hostname);
    let (api_server, admin_server) = (&config.api_server, &config.admin_server);
    let public = &admin_server.public;
    let admin = AdminServer {
        local_url: format!("http://localhost:{}", admin_server.local.port),
        public_url: match public.enabled {
            true => format!("https://{host}:{}", public.port),
            false => String::new(),
        },
    };
    let dataplane_token = match admin_server.apis.dataplane_token.enabled {
        true => admin.clone(),
        false => AdminServer::default(),
    };
    let params = &config.bootstrap_server.params;
    let monitoring = config.monitoring_assignment_server.grpc_port;
    Catalog {
        apis: Apis {
            bootstrap: Server { url: format!("http://{host}:{}", config.bootstrap_server.port) },
            dataplane_token,
            admin,
            monitoring_assignment: Server { url: format!("grpc://{host}:{monitoring}") },
            xds: Some(Server { url: format!("grpcs://{}:{}", host_of_url(&params.xds_host), params.xds_port) }),
            changes: (!api_server.read_only)
                .then(|| Server { url: format!("http://{host}:{}/changes", api_server.port) }),
        },
    }
}

/// An IPv6 address stands in brackets in a URL (RFC 3986, section 3.2.2).
fn host_of_url(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_string(),
    }
}
