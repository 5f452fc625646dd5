//! The ports of the control plane. All of them are bound before anything runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::config::{AdminServer, Config};

/// Proxies whose connections may wait to be accepted, after a restart or a failure of the network. The kernel has a
/// limit of its own (net.core.somaxconn, 4096 since Linux 5.4), and tokio's default is a quarter of that.
const WAITING_PROXIES: i32 = 4096;

/// Where the servers listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Monitoring assignments for Prometheus.
    pub mads: SocketAddr,
    /// xDS for proxies.
    pub xds: SocketAddr,
    /// SDS for Envoys that are configured by hand.
    pub sds: SocketAddr,
    /// Admin, for this machine.
    pub admin: SocketAddr,
    /// Admin over mutual TLS; may be the same listener as `admin`.
    pub public_admin: Option<SocketAddr>,
    /// `/ready` and `/healthy`.
    pub diagnostics: SocketAddr,
    /// The HTTP API.
    pub api: SocketAddr,
    /// Bootstrap of proxies.
    pub bootstrap: SocketAddr,
}

pub(crate) struct Listeners {
    pub(crate) mads: TcpListener,
    pub(crate) xds: TcpListener,
    pub(crate) sds: TcpListener,
    pub(crate) admin: AdminListeners,
    pub(crate) diagnostics: TcpListener,
    pub(crate) api: TcpListener,
    pub(crate) bootstrap: TcpListener,
}

/// The admin server has one listener or two.
pub(crate) enum AdminListeners {
    /// `adminServer.public` is off.
    Local(TcpListener),
    /// Both have the same port, and the public address includes that of this machine.
    Shared(TcpListener),
    /// One each.
    Apart { local: TcpListener, public: TcpListener },
}

impl Listeners {
    /// Binds all ports, and writes those that the system chose back into the configuration.
    pub(crate) async fn bind(config: &mut Config) -> anyhow::Result<Listeners> {
        let listeners = Listeners {
            mads: everywhere(
                config.monitoring_assignment_server.grpc_port,
                "monitoringAssignmentServer.grpcPort (KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT)",
            )
            .await?,
            xds: everywhere(config.xds_server.grpc_port, "xdsServer.grpcPort (KUMA_XDS_SERVER_GRPC_PORT)").await?,
            sds: everywhere(config.sds_server.grpc_port, "sdsServer.grpcPort (KUMA_SDS_SERVER_GRPC_PORT)").await?,
            admin: AdminListeners::bind(&config.admin_server).await?,
            diagnostics: everywhere(
                config.xds_server.diagnostics_port,
                "xdsServer.diagnosticsPort (KUMA_XDS_SERVER_DIAGNOSTICS_PORT)",
            )
            .await?,
            api: everywhere(config.api_server.port, "apiServer.port (KUMA_API_SERVER_PORT)").await?,
            bootstrap: everywhere(config.bootstrap_server.port, "bootstrapServer.port (KUMA_BOOTSTRAP_SERVER_PORT)")
                .await?,
        };
        // Listening once more does nothing but replace the length of the queue.
        rustix::net::listen(&listeners.xds, WAITING_PROXIES).context("cannot listen for many proxies")?;
        let addresses = listeners.addresses()?;
        config.monitoring_assignment_server.grpc_port = addresses.mads.port();
        config.xds_server.grpc_port = addresses.xds.port();
        config.sds_server.grpc_port = addresses.sds.port();
        config.xds_server.diagnostics_port = addresses.diagnostics.port();
        config.admin_server.local.port = addresses.admin.port();
        if let Some(public) = addresses.public_admin {
            config.admin_server.public.port = public.port();
        }
        config.api_server.port = addresses.api.port();
        config.bootstrap_server.port = addresses.bootstrap.port();
        Ok(listeners)
    }

    pub(crate) fn addresses(&self) -> std::io::Result<Addresses> {
        let (admin, public_admin) = match &self.admin {
            AdminListeners::Local(local) => (local.local_addr()?, None),
            AdminListeners::Shared(both) => {
                let public = both.local_addr()?;
                (SocketAddr::from((Ipv4Addr::LOCALHOST, public.port())), Some(public))
            }
            AdminListeners::Apart { local, public } => (local.local_addr()?, Some(public.local_addr()?)),
        };
        Ok(Addresses {
            mads: self.mads.local_addr()?,
            xds: self.xds.local_addr()?,
            sds: self.sds.local_addr()?,
            admin,
            public_admin,
            diagnostics: self.diagnostics.local_addr()?,
            api: self.api.local_addr()?,
            bootstrap: self.bootstrap.local_addr()?,
        })
    }
}

impl AdminListeners {
    async fn bind(config: &AdminServer) -> anyhow::Result<AdminListeners> {
        let AdminServer { apis: _, local, public } = config;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, local.port));
        let local_setting = "adminServer.local.port (KUMA_ADMIN_SERVER_LOCAL_PORT)";
        if !public.enabled {
            return Ok(Self::Local(bind(here, local_setting).await?));
        }
        let setting = "adminServer.public.interface (KUMA_ADMIN_SERVER_PUBLIC_INTERFACE)";
        let resolved = tokio::net::lookup_host((public.interface.as_str(), public.port)).await;
        let mut address = resolved
            .ok()
            .and_then(|mut addresses| addresses.next())
            .with_context(|| format!("{:?} is no address of this machine; see {setting}", public.interface))?;
        let same_port = public.port == 0 || public.port == local.port;
        if same_port && (address.ip().is_unspecified() || address.ip() == here.ip()) {
            address.set_port(local.port);
            return Ok(Self::Shared(bind(address, setting).await?));
        }
        let local = bind(here, local_setting).await?;
        if public.port == 0 {
            address.set_port(local.local_addr()?.port());
        }
        Ok(Self::Apart { local, public: bind(address, setting).await? })
    }
}

/// Listens on every address, IPv6 and IPv4; on IPv4 alone where the machine has no IPv6.
async fn everywhere(port: u16, setting: &str) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(error).with_context(|| format!("cannot listen on port {port}; see {setting}"))
        }
        Err(_) => bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port).into(), setting).await,
    }
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; see {setting}"))
}
