//! What the HTTP servers of the control plane share: accepting connections, reading bodies within bounds, errors as
//! JSON, and who may ask for what.

pub mod body;
pub mod cause;
pub mod client_certs;
mod connection_slots;
pub mod cors;
pub mod error;
pub mod json;
pub mod locality;
pub mod outgoing;
pub mod serve;

pub use client_certs::ClientCertificate;
pub use error::ApiError;
pub use locality::Connection;
