//! Every way in which the server refuses a call.

use std::sync::Arc;
use std::time::Duration;

use super::access::Refusal;
use crate::engine::{Code, Error as EngineError, NameError, Offset, Outcome, PartitionId, ProducerId, SchemaVersion, StreamName};
use crate::storage::StorageError;
use crate::wire::error::WireError;

/// Why a call was refused or a data stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine's refusal.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Bytes or a text that cannot be used.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A file that cannot be written or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A batch that is stored, but cannot be read.
    #[error("partition {partition}, offset {offset} cannot be read: {source}")]
    Unreadable {
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// Why.
        source: StorageError,
    },
    /// A subscription's query has no answer for it.
    #[error(
        "{what} has no answer to the subscription's query {query:?}: {reason}; seek past it, or make a subscription that asks something else"
    )]
    Unanswered {
        /// A batch, or a version of the schema.
        what: String,
        /// What is asked.
        query: Arc<str>,
        /// Its code.
        code: Code,
        /// Why.
        reason: String,
    },
    /// A reader that takes one schema only has come to a batch of another.
    #[error(
        "partition {partition} goes on with version {version} of the stream's schema at offset {offset}, and this read began with version {sent}; read on with another DoGet whose start is {start}, or with a bowstring client, which gives all versions as one"
    )]
    SchemaChanged {
        /// The partition.
        partition: PartitionId,
        /// The first offset that has it.
        offset: Offset,
        /// The version that comes there.
        version: SchemaVersion,
        /// The version that the reader has.
        sent: SchemaVersion,
        /// Where another read goes on, as a ticket has it.
        start: String,
    },
    /// See [`Code::Unavailable`]: whether what was sent is stored the next start will tell.
    #[error("the stream's log has failed, and nothing more is confirmed until the coordinator is started again: {why}")]
    LogFailed {
        /// What happened.
        why: Arc<StorageError>,
    },
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// See [`Code::StreamNotFound`].
    #[error("stream {stream} does not exist; create it, or check the name with ListFlights")]
    StreamNotFound {
        /// The name asked for.
        stream: StreamName,
    },
    /// See [`Code::Unavailable`].
    #[error("stream {stream} is being deleted, which its disk does not know yet; try again")]
    StreamLeaving {
        /// Its name.
        stream: StreamName,
    },
    /// See [`Code::StreamExists`].
    #[error("stream {stream} exists already{}; use it, delete it first, or choose another name", .difference.as_deref().map(|difference| format!(" with other options ({difference})")).unwrap_or_default())]
    StreamExists {
        /// The name asked for.
        stream: StreamName,
        /// The first option that differs, if that is the reason.
        difference: Option<String>,
    },
    /// See [`Code::StreamReplaced`].
    #[error(
        "stream {stream} is another one than before: it was deleted and created again, or the coordinator was restarted; start anew with its present id"
    )]
    StreamReplaced {
        /// The name.
        stream: StreamName,
    },
    /// See [`Code::TooMany`].
    #[error("the coordinator holds {limit} streams, which is the most it takes; delete some")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// See [`Code::BufferFull`].
    #[error(
        "no room for a dictionary of {bytes} bytes: the stream's dictionaries hold {used} of {limit} bytes (max_buffered_bytes, counted apart from its batches); try again when consumers have acked more, or use smaller dictionaries"
    )]
    DictionariesFull {
        /// Size of the dictionary.
        bytes: u64,
        /// What is held.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// See [`Code::Timeout`].
    #[error("no room for {bytes} bytes within {:.3} s: consumers have not acked enough; nothing of this batch is stored, try again or allow more time", .waited.as_secs_f64())]
    AppendTimeout {
        /// Size of the batch.
        bytes: u64,
        /// How long it waited.
        waited: Duration,
    },
    /// See [`Code::Timeout`].
    #[error("{bytes} bytes were not let in within {:.3} s: {principal} has appended more than its {limit} bytes per second (auth.quotas); nothing of this message is stored, send less at a time, or allow more time", .waited.as_secs_f64())]
    QuotaTimeout {
        /// Size of the message.
        bytes: u64,
        /// Whose it is.
        principal: Arc<str>,
        /// What it may append, in bytes per second.
        limit: u64,
        /// How long it waited.
        waited: Duration,
    },
    /// See [`Code::BufferFull`].
    #[error("no room for {bytes} bytes within {:.3} s: {principal} may have {limit} bytes of batches in memory (auth.quotas.buffered_bytes), and what it has there is not acked, or staged in an open epoch; nothing of this batch is stored, try again when consumers have acked more", .waited.as_secs_f64())]
    QuotaFull {
        /// Size of the batch.
        bytes: u64,
        /// Whose it is.
        principal: Arc<str>,
        /// What it may have in memory.
        limit: u64,
        /// How long it waited.
        waited: Duration,
    },
    /// See [`Code::BatchTooLarge`].
    #[error(
        "the batch has {bytes} bytes, and {principal} may have {limit} in memory (auth.quotas.buffered_bytes), so that it could never fit; send smaller batches, or ask whoever runs the coordinator for more"
    )]
    QuotaTooSmall {
        /// Size of the batch.
        bytes: u64,
        /// Whose it is.
        principal: Arc<str>,
        /// What it may have in memory.
        limit: u64,
    },
    /// See [`Code::Timeout`].
    #[error("no rows within {:.0} s: the coordinator looks at rows for others, or its disk is slow; try again, or ask for fewer rows", .waited.as_secs_f64())]
    PeekTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// See [`Code::ProducerLost`].
    #[error(
        "producer {producer} has stopped giving signs of life without completing the stream; everything it committed was delivered, read on when it is back"
    )]
    ProducerLost {
        /// The producer.
        producer: ProducerId,
    },
    /// See [`Code::ShuttingDown`].
    #[error("the coordinator is shutting down; try again when it is back")]
    ShuttingDown,
    /// See [`Code::Cancelled`].
    #[error("the client went away in the middle of its request: {reason}")]
    Disconnected {
        /// What the connection said.
        reason: String,
    },
    /// See [`Code::Unavailable`].
    #[error("the link to shared memory that the call names has ended; open a new one, or append without")]
    LinkEnded,
    /// An argument of a control call that cannot be used.
    #[error("{field} cannot be used: {reason}")]
    InvalidArgument {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// See [`Code::Unimplemented`].
    #[error("{call} is not offered; {instead}")]
    Unimplemented {
        /// What was called.
        call: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// The caller is not known, or may not do that.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A task of the server ended before its time: a defect in bowstring.
    #[error("a task of the server failed: {reason}; please report this")]
    Task {
        /// What it said.
        reason: String,
    },
    /// The engine gave an answer of another kind than asked for: a defect in bowstring.
    #[error("the engine answered {outcome}; please report this")]
    Unexpected {
        /// The answer.
        outcome: String,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Engine(error) => error.code(),
            Self::Wire(error) => error.code(),
            Self::Storage(error) | Self::Unreadable { source: error, .. } => error.code(),
            Self::Name(_) | Self::InvalidArgument { .. } => Code::InvalidArgument,
            Self::SchemaChanged { .. } => Code::SchemaMismatch,
            Self::Unanswered { code, .. } => *code,
            Self::StreamNotFound { .. } => Code::StreamNotFound,
            Self::StreamExists { .. } => Code::StreamExists,
            Self::StreamReplaced { .. } => Code::StreamReplaced,
            Self::TooManyStreams { .. } => Code::TooMany,
            Self::DictionariesFull { .. } | Self::QuotaFull { .. } => Code::BufferFull,
            Self::AppendTimeout { .. } | Self::QuotaTimeout { .. } | Self::PeekTimeout { .. } => Code::Timeout,
            Self::QuotaTooSmall { .. } => Code::BatchTooLarge,
            Self::ProducerLost { .. } => Code::ProducerLost,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::LinkEnded | Self::LogFailed { .. } | Self::StreamLeaving { .. } => Code::Unavailable,
            Self::Disconnected { .. } => Code::Cancelled,
            Self::Unimplemented { .. } => Code::Unimplemented,
            Self::Refused(refusal) => refusal.code(),
            Self::Task { .. } | Self::Unexpected { .. } => Code::Internal,
        }
    }

    pub(super) fn unexpected(outcome: &Outcome) -> Self {
        Self::Unexpected { outcome: format!("{outcome:?}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_says_that_it_is_one() {
        for error in [Error::unexpected(&Outcome::Done), Error::Task { reason: "panicked".to_owned() }] {
            assert_eq!(error.code(), Code::Internal);
            assert!(error.to_string().contains("please report this"), "{error}");
        }
    }
}
