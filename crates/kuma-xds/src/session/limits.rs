//! Limits of one stream. In a mesh without mTLS, every client that can reach the port may open one.

/// Largest number of names in one request, counted together with its other fields. After a reconnect Envoy names each
/// resource that it has twice (as a subscription, and with its version), so this is twice the limit of subscriptions.
pub const MAX_NAMES_PER_REQUEST: usize = 2 * MAX_SUBSCRIPTIONS + 1024;

/// Largest number of subscriptions of a stream, over all types. A proxy that calls 10,000 services names about 30,000
/// endpoints, extension configs and secrets. The limit is above that, and bounds a hostile stream to some megabytes.
pub const MAX_SUBSCRIPTIONS: usize = 50_000;

/// Longest name in bytes. Names consist of services (at most 253 bytes), addresses and tags.
pub const MAX_NAME_LENGTH: usize = 1024;

/// Longest version in bytes that a client may report. Those of this server have 16, those of others seldom more than
/// 64.
pub const MAX_VERSION_LENGTH: usize = 256;

/// How many bytes of the message of a NACK are kept. Envoy's messages name resource and reason in the first few
/// hundred.
pub const MAX_NACK_MESSAGE: usize = 1024;

/// Bytes of resources after which a delta response is split. gRPC clients refuse messages of more than 4 MiB unless
/// told otherwise, and a smaller piece lets the stream's state be polled in between.
pub const RESPONSE_SIZE: usize = 1 << 20;
