//! Errors as people and programs read them: problem details (RFC 9457). The only place that maps an error to a
//! status code.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::ControlError;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, in a sentence, and what to do, in another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:dyad:problem:` and a word that programs can rely on: `not-found`, `in-use`, ...
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The HTTP status code.
    pub status: u16,
    /// The word in readable form; always the same for the same `type`.
    pub title: Cow<'static, str>,
    /// What failed, on which object: one sentence without full stop.
    pub detail: String,
    /// What to do: one sentence without full stop.
    pub advice: String,
}

/// Kinds of problems: `type`, status and title belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Malformed,
    Unauthorized,
    Forbidden,
    NotFound,
    NoSuchPath,
    MethodNotAllowed,
    Exists,
    InUse,
    Refused,
    TooLarge,
    NotJson,
    Invalid,
    DiskRefused,
    Failed,
    Unsupported,
    Unavailable,
    Busy,
    Timeout,
}

impl Fault {
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "urn:dyad:problem:malformed", "Malformed request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "urn:dyad:problem:unauthorized", "Token wanted"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "urn:dyad:problem:forbidden", "Forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "urn:dyad:problem:not-found", "Not found"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "urn:dyad:problem:no-such-path", "No such path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "urn:dyad:problem:method-not-allowed", "Method not allowed")
            }
            Self::Exists => (StatusCode::CONFLICT, "urn:dyad:problem:exists", "Already exists"),
            Self::InUse => (StatusCode::CONFLICT, "urn:dyad:problem:in-use", "In use"),
            Self::Refused => (StatusCode::CONFLICT, "urn:dyad:problem:refused", "Refused"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "urn:dyad:problem:too-large", "Request too large"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:dyad:problem:not-json", "JSON wanted"),
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "urn:dyad:problem:invalid", "Invalid value"),
            Self::DiskRefused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "urn:dyad:problem:disk-refused", "Disk cannot be used")
            }
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "urn:dyad:problem:failed", "Failed"),
            Self::Unsupported => (StatusCode::NOT_IMPLEMENTED, "urn:dyad:problem:unsupported", "Not possible yet"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "urn:dyad:problem:unavailable", "Unavailable"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "urn:dyad:problem:busy", "Busy"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "urn:dyad:problem:timeout", "No answer in time"),
        }
    }
}

impl Problem {
    pub(crate) fn new(fault: Fault, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (status, kind, title) = fault.row();
        Self {
            kind: kind.into(),
            status: status.as_u16(),
            title: title.into(),
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    /// Whether this is the kind with that last word, such as `not-found`.
    pub fn is(&self, word: &str) -> bool {
        self.kind.strip_prefix("urn:dyad:problem:") == Some(word)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let fault = match &error {
            ControlError::NotFound { .. } => Fault::NotFound,
            ControlError::Exists { .. } => Fault::Exists,
            ControlError::Invalid { .. } => Fault::Invalid,
            ControlError::InUse { .. } => Fault::InUse,
            ControlError::Refused { .. } => Fault::Refused,
            ControlError::Failed { .. } => Fault::Failed,
            ControlError::Disk { .. } => Fault::DiskRefused,
            ControlError::Unavailable { .. } | ControlError::Stopping => Fault::Unavailable,
            ControlError::Unsupported { .. } => Fault::Unsupported,
            ControlError::Busy => Fault::Busy,
            ControlError::Timeout { .. } => Fault::Timeout,
        };
        Self::new(fault, error.to_string(), error.advice())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and a number always become JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
