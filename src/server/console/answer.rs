//! Answers of the API: JSON, never kept by anybody on the way, errors with their code.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::Error;
use crate::engine::Code;

/// What a request ends with.
pub(super) type Answer = Result<Found, Error>;

/// An answer of status 200.
#[derive(Debug)]
pub(super) struct Found(pub(super) Value);

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        fresh(Json(self.0).into_response())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        refusal(status(self.code()), self.code().as_str(), &self.to_string())
    }
}

/// An error in the shape that all of the API's have.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let mut answer = fresh((status, Json(json!({ "error": { "code": code, "message": message } }))).into_response());
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

pub(super) async fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, Code::Unimplemented.as_str(), "the API has no such address; docs/console.md lists those that it has")
}

fn fresh(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::StreamNotFound | Code::SubscriptionNotFound => StatusCode::NOT_FOUND,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::OffsetGone => StatusCode::GONE,
        Code::InvalidArgument | Code::PartitionOutOfRange | Code::OffsetAhead => StatusCode::BAD_REQUEST,
        Code::MessageTooLarge | Code::MalformedMessage => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Timeout | Code::ShuttingDown | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // Of what the API does not do, and of defects.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
