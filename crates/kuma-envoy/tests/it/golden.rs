//! The resources of each case, as JSON with Envoy's names of fields.

use envoy_api::FILE_DESCRIPTOR_SET;
use kuma_envoy::{Encoded, encode, identity_secret};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::cases::{self, Site};

fn site() -> Site {
    Site {
        inbound: 9000,
        application: 6379,
        outbound: 10000,
        redirect: 15001,
        redirect_inbound: 15006,
        roots: "roots of the mesh".into(),
    }
}

#[test]
fn cases() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors read");
    for (name, keys) in cases::all(&site()) {
        let resources: Vec<Value> = keys.iter().map(|key| as_json(&pool, &encode(key))).collect();
        insta::assert_yaml_snapshot!(name, resources);
    }
}

#[test]
fn identity() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors read");
    insta::assert_yaml_snapshot!(as_json(&pool, &identity_secret("identity_cert", "certificate", "key")));
}

#[test]
fn a_cluster_asks_for_its_endpoints_again() {
    for (_, keys) in cases::all(&site()) {
        for key in &keys {
            let encoded = encode(key);
            if let Some((resource_type, name)) = &encoded.requires {
                let found =
                    keys.iter().map(encode).any(|other| other.resource_type == *resource_type && other.name == *name);
                assert!(found, "{} asks for {name}", encoded.name);
            }
        }
    }
}

#[test]
fn equal_keys_give_equal_bytes() {
    for (_, keys) in cases::all(&site()) {
        for key in &keys {
            assert_eq!(encode(key), encode(&key.clone()));
        }
    }
}

fn as_json(pool: &DescriptorPool, encoded: &Encoded) -> Value {
    let message = encoded.resource_type.type_url().trim_start_matches("type.googleapis.com/");
    let descriptor = pool.get_message_by_name(message).expect("a message of the subset");
    let message = DynamicMessage::decode(descriptor, encoded.value.clone()).expect("the bytes read back");
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut body = message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
    sort_policies(&mut body);
    serde_json::json!({(format!("{:?} {}", encoded.resource_type, encoded.name)): body})
}

/// Sorts the policies: a message that was decoded by reflection has its maps in random order.
fn sort_policies(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            if let Some(Value::Object(policies)) = fields.get_mut("policies") {
                policies.sort_keys();
            }
            fields.values_mut().for_each(sort_policies);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_policies),
        _ => {}
    }
}
