//! The steps of the documented installation, with other ports.

use std::process::Command;

use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Process, eventually, program};

#[tokio::test(flavor = "multi_thread")]
async fn the_echo_walk() {
    let cp = ControlPlane::start().await;
    let (app, inbound) = (free_port(), free_port());
    let mut echo = Command::new(program("kuma-tcp-echo"));
    let _echo = Process::start("kuma-tcp-echo", echo.args(["-port", &app.to_string()]), cp.folder());
    eventually("the echo application answers curl", || async { curl(app) }).await;

    let document = format!(
        "type: Dataplane\nmesh: default\nname: dp-echo-1\nnetworking:\n  inbound:\n  - interface: \
         127.0.0.1:{inbound}:{app}\n    tags:\n      service: echo\n"
    );
    ok(&cp.kumactl(&["apply", "-f", "-"], &document), "");
    let mut dp = Dataplane::start(&cp, "default", "dp-echo-1");
    dp.live().await;
    let answer = eventually("the echo answers through the proxy", || async { curl(inbound) }).await;
    assert!(answer.contains(&format!("Host: 127.0.0.1:{inbound}")), "{answer}");

    let table = eventually("inspect says Online", || async {
        let output = cp.kumactl(&["inspect", "dataplanes"], "");
        let table = String::from_utf8(output.stdout).ok()?;
        table.contains("Online").then_some(table)
    })
    .await;
    let title = table.lines().next().unwrap_or_default();
    let columns =
        ["MESH", "NAME", "TAGS", "STATUS", "LAST CONNECTED AGO", "LAST UPDATED AGO", "TOTAL UPDATES", "TOTAL ERRORS"];
    for column in columns {
        assert!(title.contains(column), "{title}");
    }
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(row.contains("dp-echo-1") && row.contains("service=echo") && row.trim_end().ends_with(" 0"), "{row}");

    ok(&cp.kumactl(&["get", "dataplanes"], ""), "MESH      NAME        TAGS\ndefault   dp-echo-1   service=echo\n");
    ok(&cp.kumactl(&["get", "meshes"], ""), "NAME      mTLS   CA        METRICS\ndefault   off    builtin   off\n");

    ok(
        &cp.kumactl(
            &["apply", "-f", "-"],
            "type: Mesh\nname: default\nmtls:\n  enabled: true\n  ca:\n    builtin: {}\n",
        ),
        "",
    );
    eventually("plain HTTP is refused", || async { curl(inbound).is_none().then_some(()) }).await;
    let permission = "type: TrafficPermission\nmesh: default\nname: enable-all-traffic\nsources:\n\
        - match:\n    service: '*'\ndestinations:\n- match:\n    service: '*'\n";
    ok(&cp.kumactl(&["apply", "-f", "-"], permission), "");
    ok(&cp.kumactl(&["get", "traffic-permissions"], ""), "MESH      NAME\ndefault   enable-all-traffic\n");
    assert!(curl(inbound).is_none(), "plain HTTP must stay refused: TLS is required");

    dp.process().signal(rustix::process::Signal::TERM);
    let status = dp.process().wait(std::time::Duration::from_secs(30));
    assert!(status.success(), "{status}");
    eventually("inspect says Offline", || async {
        let output = cp.kumactl(&["inspect", "dataplanes"], "");
        String::from_utf8_lossy(&output.stdout).contains("Offline").then_some(())
    })
    .await;
}

/// The output of curl for a port, if the request succeeds.
fn curl(port: u16) -> Option<String> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "5", "--noproxy", "*", &format!("http://127.0.0.1:{port}/")])
        .output()
        .expect("curl is installed");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ok(output: &std::process::Output, stdout: &str) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
}
