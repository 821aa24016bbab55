//! The commit of an epoch, with receipts that may come late.

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{Attempt, Command, Epoch, Error as EngineError, Outcome, ProducerId, RunId, Task, Timestamp};

/// The writer that a receipt names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct NamedWriter {
    pub(in crate::server) task: Task,
    pub(in crate::server) attempt: Attempt,
    /// When its epoch was opened; none if whoever commits does not say.
    pub(in crate::server) opened_at: Option<Timestamp>,
}

impl StreamCell {
    /// When an epoch was opened, and the batches, rows and bytes that its named writers have staged; none if it is not open, or not by
    /// this run.
    pub(in crate::server) fn open_epoch(
        &self,
        (producer, run, epoch): (&ProducerId, &RunId, Epoch),
        named: &[NamedWriter],
    ) -> Option<(Timestamp, (u64, u64, u64))> {
        let named: Vec<_> = named.iter().map(|named| (named.task, named.attempt)).collect();
        let inner = self.inner.lock();
        let opened_at = inner.stream.epoch_opened_at(producer, run, epoch)?;
        Some((opened_at, inner.stream.staged(producer, epoch, &named)))
    }

    /// Makes what the named writers have staged visible. A receipt of an earlier try of the epoch, which was aborted, names nobody: a
    /// commit that comes late does not take the new try for the old one.
    ///
    /// # Errors
    /// Those of [`Command::CommitEpoch`].
    pub(in crate::server) fn commit_epoch(
        &self,
        producer: ProducerId,
        run: RunId,
        epoch: Epoch,
        named: &[NamedWriter],
    ) -> Result<Outcome, Error> {
        let now = self.now();
        let mut inner = self.inner.lock();
        let open = inner.stream.epoch_opened_at(&producer, &run, epoch);
        let is_earlier = |named: &&NamedWriter| open.is_some() && named.opened_at.is_some_and(|at| Some(at) != open);
        let stale = named.iter().find(is_earlier).copied();
        if let Some(NamedWriter { task, attempt, .. }) = stale {
            return Err(EngineError::ReceiptUnknown { epoch, task, attempt }.into());
        }
        let receipts = named.iter().map(|named| (named.task, named.attempt)).collect();
        self.apply_locked(&mut inner, Command::CommitEpoch { producer, run, epoch, receipts }, now)
    }
}
