//! The spans of what readers are sent of an epoch: from its first batch in a partition to the ack of its last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;

use super::super::cell::{ReaderName, StreamCell};
use super::span::{Amount, Span};
use super::{Tracer, context};
use crate::engine::{Batch, Epoch, Offset, PartitionId, ProducerId, StreamId, SubscriptionName, Timestamp};
use crate::storage::StoredBatch;

/// Deliveries that are under way at once; further ones have no span, and what their readers do belongs to the epoch itself.
const DELIVERIES_MAX: usize = 10_000;
/// A delivery that is acked is over when nothing more of the epoch has come for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How long acks may come after their reader has gone away.
const ACKED_LATE: Duration = Duration::from_secs(10);

/// Whose deliveries: those of one subscription are acked together.
type Readers = (StreamId, Option<SubscriptionName>);

/// All deliveries that are under way.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    of: HashMap<Readers, BTreeMap<u64, Delivery>>,
    count: usize,
    next_id: u64,
}

/// One epoch's batches of one partition on their way to one reader.
#[derive(Debug)]
struct Delivery {
    cell: Arc<StreamCell>,
    partition: PartitionId,
    span: Span,
    amount: Amount,
    /// One past the last offset that was sent.
    next: Offset,
    sent_at: Timestamp,
    acked_at: Option<Timestamp>,
    /// Since when nothing more of it comes from this reader.
    left_at: Option<Timestamp>,
}

impl Deliveries {
    fn begin(&mut self, readers: &Readers, delivery: Delivery) -> Option<u64> {
        if self.count == DELIVERIES_MAX {
            return None;
        }
        self.count += 1;
        self.next_id += 1;
        self.of.entry(readers.clone()).or_default().insert(self.next_id, delivery);
        Some(self.next_id)
    }

    fn find(&mut self, readers: &Readers, id: u64) -> Option<&mut Delivery> {
        self.of.get_mut(readers)?.get_mut(&id)
    }

    /// Something of a subscription was acked.
    pub(super) fn acked(&mut self, cell: &StreamCell, subscription: &SubscriptionName) {
        let deliveries = self.of.get_mut(&(cell.id(), Some(subscription.clone())));
        deliveries.into_iter().flatten().for_each(|(_, delivery)| delivery.look(Some(subscription)));
    }

    /// The spans of those that are over; with `all`, of all.
    pub(super) fn take_ended(&mut self, all: bool) -> Vec<SpanData> {
        let mut spans = Vec::new();
        self.of.retain(|(_, subscription), deliveries| {
            for (_, mut delivery) in deliveries.extract_if(.., |_, delivery| {
                delivery.look(subscription.as_ref());
                all || delivery.is_over()
            }) {
                delivery.look(subscription.as_ref());
                spans.push(delivery.ended());
            }
            !deliveries.is_empty()
        });
        self.count -= spans.len();
        spans
    }
}

impl Delivery {
    /// Whether its last batch is acked by now. Who reads without a subscription acks nothing.
    fn look(&mut self, subscription: Option<&SubscriptionName>) {
        let is_acked = subscription.is_none_or(|name| self.cell.cursor(name, self.partition).is_ok_and(|cursor| cursor >= self.next));
        match self.acked_at {
            None if is_acked => self.acked_at = Some(subscription.map_or(self.sent_at, |_| self.cell.now())),
            Some(_) if !is_acked => self.acked_at = None,
            Some(_) | None => {}
        }
    }

    fn is_over(&self) -> bool {
        let now = self.cell.now();
        match (self.acked_at, self.left_at) {
            (Some(_), Some(_)) => true,
            (Some(_), None) => now.since(self.sent_at) >= QUIET,
            (None, Some(left_at)) => now.since(left_at) >= ACKED_LATE,
            (None, None) => false,
        }
    }

    fn ended(self) -> SpanData {
        let at = self.acked_at.or(self.left_at).unwrap_or_else(|| self.cell.now());
        let failed = self.acked_at.is_none().then(|| "not acked".to_owned());
        self.span.with_amount(self.amount).ended(at, failed)
    }
}

/// What a `DoGet` is sending.
#[derive(Debug)]
pub(in crate::server) struct Delivering {
    tracer: Arc<Tracer>,
    cell: Arc<StreamCell>,
    reader: ReaderName,
    readers: Readers,
    runs: BTreeMap<PartitionId, Run>,
}

