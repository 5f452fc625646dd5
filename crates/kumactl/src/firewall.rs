//! Rules of the operating system's firewall that redirect connections to the proxy.
//!
//! They are a table of nftables of our own, for IPv4 and IPv6 in one, which the kernel takes or refuses as a whole:
//! there is no half of it, a second one replaces the first, and what others have set up, by nft or by either kind of
//! iptables, is not touched, now or when the table goes.

mod networks;
mod ruleset;

use std::io::ErrorKind;
use std::process::{Command, Output};

pub(crate) use self::networks::{Network, PortRange};
pub(crate) use self::ruleset::{Inbound, Ruleset};
use crate::failure::Failure;

/// The table. It is whole or not there.
pub(crate) const TABLE: &str = "inet kuma_transparent_proxy";

/// Takes the table away, if there is one.
pub(crate) fn removal() -> String {
    // `delete` of what is not there fails, and nft before 1.0.7 has no word for that: so it is made first.
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

/// Takes the timer off rules that have one. The kernel refuses it when the time is over.
pub(crate) fn confirmation() -> String {
    format!("delete element {TABLE} active {{ tcp }}; add element {TABLE} active {{ tcp }}")
}

/// Whether the table is there.
pub(crate) fn exists() -> Result<bool, Failure> {
    let output = nft(&format!("list table {TABLE}"))?;
    if needs_root(&output) {
        return Err(failure(&output));
    }
    Ok(output.status.success())
}

/// Gives a script to the kernel, which carries out all of it or nothing.
pub(crate) fn apply(script: &str) -> Result<(), Failure> {
    let output = nft(script)?;
    if output.status.success() { Ok(()) } else { Err(failure(&output)) }
}

/// As an argument: what is read from a pipe could end halfway if kumactl did.
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
        return Failure::new("the firewall may be changed by root alone").hint("run it with sudo");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Failure::new("the kernel has refused the rules, and nothing was changed")
        .note(said.trim_end())
        .hint("they need Linux 5.2 or later, with nf_tables")
}
