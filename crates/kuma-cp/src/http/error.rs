//! Errors of the HTTP servers: `{"title", "details", "causes": [{"field", "message"}]}`.

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use kuma_model::Violation;
use kuma_store::StoreError;
use serde::Serialize;

use super::json::{self, Unreadable};

/// An answer that is not what was asked for. What only concerns the operator goes to the log, not in here.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What could not be done.
    pub title: String,
    /// Why not.
    pub details: String,
    /// What is wrong with which field.
    pub causes: Vec<Violation>,
    /// Methods that would have been right (405).
    pub allow: Option<&'static str>,
    /// Whether the same request may succeed later (503).
    pub retry: bool,
}

/// After how many seconds a request that met a store which is away may be tried again.
const RETRY_AFTER: &str = "5";

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    details: &'a str,
    #[serde(skip_serializing_if = "<[Violation]>::is_empty")]
    causes: &'a [Violation],
}

impl ApiError {
    /// An error without causes.
    pub fn new(status: StatusCode, title: impl Into<String>, details: impl Into<String>) -> Self {
        Self { status, title: title.into(), details: details.into(), causes: Vec::new(), allow: None, retry: false }
    }

    /// `400`: the document or the request breaks rules.
    pub fn invalid(title: impl Into<String>, causes: Vec<Violation>) -> Self {
        Self { causes, ..Self::new(StatusCode::BAD_REQUEST, title, "Resource is not valid") }
    }

    /// `400` for a body that is not a JSON object, with the place where it stops being JSON.
    pub fn unreadable(title: impl Into<String>, error: &Unreadable) -> Self {
        let details = match error {
            Unreadable::Malformed(error) => {
                let text = error.to_string();
                // serde_json ends its message with the place; it is said once, and first.
                let message = text.split(" at line ").next().unwrap_or(&text);
                format!("Body is not valid JSON: line {}, column {}: {message}", error.line(), error.column())
            }
            Unreadable::NotAnObject => "Body is not a JSON object".to_string(),
            Unreadable::TooMany(limit) => format!("Body has more than {limit} values"),
        };
        Self::new(StatusCode::BAD_REQUEST, title, details)
    }

    /// The store did not do what it was asked: `503` with the reason while it is away, else `500`, whose reason goes to
    /// the log.
    pub fn store(title: impl Into<String>, error: &StoreError) -> Self {
        let title = title.into();
        if let Some(reason) = error.away() {
            tracing::error!(%error, "{title}");
            let details = format!("The store is unavailable ({reason}). Try again later");
            return Self { retry: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, title, details) };
        }
        Self::internal(title, error)
    }

    /// `404` for a path that does not exist.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Page Not Found", "There is nothing at this path")
    }

    /// `405`, with the methods that the path has.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let details = match allow {
            "" => "This path has no methods while the API is read-only".to_owned(),
            allow => format!("This path takes {allow}"),
        };
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", details);
        Self { allow: Some(allow), ..error }
    }

    /// `500`. The reason goes to the log.
    pub fn internal(title: impl Into<String>, reason: &dyn std::fmt::Display) -> Self {
        let title = title.into();
        tracing::error!(%reason, "{title}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, "Internal Server Error")
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A violation as a cause in a body.
pub fn cause(field: impl Into<String>, message: impl Into<String>) -> Violation {
    Violation { field: field.into(), message: message.into() }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body { title: &self.title, details: &self.details, causes: &self.causes };
        let mut response = (self.status, [(CONTENT_TYPE, "application/json")], json::pretty(&body)).into_response();
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.retry {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
