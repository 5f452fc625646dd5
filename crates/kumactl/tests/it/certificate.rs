//! `generate tls-certificate`.

use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use crate::control_plane::ControlPlane;
use crate::transcript::Transcript;

fn mode(transcript: &Transcript<'_>, file: &str) -> u32 {
    transcript.path(file).metadata().expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_certificate_and_its_key_are_written_to_new_files() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run(
        "generate tls-certificate --cert-file=server.pem --key-file=server.key --type=server \
        --cp-hostname=kuma.internal --cp-hostname=192.0.2.1",
    );
    transcript.run("generate tls-certificate --type=client");
    assert_eq!((mode(&transcript, "server.key"), mode(&transcript, "key.pem")), (0o400, 0o400));
    let key = std::fs::read(transcript.path("key.pem")).expect("a key");
    transcript.run("generate tls-certificate --type=client --cert-file=other.pem");
    assert_eq!(std::fs::read(transcript.path("key.pem")).expect("a key"), key, "it is not written over");
    assert!(!transcript.path("other.pem").exists(), "no certificate without a key");
    transcript.run("generate tls-certificate --type=client --key-file=no/key.pem --cert-file=no/cert.pem");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_each_type_needs() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("generate tls-certificate --type=server");
    transcript.run("generate tls-certificate --type=client --cp-hostname=kuma.internal");
    transcript.run("generate tls-certificate --type=server --cp-hostname=http://kuma.internal:5681");
    transcript.run("generate tls-certificate --type=other");
    transcript.run("generate tls-certificate");
    assert!(!transcript.path("key.pem").exists() && !transcript.path("cert.pem").exists());
    assert_snapshot!(transcript.text());
}
