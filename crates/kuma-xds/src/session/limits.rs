//! What one stream may ask for. A client is only as trusted as a mesh without mTLS makes it: anyone who reaches the
//! port.

/// Names in one request, counted together with its other fields. After a reconnect Envoy names everything it holds,
/// twice (subscribed, and held in some version), so this is twice what a stream may subscribe to.
pub const MAX_NAMES_PER_REQUEST: usize = 2 * MAX_SUBSCRIPTIONS + 1024;

/// Names a stream may be subscribed to, all types together. A proxy that calls 10,000 services names about 30,000
/// endpoints, extension configs and secrets; this leaves room and keeps a hostile stream to some megabytes.
pub const MAX_SUBSCRIPTIONS: usize = 50_000;

/// Bytes of a name. Names are made of services (at most 253 bytes), addresses and tags.
pub const MAX_NAME_LENGTH: usize = 1024;

/// Bytes of a version that a client reports. Ours have 16, those of another control plane seldom more than 64.
pub const MAX_VERSION_LENGTH: usize = 256;

/// Bytes of the message of a NACK that are kept. Envoy's say which resource and why in the first few hundred.
pub const MAX_NACK_MESSAGE: usize = 1024;

/// Bytes of resources after which a delta response is split. gRPC clients refuse messages of more than 4 MiB unless
/// told otherwise, and a smaller piece lets the stream's state be polled in between.
pub const RESPONSE_SIZE: usize = 1 << 20;
