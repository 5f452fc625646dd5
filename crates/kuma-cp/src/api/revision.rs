//! The headers that say at which revision the documents are.

use axum::response::Response;
use http::{HeaderName, HeaderValue};
use kuma_store::Revision;

/// The revision of a change, or the latest one if nothing has changed.
pub const REVISION: HeaderName = HeaderName::from_static("kuma-revision");
/// What the revision belongs to: it means nothing beside another one.
pub const EPOCH: HeaderName = HeaderName::from_static("kuma-epoch");

/// Adds both.
pub(super) fn add(response: &mut Response, revision: Revision, epoch: &str) {
    let headers = response.headers_mut();
    headers.insert(REVISION, HeaderValue::from(revision));
    // An epoch is letters and digits.
    if let Ok(epoch) = HeaderValue::from_str(epoch) {
        headers.insert(EPOCH, epoch);
    }
}
