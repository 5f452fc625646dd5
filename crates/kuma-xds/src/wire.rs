//! The few protobuf messages of the protocol: requests are decoded, responses are written by hand around bytes that
//! were encoded before.

use bytes::{BufMut, Bytes};
use envoy_api::ResourceType;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_varint, encoded_len_varint, skip_field};

use crate::grpc::{Code, Status};
use crate::session::Variant;
use crate::session::limits::MAX_NAMES_PER_REQUEST;

/// Who asks: the parts of `envoy.config.core.v3.Node` that are kept. The rest of it, 61 KB in Envoy 1.40, is skipped
/// while it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Names the proxy.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The proxy's own group.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// An encoded `google.protobuf.Struct`, where the proxy sent one.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub metadata: Option<Vec<u8>>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorDetail {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.service.discovery.v3.DiscoveryRequest`: the state-of-the-world variant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// The last version that was accepted.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// In the first message of a stream.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// All names the client wants from now on.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// What it asks for.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response that it answers.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Set when that response is refused.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<ErrorDetail>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`: the incremental variant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// In the first message of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// What it asks for.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names the client wants beside those it named before.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names it does not want any more.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What it holds from an earlier stream, by name; only in the first message of a type.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: std::collections::BTreeMap<String, String>,
    /// The response that it answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Set when that response is refused.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<ErrorDetail>,
}

/// A request of either variant.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// State of the world.
    Sotw(DiscoveryRequest),
    /// Incremental.
    Delta(DeltaDiscoveryRequest),
}

impl Request {
    /// Reads a message. INVALID_ARGUMENT when it is not one, RESOURCE_EXHAUSTED when it names more than
    /// [`MAX_NAMES_PER_REQUEST`] resources, which is found out before any is stored.
    pub fn decode(variant: Variant, message: &[u8]) -> Result<Request, Status> {
        check_fields(message)?;
        let decoded = match variant {
            Variant::Sotw => prost::Message::decode(message).map(Request::Sotw),
            Variant::Delta => prost::Message::decode(message).map(Request::Delta),
        };
        decoded.map_err(|error| malformed(&error))
    }

    /// Who asks; only the first message of a stream has to say so.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Request::Sotw(request) => request.node.as_ref(),
            Request::Delta(request) => request.node.as_ref(),
        }
    }

    /// What it asks for.
    pub fn type_url(&self) -> &str {
        match self {
            Request::Sotw(request) => &request.type_url,
            Request::Delta(request) => &request.type_url,
        }
    }
}

fn malformed(error: &prost::DecodeError) -> Status {
    Status::new(Code::InvalidArgument, format!("the request is not a discovery request: {error}"))
}

/// Counts the fields of a message without storing any. A field of three bytes becomes a String of 24 and an
/// allocation, so a message within the size limit could take ten times its size.
fn check_fields(mut message: &[u8]) -> Result<(), Status> {
    let mut fields = 0;
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).map_err(|error| malformed(&error))?;
        skip_field(wire_type, tag, &mut message, DecodeContext::default()).map_err(|error| malformed(&error))?;
        fields += 1;
        if fields > MAX_NAMES_PER_REQUEST {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("a request may name at most {MAX_NAMES_PER_REQUEST} resources"),
            ));
        }
    }
    Ok(())
}

/// Encodes the entry of a resource for `DeltaDiscoveryResponse.resources` and says where in it the entry for
/// `DiscoveryResponse.resources` begins.
pub(crate) fn resource_entry(resource_type: ResourceType, name: &str, version: &str, value: &[u8]) -> (Bytes, usize) {
    const RESOURCES: u32 = 2;
    const VERSION: u32 = 1;
    const NAME: u32 = 3;
    const RESOURCE: u32 = 2;
    const ANY_TYPE_URL: u32 = 1;
    const ANY_VALUE: u32 = 2;

    let type_url = resource_type.type_url();
    let any = field_len(type_url.len()) + field_len(value.len());
    let inner = field_len(version.len()) + field_len(name.len()) + field_len(any);
    let mut entry = Vec::with_capacity(field_len(inner));
    put_key(&mut entry, RESOURCES, inner);
    put_field(&mut entry, VERSION, version.as_bytes());
    put_field(&mut entry, NAME, name.as_bytes());
    let any_at = entry.len();
    put_key(&mut entry, RESOURCE, any);
    put_field(&mut entry, ANY_TYPE_URL, type_url.as_bytes());
    put_field(&mut entry, ANY_VALUE, value);
    debug_assert_eq!(entry.len(), field_len(inner));
    (Bytes::from(entry), any_at)
}

/// The length of a length-delimited field whose key takes one byte, as all of ours do.
pub(crate) fn field_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// Writes a length-delimited field.
pub(crate) fn put_field(buffer: &mut impl BufMut, tag: u32, content: &[u8]) {
    put_key(buffer, tag, content.len());
    buffer.put_slice(content);
}

fn put_key(buffer: &mut impl BufMut, tag: u32, length: usize) {
    prost::encoding::encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn unknown_fields_of_a_node_are_not_kept() {
        /// As Envoy sends it: extensions are field 9.
        #[derive(Clone, PartialEq, Message)]
        struct BigNode {
            #[prost(string, tag = "1")]
            id: String,
            #[prost(bytes = "vec", repeated, tag = "9")]
            extensions: Vec<Vec<u8>>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct BigRequest {
            #[prost(message, optional, tag = "1")]
            node: Option<BigNode>,
            #[prost(string, tag = "2")]
            type_url: String,
        }
        let node = BigNode { id: "default.web-1".to_owned(), extensions: vec![vec![0; 118]; 516] };
        let big = BigRequest { node: Some(node), type_url: "t".to_owned() }.encode_to_vec();
        let request = Request::decode(Variant::Delta, &big).expect("decodes");
        assert_eq!(request.type_url(), "t");
        let node = request.node().expect("node");
        assert_eq!((node.id.as_str(), node.encoded_len()), ("default.web-1", 15));
    }

    #[test]
    fn too_many_names_are_refused_before_they_are_stored() {
        let request =
            DiscoveryRequest { resource_names: vec![String::new(); MAX_NAMES_PER_REQUEST + 1], ..Default::default() };
        let error = Request::decode(Variant::Sotw, &request.encode_to_vec()).expect_err("too many");
        assert_eq!(error.code, Code::ResourceExhausted);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [&[0x0a_u8][..], &[0xff; 20], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            let error = Request::decode(Variant::Delta, bad).expect_err("malformed");
            assert_eq!(error.code, Code::InvalidArgument);
        }
    }
}
