//! HTTP/2 of the xDS port by the conformance suite h2spec, which is not ours: `scripts/get-h2spec.sh`, docs/http2.md.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use kuma_test::ControlPlane;

/// What h2spec 2.2.1 has.
const CASES: usize = 145;

/// How often the cases that fail are tried again: on a slow machine an answer may take longer than h2spec waits.
const ATTEMPTS: usize = 3;

/// Cases that fail on every path, with the reason.
const DROPPED: [(&str, &str, &str); 8] = [
    (
        "generic/2",
        "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
        "the frame is accepted; h2spec waits for DATA, and the status of a gRPC call may be all of its response \
         (RFC 9113, section 8.1: a response has zero or more DATA frames)",
    ),
    ("generic/2", "Sends a PRIORITY frame on half-closed (remote) stream", "as above"),
    (
        "generic/5",
        "Sends a dynamic table size update",
        "h2spec has acknowledged a table of 0 bytes and announces one of 128: a decoding error (RFC 9113, section \
         4.3.1; RFC 7541, section 6.3)",
    ),
    ("generic/5", "Sends multiple dynamic table size update", "as above"),
    (
        "http2/5.1.2",
        "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
        "each of its requests is complete and answered at once, so there are never too many (RFC 9113, section 5.1.2); \
         with requests that stay open: conformance.rs of kuma-http2",
    ),
    (
        "http2/5.3.1",
        "Sends HEADERS frame that depend on itself",
        "RFC 9113, section 5.3.2, has deprecated priorities, and with them the rule of RFC 7540, section 5.3.1",
    ),
    ("http2/5.3.1", "Sends PRIORITY frame that depend on itself", "as above"),
    (
        "http2/6.10",
        "Sends multiple CONTINUATION frames preceded by a HEADERS frame",
        "its header block refers to the dynamic table, although it has acknowledged that there is none (RFC 9113, \
         section 4.3.1)",
    ),
];

/// Cases that fail in addition on the path of ADS: the requests of h2spec are no gRPC, so they are answered and their
/// streams are closed before the frame comes that the case is about. What comes then on a stream that the server has
/// closed is ignored (RFC 9113, section 5.1). On the path of reports, which is read first, they pass.
const ANSWERED_BEFORE: [(&str, &str); 7] = [
    ("http2/5.1", "closed: Sends a DATA frame after sending RST_STREAM frame"),
    ("http2/6.9", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream"),
    (
        "http2/6.9.1",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    ),
    ("http2/8.1", "Sends a second HEADERS frame without the END_STREAM flag"),
    ("http2/8.1.2.1", "Sends a HEADERS frame that contains a pseudo-header field as trailers"),
    (
        "http2/8.1.2.6",
        "Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload \
         length",
    ),
    (
        "http2/8.1.2.6",
        "Sends a HEADERS frame with the \"content-length\" header field which does not equal the sum of the multiple \
         DATA frames payload length",
    ),
];

/// The package and the title of a case.
type Case = (String, String);

fn case((package, title): (&str, &str)) -> Case {
    (package.to_owned(), title.to_owned())
}

/// Where it is; `None`, with a line that says so, where it is not to be had.
fn h2spec() -> Option<OsString> {
    let binary = std::env::var_os("H2SPEC_BINARY").filter(|path| !path.is_empty());
    if binary.is_none() {
        let message = "H2SPEC_BINARY has to name an h2spec: export it as scripts/get-h2spec.sh prints it";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("skipped: {message}");
    }
    binary
}

/// The cases that fail. `only` are packages; none stands for all.
async fn failures(h2spec: &OsString, cp: &ControlPlane, path: &'static str, only: &BTreeSet<&str>) -> BTreeSet<Case> {
    let report = cp.folder().join("h2spec.xml");
    let mut command = Command::new(h2spec);
    command.args(["--tls", "--insecure", "--port", &cp.xds_port().to_string(), "--path", path, "--junit-report"]);
    command.arg(&report).args(only);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("h2spec runs");
    let (ran, failed) = read(&report);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(if only.is_empty() { ran == CASES } else { ran > 0 }, "{ran} cases ran: {printed}");
    failed
}

/// How many cases there are in a report, and which of them failed.
fn read(report: &Path) -> (usize, BTreeSet<Case>) {
    let report = std::fs::read_to_string(report).expect("a report");
    let cases = report.split("<testcase ").skip(1);
    let failed = cases.clone().filter(|case| case.contains("<error") || case.contains("<failure")).map(|case| {
        let attribute = |name: &str| {
            let (_, value) = case.split_once(&format!("{name}=\"")).expect("an attribute");
            let (value, _) = value.split_once('"').expect("an end");
            value.replace("&#34;", "\"").replace("&quot;", "\"")
        };
        (attribute("package"), attribute("classname"))
    });
    (cases.count(), failed.collect())
}

async fn check(path: &'static str, expected: BTreeSet<Case>) {
    let Some(h2spec) = h2spec() else { return };
    let cp = ControlPlane::start().await;
    let mut failed = failures(&h2spec, &cp, path, &BTreeSet::new()).await;
    for _ in 1..ATTEMPTS {
        let unexpected: BTreeSet<Case> = failed.difference(&expected).cloned().collect();
        if unexpected.is_empty() {
            break;
        }
        let packages = unexpected.iter().map(|(package, _)| package.as_str()).collect();
        let again = failures(&h2spec, &cp, path, &packages).await;
        failed.retain(|case| expected.contains(case) || again.contains(case));
    }
    assert_eq!(failed, expected, "the cases that fail, and those that are known to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_reads_its_requests() {
    let expected = DROPPED.iter().map(|(package, title, _)| case((package, title))).collect();
    check("/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report", expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_ads() {
    let dropped = DROPPED.iter().map(|(package, title, _)| case((package, title)));
    let expected = dropped.chain(ANSWERED_BEFORE.into_iter().map(case)).collect();
    check("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", expected).await;
}
