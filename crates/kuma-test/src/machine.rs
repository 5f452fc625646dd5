//! Another machine, as a network namespace of its own that is joined to this one by a pair of veth devices.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;

/// A network namespace. It goes with the value.
pub struct Machine {
    name: String,
    link: String,
    /// Address of this machine, as seen from that one.
    pub here: Ipv4Addr,
    /// Address of that machine.
    pub there: Ipv4Addr,
}

impl Machine {
    /// Sets one up. Needs root, as in a container, and `ip` of iproute2.
    ///
    /// # Panics
    /// If that fails.
    pub fn start() -> Machine {
        let id = std::process::id();
        // A network of four addresses for each process of tests (of which 2^14 may run at once).
        let [_, _, high, low] = (id << 2).to_be_bytes();
        let network = |host: u8| Ipv4Addr::new(10, 213, high, (low & 0xfc) + host);
        let (name, link, peer) = (format!("kuma-{id}"), format!("kuma-h-{id}"), format!("kuma-t-{id}"));
        let machine = Machine { name, link, here: network(1), there: network(2) };
        let Machine { name, link, here, there } = &machine;
        ip(&["netns", "add", name]);
        ip(&["link", "add", link, "type", "veth", "peer", "name", &peer, "netns", name]);
        ip(&["address", "add", &format!("{here}/30"), "dev", link]);
        ip(&["link", "set", link, "up"]);
        ip(&["-n", name, "address", "add", &format!("{there}/30"), "dev", &peer]);
        ip(&["-n", name, "link", "set", &peer, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        machine
    }

    /// A command that runs on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The namespace may live on for a moment; the pair of devices must not.
        for arguments in [["link", "delete", &self.link], ["netns", "delete", &self.name]] {
            let _ = Command::new("ip").args(arguments).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("`ip` of iproute2 is needed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}` needs root and namespaces: {error}", arguments.join(" "));
}
