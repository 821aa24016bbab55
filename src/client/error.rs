//! What can go wrong for a client. The one place where the client reads a `tonic::Status`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::tls::TlsProblem;
use crate::engine::{Code, LeasedOffset, PartitionId, Retry, StoredState};
use crate::wire::error::WireError;
use crate::wire::report::{CODE_TRAILER, RETRY_TRAILER, STORED_TRAILER};

/// What HTTP/2 says shorter: "enhance your calm".
const TURNED_AWAY: &str =
    "it turned the connection away, for it has as many as it may (its connections_max), or too much was asked of it at once";

/// An error of a client's verb. [`Error::code`] is stable; the text says what was asked, what the limit or
/// state is, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The coordinator refused, in its own words.
    #[error("{text}")]
    Refused {
        /// The stable code.
        code: Code,
        /// When the call may be tried again.
        retry: Retry,
        /// Whether what was sent is stored.
        stored: StoredState,
        /// What the coordinator said.
        text: Arc<str>,
    },
    /// No connection could be made.
    #[error("cannot reach a coordinator at {url}: {reason}; check that `bowstring serve` runs there and that the address is right")]
    Unreachable {
        /// Where.
        url: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// TLS to the coordinator cannot be had.
    #[error("cannot reach a coordinator at {url}: {problem}")]
    Tls {
        /// Where.
        url: Arc<str>,
        /// Why, and what to do.
        problem: TlsProblem,
    },
    /// A connection broke.
    #[error("the connection to the coordinator at {url} broke: {reason}; the same call may be tried again")]
    ConnectionLost {
        /// Where.
        url: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// The caller's deadline passed.
    #[error("timed out after waiting {waited:?} for {what}; wait longer, or see `bowstring stats` for what holds it up")]
    Timeout {
        /// For what.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// Whether what was sent is stored.
        stored: StoredState,
    },
    /// The caller's deadline passed, and it was the caller who was waited for.
    #[error(
        "timed out after waiting {waited:?} for acks: {batches} batches of {bytes} bytes are handed out and not acked{}; ack some of \
         them, or open the consumer with higher limits",
        limits(*.batches_max, *.bytes_max)
    )]
    InFlight {
        /// How long.
        waited: Duration,
        /// Batches that are handed out and not acked.
        batches: u64,
        /// Their bytes.
        bytes: u64,
        /// Most batches; `u64::MAX` for no limit.
        batches_max: u64,
        /// Most bytes; `u64::MAX` for no limit.
        bytes_max: u64,
    },
    /// The URL is not one of a coordinator.
    #[error("{url:?} is no coordinator's URL: {reason}; write grpc://host:port, grpc+tls://host:port or grpc+unix:///path")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option, or a use of a closed object.
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong and what to do.
        what: String,
    },
    /// The batch cannot be sent in one message.
    #[error("a batch of {bytes} bytes does not fit in one message, which has at most {limit} bytes; split it into smaller batches")]
    MessageTooLarge {
        /// Its size, header included.
        bytes: u64,
        /// The largest message.
        limit: u64,
    },
    /// The batch's schema differs from the one that the appends began with.
    #[error("the batch does not have the schema that the appends began with: {difference}; use another producer and stream for it")]
    SchemaMismatch {
        /// The first difference.
        difference: String,
    },
    /// The batch cannot be written as Arrow IPC.
    #[error("the batch cannot be encoded as Arrow IPC: {reason}")]
    Encode {
        /// What Arrow says.
        reason: String,
    },
    /// What the coordinator sent is no valid Arrow IPC or Flight message.
    #[error("batch {offset} of partition {partition} cannot be decoded: {reason}; it was appended malformed, or the versions differ")]
    Decode {
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A batch that cannot be had in the schema that the consumer reads.
    #[error(
        "batch {offset} of partition {partition} cannot be given in the schema that this consumer reads: {reason}; open another consumer there, with the stream's schema as it is now or with one that fits"
    )]
    Unfit {
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: u64,
        /// Which column, and why.
        reason: String,
    },
    /// Bytes of the coordinator that are not bowstring's protocol.
    #[error("the coordinator sent what this client does not understand: {reason}; check that both have the same version")]
    Protocol {
        /// What is wrong.
        reason: String,
    },
    /// The coordinator has forgotten appends that it had acknowledged: the stream was deleted and made anew.
    #[error("stream {stream} was deleted and created again since this {noun} began: what it holds is another stream's; start a new {noun}")]
    StreamReplaced {
        /// The stream.
        stream: String,
        /// What found it: a producer, a writer or a consumer.
        noun: &'static str,
    },
    /// What was acked by leases that are lost.
    #[error(
        "the leases on partitions {} were lost before their batches were acked: the consumer gave no sign of life in time, was put elsewhere by a seek, or the coordinator was started again; what was not acked is read again",
        .lost.iter().map(|lost| lost.partition.to_string()).collect::<Vec<_>>().join(", ")
    )]
    LeaseLost {
        /// What was acked in vain.
        lost: Vec<LeasedOffset>,
    },
    /// A defect of the client, or a machine without resources.
    #[error("the client failed: {reason}; please report this with what led to it")]
    Internal {
        /// What happened.
        reason: String,
    },
}

