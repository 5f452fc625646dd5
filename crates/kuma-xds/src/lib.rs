//! The xDS protocol, ignorant of what it carries: it knows bytes, names and versions, and nothing of meshes.
//!
//! The application makes a [`Snapshot`] for each proxy out of [`Resource`]s, each encoded once and shared, and hands it
//! to the proxy's stream through a `watch` channel, in which the latest wins. A [`Session`] compares what the client
//! holds with what it should hold and says what to send next; it never queues anything. The [`server`] moves the bytes.
//!
//! ```text
//!  application --StreamState--> Session --Response--> HTTP/2 --> Envoy
//!              <----Event-----          <--Request----
//! ```
//!
//! [`Session`] is pure: no I/O, no clock. Both variants of the protocol (delta, and state of the world) are served out
//! of the same resources. The rules it keeps, C1 to O3, are listed in its module and are the names of its tests.
//!
//! ```
//! use std::sync::Arc;
//! use kuma_xds::{DeltaDiscoveryRequest, Node, Request, Resource, ResourceType, Session, Snapshot};
//! use kuma_xds::{StreamState, Variant};
//!
//! let cluster = Resource::new(ResourceType::Cluster, "backend", b"an encoded Cluster");
//! let snapshot = Snapshot::builder().with(cluster).build();
//!
//! let mut events = Vec::new();
//! let mut session = Session::new(Variant::Delta);
//! session.on_state(StreamState::Serve(Arc::new(snapshot)));
//! let request = Request::Delta(DeltaDiscoveryRequest {
//!     node: Some(Node { id: "default.web-1".into(), ..Default::default() }),
//!     type_url: ResourceType::Cluster.type_url().into(),
//!     ..Default::default()
//! });
//! session.on_request(request, &mut events)?;
//! let response = session.poll(&mut events).expect("the cluster is sent");
//! assert_eq!(response.resources().len(), 1);
//! assert!(session.poll(&mut events).is_none(), "and nothing else");
//! # Ok::<(), kuma_xds::grpc::Status>(())
//! ```

pub mod grpc;
mod resource;
mod response;
pub mod server;
pub mod session;
mod snapshot;
mod wire;

pub use envoy_api::ResourceType;
pub use resource::{Requirement, Resource};
pub use response::{Message, Response};
pub use session::{Event, Refusal, Session, StreamState, Subscription, Unanswered, Variant};
pub use snapshot::{ResourceList, Snapshot, SnapshotBuilder};
pub use wire::{DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, Node, Request};
