//! What clients may cost that have proved nothing.

use super::*;

#[tokio::test]
async fn who_has_no_token_sends_no_large_request() {
    let world = World::start().await;
    for (token, length, code) in
        [(None, (2 << 20) + 1, Code::ResourceExhausted), (Some("good"), (16 << 20) + 1, Code::ResourceExhausted)]
    {
        let call = world.connect().await.call(DELTA_PATH, token).await;
        call.send_bytes(Bytes::copy_from_slice(&grpc::prefix(length))).await;
        assert_eq!(call.outcome().await.0, code as u16, "{token:?}");
    }
    // Who has one may.
    let mut call = world.connect().await.call(DELTA_PATH, Some("good")).await;
    let mut request = first_request("default.web-1");
    request.resource_names_subscribe = (0..40_000).map(|number| format!("{number:0>100}")).collect();
    call.send(&request).await;
    let _: DeltaResponse = call.receive().await;
}

#[tokio::test]
async fn no_node_has_metadata_without_end() {
    let world = World::start().await;
    for token in [None, Some("good")] {
        let call = world.connect().await.call(DELTA_PATH, token).await;
        let mut request = first_request("default.web-1");
        request.node.as_mut().expect("it is there").metadata = Some(vec![0; (64 << 10) + 1]);
        call.send(&request).await;
        assert_eq!(call.outcome().await.0, Code::InvalidArgument as u16);
    }
}

/// Messages that have begun and do not end: none of them is large.
#[tokio::test]
async fn all_who_have_no_token_hold_so_much_together_and_no_more() {
    let world = World::start().await;
    let mut calls = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let call = world.connect().await.call(DELTA_PATH, None).await;
        call.send_bytes(Bytes::copy_from_slice(&grpc::prefix(2 << 20))).await;
        call.send_bytes(Bytes::from(vec![0; (2 << 20) - 1])).await;
        calls.push(call);
    }
    for call in calls {
        let outcome = tokio::time::timeout(Duration::from_secs(1), call.outcome()).await;
        refused += usize::from(outcome.is_ok_and(|(code, _)| code == Code::Unavailable as u16));
    }
    assert!(refused >= 4, "{refused} of 20 times 2 MiB were refused, where 32 MiB are allowed");
    // Their room comes back, and who has a token was never held up.
    let mut call = world.connect().await.call(DELTA_PATH, None).await;
    call.send(&first_request("default.web-1")).await;
    let _: DeltaResponse = call.receive().await;
}

/// Neither connections that say nothing nor streams of strangers keep anybody out who has a token.
#[tokio::test]
async fn there_is_room_for_who_has_a_token() {
    let bounds = Bounds::new(16);
    let mut world = World::start_with(|server| server.bounds(bounds)).await;
    let mut own = world.connect().await.call(DELTA_PATH, Some("good")).await;
    own.send(&first_request("default.own")).await;
    let first: DeltaResponse = own.receive().await;
    world.log().await;
    let mut strangers = Vec::new();
    for number in 0..20 {
        let mut call = world.connect().await.call(DELTA_PATH, None).await;
        call.send(&first_request("default.nobody")).await;
        // One place of 16 is kept for who may have a token.
        if number < 14 {
            let _: DeltaResponse = call.receive().await;
            strangers.push(call);
        } else {
            assert_eq!(call.outcome().await.0, Code::Unavailable as u16, "{number}");
        }
    }
    let mut next = world.connect().await.call(DELTA_PATH, Some("good")).await;
    next.send(&first_request("default.next")).await;
    let _: DeltaResponse = next.receive().await;
    own.send(&DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        response_nonce: first.nonce,
        ..Default::default()
    })
    .await;
    patiently(async { while world.log().await != "acked Cluster" {} }).await;
}

/// Answering PINGs is no reason to stay.
#[tokio::test]
async fn a_connection_whose_stream_has_ended_is_let_go() {
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { no_stream: short, idle: short, ..Timeouts::default() };
    let world = World::start_with(|server| server.timeouts(timeouts)).await;
    let mut connection = world.connect().await;
    let call = connection.call("/no.such/Method", None).await;
    assert_eq!(call.outcome().await.0, Code::Unimplemented as u16);
    patiently(async {
        while connection.0.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
