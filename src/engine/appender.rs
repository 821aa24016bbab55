//! Appenders: what one `DoPut` holds open on a stream.

use super::budget::Place;
use super::{Attempt, Epoch, ProducerId, RunId, Task, Timestamp};

/// What an appender appends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppenderKind {
    /// Each batch is visible as soon as it is stored. One connection at a time per producer.
    Direct {
        /// The producer.
        producer: ProducerId,
        /// Its run: ordinals start anew with each.
        run: RunId,
    },
    /// Like `Direct`, for a client that gave no identity: it cannot resume, and nothing of it is remembered
    /// when it closes, so that it is no producer of the stream.
    Anonymous {
        /// A generated name, for the facts of its batches.
        producer: ProducerId,
    },
    /// A writer: one task attempt within an epoch.
    Writer {
        /// The producer.
        producer: ProducerId,
        /// Its run.
        run: RunId,
        /// The epoch.
        epoch: Epoch,
        /// The task.
        task: Task,
        /// The attempt.
        attempt: Attempt,
    },
}

impl AppenderKind {
    /// The producer that appends.
    #[must_use]
    pub fn producer(&self) -> &ProducerId {
        match self {
            Self::Direct { producer, .. } | Self::Anonymous { producer } | Self::Writer { producer, .. } => producer,
        }
    }

    /// The epoch, for a writer.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Writer { epoch, .. } => Some(*epoch),
            Self::Direct { .. } | Self::Anonymous { .. } => None,
        }
    }
}

/// Which of its connections a client speaks on, to tell the late ones: a connection that the client has given up may be
/// taken after the one that followed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The sender: drawn by each client.
    pub sender: u64,
    /// Rises with each producer or writer that the sender makes, and with each of its connections.
    pub number: u64,
}

impl Connection {
    /// Whether its sender has made `newest` after it. Two senders have no order: the one that comes last wins.
    pub(super) fn is_late(self, newest: Self) -> bool {
        newest.sender == self.sender && newest.number > self.number
    }
}

/// Where an appender is between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Idle,
    /// In the stream's line of those that wait, at `turn`.
    Waiting {
        bytes: u64,
        since: Timestamp,
        turn: u64,
    },
    /// Holds room; charged to the budget.
    Reserved {
        place: Place,
        bytes: u64,
    },
}

#[derive(Debug)]
pub(super) struct Appender {
    pub(super) kind: AppenderKind,
    pub(super) progress: Progress,
    /// What an anonymous appender appends next; the others' ordinals outlive their appenders.
    pub(super) anonymous_next_ordinal: u64,
}

impl Appender {
    pub(super) fn new(kind: AppenderKind) -> Self {
        Self { kind, progress: Progress::Idle, anonymous_next_ordinal: 0 }
    }
}
