//! Rows that are leased and cannot be sent: what has no answer to a query, and what comes after the end of a read.

use std::time::Duration;

use super::super::error::Error;
use super::super::sharing::reason;
use super::{Reading, Work};
use crate::engine::{Code, Command, LeaseId, LeaseUpdate};
use crate::wire::proto::LeasedShare;

/// After rows had no answer, they are tried again after so long, and each time after twice that: they will hardly have one then.
const TRY_AGAIN: Duration = Duration::from_millis(100);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(1);

impl Work {
    /// Whether its shares may have answers although the batch has none.
    pub(super) fn may_be_divided(&self, error: &Error) -> bool {
        let has_failed = matches!(error, Error::Unanswered { code: Code::QueryFailed, .. });
        let is_whole = |share: &LeasedShare| share.start == 0 && share.end >= self.batch.facts.rows;
        has_failed && !self.is_alone && !self.shares.is_empty() && !self.shares.iter().all(is_whole)
    }

    /// Each of its shares.
    pub(super) fn divided(&mut self) -> Vec<Self> {
        let Self { partition, lease, ref batch, .. } = *self;
        let mut skipped = std::mem::take(&mut self.skipped);
        let alone = |share: LeasedShare| Self {
            partition,
            lease,
            shares: vec![share],
            batch: batch.clone(),
            skipped: std::mem::take(&mut skipped),
            is_alone: true,
        };
        std::mem::take(&mut self.shares).into_iter().map(alone).collect()
    }
}

impl Reading {
    /// What becomes of rows without an answer. Those of a shared subscription were delivered in vain, as if a consumer had refused them,
    /// and the reader goes on. Where nothing goes to the dead letters that would be for ever: there, and for who is the only one to read,
    /// the read ends.
    ///
    /// # Errors
    /// The one that it is about; the engine's.
    pub(super) fn set_aside(&mut self, work: &mut Work, error: Error) -> Result<(), Error> {
        let Error::Unanswered { reason: why, .. } = &error else { return Err(error) };
        let Some(leases) = self.leases.as_mut().filter(|_| !work.shares.is_empty()) else { return Err(error) };
        let subscription = leases.subscription().clone();
        let why = reason(&format!("it has no answer to the subscription's query: {why}"));
        let nack = |share: &LeasedShare| {
            let delay = TRY_AGAIN.saturating_mul(1 << share.delivery.saturating_sub(1).min(7)).min(TRY_AGAIN_MAX);
            LeaseUpdate::Nack { lease: LeaseId(share.lease), delay, reason: why.clone() }
        };
        let updates = work.shares.iter().map(nack).collect();
        leases.tell_later(work.partition, work.skipped);
        tracing::debug!(stream = %self.cell.name(), %subscription, %error, "rows of a shared subscription have no answer");
        let is_for_ever = self.cell.max_deliveries(&subscription)? == 0;
        self.cell.apply(Command::UpdateLeases { subscription, updates, resumes: None, pauses: None })?;
        work.shares.clear();
        if is_for_ever { Err(error) } else { Ok(()) }
    }

    /// What was taken and will not be sent, since the read ends: it goes to anybody, and has not failed.
    pub(super) fn give_back(&self, all: impl Iterator<Item = LeasedShare>) {
        let Some(leases) = &self.leases else { return };
        let updates: Vec<_> = all.map(|share| LeaseUpdate::Release(LeaseId(share.lease))).collect();
        if !updates.is_empty() {
            let subscription = leases.subscription().clone();
            // Where that is refused the subscription is gone, or the log has failed: nobody is given anything then.
            drop(self.cell.apply(Command::UpdateLeases { subscription, updates, resumes: None, pauses: None }));
        }
    }
}
