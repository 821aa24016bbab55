//! A partition: an ordered log of batches.

use std::collections::VecDeque;

use super::budget::{Place, Usage};
use super::meter::Meter;
use super::snapshot::ProducerSnapshot;
use super::{Batch, BatchFacts, Dropped, Epoch, Error, Offset, PartitionId, ProducerId, Timestamp};

/// Batches `[start, end)`, visible but for the newest of a durable stream, and running totals.
#[derive(Debug)]
pub(super) struct Partition<D> {
    id: PartitionId,
    start: Offset,
    batches: VecDeque<Batch<D>>,
    /// How many of them are not visible yet: the log of a durable stream still has to make them durable.
    unsettled: u64,
    /// Every subscription has acked all before this; the last ones had, if there is none now.
    pub(super) acked: Offset,
    /// Invariant: what `batches` hold.
    used: Usage,
    /// Rows and bytes ever appended. They saturate: a batch of nulls may claim any number of rows.
    pub(super) rows_total: u64,
    pub(super) bytes_total: u64,
    /// When the newest batch was appended that ever was.
    newest_at: Timestamp,
    /// What is remembered of those before the start.
    dropped: Dropped,
    /// Batches that became visible lately.
    pub(super) appends: Meter,
    /// When the newest one did, as far as is known since a restart.
    pub(super) shown_at: Option<Timestamp>,
}

impl<D> Partition<D> {
    pub(super) fn new(id: PartitionId) -> Self {
        Self {
            id,
            start: Offset(0),
            batches: VecDeque::new(),
            unsettled: 0,
            acked: Offset(0),
            used: Usage::default(),
            rows_total: 0,
            bytes_total: 0,
            newest_at: Timestamp::default(),
            dropped: Dropped::default(),
            appends: Meter::default(),
            shown_at: None,
        }
    }

    /// An empty partition begins here, with so much before it.
    pub(super) fn begin(&mut self, start: Offset, rows_before: u64, bytes_before: u64, dropped: Dropped) {
        debug_assert!(self.batches.is_empty(), "it has not begun yet");
        self.start = start;
        self.rows_total = rows_before;
        self.bytes_total = bytes_before;
        self.newest_at = dropped.newest_at.unwrap_or_default();
        self.dropped = dropped;
    }

    /// If nobody kept account of what was dropped: all of it was appended before now, and its epochs were committed.
    pub(super) fn account_for_unknown(&mut self, producers: &[(ProducerId, ProducerSnapshot)], now: Timestamp) {
        if self.start == Offset(0) || self.dropped.newest_at.is_some() {
            return;
        }
        self.dropped.newest_at = Some(now);
        for (producer, found) in producers {
            found.committed.into_iter().for_each(|epoch| self.dropped.note_epoch(producer, epoch));
        }
    }

    /// What is remembered of batches before the start.
    pub(super) fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Its number.
    pub(super) fn id(&self) -> PartitionId {
        self.id
    }

    /// The earliest offset that is kept.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// One past the last offset.
    pub(super) fn end(&self) -> Offset {
        self.start.plus(self.batches.len() as u64)
    }

    /// One past the last visible offset.
    pub(super) fn visible_end(&self) -> Offset {
        self.start.plus(self.batches.len() as u64 - self.unsettled)
    }

    /// The newest batch is not visible before [`settle`](Self::settle).
    pub(super) fn hide_newest(&mut self) {
        self.unsettled += 1;
    }

    /// All before `offset` is visible; whether that is news.
    pub(super) fn settle(&mut self, offset: Offset, now: Timestamp) -> bool {
        let left = self.end().0.saturating_sub(offset.0);
        let news = self.unsettled.saturating_sub(left);
        let hidden = self.batches.iter_mut().rev().skip(usize::try_from(left).unwrap_or(usize::MAX));
        hidden.take(usize::try_from(news).unwrap_or(usize::MAX)).for_each(|batch| batch.visible_at = now);
        self.unsettled -= news;
        self.count_shown(news, now);
        news > 0
    }

    /// So many batches have just become visible.
    pub(super) fn count_shown(&mut self, batches: u64, now: Timestamp) {
        if batches > 0 {
            self.appends.count(batches, now);
            self.shown_at = Some(now);
        }
    }

    pub(super) fn used(&self) -> &Usage {
        &self.used
    }

