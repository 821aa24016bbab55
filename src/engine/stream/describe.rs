//! What can be seen of a stream.

use super::super::appender::Progress;
use super::super::budget::Usage;
use super::super::epoch::Producer;
use super::super::meter::time_to_drain;
use super::super::partition::Partition;
use super::super::subscription::Cursor;
use super::super::{
    EpochView, PartitionId, PartitionView, ProducerId, ProducerView, ShareView, StreamTotals, StreamView, SubscriptionPartitionView,
    SubscriptionView, Timestamp, WaitView,
};
use super::Stream;

impl<D: Clone> Stream<D> {
    /// The whole stream as plain data.
    #[must_use]
    pub fn describe(&self, now: Timestamp) -> StreamView {
        let Usage { memory_batches, memory_bytes, spool_batches, spool_bytes, log_batches, log_bytes } = *self.budget.used();
        StreamView {
            name: self.name.clone(),
            id: self.id,
            state: self.state.clone(),
            limits: self.options.limits,
            buffered_batches: memory_batches,
            buffered_bytes: memory_bytes,
            spooled_batches: spool_batches,
            spooled_bytes: spool_bytes,
            logged_batches: log_batches,
            logged_bytes: log_bytes,
            epochs_committed: self.epochs_committed,
            epochs_aborted: self.epochs_aborted,
            epochs_replayed: self.epochs_replayed,
            partitions: self.numbered().map(|(id, partition)| partition_view(id, partition, now)).collect(),
            subscriptions: self.subscription_views(now),
            producers: self.producers.iter().map(|(id, producer)| producer_view(id, producer, now)).collect(),
            waiting: self.wait_views(now),
            is_draining: self.is_draining(),
        }
    }

    /// Its totals.
    #[must_use]
    pub fn totals(&self) -> StreamTotals {
        let mut totals = StreamTotals {
            buffered_bytes: self.budget.used().memory_bytes,
            waiting: self.waiting.len() as u64,
            epochs_committed: self.epochs_committed,
            ..StreamTotals::default()
        };
        for partition in &self.partitions {
            let end = partition.visible_end();
            let (rows, bytes) = partition.totals_before(end);
            totals.batches += end.0;
            totals.rows += rows;
            totals.bytes += bytes;
        }
        totals
    }

    fn numbered(&self) -> impl Iterator<Item = (PartitionId, &Partition<D>)> {
        (0..).map(PartitionId).zip(&self.partitions)
    }

    fn subscription_views(&self, now: Timestamp) -> Vec<SubscriptionView> {
        let view = |subscription: &super::Subscription| {
            let places = self.numbered().zip(&subscription.cursors);
            places
                .map(|((id, partition), cursor)| {
                    let shares = subscription.shares.as_ref().map(|shares| self.share_view(shares, id.index(), now));
                    lag_view(id, partition, (cursor, shares), now)
                })
                .collect()
        };
        let subscriptions = self.subscriptions.iter();
        subscriptions
            .map(|(name, subscription)| SubscriptionView {
                name: name.clone(),
                created_at: subscription.created_at,
                generation: subscription.generation,
                mode: subscription.mode(),
                sharing: subscription.shares.as_ref().map(|shares| shares.rules.clone()),
                failed_deliveries: subscription.shares.as_ref().map_or(0, |shares| shares.failed),
                consumers: self.consumer_views(subscription, now),
                on_overflow: subscription.on_overflow,
                query: subscription.query.clone(),
                eviction: subscription.eviction,
                partitions: view(subscription),
            })
            .collect()
    }

    fn wait_views(&self, now: Timestamp) -> Vec<WaitView> {
        let waiting = self.waiting.values().filter_map(|id| Some((*id, self.appenders.get(id)?)));
        waiting
            .filter_map(|(appender, state)| match state.progress {
                Progress::Waiting { bytes, since, .. } => {
                    Some(WaitView { appender, producer: state.kind.producer().clone(), bytes, waiting_for: now.since(since) })
                }
                Progress::Idle | Progress::Reserved { .. } => None,
            })
            .collect()
    }
}

fn partition_view<D>(id: PartitionId, partition: &Partition<D>, now: Timestamp) -> PartitionView {
    let (rows_total, bytes_total) = partition.totals_before(partition.visible_end());
    PartitionView {
        partition: id,
        start: partition.start(),
        end: partition.visible_end(),
        buffered_batches: partition.used().memory_batches,
        buffered_bytes: partition.used().memory_bytes,
        rows_total,
        bytes_total,
        idle_for: partition.shown_at.map(|shown_at| now.since(shown_at)),
    }
}

fn lag_view<D>(
    id: PartitionId,
    partition: &Partition<D>,
    (cursor, shares): (&Cursor, Option<ShareView>),
    now: Timestamp,
) -> SubscriptionPartitionView {
    let (rows, bytes) = partition.totals_before(cursor.acked);
    let (visible_rows, visible_bytes) = partition.totals_before(partition.visible_end());
    let of_cursor = (partition.visible_end().since(cursor.acked), visible_rows - rows, visible_bytes - bytes);
    // What is acked beyond the cursor lags no more.
    let (lag_batches, lag_rows, lag_bytes) =
        shares.as_ref().map_or(of_cursor, |shares| (shares.lag_batches, shares.lag_rows, shares.lag_bytes));
    let oldest = partition.get(cursor.acked);
    SubscriptionPartitionView {
        partition: id,
        acked: cursor.acked,
        planned: cursor.planned,
        skipped: cursor.skipped,
        lag_batches,
        lag_rows,
        lag_bytes,
        shares,
        lag_age: oldest.map(|batch| now.since(batch.facts.appended_at)).unwrap_or_default(),
        held_for: oldest.map(|batch| now.since(batch.visible_at.max(cursor.moved_at))).unwrap_or_default(),
        drains_in: time_to_drain(lag_batches, &cursor.acks, &partition.appends, now),
    }
}

fn producer_view<D>(id: &ProducerId, producer: &Producer<D>, now: Timestamp) -> ProducerView {
    let epochs = producer.epochs.iter().map(|(epoch, open)| EpochView {
        epoch: *epoch,
        open_for: now.since(open.opened_at),
        writers: open.writers.len() as u64,
        staged_batches: open.writers.values().map(|writer| writer.next_ordinal).sum(),
        staged_rows: open.writers.values().fold(0, |sum, writer| sum.saturating_add(writer.rows)),
        staged_bytes: open.writers.values().fold(0, |sum, writer| sum.saturating_add(writer.bytes)),
    });
    ProducerView {
        producer: id.clone(),
        run: producer.run.clone(),
        committed: producer.committed,
        lost: producer.lost,
        epochs: epochs.collect(),
    }
}
