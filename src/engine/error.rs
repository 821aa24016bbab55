//! Errors: what was asked, what is the limit or state, what to do.

mod names;

use std::sync::Arc;

use self::names::name_one_of;
use super::{
    AppenderId, Attempt, Code, ConsumerId, Epoch, Eviction, Fill, Generation, HeldBy, Limits, Offset, PartitionId, ProducerId, RunId,
    SubscriptionMode, SubscriptionName, Task, Timestamp,
};

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
        reason: Arc<str>,
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
    /// [`Code::BufferFull`] after a wait.
    #[error(
        "no room for a batch of {bytes} bytes within {:.3} s (max_wait): {fill}, and {}; nothing of the batch is stored: send it again when consumers have acked, or make max_wait longer",
        waited.as_secs_f64(), held_by.as_ref().map_or_else(|| "no subscription holds it back".to_owned(), ToString::to_string)
    )]
    WaitedTooLong {
        /// Size of the batch.
        bytes: u64,
        /// How long it has waited.
        waited: std::time::Duration,
        /// What the stream holds.
        fill: Fill,
        /// Whose acks it has waited for; none if it was for something else: others' batches, or the log.
        held_by: Option<Box<HeldBy>>,
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
    /// See [`Code::SubscriptionMoved`].
    #[error(
        "subscription {subscription} was moved meanwhile, by a seek, or deleted and made again (it was {asked}, and is {current}); go on from where it is now"
    )]
    SubscriptionMoved {
        /// The name.
        subscription: SubscriptionName,
        /// Whose cursors were meant.
        asked: Generation,
        /// Whose count.
        current: Generation,
    },
    /// See [`Code::SubscriptionEvicted`].
    #[error("subscription {subscription} was evicted {eviction}; seek it to where it is to go on (earliest is what is kept), or delete it")]
    SubscriptionEvicted {
        /// The name.
        subscription: SubscriptionName,
        /// When and why.
        eviction: Eviction,
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
    /// [`Code::OffsetGone`] of a time.
    #[error(
        "not all batches of partition {partition} since {} are kept: one that was appended at {} is gone, with all before offset {earliest}; start at earliest if the gap is acceptable",
        time.rfc3339(), newest.rfc3339()
    )]
    TimeGone {
        /// The partition.
        partition: PartitionId,
        /// Time asked for.
        time: Timestamp,
        /// When the newest batch was appended that is gone.
        newest: Timestamp,
        /// Earliest offset kept.
        earliest: Offset,
    },
    /// [`Code::OffsetGone`] of an epoch.
    #[error(
        "not all batches of partition {partition} since epoch {epoch} of producer {producer} are kept: of epoch {newest} some are gone, with all before offset {earliest}; start at earliest if the gap is acceptable"
    )]
    EpochGone {
        /// The partition.
        partition: PartitionId,
        /// The producer.
        producer: ProducerId,
        /// Epoch asked for.
        epoch: Epoch,
        /// The newest epoch of which something is gone, as far as is known.
        newest: Epoch,
        /// Earliest offset kept.
        earliest: Offset,
    },
    /// [`Code::OffsetAhead`] of an epoch.
    #[error(
        "epoch {epoch} of producer {producer} is too far ahead: {}; start at epoch {next} at most, or at latest",
        committed.map_or_else(|| "none is committed yet".to_owned(), |committed| format!("the last that is committed is {committed}"))
    )]
    EpochAhead {
        /// The producer.
        producer: ProducerId,
        /// Epoch asked for.
        epoch: Epoch,
        /// Last committed epoch.
        committed: Option<Epoch>,
        /// The highest epoch that may be asked for.
        next: Epoch,
    },
    /// A start at an epoch that does not say of which producer, or of one that the stream does not know.
    #[error(
        "{} an epoch to start at; {}",
        .asked.as_ref().map_or_else(|| "only its producer makes a number".to_owned(), |asked| format!("producer {asked} is not known to the stream, and has")),
        name_one_of(.known)
    )]
    EpochOfWhom {
        /// The producer asked for.
        asked: Option<ProducerId>,
        /// Those that have committed epochs.
        known: Vec<ProducerId>,
    },
    /// A call for a subscription of another mode.
    #[error(
        "subscription {subscription} is {}, and this is asked of one that is {}; ask for what it is, or make another subscription",
        .mode.as_str(), .asked.as_str()
    )]
    SubscriptionMode {
        /// The subscription.
        subscription: SubscriptionName,
        /// What it is.
        mode: SubscriptionMode,
        /// What the call is for.
        asked: SubscriptionMode,
    },
    /// A subscription asks something else of each batch than it is to.
    #[error(
        "subscription {subscription} {}, and is to ask {asked:?}; make another subscription, or delete this one first",
        .query.as_ref().map_or_else(|| "asks no query".to_owned(), |query| format!("asks {query:?}"))
    )]
    SubscriptionQuery {
        /// The subscription.
        subscription: SubscriptionName,
        /// What it asks.
        query: Option<Arc<str>>,
        /// What it is to ask.
        asked: Arc<str>,
    },
    /// The dead letters of a shared subscription were not named, and there is no room for the name that they get then.
    #[error(
        "the dead letters of subscription {subscription} would go to a stream whose name is this one's and \".dead-letters\", which is longer than 256 bytes; name another one"
    )]
    DeadLettersUnnamed {
        /// The subscription.
        subscription: SubscriptionName,
    },
    /// [`Code::LeaseLost`] of all that a consumer has.
    #[error(
        "consumer {consumer} is none of subscription {subscription}, or not any more: it gave no sign of life for as long as its leases last, or the coordinator was started again; join it again"
    )]
    ConsumerLost {
        /// The subscription.
        subscription: SubscriptionName,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// An older `DoGet` of a consumer that reads by a newer one.
    #[error("consumer {consumer} of subscription {subscription} reads elsewhere since; go on there")]
    ConsumerSuperseded {
        /// The subscription.
        subscription: SubscriptionName,
        /// The consumer.
        consumer: ConsumerId,
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
            Error::PartitionCount { .. } | Error::TaskNamedTwice { .. } | Error::WriterFinished { .. } => Code::InvalidArgument,
            Error::ProducerUnknown { .. } | Error::EpochOfWhom { .. } | Error::SubscriptionMode { .. } => Code::InvalidArgument,
            Error::DeadLettersUnnamed { .. } | Error::SubscriptionQuery { .. } => Code::InvalidArgument,
            Error::ConsumerLost { .. } | Error::ConsumerSuperseded { .. } => Code::LeaseLost,
            Error::PartitionOutOfRange { .. } => Code::PartitionOutOfRange,
            Error::StreamCompleted => Code::StreamCompleted,
            Error::StreamFailed { .. } => Code::StreamFailed,
            Error::BatchTooLarge { .. } => Code::BatchTooLarge,
            Error::BufferFull { .. } | Error::WaitedTooLong { .. } => Code::BufferFull,
            Error::SpoolFull { .. } | Error::DiskFull { .. } => Code::SpoolFull,
            Error::Fenced { .. } | Error::AppenderSuperseded { .. } | Error::ConnectionSuperseded { .. } => Code::Fenced,
            Error::EpochCommitted { .. } => Code::EpochCommitted,
            Error::EpochNotOpen { .. } => Code::EpochNotOpen,
            Error::ReceiptUnknown { .. } => Code::ReceiptUnknown,
            Error::SubscriptionNotFound { .. } => Code::SubscriptionNotFound,
            Error::SubscriptionMoved { .. } => Code::SubscriptionMoved,
            Error::SubscriptionEvicted { .. } => Code::SubscriptionEvicted,
            Error::OffsetGone { .. } | Error::TimeGone { .. } | Error::EpochGone { .. } => Code::OffsetGone,
            Error::OffsetAhead { .. } | Error::EpochAhead { .. } => Code::OffsetAhead,
            Error::OrdinalGap { .. } => Code::OrdinalGap,
            Error::AppenderNotReady { .. } => Code::AppenderNotReady,
            Error::TooMany { .. } => Code::TooMany,
        }
    }
}
