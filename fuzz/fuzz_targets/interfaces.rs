//! Interface strings and addresses of Dataplanes. The input: an inbound, an outbound and an address, a line each.
#![no_main]

use kuma_model::{Dataplane, decode_spec, kind};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (inbound, outbound, address) = (line(), line(), line());
    let tags = json!({"service": "web"});
    for networking in [
        json!({"inbound": [{"interface": inbound, "tags": tags}],
            "outbound": [{"interface": outbound, "service": "a"}]}),
        json!({"address": address, "inbound": [{"port": 80, "servicePort": 8080, "tags": tags}]}),
        json!({"inbound": [{"address": address, "port": 80, "tags": tags}],
            "outbound": [{"address": address, "port": 1, "service": "a"}]}),
    ] {
        let spec = json!({"networking": networking});
        let dataplane = kind("Dataplane").expect("a kind");
        let Ok(stored) = dataplane.check(spec.as_object().expect("an object")) else { continue };
        let again = dataplane.check(stored.as_object().expect("an object"));
        assert_eq!(again.as_ref(), Ok(&stored));
        decode_spec::<Dataplane>(&stored).expect("what is stored can be read");
    }
});
