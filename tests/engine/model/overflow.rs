//! Who holds what, and who has to wait for it, by what the design says.

use bowstring::engine::{FullPolicy, Limits, OnOverflow, SubscriptionName};

use super::{Cursor, Model, Usage};

impl Model {
    /// Subscriptions that are not evicted.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (&SubscriptionName, &Vec<Cursor>)> {
        self.subscriptions.iter().filter(|(name, _)| !self.evicted.contains(*name))
    }

    /// The cursors of those that hold back producers.
    pub(crate) fn firm(&self) -> impl Iterator<Item = &Vec<Cursor>> {
        self.holders().filter(|(name, _)| self.kinds[*name] == OnOverflow::Hold).map(|(_, cursors)| cursors)
    }

    /// Whether some subscription would rather lose batches than hold back producers, or has.
    pub(crate) fn may_lose(&self) -> bool {
        self.kinds.values().any(|kind| *kind != OnOverflow::Hold)
    }

    /// Whether a batch of this size has to wait.
    pub(crate) fn must_wait(&self, bytes: u64) -> bool {
        let (memory, spool) = self.fits(&self.usage(), bytes);
        let spills = self.options.full_policy == FullPolicy::Spill;
        let full = if spills {
            !memory && !spool && (!self.all_unblocked() || self.is_passing())
        } else {
            !memory && (!self.all_unblocked() || (!spool && self.is_passing()))
        };
        let drains = !self.all_unblocked() && !self.is_low();
        !self.ended && (drains || (full && !self.laggards_could_help(bytes)))
    }

    /// Whether a batch of this size fits in memory, and in the spool.
    pub(crate) fn fits(&self, usage: &Usage, bytes: u64) -> (bool, bool) {
        let Limits { max_buffered_batches, max_buffered_bytes, max_spool_bytes, .. } = self.options.limits;
        let memory = usage.memory_batches < max_buffered_batches && usage.memory_bytes.saturating_add(bytes) <= max_buffered_bytes;
        (memory, usage.spool_bytes.saturating_add(bytes) <= max_spool_bytes)
    }

    /// Whether those that wait for it to drain may go on.
    pub(crate) fn is_low(&self) -> bool {
        self.is_low_with(&self.usage())
    }

    pub(crate) fn is_low_with(&self, usage: &Usage) -> bool {
        let Limits { max_buffered_batches, max_buffered_bytes, max_spool_bytes, .. } = self.options.limits;
        let below = |held: u64, limit: u64| u128::from(held) * 100 <= u128::from(limit) * u128::from(self.options.resume_percent);
        let memory = below(usage.memory_batches, max_buffered_batches) && below(usage.memory_bytes, max_buffered_bytes);
        memory || (self.options.full_policy == FullPolicy::Spill && below(usage.spool_bytes, max_spool_bytes))
    }

    /// Whether somebody other than laggards needs a batch of a partition. One that has planned all there is is no laggard.
    pub(crate) fn is_needed(&self, partition: usize, offset: u64) -> bool {
        let end = self.logs[partition].batches.len() as u64;
        self.subscriptions.is_empty()
            || self.holders().any(|(name, cursors)| {
                let cursor = cursors[partition];
                let is_laggard = self.kinds[name] != OnOverflow::Hold && cursor.acked.max(cursor.planned) < end;
                !is_laggard && cursor.acked <= offset
            })
    }

    /// Whether there would be room without what only laggards need.
    pub(crate) fn laggards_could_help(&self, bytes: u64) -> bool {
        let mut without = self.clone();
        for (partition, log) in without.logs.iter_mut().enumerate() {
            while log.start < log.batches.len() && !self.is_needed(partition, log.start as u64) {
                log.start += 1;
            }
        }
        let (memory, spool) = self.fits(&without.usage(), bytes);
        memory || (spool && self.options.full_policy == FullPolicy::Spill)
    }
}
