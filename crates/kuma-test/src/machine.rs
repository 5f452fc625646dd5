//! A second machine: a network namespace that is connected to the test's own by a pair of veth devices.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::{ControlPlane, Process, envoy_binary, program};

/// How many networks this process has used: one for each link between machines.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// A network namespace. It is removed when this is dropped.
pub struct Machine {
    name: String,
    link: Link,
    /// Address of the test's own machine on the link.
    pub here: Ipv4Addr,
    /// Address of the second machine on the link.
    pub there: Ipv4Addr,
}

impl Machine {
    /// Creates one whose default route leads to this machine. Needs root, as in a container, and `ip` of iproute2.
    ///
    /// # Panics
    /// If that fails.
    pub fn start() -> Machine {
        let link = Link::new();
        let (here, there) = (link.address(1), link.address(2));
        let machine = Machine { name: format!("kuma-{}", link.id), link, here, there };
        let Machine { name, link, here, there } = &machine;
        let (near, far) = (link.device('h'), link.device('t'));
        ip(&["netns", "add", name]);
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name]);
        ip(&["address", "add", &format!("{here}/30"), "dev", &near]);
        ip(&["link", "set", &near, "up"]);
        ip(&["-n", name, "address", "add", &format!("{there}/30"), "dev", &far]);
        ip(&["-n", name, "link", "set", &far, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "route", "add", "default", "via", &here.to_string()]);
        machine
    }

    /// Connects it to another machine, and returns the addresses of both on the new link, its own first.
    ///
    /// # Panics
    /// If that fails.
    pub fn join(&self, other: &Machine) -> (Ipv4Addr, Ipv4Addr) {
        let link = Link::new();
        let (near, far) = (link.device('h'), link.device('t'));
        ip(&["-n", &self.name, "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &other.name]);
        for (name, device, host) in [(&self.name, &near, 1), (&other.name, &far, 2)] {
            ip(&["-n", name, "address", "add", &format!("{}/30", link.address(host)), "dev", device]);
            ip(&["-n", name, "link", "set", device, "up"]);
        }
        (link.address(1), link.address(2))
    }

    /// Takes it off the network, as if it had lost power: packets are lost, and no connection is closed.
    ///
    /// # Panics
    /// If that fails.
    pub fn vanish(&self) {
        let Machine { name, link, .. } = self;
        // This machine's end of the link stays up; otherwise sending would fail at once.
        ip(&["-n", name, "link", "set", &link.device('t'), "down"]);
    }

    /// Gives it another IPv4 address, which only the machine itself can reach.
    ///
    /// # Panics
    /// If that fails.
    pub fn add_address(&self, address: Ipv4Addr) {
        ip(&["-n", &self.name, "address", "add", &format!("{address}/32"), "dev", &self.link.device('t')]);
    }

    /// Gives it an IPv6 address and a default route for IPv6.
    ///
    /// # Panics
    /// If that fails.
    pub fn add_ipv6(&self, address: &str) {
        let device = self.link.device('t');
        ip(&["-n", &self.name, "-6", "address", "add", &format!("{address}/64"), "dev", &device, "nodad"]);
        ip(&["-n", &self.name, "-6", "route", "add", "default", "dev", &device]);
    }

    /// Starts kuma-dp on it for a Dataplane in the mesh `default`, with a token and with its admin port.
    pub fn start_dataplane(&self, cp: &ControlPlane, name: &str, admin_port: u16) -> Process {
        let mut command = self.command(program("kuma-dp"));
        command
            .args(["run", "--name", name, "--mesh", "default", "--admin-port", &admin_port.to_string()])
            .args(["--cp-address", &cp.api_url().replace("127.0.0.1", &self.here.to_string())])
            .arg("--dataplane-token-file")
            .arg(cp.token_file("default", name))
            .env("HOME", cp.folder())
            // A proxy that is killed leaves its folder.
            .env("TMPDIR", cp.folder())
            .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy_binary());
        Process::start(name, &mut command, cp.folder())
    }

    /// A command that runs on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command_on(&self.name, program)
    }

    /// The name of its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs on it as the user with this number, who can read the files of all users.
    pub fn command_as(&self, user: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("setpriv");
        let user = user.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        // The files of a test belong to root.
        command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]).arg(program);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel removes the namespace with a delay; the devices must be gone at once.
        for arguments in [["link", "delete", &self.link.device('h')], ["netns", "delete", &self.name]] {
            let _ = Command::new("ip").args(arguments).output();
        }
    }
}

/// A command that runs in a namespace.
pub(crate) fn command_on(machine: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", machine]).arg(program);
    command
}

/// A pair of devices, and a network of four addresses for them.
struct Link {
    /// Unique among all running tests. Short, since the name of a device has at most 15 characters.
    id: String,
    network: u32,
}

impl Link {
    fn new() -> Link {
        let process = std::process::id();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        // 10.128.0.0/9, divided into 32 networks for each of 2^16 process ids.
        let network = 0x0a80_0000 | ((process & 0xffff) << 7) | (u32::from(number & 0x1f) << 2);
        Link { id: format!("{process:x}-{number:x}"), network }
    }

    fn address(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network | host)
    }

    fn device(&self, end: char) -> String {
        format!("k{end}-{}", self.id)
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("`ip` of iproute2 is needed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}` needs root and namespaces: {error}", arguments.join(" "));
}
