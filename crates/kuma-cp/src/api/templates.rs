//! ProxyTemplates hold resources of Envoy, which are checked by Envoy's own messages. Those are here alone: kumactl and
//! others that check documents do without.

use kuma_model::{Kind, ProxyTemplate, Resource as _, decode_spec};
use serde_json::Value;

use crate::http::ApiError;

/// Refuses a ProxyTemplate with a resource that Envoy would not take. Specs of other kinds pass.
pub(super) async fn check(kind: &Kind, spec: &Value, title: &str) -> Result<(), ApiError> {
    if kind.name != ProxyTemplate::KIND {
        return Ok(());
    }
    let template: ProxyTemplate = decode_spec(spec).map_err(|violations| ApiError::internal(title, &violations))?;
    // Reading takes time by the length of the text, and the first one unpacks Envoy's messages.
    let checked = tokio::task::spawn_blocking(move || kuma_envoy::raw::template(&template).1).await;
    let violations = checked.map_err(|error| ApiError::internal(title, &error))?;
    if violations.is_empty() { Ok(()) } else { Err(ApiError::invalid(title, violations.into_vec())) }
}
