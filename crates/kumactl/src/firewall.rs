//! Rules of the operating system's firewall that redirect connections to the proxy.
//!
//! The rules are an nftables table of our own, for both IPv4 and IPv6. The kernel accepts or refuses it as a whole, and
//! a new table replaces the old one. Rules that others have set up, by nft or by either kind of iptables, are not
//! changed, neither by the table nor by its removal.

mod networks;
mod ruleset;

use std::io::ErrorKind;
use std::process::{Command, Output};

pub(crate) use self::networks::{Network, PortRange};
pub(crate) use self::ruleset::{Inbound, Ruleset};
use crate::failure::Failure;

/// Name of the table.
pub(crate) const TABLE: &str = "inet kuma_transparent_proxy";

/// A script that removes the table, if it exists.
pub(crate) fn removal() -> String {
    // `delete` of a table that does not exist fails, and nft has `destroy` only since 1.0.7: so it is created first.
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

/// A script that removes the timer of rules that have one. The kernel refuses it if the time is over.
pub(crate) fn confirmation() -> String {
    format!("delete element {TABLE} active {{ tcp }}; add element {TABLE} active {{ tcp }}")
}

/// Whether the table exists.
pub(crate) fn exists() -> Result<bool, Failure> {
    let output = nft(&format!("list table {TABLE}"))?;
    if needs_root(&output) {
        return Err(failure(&output));
    }
    Ok(output.status.success())
}

/// Runs a script, as one transaction.
pub(crate) fn apply(script: &str) -> Result<(), Failure> {
    let output = nft(script)?;
    if output.status.success() { Ok(()) } else { Err(failure(&output)) }
}

/// Runs nft with the script as an argument: if kumactl were killed while writing to a pipe, nft would run half of it.
fn nft(script: &str) -> Result<Output, Failure> {
    for program in ["nft", "/usr/sbin/nft", "/sbin/nft"] {
        match Command::new(program).arg(script).env("LC_ALL", "C").output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::new(format!("could not run {program}: {error}"))),
            Ok(output) => return Ok(output),
        }
    }
    Err(Failure::new("nft is not installed")
        .hint("install the package nftables, such as by `apt-get install nftables` or `dnf install nftables`"))
}

fn needs_root(output: &Output) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("Operation not permitted")
}

fn failure(output: &Output) -> Failure {
    if needs_root(output) {
        return Failure::new("only root may change the firewall").hint("run it with sudo");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Failure::new("the kernel has refused the rules, and nothing was changed")
        .note(said.trim_end())
        .hint("they need Linux 5.2 or later, with nf_tables")
}
