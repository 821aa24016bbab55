//! The one place where an error becomes a gRPC status.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::error::Error;
use crate::wire::report::{CODE_TRAILER, RETRY_TRAILER, STORED_TRAILER, grpc_code, retry_name, stored_name};

/// The status of an error: its text, behind its code in brackets so that stock clients show it, and the
/// trailers for ours.
pub(super) fn status(error: &Error) -> Status {
    let code = error.code();
    let mut metadata = MetadataMap::new();
    for (name, value) in
        [(CODE_TRAILER, code.as_str()), (RETRY_TRAILER, retry_name(code.retry())), (STORED_TRAILER, stored_name(code.stored()))]
    {
        metadata.insert(name, MetadataValue::from_static(value));
    }
    Status::with_metadata(Code::from_i32(grpc_code(code)), format!("[{}] {error}", code.as_str()), metadata)
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
