//! `install transparent-proxy` and `uninstall transparent-proxy`.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use go_duration::GoDuration;

use crate::firewall::{Network, PortRange};

/// Shown below the flags.
pub(super) const HELP: &str = "\
Port 22 is never redirected, nor are inbound connections to the port of the SSH session that kumactl runs in and to \
those of a control plane. Connections that are open stay as they are.

On a machine that you reach over the network, use --revert-after: the rules then go away by themselves, whatever \
happens to your session, unless you come back and run `kumactl install transparent-proxy --confirm`.";

/// `install transparent-proxy`
#[derive(Debug, Args)]
pub(crate) struct InstallTransparentProxy {
    /// User that runs kuma-dp and its Envoy; connections of this user are not redirected [default: kuma-dp]
    #[arg(long, value_name = "NAME", conflicts_with = "kuma_dp_uid")]
    pub(crate) kuma_dp_user: Option<String>,
    /// Number of that user, in place of its name
    #[arg(long, value_name = "UID")]
    pub(crate) kuma_dp_uid: Option<u32>,
    /// Port to redirect to: networking.transparentProxying.redirectPort of the Dataplane
    #[arg(long, alias = "redirect-outbound-port", value_name = "PORT", default_value_t = 15001,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) redirect_port: u16,
    /// Port to redirect inbound connections to: networking.transparentProxying.redirectPortInbound [default:
    /// redirect-port + 5]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) redirect_inbound_port: Option<u16>,
    /// Whether to redirect connections from other machines as well
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(crate) redirect_inbound: bool,
    /// Only inbound connections to these ports: 8080,9000-9010
    #[arg(long, value_name = "PORTS", value_delimiter = ',', conflicts_with = "exclude_inbound_ports")]
    pub(crate) include_inbound_ports: Vec<PortRange>,
    /// No inbound connections to these ports
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(crate) exclude_inbound_ports: Vec<PortRange>,
    /// No outbound connections to these ports
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(crate) exclude_outbound_ports: Vec<PortRange>,
    /// No outbound connections to these addresses or networks: 169.254.169.254,10.0.0.0/8
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    pub(crate) exclude_outbound_ips: Vec<Network>,
    /// Which outbound connections to redirect; `dualstack` needs a Dataplane with an IPv6 interface. Inbound ones are
    /// redirected in both families; over IPv6 they are refused where the Dataplane has no such interface
    #[arg(long, value_name = "MODE", value_enum, default_value = "ipv4")]
    pub(crate) ip_family_mode: IpFamilyMode,
    /// Take the rules back after this time, such as 60s or 5m, unless they are confirmed
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) revert_after: Option<Duration>,
    /// Keep the rules that were set up with --revert-after
    #[arg(long, exclusive = true)]
    pub(crate) confirm: bool,
    /// Print the rules, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the rules as well, on stderr
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// `uninstall transparent-proxy`
#[derive(Debug, Args)]
pub(crate) struct UninstallTransparentProxy {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Value of `--ip-family-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IpFamilyMode {
    /// Outbound over IPv4 alone.
    Ipv4,
    /// IPv4 and IPv6.
    Dualstack,
}

/// A duration in whole seconds, the unit of nftables.
fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<GoDuration>().map(|duration| duration.get().as_secs()) {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("it must be a time from 1s to 24h, such as 60s or 5m".to_owned()),
    }
}
