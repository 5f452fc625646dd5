//! The rules of `kumactl install transparent-proxy` on a second machine: what they redirect, that they are installed
//! and removed as a whole, and that they never lock out an administrator.
//!
//! No proxy runs: a redirected connection is refused.

use std::process::{Command, Output};
use std::time::Duration;

use kuma_test::machine::Machine;
use kuma_test::ports::free_port;
use kuma_test::{Process, eventually, program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The proxy's user.
const PROXY: u32 = 5678;
/// An application's user.
const USER: u32 = 1001;

/// A machine with two servers, and two servers on this machine to which it connects.
struct Host {
    machine: Machine,
    folder: tempfile::TempDir,
    /// Ports of the servers on this machine.
    dialled: [u16; 2],
    _servers: Vec<Process>,
}

impl Host {
    const PORTS: [u16; 3] = [8080, 8081, 2222];

    async fn start() -> Host {
        let machine = Machine::start();
        let folder = tempfile::tempdir().expect("a folder");
        let mut servers = Vec::new();
        for port in Host::PORTS {
            let mut command = machine.command_as(USER, program("kuma-tcp-echo"));
            servers.push(Process::start(
                &format!("echo-{port}"),
                command.args(["-port", &port.to_string()]),
                folder.path(),
            ));
        }
        let dialled = [free_port(), free_port()];
        for port in dialled {
            let mut command = Command::new(program("kuma-tcp-echo"));
            servers.push(Process::start(
                &format!("outside-{port}"),
                command.args(["-port", &port.to_string()]),
                folder.path(),
            ));
        }
        let host = Host { machine, folder, dialled, _servers: servers };
        for port in Host::PORTS {
            eventually("the servers are there", async || host.enters(port).then_some(())).await;
        }
        for port in dialled {
            eventually("the others are there", async || host.leaves(USER, port).then_some(())).await;
        }
        host
    }

    /// Whether this machine reaches a port of it.
    fn enters(&self, port: u16) -> bool {
        let url = format!("http://{}:{port}/", self.machine.there);
        succeeds(Command::new("curl").args(["-s", "--max-time", "5", "--noproxy", "*", &url]))
    }

    /// Whether a user of it reaches a port of this machine.
    fn leaves(&self, user: u32, port: u16) -> bool {
        self.dials(user, &format!("http://{}:{port}/", self.machine.here))
    }

    fn dials(&self, user: u32, url: &str) -> bool {
        succeeds(self.machine.command_as(user, "curl").args(["-s", "-g", "--max-time", "5", "--noproxy", "*", url]))
    }

    fn kumactl(&self, line: &str) -> Output {
        let mut command = self.machine.command(program("kumactl"));
        let output = command.args(line.split_whitespace()).env("HOME", self.folder.path()).output();
        output.expect("kumactl runs")
    }

    fn install(&self, flags: &str) {
        let output = self.kumactl(&format!("install transparent-proxy --kuma-dp-uid {PROXY} {flags}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn uninstall(&self) {
        let output = self.kumactl("uninstall transparent-proxy");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Every rule of the machine, by every tool.
    fn rules(&self) -> String {
        let mut rules = String::new();
        let tools = ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"];
        for tool in tools {
            let text = self.prints(tool, &[]);
            // Without the lines that hold the time and the counts of packets.
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let lines =
                lines.map(|line| if line.starts_with(':') { line.split('[').next().unwrap_or(line) } else { line });
            rules.extend(lines.flat_map(|line| [line, "\n"]));
        }
        rules + &self.prints("nft", &["list", "ruleset"])
    }

    fn prints(&self, tool: &str, arguments: &[&str]) -> String {
        let output = self.machine.command(tool).args(arguments).output().expect("ip runs");
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().expect("curl runs").status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redirected_and_what_is_not() {
    let host = Host::start().await;
    let [one, other] = host.dialled;
    let ssh = ["--exclude-inbound-ports 2222", "--exclude-inbound-ports 2000-3000,9"];
    for flags in ssh {
        host.install(flags);
        assert!(!host.enters(8080) && !host.enters(8081), "inbound connections are redirected");
        assert!(host.enters(2222), "{flags}");
        assert!(!host.leaves(USER, one) && !host.leaves(0, other), "outbound connections are redirected");
        assert!(host.leaves(PROXY, one), "the proxy's own are not");
        assert!(host.dials(USER, "http://127.0.0.1:8080/"), "loopback is left alone");
        assert!(host.dials(USER, &format!("http://{}:8080/", host.machine.there)), "and the machine's own address");
    }
    // Each command replaces the previous rules.
    host.install(&format!("--exclude-outbound-ports {other} --redirect-inbound=false"));
    assert!(host.enters(8080));
    assert!(!host.leaves(USER, one) && host.leaves(USER, other));
    host.install("--include-inbound-ports 8080");
    assert!(!host.enters(8080) && host.enters(8081));
    assert!(!host.leaves(USER, other));
    let here = host.machine.here;
    host.install(&format!("--exclude-outbound-ips 192.0.2.0/24,{here}"));
    assert!(host.leaves(USER, one) && !host.enters(8080));
    host.uninstall();
    assert!(host.enters(8080) && host.leaves(USER, one));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_open_stay_so() {
    let host = Host::start().await;
    let mut open = TcpStream::connect((host.machine.there, 8080)).await.expect("connects");
    // Also for connections that the kernel was not tracking when they began.
    for change in ["install", "uninstall", "install"] {
        match change {
            "install" => host.install(""),
            _ => host.uninstall(),
        }
        let mut answer = [0; 6];
        open.write_all(b"hello\n").await.expect("still open");
        let read = tokio::time::timeout(Duration::from_secs(10), open.read_exact(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("it hangs after {change}")).expect("still open");
        assert_eq!(&answer, b"hello\n");
    }
    assert!(!host.enters(8080), "a new one is redirected");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_others_stay_to_the_byte() {
    let host = Host::start().await;
    let nothing = host.rules();
    host.install("--ip-family-mode dualstack");
    host.uninstall();
    assert_eq!(host.rules(), nothing);
    for tool in ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"] {
        for rule in ["-t nat -A OUTPUT -p tcp --dport 9 -j REDIRECT --to-ports 10", "-A INPUT -p tcp --dport 9 -j DROP"]
        {
            assert!(succeeds(host.machine.command(tool).args(rule.split(' '))), "{tool} {rule}");
        }
    }
    host.prints(
        "nft",
        &["table inet mine { chain output { type nat hook output priority -101; tcp dport 9 accept; }; }"],
    );
    let before = host.rules();
    host.install("");
    assert_ne!(host.rules(), before);
    host.install("--exclude-inbound-ports 80 --revert-after 1h");
    host.uninstall();
    assert_eq!(host.rules(), before);
    host.uninstall();
    assert_eq!(host.rules(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_nobody_confirms_go_by_themselves() {
    let host = Host::start().await;
    let [one, _] = host.dialled;
    host.install("--revert-after 4s");
    // kumactl has ended: the kernel itself measures the time.
    assert!(!host.leaves(USER, one) && !host.enters(8080));
    eventually("it is as before", async || (host.leaves(USER, one) && host.enters(8080)).then_some(())).await;
    let late = host.kumactl("install transparent-proxy --confirm");
    assert_eq!(late.status.code(), Some(1));
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(said.contains("the time is over") && said.contains("Hint:"), "{said}");
    assert!(host.enters(8080));

    host.install("--revert-after 4s");
    let confirmed = host.kumactl("install transparent-proxy --confirm");
    assert!(confirmed.status.success(), "{}", String::from_utf8_lossy(&confirmed.stderr));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!host.leaves(USER, one) && !host.enters(8080), "they stay");
    // Rules that are installed again without a timer stay.
    host.install("--revert-after 4s");
    host.install("");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!host.enters(8080));
    host.uninstall();
    let none = host.kumactl("install transparent-proxy --confirm");
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is nothing to confirm"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_that_is_killed_leaves_nothing_or_everything() {
    let host = Host::start().await;
    host.install("");
    let whole = host.rules();
    host.uninstall();
    let nothing = host.rules();
    let mut seen = [0, 0];
    for round in 0..60 {
        let mut command = host.machine.command(program("kumactl"));
        command.args(["install", "transparent-proxy", "--kuma-dp-uid", &PROXY.to_string()]);
        // In its own process group, so that kumactl and nft are killed together.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("ip runs");
        tokio::time::sleep(Duration::from_micros(round * 700)).await;
        let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        child.wait().expect("it ends");
        let rules = host.rules();
        assert!(rules == nothing || rules == whole, "round {round}: {rules}");
        seen[usize::from(rules == whole)] += 1;
        host.uninstall();
    }
    assert!(seen[0] > 0, "none was killed early enough to prove anything: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_by_which_one_came_stays_reachable() {
    let host = Host::start().await;
    let mut command = host.machine.command("sh");
    // As under sudo, which removes the variable.
    let kumactl = program("kumactl");
    let line =
        format!("env -i \"PATH=$PATH\" {} install transparent-proxy --kuma-dp-uid {PROXY}; exit $?", kumactl.display());
    command.args(["-c", &line]).env("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 2222");
    assert!(succeeds(&mut command));
    assert!(host.enters(2222) && !host.enters(8080));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let host = Host::start().await;
    let before = host.rules();
    let install = format!("install transparent-proxy --kuma-dp-uid {PROXY}");
    for (line, code, reason) in [
        (
            "install transparent-proxy --kuma-dp-user nobody-of-this-name".to_owned(),
            1,
            "there is no user nobody-of-this-name",
        ),
        (format!("{install} --exclude-inbound-ports 70000"), 2, "a port from 1 to 65535"),
        (format!("{install} --exclude-outbound-ips 10.0.0.0/99"), 2, "an address or a network"),
        (format!("{install} --redirect-port 0"), 2, "--redirect-port"),
        (format!("{install} --revert-after 0s"), 2, "a time from 1s to 24h"),
        (format!("{install} --confirm"), 2, "--confirm"),
        (format!("{install} --kuma-dp-user root"), 2, "cannot be used with"),
        (format!("{install} --include-inbound-ports 15000-15002"), 1, "15001, the port to redirect to"),
        (format!("{install} --redirect-inbound=false --include-inbound-ports 80"), 1, "contradicts"),
    ] {
        let output = host.kumactl(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(reason), "{line}: {said}");
    }
    // Without root.
    for line in [install.as_str(), "uninstall transparent-proxy", "install transparent-proxy --confirm"] {
        let mut command = host.machine.command_as(USER, program("kumactl"));
        let output = command.args(line.split(' ')).output().expect("ip runs");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("only root"), "{said}");
    }
    assert_eq!(host.rules(), before);
}
