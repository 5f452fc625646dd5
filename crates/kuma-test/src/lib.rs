//! Helpers for tests that run the project's programs with real Envoys. For development only.
//!
//! Programs listen on loopback, on free ports, and end when the value that started them is dropped.

pub mod apps;
pub mod control_plane;
pub mod dataplane;
pub mod documents;
pub mod http_app;
pub mod http_client;
pub mod load;
pub mod machine;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod raw_app;
pub mod wait;
pub mod wire;

pub use control_plane::ControlPlane;
pub use dataplane::Dataplane;
pub use http_app::HttpApp;
pub use http_client::HttpClient;
pub use load::Load;
pub use process::{Process, envoy_binary, program};
pub use prometheus::Prometheus;
pub use raw_app::RawApp;
pub use wait::eventually;