    pub(super) fn push(&mut self, facts: BatchFacts, data: D, place: Place, age: u64, now: Timestamp) -> Offset {
        let offset = self.end();
        let (rows, bytes) = (facts.rows, facts.bytes);
        self.newest_at = self.newest_at.max(facts.appended_at);
        let (rows_before, bytes_before, newest_at) = (self.rows_total, self.bytes_total, self.newest_at);
        self.batches.push_back(Batch { offset, facts, data, place, visible_at: now, rows_before, bytes_before, newest_at, age });
        self.used.add(place, bytes);
        self.rows_total = self.rows_total.saturating_add(rows);
        self.bytes_total = self.bytes_total.saturating_add(bytes);
        offset
    }

    /// The oldest batch, if it is visible.
    pub(super) fn oldest(&self) -> Option<&Batch<D>> {
        self.batches.front().filter(|_| self.start < self.visible_end())
    }

    /// The oldest batch, if every subscription has acked it.
    pub(super) fn oldest_acked(&self) -> Option<&Batch<D>> {
        self.oldest().filter(|batch| batch.offset < self.acked)
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Batch<D>> {
        let batch = self.batches.pop_front()?;
        self.used.sub(batch.place, batch.facts.bytes);
        self.start = batch.offset.plus(1);
        self.dropped.note(&batch.facts);
        Some(batch)
    }

    /// The visible batch at an offset.
    pub(super) fn get(&self, offset: Offset) -> Option<&Batch<D>> {
        self.find(offset).filter(|_| offset < self.visible_end())
    }

    /// The batch at an offset, visible or not.
    pub(super) fn find(&self, offset: Offset) -> Option<&Batch<D>> {
        let index = offset.0.checked_sub(self.start.0)?;
        self.batches.get(usize::try_from(index).ok()?)
    }

    /// What the batches before `offset` hold. Those of a log lie nowhere else, so that they need not be counted one by one.
    pub(super) fn used_before(&self, offset: Offset) -> Usage {
        let mut used = Usage::default();
        if self.batches.front().is_some_and(|batch| batch.place == Place::Log) {
            (used.log_batches, used.log_bytes) =
                (offset.since(self.start), self.totals_before(offset).1 - self.totals_before(self.start).1);
            return used;
        }
        let before = usize::try_from(offset.since(self.start)).unwrap_or(usize::MAX);
        self.batches.iter().take(before).for_each(|batch| used.add(batch.place, batch.facts.bytes));
        used
    }

    /// Rows and bytes appended before `offset`; an offset no longer kept counts as the start.
    pub(super) fn totals_before(&self, offset: Offset) -> (u64, u64) {
        match self.find(offset.max(self.start)) {
            Some(batch) => (batch.rows_before, batch.bytes_before),
            None => (self.rows_total, self.bytes_total),
        }
    }

    /// The first visible batch that was appended at or after a time; the visible end if there is none.
    pub(super) fn first_since(&self, time: Timestamp) -> Result<Offset, Error> {
        if let Some(newest) = self.dropped.newest_at.filter(|newest| *newest >= time) {
            return Err(Error::TimeGone { partition: self.id, time, newest, earliest: self.start });
        }
        let before = self.batches.partition_point(|batch| batch.newest_at < time);
        Ok(self.start.plus(before as u64).min(self.visible_end()))
    }

    /// The first visible batch of a producer's epoch, or of a later one; the visible end if there is none. Looks through what is
    /// kept: with `immediate` visibility epochs come in any order.
    pub(super) fn first_of(&self, producer: &ProducerId, epoch: Epoch) -> Result<Offset, Error> {
        if let Some(newest) = self.dropped.newest_epoch(producer).filter(|newest| *newest >= epoch) {
            return Err(Error::EpochGone { partition: self.id, producer: producer.clone(), epoch, newest, earliest: self.start });
        }
        let is_it = |batch: &Batch<D>| batch.facts.epoch.is_some_and(|of| of >= epoch) && batch.facts.producer == *producer;
        let first = self.batches.iter().find(|batch| is_it(batch)).map(|batch| batch.offset);
        Ok(first.unwrap_or(self.visible_end()).min(self.visible_end()))
    }

    /// Refuses an offset beyond the end.
    pub(super) fn check_not_ahead(&self, offset: Offset) -> Result<(), Error> {
        let end = self.visible_end();
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
