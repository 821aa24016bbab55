//! The spans of what readers are sent of an epoch: from its first batch in a partition to the ack of its last.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
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
pub(super) type Readers = (StreamId, Option<SubscriptionName>);

/// All deliveries that are under way.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    of: HashMap<Readers, BTreeMap<u64, Delivery>>,
    count: usize,
    next_id: u64,
    /// What has ended before it was looked for.
    ended: Vec<SpanData>,
}

/// A delivery that may be acked: to be asked for without the lock on all of them.
#[derive(Debug)]
pub(super) struct NotAcked {
    readers: Readers,
    id: u64,
    cell: Arc<StreamCell>,
    partition: PartitionId,
    next: Offset,
}

/// When a delivery was acked, up to an offset.
#[derive(Debug)]
pub(super) struct Acked {
    asked: NotAcked,
    at: Timestamp,
}

/// One epoch's batches of one partition on their way to one reader.
#[derive(Debug)]
struct Delivery {
    cell: Arc<StreamCell>,
    partition: PartitionId,
    span: Span,
    /// Of a shared subscription only the batches are known: of how many rows of each, its leases say.
    amount: Amount,
    is_shared: bool,
    first: Offset,
    /// One past the last offset that was sent.
    next: Offset,
    sent_at: Timestamp,
    acked_at: Option<Timestamp>,
    /// Its reader is sent something else.
    has_turned: bool,
    /// Of its reader: since when that is gone.
    gone_at: Arc<OnceLock<Timestamp>>,
}

/// Those of them that are acked by now: their subscriptions' cursors have passed them.
pub(super) fn acked(asked: Vec<NotAcked>) -> Vec<Acked> {
    let is_acked = |asked: &NotAcked| {
        let subscription = asked.readers.1.as_ref();
        subscription.is_some_and(|name| asked.cell.cursor(name, asked.partition).is_ok_and(|cursor| cursor >= asked.next))
    };
    let acked = asked.into_iter().filter(is_acked);
    acked.map(|asked| Acked { at: asked.cell.now(), asked }).collect()
}

impl Deliveries {
    fn begin(&mut self, readers: &Readers, delivery: Delivery) -> Option<u64> {
        self.end_those_given_again(readers, &delivery);
        if self.count == DELIVERIES_MAX {
            return None;
        }
        self.count += 1;
        self.next_id += 1;
        self.of.entry(readers.clone()).or_default().insert(self.next_id, delivery);
        Some(self.next_id)
    }

    /// What was not acked before it is given to somebody else, or to the same reader after a break, is not acked by that delivery any more.
    fn end_those_given_again(&mut self, (stream, subscription): &Readers, given: &Delivery) {
        let readers = (*stream, subscription.clone());
        let Some(deliveries) = self.of.get_mut(&readers).filter(|_| subscription.is_some()) else { return };
        let is_given_again = |other: &Delivery| {
            let covers = (other.first..other.next).contains(&given.first);
            other.partition == given.partition && covers && other.acked_at.is_none() && !other.is_shared
        };
        for (_, other) in deliveries.extract_if(.., |_, other| is_given_again(other)) {
            self.count -= 1;
            self.ended.push(other.ended());
        }
    }

    fn find(&mut self, readers: &Readers, id: u64) -> Option<&mut Delivery> {
        self.of.get_mut(readers)?.get_mut(&id)
    }

    /// Those whose acks are waited for, of some readers or of all.
    pub(super) fn not_acked(&self, of: Option<&Readers>) -> Vec<NotAcked> {
        let chosen = self.of.iter().filter(|(readers, _)| of.is_none_or(|of| of == *readers));
        let of_subscriptions = chosen.filter(|((_, subscription), _)| subscription.is_some());
        let each = of_subscriptions.flat_map(|(readers, deliveries)| deliveries.iter().map(move |(id, delivery)| (readers, *id, delivery)));
        let not_acked = each.filter(|(.., delivery)| delivery.acked_at.is_none());
        not_acked
            .map(|(readers, id, delivery)| NotAcked {
                readers: readers.clone(),
                id,
                cell: delivery.cell.clone(),
                partition: delivery.partition,
                next: delivery.next,
            })
            .collect()
    }

