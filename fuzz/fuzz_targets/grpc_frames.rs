//! gRPC messages out of a stream of bytes: the same ones however it is cut. The first byte says how.
#![no_main]

use bytes::Bytes;
use kuma_xds::grpc::{FrameDecoder, Status, frame};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 64;

/// The messages in it, and how it ends.
fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<Status>, bool) {
    let mut decoder = FrameDecoder::new(LIMIT);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(status) => return (found, Some(status), true),
            }
        }
    }
    let partial = decoder.is_partial();
    (found, None, partial)
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else { return };
    let whole = messages([stream].into_iter());
    let cut = messages(stream.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, cut);
    let (found, error, partial) = whole;
    assert!(found.iter().all(|message| message.len() <= LIMIT));
    let read: Vec<u8> = found.iter().flat_map(|message| frame(message)).collect();
    assert!(stream.starts_with(&read));
    assert!(error.is_some() || partial == (read.len() < stream.len()));
});
