//! The one place where an error becomes a gRPC status.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::error::Error;
use crate::engine::Code as ErrorCode;
use crate::wire::report::{CODE_TRAILER, RETRY_TRAILER, STORED_TRAILER, grpc_code, retry_name, stored_name};

/// Longest text of a status: in a header some characters become nine bytes, and clients take 8 KiB of headers.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// The status of an error: its text, behind its code in brackets so that stock clients show it, and the
/// trailers for ours.
pub(super) fn status(error: &Error) -> Status {
    let code = error.code();
    let mut metadata = MetadataMap::new();
    for (name, value) in names(code) {
        metadata.insert(name, MetadataValue::from_static(value));
    }
    Status::with_metadata(Code::from_i32(grpc_code(code)), cut(format!("[{}] {error}", code.as_str())), metadata)
}

/// A text that fits into a header: callers' own texts come back in errors.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Names the code of a refusal that did not come from our calls: tonic's, of requests that reach none.
pub(super) fn name_refusal(headers: &mut HeaderMap) -> Option<ErrorCode> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if headers.contains_key(CODE_TRAILER) {
        return None;
    }
    let code = match Code::from_i32(status) {
        Code::Unimplemented => ErrorCode::Unimplemented,
        Code::OutOfRange | Code::ResourceExhausted => ErrorCode::MessageTooLarge,
        Code::Internal | Code::InvalidArgument => ErrorCode::MalformedMessage,
        Code::Cancelled | Code::DeadlineExceeded => ErrorCode::Cancelled,
        _ => return None,
    };
    for (name, value) in names(code) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(code)
}

fn names(code: ErrorCode) -> [(&'static str, &'static str); 3] {
    [(CODE_TRAILER, code.as_str()), (RETRY_TRAILER, retry_name(code.retry())), (STORED_TRAILER, stored_name(code.stored()))]
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}

/// The trailers that end a hand-framed response with an error.
pub(super) fn trailers(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status(error).add_header(&mut trailers).is_err() {
        // The text has characters that no header takes: the code says enough.
        trailers.insert("grpc-status", HeaderValue::from(grpc_code(error.code())));
    }
    trailers
}

/// The trailers that end a response in good order.
pub(super) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}
