//! The real program, with a mock of the control plane.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use kuma_test::Process;
use rustix::process::Signal;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuma-prometheus-sd"));
    command.env_clear();
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Starts a server that answers every request like this. Returns its URL.
fn server(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn catalog(url: &str) -> String {
    format!(r#"{{"apis":{{"monitoringAssignment":{{"url":"{url}"}}}}}}"#)
}

#[test]
fn version() {
    assert_eq!(run(command().arg("version")), (Some(0), format!("{}\n", env!("CARGO_PKG_VERSION")), String::new()));
    for flag in ["--detailed", "-a"] {
        let (code, stdout, _) = run(command().args(["version", flag]));
        assert!(code == Some(0) && stdout.starts_with("Version:    ") && stdout.contains("\nGit Commit: "), "{stdout}");
    }
}

#[test]
fn help_names_every_flag_and_variable_with_its_default() {
    let (code, help, _) = run(command().args(["run", "--help"]));
    assert_eq!(code, Some(0));
    // The text may be wrapped.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "--cp-address",
        "KUMA_CONTROL_PLANE_API_SERVER_URL",
        "[default: http://localhost:5681]",
        "--name",
        "KUMA_MONITORING_ASSIGNMENT_CLIENT_NAME",
        "[default: kuma_sd]",
        "--output-file",
        "KUMA_PROMETHEUS_OUTPUT_FILE",
        "[default: kuma.file_sd.json]",
        "--log-level",
        "[default: info]",
    ] {
        assert!(help.contains(text), "{text} is missing: {help}");
    }
}

#[test]
fn mistakes_are_told_with_their_exit_codes() {
    for arguments in [&[][..], &["run", "--nmae=x"], &["run", "--log-level=loud"], &["walk"]] {
        assert_eq!(run(command().args(arguments)).0, Some(2), "{arguments:?}");
    }
    // A variable that is set but empty counts as set.
    let variables = [("KUMA_CONTROL_PLANE_API_SERVER_URL", "nowhere"), ("KUMA_MONITORING_ASSIGNMENT_CLIENT_NAME", "")];
    let (code, stdout, stderr) = run(command().arg("run").envs(variables));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for part in [
        "Error: Invalid configuration: .ControlPlane is not valid: .ApiServer is not valid: .URL must be a valid \
         absolute URI; ",
        ".Name must be non-empty",
        "\n  --cp-address or KUMA_CONTROL_PLANE_API_SERVER_URL: ",
    ] {
        assert!(stderr.contains(part), "{part} is missing: {stderr}");
    }
}

#[test]
fn a_flag_beats_its_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let (by_flag, by_variable) = (folder.path().join("flag.json"), folder.path().join("variable.json"));
    let url = server("404 Not Found", "");
    let mut command = command();
    command.args(["run", "--cp-address", &url, "--output-file"]).arg(&by_flag);
    run(command.env("KUMA_PROMETHEUS_OUTPUT_FILE", &by_variable));
    assert!(by_flag.exists() && !by_variable.exists());
}

#[test]
fn who_is_no_control_plane_is_said() {
    for (status, body, expected) in [
        ("404 Not Found", String::new(), "unexpected status code: 404"),
        ("200 OK", "<html>".to_owned(), "the answer is not one of a control plane"),
        ("200 OK", catalog("http://localhost:5676"), "unsupported scheme \"http\""),
        ("200 OK", catalog("nothing"), "\"nothing\" as the URL of the monitoring assignment server"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let url = server(status, &body).replace("http://", "http://user:canary@");
        let (code, _, stderr) = run(command().current_dir(folder.path()).args(["run", "--cp-address", &url]));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("--cp-address"), "{stderr}");
        assert!(stderr.contains("unable to retrieve Catalog of Kuma APIs") && !stderr.contains("canary"), "{stderr}");
        let file = std::fs::read_to_string(folder.path().join("kuma.file_sd.json")).expect("the default file");
        assert_eq!(file, "[]\n");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "").expect("writes");
    let path = folder.path().join("file/kuma.json");
    let (code, _, stderr) = run(command().args(["run", "--output-file"]).arg(path));
    assert!(code == Some(1) && stderr.contains("Error: unable to write to directory "), "{stderr}");
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_waited_for_and_a_signal_ends_the_wait() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kuma.json");
        let there = "[{\"targets\": [\"10.0.0.1:5670\"], \"labels\": {}}]";
        std::fs::write(&file, there).expect("writes");
        // The catalog names a port on which nothing listens.
        let url = server("200 OK", &catalog("grpc://127.0.0.1:1"));
        let mut command = command();
        command.args(["run", "--cp-address", &url, "--output-file"]).arg(&file);
        let mut process = Process::start("kuma-prometheus-sd", &mut command, folder.path());
        process.prints("could not connect to http://127.0.0.1:1/").await;
        process.prints("Trying again in 2s").await;
        process.signal(signal);
        assert_eq!(process.wait(Duration::from_secs(40)).code(), Some(0));
        assert_eq!(std::fs::read_to_string(&file).expect("it stays"), there);
    }
}
