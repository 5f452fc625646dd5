//! What a TLS handshake with the xDS server costs, client and server together, by the key exchange. `make microbench`

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use divan::Bencher;
use kuma_ca::XdsCa;
use kuma_cp::identity::{SERVER_VALIDITY, grpc_tls};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

fn main() {
    for group in [X25519MLKEM768, X25519, SECP256R1] {
        let (client, server) = handshake(&configs(&[group]));
        println!("{:?}: the client sends {client} bytes, the server {server}", group.name());
    }
    divan::main();
}

#[divan::bench]
fn post_quantum(bencher: Bencher<'_, '_>) {
    measure(bencher, &[X25519MLKEM768, X25519]);
}

#[divan::bench]
fn x25519(bencher: Bencher<'_, '_>) {
    measure(bencher, &[X25519]);
}

#[divan::bench]
fn p256(bencher: Bencher<'_, '_>) {
    measure(bencher, &[SECP256R1]);
}

fn measure(bencher: Bencher<'_, '_>, groups: &[&'static dyn SupportedKxGroup]) {
    let configs = configs(groups);
    bencher.bench_local(|| handshake(&configs));
}

/// The settings of a client that offers these groups, and those of the xDS server.
fn configs(groups: &[&'static dyn SupportedKxGroup]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let now = SystemTime::now();
    let ca = XdsCa::generate(now).expect("a CA");
    let address = IpAddr::from([127, 0, 0, 1]);
    let leaf = ca.issue_server(&[], &[address], SERVER_VALIDITY, now).expect("a certificate");
    let server = grpc_tls(&leaf.chain_pem, leaf.key_pem.expose()).expect("settings");

    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca.cert_pem().as_bytes()) {
        roots.add(root.expect("PEM")).expect("a root");
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = groups.to_vec();
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    // Envoy does not resume.
    client.resumption = rustls::client::Resumption::disabled();
    (Arc::new(client), server)
}

/// Returns how many bytes the client and the server have sent.
fn handshake((client, server): &(Arc<ClientConfig>, Arc<ServerConfig>)) -> (usize, usize) {
    let name = ServerName::from(IpAddr::from([127, 0, 0, 1]));
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let mut server = ServerConnection::new(server.clone()).expect("a server");
    let (mut from_client, mut from_server) = (0, 0);
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            from_client += client.write_tls(&mut bytes).expect("room");
        }
        server.read_tls(&mut bytes.as_slice()).expect("bytes");
        server.process_new_packets().expect("a client that it serves");
        let mut bytes = Vec::new();
        while server.wants_write() {
            from_server += server.write_tls(&mut bytes).expect("room");
        }
        client.read_tls(&mut bytes.as_slice()).expect("bytes");
        client.process_new_packets().expect("a server that it trusts");
    }
    (from_client, from_server)
}
