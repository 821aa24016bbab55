//! The stable codes of errors, and what each says of trying again and of what was sent.

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
    /// The buffer is full and the stream's policy is to refuse, at once or after `max_wait`.
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
    /// The subscription was moved by a seek, or deleted and made again: what was read before is not acked.
    SubscriptionMoved = 32, "subscription_moved", Never, No;
    /// A consumer's lease is lost: another one has what it was leased, or its signs of life have stopped.
    LeaseLost = 33, "lease_lost", Never, No;
    /// The subscription was evicted: it held the room that an append needed, and was to be evicted then.
    SubscriptionEvicted = 40, "subscription_evicted", Never, No;
    /// The caller does not say who it is, or not in a way that counts: its token is unknown, revoked or expired.
    Unauthenticated = 50, "unauthenticated", Never, No;
    /// The caller is known, and may not do this.
    PermissionDenied = 51, "permission_denied", Never, No;
    /// A subscription's query has no answer for a batch: a value that it divides by is zero, a text is no number.
    QueryFailed = 60, "query_failed", Never, No;
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
