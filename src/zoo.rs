//! The zoo: bugs put in on purpose, so that it can be shown that the simulation finds them. Without the feature `zoo` there are
//! none, and asking for one costs nothing.

/// A bug that a system like this one might have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A partition's log says that it is durable, and never syncs.
    NoSync,
    /// What a commit shows need not be durable when the catalog says that it is there.
    CatalogFirst,
    /// A new segment's name is not made durable.
    NameNotSynced,
    /// A failed sync is taken for a good one.
    FailedSyncIgnored,
    /// Batches can be read before they are durable.
    VisibleAtOnce,
    /// A batch that is sent again is stored again.
    SentAgainStoredAgain,
    /// After a restart a producer goes on behind the highest ordinal that is there.
    HighestOrdinalCounts,
    /// A message that is whole in length is taken for what was written.
    ChecksumIgnored,
    /// What an index says is there is taken for there, however its own lines look.
    IndexTrusted,
    /// A run that was taken over may go on.
    FenceIgnored,
    /// A commit shows all attempts that have ended well, not only those that it names.
    AllAttemptsCount,
    /// A committed epoch may be run and committed again.
    CommitForgotten,
    /// What one subscription has acked is dropped for all.
    OneAckDropsForAll,
    /// Subscriptions move when batches are sent, not when they are acked.
    CursorMovesAtSend,
    /// Acks do not survive a restart.
    AcksForgotten,
    /// Who has not heard of a seek may ack all the same.
    LateAckUndoesSeek,
    /// A partition that another consumer is to have goes over before what was sent of it is acked.
    PartitionMovesUnacked,
    /// A consumer that has lost its lease may ack all the same.
    LostLeaseAcks,
    /// Who gives no sign of life keeps its partitions.
    DeadKeepLeases,
    /// All that may be evicted are, whoever holds the room.
    EvictsWhoKeepsUp,
    /// An eviction does not survive a restart.
    EvictionForgotten,
    /// A reader is not told of batches that were dropped under it.
    GapNotTold,
    /// Who gives no sign of life keeps what it was given of a shared subscription.
    DeadKeepShares,
    /// How often a delivery has failed does not survive a restart.
    TriesForgotten,
    /// What a consumer could not do is taken for done.
    NackedIsLost,
    /// Acks of rows before which others are not acked do not survive a restart.
    SharedAcksForgotten,
    /// A dead letter that was written before a crash is written again.
    DeadLetterTwice,
    /// Keys that another consumer is to have go over before what was sent of them is acked.
    KeysMoveUnacked,
    /// A compressed buffer may claim to become anything.
    ClaimBelieved,
    /// Full validation looks at the structure alone.
    ValuesNotLookedAt,
    /// A field of a message may be longer than the message.
    FieldBeyondMessage,
}

impl Bug {
    /// Those of parsers, for `tests/fuzz` to find.
    pub const OF_PARSERS: &'static [Self] = &[Self::ClaimBelieved, Self::ValuesNotLookedAt, Self::FieldBeyondMessage];

    /// Those that the simulation finds.
    pub const ALL: &'static [Self] = &[
        Self::NoSync,
        Self::CatalogFirst,
        Self::NameNotSynced,
        Self::FailedSyncIgnored,
        Self::VisibleAtOnce,
        Self::SentAgainStoredAgain,
        Self::HighestOrdinalCounts,
        Self::ChecksumIgnored,
        Self::IndexTrusted,
        Self::FenceIgnored,
        Self::AllAttemptsCount,
        Self::CommitForgotten,
        Self::OneAckDropsForAll,
        Self::CursorMovesAtSend,
        Self::AcksForgotten,
        Self::LateAckUndoesSeek,
        Self::PartitionMovesUnacked,
        Self::LostLeaseAcks,
        Self::DeadKeepLeases,
        Self::EvictsWhoKeepsUp,
        Self::EvictionForgotten,
        Self::GapNotTold,
        Self::DeadKeepShares,
        Self::TriesForgotten,
        Self::NackedIsLost,
        Self::SharedAcksForgotten,
        Self::DeadLetterTwice,
        Self::KeysMoveUnacked,
    ];
}

#[cfg(feature = "zoo")]
thread_local! {
    static LET_OUT: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// This thread has this bug from now on, and no other.
#[cfg(feature = "zoo")]
pub fn let_out(bug: Option<Bug>) {
    LET_OUT.set(bug);
}

/// Whether this thread has the bug.
#[cfg(feature = "zoo")]
pub(crate) fn has(bug: Bug) -> bool {
    LET_OUT.get() == Some(bug)
}

/// Whether this thread has the bug: never.
#[cfg(not(feature = "zoo"))]
pub(crate) const fn has(_: Bug) -> bool {
    false
}
