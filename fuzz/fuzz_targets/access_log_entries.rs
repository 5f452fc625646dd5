//! What Envoy sends to kuma-dp of an access log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;

#[allow(dead_code)] // The names of the method and of tags are not needed.
#[path = "../../crates/kuma-dp/src/access_log/messages.rs"]
mod messages;

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = messages::StreamAccessLogsMessage::decode(input) {
        let entries = message.clone().into_entries().count();
        assert!(entries <= input.len());
        let again = messages::StreamAccessLogsMessage::decode(&*message.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&message));
    }
});
