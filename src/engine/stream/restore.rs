//! A durable stream before and after a restart.

use super::super::budget::{Place, Usage};
use super::super::epoch::Producer;
use super::super::partition::Partition;
use super::super::shares::Shares;
use super::super::snapshot::{CursorSnapshot, EpochTotals, PartitionSnapshot, ProducerSnapshot, StreamSnapshot, SubscriptionSnapshot};
use super::super::subscription::{Cursor, Subscription};
use super::super::{Error, LeaseId, Offset, PartitionId, ProducerId, StreamId, StreamName, SubscriptionName, Timestamp, Visibility};
use super::Stream;
use super::merge::Merge;
use crate::zoo::{self, Bug};

impl<D: Clone> Stream<D> {
    /// The stream that a restart has found. All of its batches are durable and visible.
    ///
    /// # Errors
    /// [`Error::PartitionCount`].
    pub fn restore(name: StreamName, id: StreamId, snapshot: StreamSnapshot<D>, now: Timestamp) -> Result<Self, Error> {
        let StreamSnapshot { options, schemas, state, epochs, partitions, subscriptions, producers } = snapshot;
        let mut stream = Self { schemas, state, ..Self::durable(name, id, options)? };
        (stream.epochs_committed, stream.epochs_aborted, stream.epochs_replayed) = (epochs.committed, epochs.aborted, epochs.replayed);
        let appended = stream.restore_partitions(partitions, now);
        stream.account_for_unknown(&producers, now);
        let of_subscriptions = subscriptions.iter().map(|(_, found)| found.created_at.0.max(found.generation.0));
        // Leases were given at least up to then, whatever time it is by the clock now.
        let newest = LeaseId(of_subscriptions.chain([appended.0]).max().unwrap_or_default());
        stream.subscriptions =
            subscriptions.into_iter().map(|(name, found)| (name, stream.restored_subscription(&found, newest, now))).collect();
        for (index, partition) in stream.partitions.iter_mut().enumerate() {
            let acked = stream
                .subscriptions
                .values()
                .filter(|subscription| subscription.holds())
                .map(|subscription| subscription.cursors[index].acked);
            partition.acked = acked.min().unwrap_or(partition.start());
        }
        stream.producers = producers.into_iter().map(|(name, producer)| (name, Producer::restore(producer, now))).collect();
        Ok(stream)
    }

    /// Each partition's batches in their order; over all partitions they get their turns as [`Merge`] says. Gives the newest time at
    /// which a batch was appended, as far as is known.
    fn restore_partitions(&mut self, found: Vec<PartitionSnapshot<D>>, now: Timestamp) -> Timestamp {
        let mut used = Usage::default();
        let mut newest = found.iter().filter_map(|partition| partition.dropped.newest_at).max().unwrap_or_default();
        for (partition, found) in self.partitions.iter_mut().zip(&found) {
            partition.begin(found.start, found.rows_before, found.bytes_before, found.dropped.clone());
        }
        let found = found.into_iter().take(self.partitions.len()).collect();
        for (index, (facts, data)) in Merge::new(found, self.options.visibility == Visibility::Committed) {
            used.add(Place::Log, facts.bytes);
            newest = newest.max(facts.appended_at);
            self.partitions[index].push(facts, data, Place::Log, self.next_age, now);
            self.next_age += 1;
        }
        self.budget.restore(&used);
        newest
    }

    /// What was dropped while nobody kept account of it was appended before now, and is of committed epochs.
    fn account_for_unknown(&mut self, producers: &[(ProducerId, ProducerSnapshot)], now: Timestamp) {
        self.partitions.iter_mut().for_each(|partition| partition.account_for_unknown(producers, now));
    }

    /// Its cursors stay within what there is: a batch that was never durable may be gone. Its leases are newer than `newest`.
    fn restored_subscription(&self, found: &SubscriptionSnapshot, newest: LeaseId, now: Timestamp) -> Subscription {
        let eviction = found.eviction.filter(|_| !zoo::has(Bug::EvictionForgotten));
        // An evicted one stays where it was, whatever is dropped meanwhile.
        let lowest = |partition: &Partition<D>| if eviction.is_some() { Offset(0) } else { partition.start() };
        let cursors = self.partitions.iter().zip(&found.cursors).map(|(partition, cursor)| Cursor {
            acked: if zoo::has(Bug::AcksForgotten) { partition.start() } else { cursor.acked.clamp(lowest(partition), partition.end()) },
            planned: cursor.planned.min(partition.end()),
            skipped: cursor.skipped,
            gap: cursor.gap,
            ..Cursor::at(partition.start(), now)
        });
        let SubscriptionSnapshot { created_at, generation, mode, on_overflow, .. } = *found;
        let shares = found.shares.as_ref().map(|shares| Shares::restore(shares, &self.partitions, newest, now));
        let query = found.query.clone();
        let mut restored =
            Subscription { on_overflow, query, eviction, shares, ..Subscription::new(mode, created_at, generation, cursors.collect()) };
        restored.leases.iter_mut().for_each(|leases| leases.newest = newest);
        restored
    }

    /// What a restart has to know of the stream itself.
    #[must_use]
    pub fn epoch_totals(&self) -> EpochTotals {
        EpochTotals { committed: self.epochs_committed, aborted: self.epochs_aborted, replayed: self.epochs_replayed }
    }

    /// A partition without its batches.
    ///
    /// # Errors
    /// [`Error::PartitionOutOfRange`].
    pub fn partition_snapshot(&self, partition: PartitionId) -> Result<PartitionSnapshot<()>, Error> {
        let partition = self.partition(partition)?;
        let (rows_before, bytes_before) = partition.totals_before(partition.start());
        let dropped = partition.dropped().clone();
        Ok(PartitionSnapshot { start: partition.start(), rows_before, bytes_before, dropped, batches: Vec::new() })
    }

    /// A subscription; none if there is none of that name.
    #[must_use]
    pub fn subscription_snapshot(&self, name: &SubscriptionName) -> Option<SubscriptionSnapshot> {
        let subscription = self.subscriptions.get(name)?;
        let cursors = subscription.cursors.iter().map(|cursor| CursorSnapshot {
            acked: cursor.acked,
            planned: cursor.planned,
            skipped: cursor.skipped,
            gap: cursor.gap,
        });
        let Subscription { created_at, generation, on_overflow, eviction, .. } = *subscription;
        let (mode, cursors) = (subscription.mode(), cursors.collect());
        let (shares, query) = (subscription.shares.as_ref().map(Shares::saved), subscription.query.clone());
        Some(SubscriptionSnapshot { created_at, generation, mode, on_overflow, query, eviction, cursors, shares })
    }

    /// A producer; none if it is not remembered.
    #[must_use]
    pub fn producer_snapshot(&self, producer: &ProducerId) -> Option<ProducerSnapshot> {
        let producer = self.producers.get(producer)?;
        Some(ProducerSnapshot {
            run: producer.run.clone(),
            superseded: producer.superseded.iter().cloned().collect(),
            committed: producer.committed,
            next_ordinal: producer.direct_next_ordinal,
            stored_ahead: producer.direct_stored_ahead.clone(),
            lease: producer.lease,
        })
    }
}
