//! Answers: JSON, never kept by anybody on the way; refusals with their code, and with when to try again.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::{Code, Retry};
use crate::server::access::Refusal;
use crate::server::error::Error;

/// Seconds after which what passes has a chance of having passed.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What became of a request's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Appended to the stream.
    pub(super) rows: usize,
    /// Appended to the stream of the bad rows.
    pub(super) rejected: usize,
    /// The epoch was there before: this request has changed nothing.
    pub(super) is_duplicate: bool,
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        let mut answer = json!({ "rows": self.rows, "rejected": self.rejected });
        if self.is_duplicate {
            answer["duplicate"] = true.into();
        }
        fresh(Json(answer).into_response())
    }
}

/// Why a request is not taken: nothing of it is stored unless it says otherwise.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    pub(super) code: Code,
    message: String,
    retry: bool,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry: false }
    }

    /// One that may be sent again after a while.
    pub(super) fn for_now(code: Code, message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// Another request of the same producer goes on.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(StatusCode::CONFLICT, Code::AppenderNotReady, message) }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::MessageTooLarge, message)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = error.code();
        Self { status: status(code), code, message: error.to_string(), retry: code.retry() != Retry::Never }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code.as_str(), "message": self.message } });
        let mut answer = fresh((self.status, Json(body)).into_response());
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.retry {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        answer
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        _ if code.retry() != Retry::Never => StatusCode::SERVICE_UNAVAILABLE,
        Code::InvalidArgument | Code::PartitionOutOfRange | Code::MalformedMessage => StatusCode::BAD_REQUEST,
        Code::StreamNotFound => StatusCode::NOT_FOUND,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::MessageTooLarge | Code::BatchTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::SpoolFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::StreamExists
        | Code::StreamReplaced
        | Code::StreamCompleted
        | Code::StreamFailed
        | Code::SchemaMismatch
        | Code::Fenced
        | Code::EpochNotOpen => StatusCode::CONFLICT,
        // Defects, and what an append never says.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn fresh(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