/// What of two limits there is, for an error's text.
fn limits(batches_max: u64, bytes_max: u64) -> String {
    let limit = |name, max| if max == u64::MAX { None } else { Some(format!("{name} is {max}")) };
    let both = [limit("max_in_flight_batches", batches_max), limit("max_in_flight_bytes", bytes_max)];
    let known: Vec<_> = both.into_iter().flatten().collect();
    if known.is_empty() { String::new() } else { format!(", where {}", known.join(" and ")) }
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unreachable { .. } | Self::ConnectionLost { .. } | Self::Tls { .. } => Code::Unavailable,
            Self::Timeout { .. } | Self::InFlight { .. } => Code::Timeout,
            Self::Url { .. } | Self::InvalidArgument { .. } | Self::Encode { .. } => Code::InvalidArgument,
            Self::MessageTooLarge { .. } => Code::MessageTooLarge,
            Self::SchemaMismatch { .. } | Self::Unfit { .. } => Code::SchemaMismatch,
            Self::Decode { .. } | Self::Protocol { .. } => Code::MalformedMessage,
            Self::StreamReplaced { .. } => Code::StreamReplaced,
            Self::LeaseLost { .. } => Code::LeaseLost,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// When the same call may be tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused { retry, .. } => *retry,
            Self::Tls { .. } => Retry::Never,
            other => other.code().retry(),
        }
    }

    /// Whether what was sent is stored.
    #[must_use]
    pub fn stored(&self) -> StoredState {
        match self {
            Self::Refused { stored, .. } | Self::Timeout { stored, .. } => *stored,
            Self::Unreachable { .. } | Self::Tls { .. } => StoredState::No,
            other => other.code().stored(),
        }
    }

    /// The error of a gRPC answer: from bowstring's own trailers, or where they are missing (another server,
    /// or the connection itself) from the gRPC status.
    pub(super) fn from_status(status: &tonic::Status, url: &Arc<str>) -> Self {
        match own_code(status.metadata().as_ref()) {
            Some(code) => Self::refused(code, status.metadata().as_ref(), status.message()),
            None => Self::from_grpc(status, url),
        }
    }

    /// The error in the trailers of a hand-framed call; none if they say that all went well.
    pub(super) fn from_trailers(trailers: &HeaderMap, url: &Arc<str>) -> Option<Self> {
        let status = tonic::Status::from_header_map(trailers)?;
        if status.code() == tonic::Code::Ok {
            return None;
        }
        Some(match own_code(trailers) {
            Some(code) => Self::refused(code, trailers, status.message()),
            None => Self::from_grpc(&status, url),
        })
    }

    /// The connection broke under a call.
    pub(super) fn lost(url: &Arc<str>, reason: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(problem) = TlsProblem::behind(reason) {
            return Self::Tls { url: url.clone(), problem };
        }
        if is_turned_away(reason) {
            return Self::ConnectionLost { url: url.clone(), reason: TURNED_AWAY.into() };
        }
        Self::ConnectionLost { url: url.clone(), reason: chain(reason).into() }
    }

    /// The same, where something was sent before whose fate is not known.
    pub(super) fn in_doubt(self) -> Self {
        match self {
            Self::Refused { code, retry, text, .. } => Self::Refused { code, retry, stored: StoredState::Unknown, text },
            Self::Unreachable { url, reason } => Self::ConnectionLost { url, reason },
            Self::Tls { url, problem } => Self::ConnectionLost { url, reason: problem.to_string().into() },
            other => other,
        }
    }

    pub(super) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidArgument { what: what.into() }
    }

    fn refused(code: Code, trailers: &HeaderMap, text: &str) -> Self {
        let trailer = |name| trailers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).unwrap_or_default();
        let retry = match trailer(RETRY_TRAILER) {
            "never" => Retry::Never,
            "now" => Retry::Now,
            "after" => Retry::After,
            _ => code.retry(),
        };
        let stored = match trailer(STORED_TRAILER) {
            "no" => StoredState::No,
            "yes" => StoredState::Yes,
            "unknown" => StoredState::Unknown,
            _ => code.stored(),
        };
        // The server puts the code in front for stock clients; here it has a field of its own.
        let text = text.strip_prefix(&format!("[{}] ", code.as_str())).unwrap_or(text);
        Self::Refused { code, retry, stored, text: text.into() }
    }

    fn from_grpc(status: &tonic::Status, url: &Arc<str>) -> Self {
        let code = match status.code() {
            tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => Code::InvalidArgument,
            tonic::Code::NotFound => Code::StreamNotFound,
            tonic::Code::AlreadyExists => Code::StreamExists,
            tonic::Code::DeadlineExceeded => Code::Timeout,
            tonic::Code::ResourceExhausted if is_turned_away(status) => return Self::lost(url, status),
            tonic::Code::ResourceExhausted => Code::TooMany,
            tonic::Code::Unimplemented => Code::Unimplemented,
            tonic::Code::OutOfRange => Code::OffsetGone,
            tonic::Code::DataLoss => Code::Storage,
            tonic::Code::Internal if std::error::Error::source(status).is_none() => Code::Internal,
            // A broken connection shows as any of these; `Cancelled` is what hyper makes of a reset.
            tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::Unknown
            | tonic::Code::Aborted
            | tonic::Code::Cancelled
            | tonic::Code::Unauthenticated
            | tonic::Code::PermissionDenied
            | tonic::Code::Ok => return Self::lost(url, status),
        };
        Self::Refused { code, retry: code.retry(), stored: code.stored(), text: status.message().into() }
    }
}

