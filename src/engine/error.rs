//! Errors and their stable codes: what was asked, what is the limit or state, what to do.

use super::{AppenderId, Attempt, Epoch, Limits, Offset, PartitionId, ProducerId, RunId, SubscriptionName, Task};

/// When the same call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never: it fails again until something else changes.
    Never,
    /// At once, on a new connection.
    Now,
    /// After a while: the state that refused it passes.
    After,
}

/// Whether what was sent is stored: what a producer must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredState {
    /// It is not.
    No,
    /// It is: the call changed nothing more.
    Yes,
    /// The connection broke before the answer; ask again with the same ordinal, which is idempotent.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:ident, $stored:ident;)*) => {
        /// A stable error code: the same in Rust, Python, on the wire (`proto/`, trailer `bowstring-code`)
        /// and in metrics. A number or name, once given, is never given to another error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code's name on the wire and in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The code's number in `proto/`.
            #[must_use]
            pub fn number(self) -> i32 {
                match self { $(Code::$name => $number,)* }
            }

            /// The code of a name on the wire; none for names of newer versions.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == name)
            }

            /// When the call may be tried again.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self { $(Code::$name => Retry::$retry,)* }
            }

            /// Whether what the call sent is stored.
            #[must_use]
            pub fn stored(self) -> StoredState {
                match self { $(Code::$name => StoredState::$stored,)* }
            }
        }
    };
}

codes! {
    /// A name, number or option that cannot be used.
    InvalidArgument = 1, "invalid_argument", Never, No;
    /// No stream of that name.
    StreamNotFound = 2, "stream_not_found", Never, No;
    /// A stream of that name exists with other options.
    StreamExists = 3, "stream_exists", Never, No;
    /// The stream was deleted and created again: offsets and receipts of the former one mean nothing.
    StreamReplaced = 4, "stream_replaced", Never, No;
    /// The stream is complete; nothing more can be appended.
    StreamCompleted = 5, "stream_completed", Never, No;
    /// The stream was ended with an error by its producer.
    StreamFailed = 6, "stream_failed", Never, No;
    /// The partition's number is not below the stream's number of partitions.
    PartitionOutOfRange = 7, "partition_out_of_range", Never, No;
    /// The batches' schema is not the stream's.
    SchemaMismatch = 8, "schema_mismatch", Never, No;
    /// The bytes are no valid Arrow IPC or Flight message.
    MalformedMessage = 9, "malformed_message", Never, No;
    /// One message is larger than the server takes.
    MessageTooLarge = 10, "message_too_large", Never, No;
    /// One batch is larger than the stream's byte limit: it could never fit.
    BatchTooLarge = 11, "batch_too_large", Never, No;
    /// The buffer is full and the stream's policy is to refuse.
    BufferFull = 12, "buffer_full", After, No;
    /// The spool is full: the open epoch is larger than memory and spool, or a durable stream's log, together.
    SpoolFull = 13, "spool_full", Never, No;
    /// A deadline passed while waiting.
    Timeout = 14, "timeout", After, No;
    /// A newer run of the same producer has taken over.
    Fenced = 15, "fenced", Never, No;
    /// The epoch is committed already: what was to be appended is there.
    EpochCommitted = 16, "epoch_committed", Never, Yes;
    /// The epoch is not open: it was aborted, or the coordinator forgot it in a restart.
    EpochNotOpen = 17, "epoch_not_open", Never, No;
    /// The commit names a receipt that the coordinator does not hold.
    ReceiptUnknown = 18, "receipt_unknown", Never, No;
    /// No subscription of that name on the stream.
    SubscriptionNotFound = 19, "subscription_not_found", Never, No;
    /// The offset asked for is no longer kept.
    OffsetGone = 20, "offset_gone", Never, No;
    /// The offset asked for lies beyond the end of what is visible.
    OffsetAhead = 21, "offset_ahead", Never, No;
    /// An append whose ordinal leaves a gap: one before it was lost on the way.
    OrdinalGap = 22, "ordinal_gap", Now, No;
    /// The appender is not open, or not in the state that the call needs.
    AppenderNotReady = 23, "appender_not_ready", Now, No;
    /// The producer stopped giving signs of life without completing the stream.
    ProducerLost = 24, "producer_lost", After, No;
    /// A limit of the coordinator on the number of streams, subscriptions, appenders or producers.
    TooMany = 25, "too_many", After, No;
    /// The coordinator is shutting down.
    ShuttingDown = 26, "shutting_down", After, No;
    /// The coordinator cannot be reached, or the connection broke.
    Unavailable = 27, "unavailable", After, Unknown;
    /// The call was cancelled by its caller.
    Cancelled = 28, "cancelled", Never, No;
    /// Reading or writing a file of the coordinator failed.
    Storage = 29, "storage", After, No;
    /// The server does not know the call.
    Unimplemented = 30, "unimplemented", Never, No;
    /// A defect in bowstring itself.
    Internal = 31, "internal", Never, Unknown;
}