    /// Notes what was found, unless more has been sent since.
    pub(super) fn note_acked(&mut self, acked: Vec<Acked>) {
        for Acked { asked, at } in acked {
            if let Some(delivery) = self.find(&asked.readers, asked.id).filter(|delivery| delivery.next == asked.next) {
                delivery.acked_at = Some(at);
            }
        }
    }

    /// The spans of those that are over; with `all`, of all.
    pub(super) fn take_ended(&mut self, acked: Vec<Acked>, all: bool) -> Vec<SpanData> {
        self.note_acked(acked);
        let mut spans = std::mem::take(&mut self.ended);
        let early = spans.len();
        self.of.retain(|_, deliveries| {
            let over = deliveries.extract_if(.., |_, delivery| all || delivery.is_over());
            spans.extend(over.map(|(_, delivery)| delivery.ended()));
            !deliveries.is_empty()
        });
        self.count -= spans.len() - early;
        spans
    }
}

impl Delivery {
    fn is_over(&self) -> bool {
        let now = self.cell.now();
        match (self.acked_at, self.gone_at.get()) {
            (Some(_), None) => self.has_turned || now.since(self.sent_at) >= QUIET,
            (Some(_), Some(_)) => true,
            (None, Some(gone_at)) => now.since(*gone_at) >= ACKED_LATE,
            (None, None) => false,
        }
    }

    fn ended(self) -> SpanData {
        let at = self.acked_at.or_else(|| self.gone_at.get().copied()).unwrap_or_else(|| self.cell.now());
        let is_failed = self.acked_at.is_none() && !self.is_shared;
        let span = match self.is_shared {
            true => self.span.with_number("messaging.batch.message_count", self.amount.batches),
            false => self.span.with_amount(self.amount),
        };
        span.ended(at, is_failed.then(|| "not acked".to_owned()))
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
    /// Set when it goes away.
    gone_at: Arc<OnceLock<Timestamp>>,
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
        Some(Self {
            tracer: tracer?.clone(),
            cell: cell.clone(),
            reader: reader.clone(),
            readers,
            runs: BTreeMap::new(),
            gone_at: Arc::default(),
        })
    }

    /// A batch goes out, or rows of it to one of those that share it. Gives what its metadata says of its trace: empty, if it is in none.
    pub(in crate::server) fn sent(&mut self, partition: PartitionId, batch: &Batch<StoredBatch>, is_shared: bool) -> String {
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
                    // The parts of a batch that is shared may come one by one.
                    if batch.offset >= delivery.next {
                        delivery.amount.add(facts.rows, facts.bytes);
                        delivery.next = batch.offset.plus(1);
                    }
                    delivery.sent_at = now;
                    delivery.acked_at = delivery.acked_at.filter(|_| self.readers.1.is_none()).map(|_| now);
                    return traced.traceparent.clone();
                }
                None => return traced.traceparent.clone(),
                // It was over for a while: what comes now is another.
                Some(None) => {}
            }
        }
        self.leave(partition);
        let traced = self.begin_delivery((partition, is_shared), batch, epoch, now);
        let traceparent = traced.as_ref().map_or_else(String::new, |traced| traced.traceparent.clone());
        self.runs.insert(partition, Run { producer: facts.producer.clone(), epoch, traced });
        traceparent
    }

    fn begin_delivery(
        &self,
        (partition, is_shared): (PartitionId, bool),
        batch: &Batch<StoredBatch>,
        epoch: Epoch,
        now: Timestamp,
    ) -> Option<Traced> {
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
            is_shared,
            first: batch.offset,
            next: batch.offset.plus(1),
            sent_at: now,
            // Who reads without a subscription acks nothing: it is done with what it was sent.
            acked_at: self.readers.1.is_none().then_some(now),
            has_turned: false,
            gone_at: self.gone_at.clone(),
        };
        let id = self.tracer.deliveries.lock().begin(&self.readers, delivery);
        Some(Traced { id, traceparent: context::traceparent(if id.is_some() { &context } else { &whole }) })
    }

    /// Nothing more of the epoch comes in a partition.
    fn leave(&mut self, partition: PartitionId) {
        let Some(id) = self.runs.remove(&partition).and_then(|run| run.traced?.id) else { return };
        if let Some(delivery) = self.tracer.deliveries.lock().find(&self.readers, id) {
            delivery.has_turned = true;
        }
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        let set = self.gone_at.set(self.cell.now());
        debug_assert!(set.is_ok(), "a reader goes away once");
    }
}
