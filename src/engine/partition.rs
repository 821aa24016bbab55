//! A partition: an ordered log of visible batches.

use std::collections::VecDeque;

use super::budget::{Place, Usage};
use super::{Batch, BatchFacts, Error, Offset, PartitionId};

/// Visible batches `[start, end)` and running totals.
#[derive(Debug)]
pub(super) struct Partition<D> {
    id: PartitionId,
    start: Offset,
    batches: VecDeque<Batch<D>>,
    /// Invariant: what `batches` hold.
    used: Usage,
    /// Rows and bytes ever appended. They saturate: a batch of nulls may claim any number of rows.
    pub(super) rows_total: u64,
    pub(super) bytes_total: u64,
}

impl<D> Partition<D> {
    pub(super) fn new(id: PartitionId) -> Self {
        Self { id, start: Offset(0), batches: VecDeque::new(), used: Usage::default(), rows_total: 0, bytes_total: 0 }
    }

    /// The earliest offset that is kept.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// One past the last visible offset.
    pub(super) fn end(&self) -> Offset {
        self.start.plus(self.batches.len() as u64)
    }

    pub(super) fn used(&self) -> &Usage {
        &self.used
    }

    pub(super) fn push(&mut self, facts: BatchFacts, data: D, place: Place, age: u64) -> Offset {
        let offset = self.end();
        let (rows, bytes) = (facts.rows, facts.bytes);
        self.batches.push_back(Batch { offset, facts, data, place, rows_before: self.rows_total, bytes_before: self.bytes_total, age });
        self.used.add(place, bytes);
        self.rows_total = self.rows_total.saturating_add(rows);
        self.bytes_total = self.bytes_total.saturating_add(bytes);
        offset
    }

    pub(super) fn oldest(&self) -> Option<&Batch<D>> {
        self.batches.front()
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Batch<D>> {
        let batch = self.batches.pop_front()?;
        self.used.sub(batch.place, batch.facts.bytes);
        self.start = batch.offset.plus(1);
        Some(batch)
    }

    pub(super) fn get(&self, offset: Offset) -> Option<&Batch<D>> {
        let index = offset.0.checked_sub(self.start.0)?;
        self.batches.get(usize::try_from(index).ok()?)
    }

    /// Rows and bytes appended before `offset`; an offset no longer kept counts as the start.
    pub(super) fn totals_before(&self, offset: Offset) -> (u64, u64) {
        match self.get(offset.max(self.start)) {
            Some(batch) => (batch.rows_before, batch.bytes_before),
            None => (self.rows_total, self.bytes_total),
        }
    }

    /// Refuses an offset beyond the end.
    pub(super) fn check_not_ahead(&self, offset: Offset) -> Result<(), Error> {
        let end = self.end();
        if offset > end {
            return Err(Error::OffsetAhead { partition: self.id, offset, end });
        }
        Ok(())
    }

    /// Refuses an offset outside `[start, end]`.
    pub(super) fn check_kept(&self, offset: Offset) -> Result<(), Error> {
        if offset < self.start {
            return Err(Error::OffsetGone { partition: self.id, offset, earliest: self.start });
        }
        self.check_not_ahead(offset)
    }
}