/// What the engine refuses, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number of partitions is 0 or too large.
    #[error("a stream has 1 to {max} partitions, but {asked} were asked for; choose a number in that range")]
    PartitionCount {
        /// Partitions asked for.
        asked: u32,
        /// Most that a stream may have.
        max: u32,
    },
    /// See [`Code::PartitionOutOfRange`].
    #[error("partition {partition} does not exist: the stream has {partitions} partitions, numbered from 0; use one of those")]
    PartitionOutOfRange {
        /// Partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// See [`Code::StreamCompleted`].
    #[error("the stream is complete and takes no more batches; create a new stream")]
    StreamCompleted,
    /// See [`Code::StreamFailed`].
    #[error("the stream was ended with an error: {reason}; mend its cause and create a new stream")]
    StreamFailed {
        /// What the producer said.
        reason: std::sync::Arc<str>,
    },
    /// See [`Code::BatchTooLarge`].
    #[error("a batch of {bytes} bytes can never fit: the stream's max_buffered_bytes is {limit}; send smaller batches or raise the limit")]
    BatchTooLarge {
        /// Size of the batch.
        bytes: u64,
        /// The stream's byte limit.
        limit: u64,
    },
    /// See [`Code::BufferFull`].
    #[error(
        "no room for a batch of {bytes} bytes: {buffered_batches} of {} batches and {buffered_bytes} of {} bytes are buffered; wait until consumers ack, or raise the limits",
        limits.max_buffered_batches, limits.max_buffered_bytes
    )]
    BufferFull {
        /// Size of the batch.
        bytes: u64,
        /// Batches in memory.
        buffered_batches: u64,
        /// Bytes in memory.
        buffered_bytes: u64,
        /// The stream's limits.
        limits: Limits,
    },
    /// See [`Code::SpoolFull`].
    #[error(
        "no room in the spool for {bytes} bytes: {spooled_bytes} of {limit} bytes (max_spool_bytes) are used; make epochs smaller, raise max_spool_bytes, or let consumers ack first"
    )]
    SpoolFull {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes spooled.
        spooled_bytes: u64,
        /// The stream's spool limit.
        limit: u64,
    },
    /// [`Code::SpoolFull`] of a durable stream: nothing in its log waits for consumers.
    #[error(
        "no room on disk for {bytes} bytes: {logged_bytes} of {limit} bytes (max_disk_bytes) are used; make epochs smaller, raise max_disk_bytes, or let consumers ack first"
    )]
    DiskFull {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes in the stream's log.
        logged_bytes: u64,
        /// The stream's limit.
        limit: u64,
    },
    /// See [`Code::Fenced`].
    #[error("run {run} of producer {producer} is fenced: run {current} has taken over; stop this one")]
    Fenced {
        /// The producer.
        producer: ProducerId,
        /// The run that asked.
        run: RunId,
        /// The run that is valid.
        current: RunId,
    },
    /// A newer connection of the same appender has taken over.
    #[error("appender {appender} was taken over by a newer connection of the same producer; stop this one")]
    AppenderSuperseded {
        /// The older appender.
        appender: AppenderId,
    },
    /// An older connection of the same appender, taken after a newer one.
    #[error("connection {number} of producer {producer} comes late: connection {newest} has taken over; go on with that one")]
    ConnectionSuperseded {
        /// The producer.
        producer: ProducerId,
        /// The older connection's number.
        number: u64,
        /// The newer one's.
        newest: u64,
    },
    /// See [`Code::EpochCommitted`].
    #[error("epoch {epoch} of producer {producer} is committed already (last committed: {committed}); nothing has to be sent again")]
    EpochCommitted {
        /// The producer.
        producer: ProducerId,
        /// Epoch asked for.
        epoch: Epoch,
        /// Last committed epoch.
        committed: Epoch,
    },
    /// See [`Code::EpochNotOpen`].
    #[error("epoch {epoch} of producer {producer} is not open: it was aborted or lost in a restart; run the epoch again from its start")]
    EpochNotOpen {
        /// The producer.
        producer: ProducerId,
        /// Epoch asked for.
        epoch: Epoch,
    },
    /// See [`Code::ReceiptUnknown`].
    #[error(
        "the commit of epoch {epoch} names attempt {attempt} of task {task}, but no such receipt is held; run the epoch again from its start"
    )]
    ReceiptUnknown {
        /// The epoch.
        epoch: Epoch,
        /// The receipt's task.
        task: Task,
        /// The receipt's attempt.
        attempt: Attempt,
    },
    /// A batch after the writer has got its receipt.
    #[error("attempt {attempt} of task {task} in epoch {epoch} has its receipt and takes no more batches; start a new attempt")]
    WriterFinished {
        /// The epoch.
        epoch: Epoch,
        /// The task.
        task: Task,
        /// The attempt.
        attempt: Attempt,
    },
    /// A commit names two attempts of one task.
    #[error("the commit of epoch {epoch} names task {task} twice; name one attempt per task")]
    TaskNamedTwice {
        /// The epoch.
        epoch: Epoch,
        /// The task.
        task: Task,
    },
    /// See [`Code::SubscriptionNotFound`].
    #[error("subscription {subscription} does not exist on the stream; subscribe first")]
    SubscriptionNotFound {
        /// The name.
        subscription: SubscriptionName,
    },
    /// See [`Code::OffsetGone`].
    #[error(
        "offset {offset} of partition {partition} is no longer kept: the earliest is {earliest}; start from there if the gap is acceptable"
    )]
    OffsetGone {
        /// The partition.
        partition: PartitionId,
        /// Offset asked for.
        offset: Offset,
        /// Earliest offset kept.
        earliest: Offset,
    },
    /// See [`Code::OffsetAhead`].
    #[error("offset {offset} of partition {partition} does not exist yet: the end is {end}; use an offset up to that")]
    OffsetAhead {
        /// The partition.
        partition: PartitionId,
        /// Offset asked for.
        offset: Offset,
        /// One past the last visible offset.
        end: Offset,
    },
    /// See [`Code::OrdinalGap`].
    #[error(
        "append {ordinal} came where append {expected} was expected: one was lost on the way; connect again and resume from {expected}"
    )]
    OrdinalGap {
        /// Ordinal that came.
        ordinal: u64,
        /// Ordinal that should have come.
        expected: u64,
    },
    /// See [`Code::AppenderNotReady`].
    #[error("appender {appender} is not open, or holds no reservation of {bytes} bytes; open it again and resume")]
    AppenderNotReady {
        /// The appender.
        appender: AppenderId,
        /// Bytes it wanted to append.
        bytes: u64,
    },
    /// The call names a producer that the stream has never seen.
    #[error("producer {producer} is not known to the stream; open an epoch or an appender first")]
    ProducerUnknown {
        /// The producer.
        producer: ProducerId,
    },
    /// See [`Code::TooMany`].
    #[error("the stream holds {limit} {what}, which is the most it takes; close or delete some")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Error::PartitionCount { .. } | Error::TaskNamedTwice { .. } | Error::WriterFinished { .. } | Error::ProducerUnknown { .. } => {
                Code::InvalidArgument
            }
            Error::PartitionOutOfRange { .. } => Code::PartitionOutOfRange,
            Error::StreamCompleted => Code::StreamCompleted,
            Error::StreamFailed { .. } => Code::StreamFailed,
            Error::BatchTooLarge { .. } => Code::BatchTooLarge,
            Error::BufferFull { .. } => Code::BufferFull,
            Error::SpoolFull { .. } | Error::DiskFull { .. } => Code::SpoolFull,
            Error::Fenced { .. } | Error::AppenderSuperseded { .. } | Error::ConnectionSuperseded { .. } => Code::Fenced,
            Error::EpochCommitted { .. } => Code::EpochCommitted,
            Error::EpochNotOpen { .. } => Code::EpochNotOpen,
            Error::ReceiptUnknown { .. } => Code::ReceiptUnknown,
            Error::SubscriptionNotFound { .. } => Code::SubscriptionNotFound,
            Error::OffsetGone { .. } => Code::OffsetGone,
            Error::OffsetAhead { .. } => Code::OffsetAhead,
            Error::OrdinalGap { .. } => Code::OrdinalGap,
            Error::AppenderNotReady { .. } => Code::AppenderNotReady,
            Error::TooMany { .. } => Code::TooMany,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_and_numbers_of_their_own() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_name(code.as_str()), Some(*code));
            assert!(Code::ALL[..index].iter().all(|other| other.number() != code.number()));
        }
        assert_eq!(Code::from_name("of a newer version"), None);
    }
}
