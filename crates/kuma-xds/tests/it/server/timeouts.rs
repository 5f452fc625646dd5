//! How long clients are waited for.

use super::*;

/// Short enough to wait for.
const SHORT: Timeouts = Timeouts {
    handshake: Duration::from_millis(300),
    first_request: Duration::from_millis(300),
    no_stream: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    ping_answer: Duration::from_millis(300),
};

#[tokio::test]
async fn a_client_that_says_nothing_any_more_is_let_go() {
    let mut world = World::start_with(|server| server.timeouts(SHORT)).await;
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let mut socket = TcpStream::connect(world.address).await.expect("connects");
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    // A network that is there until it is not, without a word of it.
    let network = tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut far, &mut socket) => {}
            _ = is_cut => {}
        }
        (far, socket)
    });
    let call = Connection::over(near).await.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    world.log().await;
    cut.send(()).expect("it runs");
    let _ends = network.await.expect("no panic");
    assert_eq!(world.log().await, "closed default.web-1", "and not by the far end");
}

#[tokio::test]
async fn a_client_that_answers_may_be_silent() {
    let mut world = World::start_with(|server| server.timeouts(SHORT)).await;
    let mut call = world.connect().await.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    world.log().await;
    let first: DeltaResponse = call.receive().await;
    tokio::time::sleep(SHORT.idle * 6).await;
    call.send(&DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        response_nonce: first.nonce,
        ..Default::default()
    })
    .await;
    assert_eq!(world.log().await, "acked Cluster", "the same stream goes on");
}

#[tokio::test]
async fn a_handshake_may_be_slow_but_not_stand_still() {
    /// The content type of a handshake record.
    const HANDSHAKE: u8 = 0x16;
    let (server, client) = tls();
    let (_configs, receiver) = watch::channel(server);
    // Long enough for a loaded machine.
    let timeouts = Timeouts { handshake: Duration::from_millis(1500), ..SHORT };
    let world = World::start_with(|server| server.tls(receiver).timeouts(timeouts)).await;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(client, name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a ClientHello");

    let mut socket = TcpStream::connect(world.address).await.expect("connects");
    for piece in hello.chunks(hello.len().div_ceil(6)) {
        socket.write_all(piece).await.expect("writes");
        tokio::time::sleep(timeouts.handshake / 3).await;
    }
    assert_eq!(
        patiently(socket.read_u8()).await.expect("an answer"),
        HANDSHAKE,
        "after twice the time allowed for each message"
    );
    // And now nothing.
    patiently(socket.read_to_end(&mut Vec::new())).await.expect("it is let go in order");

    let mut socket = TcpStream::connect(world.address).await.expect("connects");
    let _ = patiently(socket.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_let_go() {
    let world = World::start_with(|server| server.timeouts(SHORT)).await;
    let mut connection = world.connect().await;
    patiently(async {
        while connection.0.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
