//! The list of all assignments, which all clients share.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_api::Any;
use kuma_mads::v1alpha1::{MonitoringAssignment, TYPE_URL};
use kuma_mads::{Assignment, v1};
use kuma_xds::grpc::prefix;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::time::Instant;

/// Size of the pieces in which a response is encoded.
const PIECE: usize = 32 * 1024;

/// One assignment, with its encoded form.
#[derive(PartialEq, Debug)]
pub struct Assigned {
    assignment: Assignment,
    name: String,
    /// An entry of `DiscoveryResponse.resources`, key and length included.
    entry: Bytes,
    /// The hash of the entry.
    hash: u64,
}

impl Assigned {
    /// Encodes an assignment.
    pub fn new(assignment: Assignment) -> Assigned {
        let message = MonitoringAssignment::from(&assignment);
        let any = Any { type_url: TYPE_URL.to_owned(), value: message.encoded().into() };
        let mut entry = BytesMut::new();
        put_field(&mut entry, RESOURCES, &any.encode_to_vec());
        let hash = xxhash_rust::xxh3::xxh3_64(&entry);
        Assigned { assignment, name: message.name, entry: entry.freeze(), hash }
    }
}

/// The assignments of all meshes, sorted by mesh and name.
#[derive(Clone, Debug)]
pub struct List {
    /// A hash of the content, so that it is equal in control planes with the same documents, and after a restart.
    pub version: Box<str>,
    /// Whether clients with a list of another process may get this list.
    pub hold: Hold,
    all: Arc<[Arc<Assigned>]>,
}

/// When a client that has a list of another process (another control plane, or this one before a restart) may get this
/// list: after a restart with the memory store it is not known which missing documents are deleted, and which have not
/// been written again yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// At once.
    No,
    /// Not before this time.
    Until(Instant),
    /// Not before documents have been written.
    Unwritten,
}

impl List {
    /// A list of assignments, which are sorted by mesh and name.
    pub fn new(all: Vec<Arc<Assigned>>, hold: Hold) -> List {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        all.iter().for_each(|one| hash.update(&one.hash.to_be_bytes()));
        List { version: format!("{:016x}", hash.digest()).into(), hold, all: all.into() }
    }

    /// The same list with another hold.
    pub fn with_hold(&self, hold: Hold) -> List {
        List { hold, ..self.clone() }
    }

    /// The number of assignments.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are no assignments.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// When a client with this version should get the list; `None` if it has the same. `foreign`: its version is from
    /// another process. That is reset once both have the same version.
    pub fn due(&self, held: Option<&str>, foreign: &mut bool, now: Instant) -> Option<Instant> {
        if held == Some(&self.version) {
            *foreign = false;
            return None;
        }
        match self.hold {
            Hold::Until(moment) if *foreign => Some(moment),
            Hold::Unwritten if *foreign => None,
            Hold::No | Hold::Until(_) | Hold::Unwritten => Some(now),
        }
    }

    /// The response in the format of v1.
    pub fn v1(&self, nonce: &str) -> Vec<u8> {
        let resources = self.all.iter().map(|one| (&one.assignment).into()).collect();
        let answer = v1::DiscoveryResponse { version_info: &self.version, resources, type_url: v1::TYPE_URL, nonce };
        // Writing to memory cannot fail, and all keys are text.
        serde_json::to_vec(&answer).unwrap_or_default()
    }

    /// The gRPC message of v1alpha1, with the assignments of these names; without names, with all assignments.
    pub fn message(&self, names: &BTreeSet<String>, nonce: &str) -> Message {
        let chosen: Arc<[Arc<Assigned>]> = if names.is_empty() {
            self.all.clone()
        } else {
            self.all.iter().filter(|one| names.contains(&one.name)).cloned().collect()
        };
        let mut fields = BytesMut::new();
        put_field(&mut fields, VERSION_INFO, self.version.as_bytes());
        put_field(&mut fields, RESPONSE_TYPE_URL, TYPE_URL.as_bytes());
        put_field(&mut fields, NONCE, nonce.as_bytes());
        let length = fields.len() + chosen.iter().map(|one| one.entry.len()).sum::<usize>();
        let mut head = BytesMut::from(&prefix(length)[..]);
        head.put(fields);
        Message { length, head: head.freeze(), rest: chosen, at: 0 }
    }
}

/// A response that is encoded in pieces as it is sent, so that a client that does not read needs little memory.
#[derive(Debug)]
pub struct Message {
    /// Total length in bytes, without the prefix.
    pub length: usize,
    head: Bytes,
    rest: Arc<[Arc<Assigned>]>,
    at: usize,
}

impl Message {
    /// The next piece, or `None` after the last.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::from(std::mem::take(&mut self.head).as_ref());
        while piece.len() < PIECE
            && let Some(one) = self.rest.get(self.at)
        {
            piece.put_slice(&one.entry);
            self.at += 1;
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

// Fields of envoy.service.discovery.v3.DiscoveryResponse; those of the older envoy.api.v2 are the same.
const VERSION_INFO: u32 = 1;
const RESOURCES: u32 = 2;
const RESPONSE_TYPE_URL: u32 = 4;
const NONCE: u32 = 5;

fn put_field(buffer: &mut BytesMut, tag: u32, content: &[u8]) {
    buffer.reserve(1 + encoded_len_varint(content.len() as u64) + content.len());
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(content.len() as u64, buffer);
    buffer.put_slice(content);
}
