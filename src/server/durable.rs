//! A durable stream in the server: what its calls wait for, and what its log takes and gives back.

use std::collections::BTreeMap;

use super::cell::StreamCell;
use super::error::Error;
use super::log::{LogState, Work};
use crate::engine::{Command, Offset, PartitionId};
use crate::storage::StorageError;
use crate::storage::log::Appended;

impl StreamCell {
    /// Waits until all that was done to the stream so far is as durable as it has to be, so that whoever is told of it can
    /// rely on it. At once for a stream that is only in memory.
    ///
    /// # Errors
    /// `unavailable` if the log has failed.
    pub(super) async fn durable(&self) -> Result<(), Error> {
        match self.work_so_far() {
            Some((log, number)) => log.done(number).await,
            None => Ok(()),
        }
    }

    /// The same for what was done to its subscriptions alone.
    ///
    /// # Errors
    /// `unavailable` if the log has failed.
    pub(super) async fn durable_subscriptions(&self) -> Result<(), Error> {
        match self.work_so_far() {
            Some((log, number)) => log.done_to_subscriptions(number).await,
            None => Ok(()),
        }
    }

    /// Whether all that was done to it so far is as durable as it has to be.
    pub(super) fn is_durable(&self) -> bool {
        self.work_so_far().is_none_or(|(log, number)| log.is_done(number))
    }

    /// Refuses work that could never be durable.
    ///
    /// # Errors
    /// `unavailable` if the log has failed.
    pub(super) fn check_log(&self) -> Result<(), Error> {
        self.log().map_or(Ok(()), |log| log.check())
    }

    /// The log, and the number of the newest work in it; none for a stream that is only in memory.
    pub(super) fn work_so_far(&self) -> Option<(&LogState, u64)> {
        let log = self.log()?;
        Some((log, self.pending(|pending, _| pending.number())?))
    }

    /// Takes what the log has to do; none if nothing.
    pub(super) fn take_work(&self, with_late: bool) -> Option<Work> {
        self.pending(|pending, stream| {
            let is_wanted = pending.is_due() || with_late && pending.has_late();
            is_wanted.then(|| pending.take(stream, with_late))
        })?
    }

    /// Whether there is something that nobody waits for.
    pub(super) fn has_late_work(&self) -> bool {
        self.pending(|pending, _| pending.has_late()).unwrap_or_default()
    }

    /// The log has written these batches, and made all before these offsets durable.
    pub(super) fn settle(&self, log: &LogState, appended: Vec<Appended>, durable: BTreeMap<PartitionId, Offset>) {
        let bytes = appended.iter().map(|appended| appended.facts.bytes).sum();
        let batches = appended.len() as u64;
        appended.iter().for_each(|appended| log.cache.keep(&appended.batch, appended.facts.bytes));
        let settled = self.apply(Command::Settle { batches, bytes, durable: durable.into_iter().collect() });
        debug_assert!(settled.is_ok(), "the log knows the stream's partitions");
        // What was dropped meanwhile goes here, and not under the stream's lock.
        drop(appended);
    }

    /// Nothing more is written or confirmed.
    pub(super) fn log_failed(&self, log: &LogState, why: StorageError) {
        log.fail(why);
        self.end_waits();
    }
}
