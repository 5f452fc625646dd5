//! Raw resources of ProxyTemplates: text to bytes, by Envoy's messages and their constraints, v2 included.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|input: &str| {
    match envoy_raw::read(input) {
        Ok(resource) => {
            assert!(!resource.name.is_empty());
            assert_eq!(envoy_raw::read(input).as_ref(), Ok(&resource), "the same each time");
            let url = resource.resource_type.type_url();
            let message = url.rsplit_once('/').map_or(url, |(_, name)| name);
            let descriptor = envoy_raw::pool().get_message_by_name(message).expect("a message");
            let read = prost_reflect::DynamicMessage::decode(descriptor, resource.value.clone()).expect("reads back");
            assert_eq!(read.unknown_fields().count(), 0);
            let _ = read.encoded_len();
        }
        Err(problems) => assert!((1..=envoy_raw::MAX_PROBLEMS).contains(&problems.len())),
    }
});