/// The epoch that a partition is at.
#[derive(Debug)]
struct Run {
    producer: ProducerId,
    epoch: Epoch,
    /// None if it is not sampled.
    traced: Option<Traced>,
}

#[derive(Debug)]
struct Traced {
    /// None beyond what is kept.
    id: Option<u64>,
    traceparent: String,
}

impl Delivering {
    pub(in crate::server) fn begin(tracer: Option<&Arc<Tracer>>, cell: &Arc<StreamCell>, reader: &ReaderName) -> Option<Self> {
        let readers = (cell.id(), reader.subscription.clone());
        Some(Self { tracer: tracer?.clone(), cell: cell.clone(), reader: reader.clone(), readers, runs: BTreeMap::new() })
    }

    /// A batch goes out. Gives what its metadata says of its trace: empty, if it is in none.
    pub(in crate::server) fn sent(&mut self, partition: PartitionId, batch: &Batch<StoredBatch>) -> String {
        let facts = &batch.facts;
        let Some(epoch) = facts.epoch else {
            self.leave(partition);
            return String::new();
        };
        let now = self.cell.now();
        let goes_on = |run: &&mut Run| run.epoch == epoch && run.producer == facts.producer;
        if let Some(run) = self.runs.get_mut(&partition).filter(goes_on) {
            let Some(traced) = &run.traced else { return String::new() };
            let mut deliveries = self.tracer.deliveries.lock();
            match traced.id.map(|id| deliveries.find(&self.readers, id)) {
                Some(Some(delivery)) => {
                    delivery.amount.add(facts.rows, facts.bytes);
                    delivery.next = delivery.next.max(batch.offset.plus(1));
                    delivery.sent_at = now;
                    delivery.acked_at = None;
                    return traced.traceparent.clone();
                }
                None => return traced.traceparent.clone(),
                // It was over for a while: what comes now is another.
                Some(None) => {}
            }
        }
        self.leave(partition);
        let traced = self.begin_delivery(partition, batch, epoch, now);
        let traceparent = traced.as_ref().map_or_else(String::new, |traced| traced.traceparent.clone());
        self.runs.insert(partition, Run { producer: facts.producer.clone(), epoch, traced });
        traceparent
    }

    fn begin_delivery(&self, partition: PartitionId, batch: &Batch<StoredBatch>, epoch: Epoch, now: Timestamp) -> Option<Traced> {
        let facts = &batch.facts;
        let whole = self.tracer.sampled(self.cell.id(), &facts.producer, epoch)?;
        let span = Span::within("deliver", &self.cell, (&facts.producer, epoch), &whole, now)
            .with("messaging.operation.type", "receive")
            .with("messaging.destination.partition.id", partition.to_string())
            .with("network.peer.address", self.reader.peer.clone())
            .with_number("bowstring.offset", batch.offset.0);
        let span = match &self.reader.subscription {
            Some(subscription) => span.with("messaging.consumer.group.name", subscription.to_string()),
            None => span,
        };
        let span = match &self.reader.consumer {
            Some(consumer) => span.with("messaging.client.id", consumer.to_string()),
            None => span,
        };
        let context = span.context().clone();
        let delivery = Delivery {
            cell: self.cell.clone(),
            partition,
            span,
            amount: Amount { batches: 1, rows: facts.rows, bytes: facts.bytes },
            next: batch.offset.plus(1),
            sent_at: now,
            acked_at: None,
            left_at: None,
        };
        let id = self.tracer.deliveries.lock().begin(&self.readers, delivery);
        Some(Traced { id, traceparent: context::traceparent(if id.is_some() { &context } else { &whole }) })
    }

    /// Nothing more of the epoch comes in a partition.
    fn leave(&mut self, partition: PartitionId) {
        let id = self.runs.remove(&partition).and_then(|run| run.traced?.id);
        let mut deliveries = self.tracer.deliveries.lock();
        if let Some(delivery) = id.and_then(|id| deliveries.find(&self.readers, id)) {
            delivery.left_at = Some(self.cell.now());
        }
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        let partitions: Vec<_> = self.runs.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.leave(partition));
    }
}
