//! A response, and its gRPC message, for which the resources are not copied.

use std::fmt::Write;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use envoy_api::ResourceType;

use crate::Resource;
use crate::grpc::{self, PREFIX_LENGTH};
use crate::session::Variant;
use crate::wire::{field_len, put_field};

/// A response of a session: a `DeltaDiscoveryResponse` or a `DiscoveryResponse`.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) variant: Variant,
    pub(crate) resource_type: ResourceType,
    pub(crate) nonce: u64,
    /// SotW only: `version_info`, the version of all resources together.
    pub(crate) version: String,
    pub(crate) resources: Vec<Arc<Resource>>,
    /// Delta only: names of resources that were removed or do not exist.
    pub(crate) removed: Vec<Arc<str>>,
}

impl Response {
    /// The type of its resources.
    pub fn resource_type(&self) -> ResourceType {
        self.resource_type
    }

    /// The nonce, which the client returns in its answer.
    pub fn nonce(&self) -> String {
        self.nonce.to_string()
    }

    /// The version of all resources together; empty in the delta variant, where each resource has its own.
    pub fn version_info(&self) -> &str {
        &self.version
    }

    /// The resources, sorted by name.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Names of resources that were removed or do not exist; always empty in the SotW variant.
    pub fn removed(&self) -> &[Arc<str>] {
        &self.removed
    }

    /// The gRPC message, prefix included.
    pub fn into_message(self) -> Message {
        const VERSION_INFO: u32 = 1;
        const TYPE_URL: u32 = 4;
        const NONCE: u32 = 5;
        const REMOVED_RESOURCES: u32 = 6;

        let Response { variant, resource_type, nonce, version, resources, removed } = self;
        let mut digits = String::with_capacity(20);
        // Writing to a String cannot fail.
        let _ = write!(digits, "{nonce}");

        let type_url = resource_type.type_url();
        let mut head_length = field_len(type_url.len()) + field_len(digits.len());
        if !version.is_empty() {
            head_length += field_len(version.len());
        }
        head_length += removed.iter().map(|name| field_len(name.len())).sum::<usize>();
        let rest = resources.iter().map(|resource| entry(variant, resource).len()).sum();

        let mut head = BytesMut::with_capacity(PREFIX_LENGTH + head_length);
        head.extend_from_slice(&grpc::prefix(head_length + rest));
        if !version.is_empty() {
            put_field(&mut head, VERSION_INFO, version.as_bytes());
        }
        put_field(&mut head, TYPE_URL, type_url.as_bytes());
        put_field(&mut head, NONCE, digits.as_bytes());
        for name in &removed {
            put_field(&mut head, REMOVED_RESOURCES, name.as_bytes());
        }
        Message { variant, head: head.freeze(), resources: resources.into_iter(), skipped: 0, rest }
    }
}

/// A gRPC message that consists of a few bytes of its own and the shared bytes of resources, which are never copied.
#[derive(Clone, Debug)]
pub struct Message {
    variant: Variant,
    head: Bytes,
    resources: std::vec::IntoIter<Arc<Resource>>,
    /// How many bytes of the first of `resources` are already consumed.
    skipped: usize,
    /// How many bytes of `resources` are left.
    rest: usize,
}

fn entry(variant: Variant, resource: &Resource) -> &[u8] {
    match variant {
        Variant::Delta => resource.delta_entry(),
        Variant::Sotw => resource.sotw_entry(),
    }
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.head.len() + self.rest
    }

    fn chunk(&self) -> &[u8] {
        if !self.head.is_empty() {
            return &self.head;
        }
        match self.resources.as_slice() {
            [first, ..] => &entry(self.variant, first)[self.skipped..],
            [] => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let first = (!self.head.is_empty()).then_some(&self.head[..]);
        let entries = self.resources.as_slice().iter().enumerate().map(|(index, resource)| {
            let entry = entry(self.variant, resource);
            if index == 0 { &entry[self.skipped..] } else { entry }
        });
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(first.into_iter().chain(entries)) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        let mut count = count - of_head;
        assert!(count <= self.rest, "advanced past the end of a message");
        self.rest -= count;
        while let [first, ..] = self.resources.as_slice() {
            let left = entry(self.variant, first).len() - self.skipped;
            if count < left {
                self.skipped += count;
                return;
            }
            count -= left;
            self.skipped = 0;
            self.resources.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(variant: Variant) -> Message {
        let resource = |name: &str, length| Arc::new(Resource::new(ResourceType::Endpoint, name, &vec![1; length]));
        Response {
            variant,
            resource_type: ResourceType::Endpoint,
            nonce: 12,
            version: String::new(),
            resources: vec![resource("a", 0), resource("b", 200), resource("c", 3)],
            removed: vec![Arc::from("gone")],
        }
        .into_message()
    }

    #[test]
    fn every_way_of_reading_gives_the_same_bytes() {
        for variant in [Variant::Delta, Variant::Sotw] {
            let whole = message(variant).copy_to_bytes(message(variant).remaining());
            let announced = u32::from_be_bytes([whole[1], whole[2], whole[3], whole[4]]) as usize;
            assert_eq!(announced, whole.len() - PREFIX_LENGTH);
            for step in 1..whole.len() {
                let mut buffer = message(variant);
                let mut read = Vec::new();
                while buffer.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 2];
                    let filled = buffer.chunks_vectored(&mut slices);
                    assert_eq!(slices[0][..], *buffer.chunk());
                    let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                    let taken = step.min(seen.len());
                    read.extend_from_slice(&seen[..taken]);
                    buffer.advance(taken);
                    assert_eq!(buffer.remaining(), whole.len() - read.len());
                }
                assert_eq!(read, whole);
            }
        }
    }
}
