//! An open appender of a stream.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{AppenderId, AppenderKind, Command, Error as EngineError, Offset, Outcome, PartitionId, Place, Timestamp};
use crate::storage::StoredBatch;
use crate::storage::log::Appended;
use crate::storage::segment::EntryFacts;

/// An open appender.
#[derive(Debug)]
pub(in crate::server) struct Appender {
    pub(super) cell: Arc<StreamCell>,
    pub(super) id: AppenderId,
    pub(super) kind: AppenderKind,
}

impl Appender {
    /// Who appends, and how.
    pub(in crate::server) fn kind(&self) -> &AppenderKind {
        &self.kind
    }

    /// Reserves room; waits for it if the stream's policy is to wait.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the appender in the line; reserve again, or drop the appender.
    pub(in crate::server) async fn reserve(&self, bytes: u64) -> Result<Place, Error> {
        let granted = {
            let now = self.cell.now();
            let mut inner = self.cell.inner.lock();
            match self.cell.apply_locked(&mut inner, Command::Reserve { appender: self.id, bytes }, now)? {
                Outcome::Reserved { place } => return Ok(place),
                Outcome::Waiting => {
                    let (sender, receiver) = oneshot::channel();
                    inner.waiting.insert(self.id, sender);
                    receiver
                }
                other => return Err(Error::unexpected(&other)),
            }
        };
        let waited = Blocked { cell: &self.cell, since: self.cell.now() };
        let place = granted.await;
        drop(waited);
        if let (Err(_), Some(log)) = (&place, &self.cell.log) {
            log.check()?;
        }
        // The sender is dropped unsent only when the log has failed, or this appender's own guard closes it.
        Ok(place.map_err(|_| Error::Engine(EngineError::AppenderNotReady { appender: self.id, bytes }))??)
    }

    pub(in crate::server) fn append(
        &self,
        ordinal: u64,
        partition: PartitionId,
        rows: u64,
        bytes: u64,
        data: StoredBatch,
    ) -> Result<bool, Error> {
        let now = self.cell.now();
        let mut inner = self.cell.inner.lock();
        let logged = match &data {
            StoredBatch::Logged { batch, .. } => Some(batch.clone()),
            StoredBatch::Memory(_) | StoredBatch::Spooled(_) => None,
        };
        let command = Command::Append { appender: self.id, ordinal, partition, rows, bytes, data };
        let Outcome::Appended { offset, again } = self.cell.apply_locked(&mut inner, command, now)? else {
            return Err(Error::unexpected(&Outcome::Done));
        };
        if let (Some(batch), Some(pending), Some(log), false) = (logged, &mut inner.pending, &self.cell.log, again) {
            let facts = entry_facts(&self.kind, ordinal, offset, bytes, now);
            pending.append(Appended { partition, facts, batch });
            log.work.notify_one();
        }
        Ok(!again)
    }

    pub(in crate::server) fn finish_writer(&self) -> Result<crate::engine::Receipt, Error> {
        match self.cell.apply(Command::FinishWriter { appender: self.id })? {
            Outcome::Receipt(receipt) => Ok(receipt),
            other => Err(Error::unexpected(&other)),
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let closed = self.cell.apply(Command::CloseAppender { appender: self.id });
        debug_assert!(closed.is_ok(), "closing is always allowed");
        self.cell.inner.lock().waiting.remove(&self.id);
        self.cell.counters.appender_closed();
    }
}

/// Counts the time of a wait, also of one that is cut short.
struct Blocked<'a> {
    cell: &'a StreamCell,
    since: Timestamp,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.cell.counters.count_blocked(self.cell.now().since(self.since));
    }
}

/// What the log keeps of a batch besides its bytes.
fn entry_facts(kind: &AppenderKind, ordinal: u64, offset: Option<Offset>, bytes: u64, appended_at: Timestamp) -> EntryFacts {
    let (run, writer) = match kind {
        AppenderKind::Direct { run, .. } => (Some(run.clone()), None),
        AppenderKind::Anonymous { .. } => (None, None),
        AppenderKind::Writer { run, epoch, task, attempt, .. } => (Some(run.clone()), Some((*epoch, *task, *attempt))),
    };
    EntryFacts {
        producer: kind.producer().clone(),
        run,
        epoch: writer.map(|(epoch, ..)| epoch),
        task: writer.map(|(_, task, _)| task),
        attempt: writer.map(|(.., attempt)| attempt),
        ordinal,
        offset,
        appended_at,
        direct: writer.is_none(),
        bytes,
    }
}
