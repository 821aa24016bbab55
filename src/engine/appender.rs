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
    /// Like `Direct`, for a client that gave no identity: forgotten when it closes.
    Anonymous {
        /// A generated name.
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

/// Where an appender is between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Idle,
    /// In the stream's queue.
    Waiting {
        bytes: u64,
        since: Timestamp,
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
}