/// What the coordinator would say, found out here.
impl From<crate::engine::Error> for Error {
    fn from(error: crate::engine::Error) -> Self {
        let code = error.code();
        Self::Refused { code, retry: code.retry(), stored: code.stored(), text: error.to_string().into() }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::protocol(error.to_string())
    }
}

fn own_code(trailers: &HeaderMap) -> Option<Code> {
    Code::from_name(trailers.get(CODE_TRAILER)?.to_str().ok()?)
}

/// Whether a coordinator has ended the connection, since there were too many, or it asked for too much.
fn is_turned_away(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// An error and its causes in one line: the outermost alone ("transport error") says nothing.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a header value"))).collect()
    }

    fn url() -> Arc<str> {
        "grpc://h:1".into()
    }

    #[test]
    fn the_trailers_say_code_retry_and_stored() {
        let all = trailers(&[
            ("grpc-status", "8"),
            ("grpc-message", "[buffer_full]%20no%20room"),
            (CODE_TRAILER, "buffer_full"),
            (RETRY_TRAILER, "now"),
            (STORED_TRAILER, "unknown"),
        ]);
        let error = Error::from_trailers(&all, &url()).expect("an error");
        assert_eq!((error.code(), error.retry(), error.stored()), (Code::BufferFull, Retry::Now, StoredState::Unknown));
        assert_eq!(error.to_string(), "no room");
    }

    #[test]
    fn every_code_comes_through_with_its_own_retry_and_stored() {
        for code in Code::ALL {
            let error = Error::from_trailers(&trailers(&[("grpc-status", "13"), (CODE_TRAILER, code.as_str())]), &url()).expect("an error");
            assert_eq!((error.code(), error.retry(), error.stored()), (*code, code.retry(), code.stored()));
        }
    }

    #[test]
    fn ok_is_no_error_and_a_code_of_a_newer_server_falls_back_to_the_grpc_status() {
        assert!(Error::from_trailers(&trailers(&[("grpc-status", "0")]), &url()).is_none());
        let newer = trailers(&[("grpc-status", "5"), (CODE_TRAILER, "of_a_newer_version")]);
        assert_eq!(Error::from_trailers(&newer, &url()).expect("an error").code(), Code::StreamNotFound);
    }

    #[test]
    fn a_broken_connection_is_unavailable_whatever_grpc_calls_it() {
        for status in [tonic::Code::Unavailable, tonic::Code::Unknown, tonic::Code::Cancelled] {
            let error = Error::from_status(&tonic::Status::new(status, "h2 protocol error"), &url());
            assert_eq!((error.code(), error.stored()), (Code::Unavailable, StoredState::Unknown));
        }
    }
}
