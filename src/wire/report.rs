//! How an error travels: a gRPC status code, the text, and trailers with bowstring's own code.

use crate::engine::{Code, Retry, StoredState};

/// Trailer with [`Code::as_str`].
pub const CODE_TRAILER: &str = "bowstring-code";
/// Trailer with `never`, `now` or `after`.
pub const RETRY_TRAILER: &str = "bowstring-retry";
/// Trailer with `no`, `yes` or `unknown`.
pub const STORED_TRAILER: &str = "bowstring-stored";

/// [`RETRY_TRAILER`]'s value.
#[must_use]
pub fn retry_name(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Now => "now",
        Retry::After => "after",
    }
}

/// [`STORED_TRAILER`]'s value.
#[must_use]
pub fn stored_name(stored: StoredState) -> &'static str {
    match stored {
        StoredState::No => "no",
        StoredState::Yes => "yes",
        StoredState::Unknown => "unknown",
    }
}

/// The gRPC status code (<https://grpc.io/docs/guides/status-codes/>) that a stock client sees.
#[must_use]
pub fn grpc_code(code: Code) -> i32 {
    match code {
        Code::Cancelled => 1,
        Code::InvalidArgument
        | Code::SchemaMismatch
        | Code::MalformedMessage
        | Code::PartitionOutOfRange
        | Code::BatchTooLarge
        | Code::MessageTooLarge => 3,
        Code::Timeout => 4,
        Code::StreamNotFound | Code::SubscriptionNotFound | Code::ReceiptUnknown => 5,
        Code::StreamExists | Code::EpochCommitted => 6,
        Code::BufferFull | Code::SpoolFull | Code::TooMany => 8,
        Code::StreamReplaced | Code::StreamCompleted | Code::StreamFailed | Code::Fenced | Code::EpochNotOpen => 9,
        Code::SubscriptionMoved | Code::SubscriptionEvicted | Code::LeaseLost | Code::QueryFailed => 9,
        Code::PermissionDenied => 7,
        Code::OrdinalGap | Code::AppenderNotReady => 10,
        Code::OffsetGone | Code::OffsetAhead => 11,
        Code::Unimplemented => 12,
        Code::Internal => 13,
        Code::Unauthenticated => 16,
        Code::ShuttingDown | Code::Unavailable | Code::ProducerLost | Code::Storage => 14,
    }
}
