//! The firewall rules in the syntax of nft.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Network, PortRange, TABLE, removal};

/// Which connections are redirected, and to where.
#[derive(Debug, Clone)]
pub(crate) struct Ruleset {
    /// Port of the proxy to which they are redirected.
    pub(crate) port: u16,
    /// The proxy's user. Its connections are not redirected, since the proxy would connect to itself without end.
    pub(crate) user: u32,
    /// Which connections from other machines.
    pub(crate) inbound: Inbound,
    /// Outbound connections to these ports are not redirected.
    pub(crate) exclude_outbound_ports: Vec<PortRange>,
    /// Outbound connections to these networks are not redirected.
    pub(crate) exclude_outbound_networks: Vec<Network>,
    /// Whether connections over IPv6 are redirected too.
    pub(crate) ipv6: bool,
    /// Time after which the kernel turns all rules off.
    pub(crate) revert_after: Option<Duration>,
}

/// Which inbound connections are redirected.
#[derive(Debug, Clone)]
pub(crate) enum Inbound {
    /// None.
    None,
    /// Those to these ports.
    Only(Vec<PortRange>),
    /// Those to all ports but these.
    AllBut(Vec<PortRange>),
}

impl Ruleset {
    /// A script that replaces the existing rules by these in one transaction.
    pub(crate) fn script(&self) -> String {
        let mut script = removal();
        let _ = writeln!(script, "table {TABLE} {{\n{}{}{}}}", self.switch(), self.output(), self.prerouting());
        script
    }

    /// The part that lets the kernel turn the rules off after a time, so that no process has to keep running for that.
    fn switch(&self) -> String {
        let timeout = self.revert_after.map(|after| format!(" timeout {}s", after.as_secs())).unwrap_or_default();
        format!(
            "\t# The rules act while tcp is in here.\n\tset active {{\n\t\ttype inet_proto\n\t\tflags timeout\n\
             \t\telements = {{ tcp{timeout} }}\n\t}}\n"
        )
    }

    fn output(&self) -> String {
        let mut rules = self.common();
        rules.push("# This machine's own addresses, loopback included.".into());
        rules.push("fib daddr type local return".into());
        rules.extend(sorted(&self.exclude_outbound_ports).map(|ports| format!("tcp dport {ports} return")));
        let networks = sorted(&self.exclude_outbound_networks);
        rules.extend(networks.map(|network| format!("{} daddr {network} return", network.family())));
        rules.push("# Neither those of the proxy, nor those of the kernel, which have no user.".into());
        rules.push(format!("meta skuid != {} meta l4proto tcp redirect to :{}", self.user, self.port));
        // Before the NAT rules of others, which may translate the address of a service: the proxy needs the original.
        chain("Connections of this machine", "output", -101, &rules)
    }

    fn prerouting(&self) -> String {
        let mut rules = self.common();
        rules.push("# Forwarded connections, such as those of containers, are not redirected.".into());
        rules.push("fib daddr type != local return".into());
        match &self.inbound {
            Inbound::None => return String::new(),
            Inbound::Only(ports) => {
                rules.extend(sorted(ports).map(|ports| format!("tcp dport {ports} redirect to :{}", self.port)))
            }
            Inbound::AllBut(ports) => {
                // Connections to the proxy's own port are never redirected.
                let ports = sorted(ports).chain([self.port.into()]);
                rules.extend(ports.map(|ports| format!("tcp dport {ports} return")));
                rules.push(format!("meta l4proto tcp redirect to :{}", self.port));
            }
        }
        // After the NAT rules of others: connections that they forward to a container are not redirected.
        chain("Connections from other machines", "prerouting", -99, &rules)
    }

    fn common(&self) -> Vec<String> {
        let mut rules = vec![
            "meta l4proto != @active return".to_owned(),
            "# Only new connections: open ones are not affected.".to_owned(),
            "tcp flags & (fin | syn | rst | ack) != syn return".to_owned(),
        ];
        if !self.ipv6 {
            rules.push("meta nfproto != ipv4 return".into());
        }
        rules
    }
}

fn chain(title: &str, hook: &str, priority: i32, rules: &[String]) -> String {
    let mut text = format!("\n\t# {title}.\n\tchain {hook} {{\n\t\ttype nat hook {hook} priority {priority}\n");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
    text
}

/// Sorted, without duplicates.
fn sorted<T: Ord + Copy>(items: &[T]) -> impl Iterator<Item = T> + use<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items.into_iter()
}
