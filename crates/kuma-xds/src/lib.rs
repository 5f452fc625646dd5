//! The xDS protocol. This crate handles resources as bytes with names and versions, and does not depend on meshes.
//!
//! The application makes a [`Snapshot`] of [`Resource`]s for each proxy; resources are encoded once and shared. It
//! sends the snapshot to the proxy's stream through a `watch` channel, which keeps only the latest one. A [`Session`]
//! compares the resources that the client has with those of the snapshot and returns what to send next; it has no
//! queue. The [`server`] does the I/O.
//!
//! ```text
//!  application --StreamState--> Session --Response--> HTTP/2 --> Envoy
//!              <----Event-----          <--Request----
//! ```
//!
//! [`Session`] is pure: no I/O, no clock. Both variants of the protocol (delta, and state of the world) use the same
//! resources. Its module lists the rules that it follows, C1 to O3, which are also the names of its tests.
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
