//! `kumactl install`.

use std::process::Command;

use crate::cli::{Database, InstallDatabaseSchema, InstallTransparentProxy, IpFamilyMode};
use crate::failure::Failure;
use crate::firewall::{self, Inbound, PortRange, Ruleset};
use crate::ssh;

/// Port of SSH, which is not redirected, so that administrators can always log in.
const SSH: u16 = 22;

/// Ports of a control plane, which are not redirected: to a control plane on this machine, connections that the proxy
/// passes on would seem to come from this machine, which has more rights than others.
const CONTROL_PLANE: PortRange = PortRange::new(5676, 5684);

/// The default user of kuma-dp.
const DEFAULT_USER: &str = "kuma-dp";

/// What kuma-cp runs by itself, if it may. Not by a dependency: the driver of the database would come along.
const POSTGRES_SCHEMA: &str = include_str!("../../../kuma-store-postgres/src/schema.sql");

/// The SQL that makes the tables of kuma-cp.
pub(super) fn database_schema(arguments: &InstallDatabaseSchema) -> &'static str {
    match arguments.target {
        Database::Postgres => POSTGRES_SCHEMA,
    }
}

/// Redirects this machine's connections.
pub(super) fn transparent_proxy(arguments: InstallTransparentProxy) -> Result<String, Failure> {
    if arguments.confirm {
        return confirm();
    }
    let (dry_run, verbose) = (arguments.dry_run, arguments.verbose);
    let ruleset = ruleset(arguments)?;
    let script = ruleset.script();
    if dry_run {
        return Ok(script);
    }
    if verbose {
        eprint!("{script}");
    }
    firewall::apply(&script)?;
    if ruleset.user == 0 {
        eprintln!("Warning: kuma-dp runs as root: no connection of root is redirected");
    }
    let mut said = format!(
        "Connections of this machine are redirected to port {}, except those of user {}.\n",
        ruleset.port, ruleset.user
    );
    if let Some(after) = ruleset.revert_after {
        said.push_str(&format!(
            "In {} s they no longer are, unless this is run until then, best over a new connection:\n  kumactl \
             install transparent-proxy --confirm\n",
            after.as_secs()
        ));
    }
    Ok(said)
}

fn confirm() -> Result<String, Failure> {
    if !firewall::exists()? {
        return Err(Failure::new("there is nothing to confirm: no rules are set up"));
    }
    firewall::apply(&firewall::confirmation()).map_err(|_| {
        Failure::new("the time is over: connections are no longer redirected")
            .hint("set the rules up again, with more time for --revert-after")
    })?;
    Ok("The rules stay.\n".to_owned())
}

fn ruleset(arguments: InstallTransparentProxy) -> Result<Ruleset, Failure> {
    let InstallTransparentProxy {
        kuma_dp_user,
        kuma_dp_uid,
        redirect_port: port,
        redirect_inbound_port,
        redirect_inbound,
        include_inbound_ports,
        exclude_inbound_ports,
        mut exclude_outbound_ports,
        exclude_outbound_ips: exclude_outbound_networks,
        ip_family_mode,
        revert_after,
        confirm: _,
        dry_run: _,
        verbose: _,
    } = arguments;
    let user = match kuma_dp_uid {
        Some(number) => number,
        None => user_id(kuma_dp_user.as_deref().unwrap_or(DEFAULT_USER))?,
    };
    let inbound_port = redirect_inbound_port.or_else(|| port.checked_add(5)).ok_or_else(|| {
        Failure::new(format!("there is no port {port} + 5 for inbound connections"))
            .hint("name one: --redirect-inbound-port")
    })?;
    if inbound_port == port {
        return Err(Failure::new(format!("--redirect-port and --redirect-inbound-port are both {port}")));
    }
    for port in [port, inbound_port] {
        if include_inbound_ports.iter().any(|ports| ports.contains(port)) {
            return Err(Failure::new(format!("--include-inbound-ports holds {port}, the port to redirect to")));
        }
    }
    let inbound = match (redirect_inbound, include_inbound_ports.is_empty()) {
        (false, true) => Inbound::None,
        (false, false) => return Err(Failure::new("--include-inbound-ports contradicts --redirect-inbound=false")),
        (true, false) => Inbound::Only(include_inbound_ports),
        (true, true) => {
            let own = [SSH.into(), CONTROL_PLANE].into_iter().chain(ssh::port().map(PortRange::from));
            Inbound::AllBut(exclude_inbound_ports.into_iter().chain(own).collect())
        }
    };
    exclude_outbound_ports.push(SSH.into());
    let outbound_ipv6 = ip_family_mode == IpFamilyMode::Dualstack;
    Ok(Ruleset {
        port,
        inbound_port,
        user,
        inbound,
        exclude_outbound_ports,
        exclude_outbound_networks,
        outbound_ipv6,
        revert_after,
    })
}

/// The number of a user, as `id` knows it.
fn user_id(name: &str) -> Result<u32, Failure> {
    let output = Command::new("id").args(["-u", "--", name]).output();
    let output = output.map_err(|error| Failure::new(format!("could not run id: {error}")))?;
    let number = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().parse().ok());
    number.flatten().ok_or_else(|| {
        Failure::new(format!("there is no user {name} on this machine")).hint(format!(
            "make one with `useradd --system {DEFAULT_USER}` and run kuma-dp as it, or name another one with \
             --kuma-dp-user"
        ))
    })
}
