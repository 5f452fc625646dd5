//! `install transparent-proxy`, as far as it can be seen without root. What the rules do is tested in kuma-test.

use insta::assert_snapshot;

use crate::control_plane::ControlPlane;
use crate::transcript::Transcript;

#[test]
fn the_rules_are_printed() {
    let control_plane = ControlPlane::start();
    // No control plane is needed.
    let mut transcript = Transcript::of_new_user(&control_plane);
    let install = "install transparent-proxy --dry-run --kuma-dp-uid 5678";
    for flags in [
        "--exclude-inbound-ports 8080,9000-9010,8080 --exclude-outbound-ports 3306 --exclude-outbound-ips \
         169.254.169.254,10.0.0.0/8",
        "--include-inbound-ports 8080,80-90 --redirect-port 15006 --revert-after 5m",
        "--redirect-inbound=false --ip-family-mode dualstack --exclude-outbound-ips fd00::/8",
    ] {
        transcript.run(&format!("{install} {flags}"));
    }
    transcript.run("uninstall transparent-proxy --dry-run").run("install transparent-proxy --help");
    assert_snapshot!(transcript.text());
}
