//! Request parts, with refusals as [`Problem`]s instead of plain text.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{Fault, Problem};

/// A JSON body.
pub(crate) struct Body<T>(pub T);

/// A body of which nothing is needed. It is read all the same: a connection that is closed with something unread is reset,
/// and the client may never see its answer.
pub(crate) struct Nothing;

/// Parts of the path.
pub(crate) struct Name(pub String);

/// The query string.
pub(crate) struct Options<T>(pub T);

/// Longest name in a path: that of a disk, which is a path itself.
const NAME_BYTES_MAX: usize = 4096;
/// How long a body may take: it is small, and the place that it waits in is one of few.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match tokio::time::timeout(BODY_TIMEOUT, Json::<T>::from_request(request, state)).await {
            Ok(Ok(Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(refuse_body(&rejection)),
            Err(_) => {
                let late = format!("the request's body did not come within {} s", BODY_TIMEOUT.as_secs());
                Err(Problem::new(Fault::Malformed, late, "send the request again, complete"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Nothing {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match tokio::time::timeout(BODY_TIMEOUT, axum::body::Bytes::from_request(request, state)).await {
            Ok(Ok(_)) => Ok(Self),
            _ => Err(Problem::new(
                Fault::Malformed,
                "the request's body did not come",
                "send the request again, complete",
            )),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Problem {
    let inner = || std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), innermost);
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::new(
            Fault::Invalid,
            format!("the request's body is not as it should be: {}", inner()),
            "correct it; /v1/openapi.json describes every request",
        ),
        JsonRejection::JsonSyntaxError(_) => {
            Problem::new(Fault::Malformed, format!("the request's body is not JSON: {}", inner()), "correct it")
        }
        JsonRejection::MissingJsonContentType(_) => Problem::new(
            Fault::NotJson,
            "the request does not say that its body is JSON",
            "send the header `Content-Type: application/json`",
        ),
        other if other.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Fault::TooLarge,
            format!("the request's body is larger than {} bytes", crate::router::BODY_BYTES_MAX),
            "send less",
        ),
        other => Problem::new(Fault::Malformed, other.body_text(), "send the request again, complete"),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refuse = |why: String| Problem::new(Fault::Malformed, why, "use a name or an id in the path");
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection: PathRejection| refuse(rejection.body_text()))?;
        if name.len() > NAME_BYTES_MAX {
            return Err(refuse(format!("the name in the path has more than {NAME_BYTES_MAX} bytes")));
        }
        Ok(Self(name))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Options<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse_query(&rejection)),
        }
    }
}

fn refuse_query(rejection: &QueryRejection) -> Problem {
    let why = std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), innermost);
    Problem::new(
        Fault::Malformed,
        format!("the query string is not as it should be: {why}"),
        "correct it; /v1/openapi.json describes every request",
    )
}
