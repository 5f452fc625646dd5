//! The control plane and its users on two machines: the documented commands that secure the admin server.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kuma_test::machine::Machine;
use kuma_test::{ControlPlane, program};

/// A user on another machine, with their own home.
struct User<'a> {
    machine: &'a Machine,
    home: &'a Path,
}

impl User<'_> {
    fn run(&self, line: &str, input: &str) -> Output {
        let mut child = self
            .machine
            .command(program("kumactl"))
            .args(line.split_whitespace())
            .current_dir(self.home)
            .env("HOME", self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("writes");
        child.wait_with_output().expect("it ends")
    }

    /// Runs a command that must succeed, and returns its output.
    fn succeeds(&self, line: &str, input: &str) -> (String, String) {
        let output = self.run(line, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kumactl {line}: {err}");
        (out.into_owned(), err.into_owned())
    }

    /// Runs a command that must fail, and returns its error.
    fn fails(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        assert_eq!(output.status.code(), Some(1), "kumactl {line}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn generate(folder: &Path, line: &str) {
    let output =
        Command::new(program("kumactl")).args(line.split_whitespace()).current_dir(folder).env("HOME", folder).output();
    let output = output.expect("kumactl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const MESH: &str = "type: Mesh\nname: demo\n";

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_writes_and_gets_tokens_with_a_certificate() {
    let machine = Machine::start();
    let here = machine.here.to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let home = tempfile::tempdir().expect("a home");
    let (folder, home) = (folder.path(), home.path());
    let path = |name: &str| folder.join(name).display().to_string();
    let user = User { machine: &machine, home };
    std::fs::create_dir(folder.join("clients")).expect("a folder");
    generate(
        folder,
        &format!(
            "generate tls-certificate --cert-file=server.pem --key-file=server.key --type=server --cp-hostname={here}"
        ),
    );
    user.succeeds("generate tls-certificate --cert-file=client.pem --key-file=client.key --type=client", "");
    let cp = ControlPlane::start_with(&[
        ("KUMA_GENERAL_ADVERTISED_HOSTNAME", &here),
        ("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "true"),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", &path("server.pem")),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", &path("server.key")),
        ("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "0.0.0.0"),
        ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", &path("clients")),
    ])
    .await;
    let address = cp.api_url().replace("127.0.0.1", &here);

    // Without a certificate: reads, and refusals that say what to do.
    user.succeeds(&format!("config control-planes add --name plain --address {address}"), "");
    assert!(user.succeeds("get meshes", "").0.contains("default"));
    let refused = user.fails("apply", MESH);
    assert!(refused.contains("Writing is not allowed from here"), "{refused}");
    let refused = user.fails("generate dataplane-token --name=web-1", "");
    assert!(refused.contains("admin server in kuma-cp is configured with TLS and kumactl is not."), "{refused}");
    let admin = cp.admin_url().replace("127.0.0.1", &here);
    let curl = machine
        .command("curl")
        .args(["-s", "-XPOST", &format!("{admin}/tokens"), "--data"])
        .arg(r#"{"name": "a", "mesh": "default"}"#)
        .output()
        .expect("curl runs");
    let refused = String::from_utf8_lossy(&curl.stdout);
    assert!(refused.contains("Administration is not allowed from here"), "{refused}");

    // With one that kuma-cp does not know yet, and then knows, without a restart.
    user.succeeds(
        &format!(
            "config control-planes add --name tls --address {address} --admin-client-cert client.pem \
        --admin-client-key client.key"
        ),
        "",
    );
    let refused = user.fails("generate dataplane-token --name=web-1", "");
    assert!(refused.contains("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR"), "{refused}");
    std::fs::copy(home.join("client.pem"), folder.join("clients/client.pem")).expect("copies");
    let (token, warning) = user.succeeds("generate dataplane-token --name=web-1", "");
    assert_eq!(token.split('.').count(), 3, "{token}");
    assert!(warning.contains("is not checked") && warning.contains("--admin-server-cert"), "{warning}");
    user.succeeds("apply", MESH);
    assert_eq!(cp.get("/meshes/demo").await["name"], "demo");
    // The key of a CA is not for a server that may be anybody's.
    let refused =
        user.fails("manage ca provided certificates add --mesh demo --key-file client.key --cert-file client.pem", "");
    assert!(refused.contains("whose identity is not checked") && refused.contains("--admin-server-cert"), "{refused}");
    user.succeeds("delete mesh demo", "");

    // With the server's own certificate too, and then with that of another server.
    std::fs::copy(folder.join("server.pem"), home.join("server.pem")).expect("copies");
    let add = format!(
        "config control-planes add --name tls --overwrite --address {address} --admin-client-cert client.pem \
         --admin-client-key client.key --admin-server-cert"
    );
    user.succeeds(&format!("{add} server.pem"), "");
    let (_, silence) = user.succeeds("apply", MESH);
    assert_eq!(silence, "");
    user.succeeds(&format!("{add} client.pem"), "");
    let refused = user.fails("apply", MESH);
    assert!(refused.contains("--admin-server-cert"), "{refused}");

    // The certificate is taken away again.
    std::fs::remove_file(folder.join("clients/client.pem")).expect("removes");
    user.succeeds(&format!("{add} server.pem"), "");
    user.fails("delete mesh demo", "");
    assert_eq!(cp.get("/meshes/demo").await["name"], "demo");
}
