//! The real program on a free port, with clients over sockets, and curl if it is installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

/// A generous limit to wait for a state.
const LIMIT: Duration = Duration::from_secs(20);

/// The running program. It ends when this is dropped.
struct Echo {
    child: Child,
    log: BufReader<ChildStderr>,
    port: u16,
}

impl Echo {
    fn start(port: &[&str]) -> Echo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kuma-tcp-echo"))
            .args(port)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a first line");
        let port = line
            .trim_end()
            .strip_prefix("Kuma TCP Echo - Listening to connections on port ")
            .unwrap_or_else(|| panic!("unexpected first line: {line}"))
            .parse()
            .expect("a port");
        Echo { child, log, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// The next line of the log that contains `part`.
    fn logged(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).expect("the log goes on") > 0 {
            if line.contains(part) {
                return line.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("no line with {part:?} in the log");
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole_answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end");
    answer
}

fn expect_echo(stream: &mut TcpStream, sent: &[u8]) {
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).expect("as many bytes as were sent");
    assert_eq!(back, sent);
}

#[test]
fn raw_bytes_come_back_as_they_are_and_the_connection_stays() {
    let mut echo = Echo::start(&["-port", "0"]);
    let mut stream = echo.connect();
    for sent in [&b"hello"[..], b"\n", b"\0\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[7; 100_000]] {
        stream.write_all(sent).expect("it reads");
        expect_echo(&mut stream, sent);
    }
    stream.shutdown(Shutdown::Write).expect("half a connection");
    assert_eq!(whole_answer(stream), "", "the end comes back too");
    echo.logged("closed");
}

#[test]
fn an_http_request_is_answered_with_its_own_text() {
    let mut echo = Echo::start(&["--port=0"]);
    let mut stream = echo.connect();
    let request = "GET /path?q=1 HTTP/1.1\r\nHost: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    assert_eq!(
        whole_answer(stream),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 38\r\nConnection: close\r\n\r\n{request}"
        )
    );
    assert!(echo.logged("GET").ends_with(" HTTP/1.1 GET /path?q=1"));
}

#[test]
fn a_request_may_arrive_in_pieces_and_have_a_body() {
    let echo = Echo::start(&["-port=0"]);
    let mut stream = echo.connect();
    let request = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    for piece in ["PO", "ST / HT", "TP/1.1\r\nContent-Len", "gth: 4\r\n\r\nbo", "dy"] {
        stream.write_all(piece.as_bytes()).expect("it reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(whole_answer(stream).ends_with(&format!("\r\n\r\n{request}")));
}

#[test]
fn half_a_first_line_is_echoed_when_nothing_more_comes() {
    let echo = Echo::start(&["-port", "0"]);
    let mut stream = echo.connect();
    stream.write_all(b"GET").expect("it reads");
    expect_echo(&mut stream, b"GET");
    stream.write_all(b" up\n").expect("it reads");
    expect_echo(&mut stream, b" up\n");
}

#[test]
fn a_request_over_the_limit_is_refused_and_others_are_served() {
    let echo = Echo::start(&["-port", "0"]);
    let mut large = echo.connect();
    large.write_all(b"PUT / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n").expect("it reads");
    let mut slow = echo.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").expect("it reads");
    let mut quick = echo.connect();
    quick.write_all(b"hello").expect("it reads");
    expect_echo(&mut quick, b"hello");
    assert!(whole_answer(large).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_slow_request_is_given_up() {
    let echo = Echo::start(&["-port", "0"]);
    let mut slow = echo.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").expect("it reads");
    assert!(whole_answer(slow).starts_with("HTTP/1.1 408 "));
}

#[test]
fn both_address_families_are_served() {
    let echo = Echo::start(&["-port", "0"]);
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // No IPv6 on this machine.
    }
    let mut stream = TcpStream::connect(("::1", echo.port)).expect("it listens on IPv6");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(b"six").expect("it reads");
    expect_echo(&mut stream, b"six");
}

#[test]
fn curl_accepts_the_answer() {
    let echo = Echo::start(&["-port", "0"]);
    let url = format!("http://127.0.0.1:{}/from/curl", echo.port);
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments).arg(&url).output();
        let output = output.expect("these tests need curl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(curl(&[]).starts_with("GET /from/curl HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert!(curl(&["--data", "some text"]).ends_with("\r\n\r\nsome text"));
    assert!(curl(&["--http2"]).starts_with("GET /from/curl HTTP/1.1\r\n"));
    assert!(curl(&["--head"]).starts_with("HTTP/1.1 200 OK\r\n"));
    let chunked =
        ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "--data", "some text"];
    assert!(curl(&chunked).ends_with("9\r\nsome text\r\n0\r\n\r\n"));
}

fn output(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kuma-tcp-echo")).args(arguments).output().expect("the program starts")
}

#[test]
fn mistakes_end_with_2_and_the_usage() {
    let output = output(&["-prot", "9000"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("flag provided but not defined: -prot\n"), "{stderr}");
    assert!(stderr.contains("Usage: kuma-tcp-echo [-port N]"), "{stderr}");
}

#[test]
fn a_port_in_use_ends_with_1_and_names_the_port() {
    let echo = Echo::start(&["-port", "0"]);
    let output = output(&["-port", &echo.port.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with(&format!("Error: could not listen on port {}: ", echo.port)), "{stderr}");
}

#[test]
fn version() {
    let plain = output(&["version"]);
    assert!(plain.status.success());
    assert_eq!(String::from_utf8_lossy(&plain.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&output(&["version", "--detailed"]).stdout).lines().count(), 4);
}
