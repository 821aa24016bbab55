//! A consumer: reads a stream's batches in order, ahead of the caller, and acks what the caller is done with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::acks::{Acks, Pending};
use super::options::Offsets;
use super::plan::{self, ReadPlan, Starts};
use super::prefetch::{Prefetch, Taken};
use super::reader::Reader;
use super::ready::{Joined, joined};
use super::retry::now;
use super::task::OwnedTask;
use super::watched::Watched;
use super::{Client, ConsumerOptions, Error};
use crate::engine::{Epoch, Offset, PartitionId, StoredState, StreamId, Timestamp};

/// A batch and where it came from.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The batch.
    pub batch: RecordBatch,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset: to be done with it is to ack `offset.plus(1)`.
    pub offset: Offset,
    /// The epoch it came with, if it came with one.
    pub epoch: Option<Epoch>,
    /// When the coordinator took it.
    pub appended_at: Timestamp,
    /// What its producer sent along.
    pub user: Bytes,
    /// Bytes of the encoded batch: what it counted for in the coordinator, but for metadata.
    pub bytes: u64,
    /// Whether its columns are plain (numbers, times, booleans, strings, binary), and it came uncompressed: in memory it
    /// has about `bytes`, and such batches can be joined without changing what is in them.
    pub is_plain: bool,
}

/// Reads a stream: in order within a partition, each batch once per consumer, over reconnects too.
///
/// How reading ends, four ways that cannot be mixed up: end of stream (`None`), the stream failed or cannot be
/// read (an error), the deadline passed (`timeout`, and the next call goes on), or a producer is lost
/// (`producer_lost`; the next call looks whether it is back). What was there before an end is delivered first.
///
/// Dropping it ends its connection and tasks. Acks that were not flushed may get lost: the batches come again.
#[derive(Debug)]
pub struct Consumer {
    pub(super) client: Client,
    plan: Arc<ReadPlan>,
    subscription: Option<String>,
    prefetch: Arc<Watched<Prefetch>>,
    pub(super) taken: Taken,
    /// Met a batch that cannot be decoded: reading ends there.
    failed: Option<Error>,
    /// Of the batch that was handed out last: acks go by it.
    batch_bytes: u64,
    reader: Option<OwnedTask>,
    /// What is to be acked. With the reader, which knows when the coordinator may have forgotten some.
    to_ack: Arc<Watched<Pending>>,
    acks: Option<Acks>,
    /// How often the subscription went on elsewhere, and how often the caller was taken there.
    moves: Arc<AtomicU64>,
    moved: u64,
    /// Since then, one past the last batch handed out of each partition: more is not the caller's to ack.
    handed: Option<Offsets>,
}

impl Consumer {
    pub(super) async fn open(client: Client, stream: &str, options: ConsumerOptions) -> Result<Self, Error> {
        let subscription = options.subscription.clone();
        let (batches, bytes) = (options.prefetch_batches, options.prefetch_bytes);
        let (plan, Starts { offsets, generation }, schema) = plan::plan(&client, stream, options).await?;
        let to_ack = Arc::new(Watched::new(Pending::new(plan.acks_urgent, generation)));
        let mut consumer = Self {
            client,
            plan: Arc::new(plan),
            subscription,
            prefetch: Arc::new(Watched::new(Prefetch::new((batches, bytes), offsets, generation, schema))),
            taken: Taken::default(),
            failed: None,
            batch_bytes: 0,
            reader: None,
            to_ack,
            acks: None,
            moves: Arc::default(),
            moved: 0,
            handed: None,
        };
        consumer.ensure_reading();
        Ok(consumer)
    }

    /// The stream's id: what tells it from another stream of the same name.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.plan.stream_id
    }

    /// The partitions that are read.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionId] {
        &self.plan.partitions
    }

    /// The next batch; none at the end of the stream. Waits up to `deadline`, or for ever.
    ///
    /// # Errors
    /// `timeout` when the deadline passed; `stream_failed`, `stream_not_found`, `stream_replaced`, `producer_lost`,
    /// `offset_gone`, `malformed_message`; `unavailable` after `retry_deadline`. Where `retry()` is not `Never`,
    /// the next call goes on reading.
    ///
    /// # Cancel safety
    /// No batch is lost.
    pub async fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Delivered>, Error> {
        if let Some(delivered) = self.hand_out() {
            return delivered.map(Some);
        }
        self.ensure_reading();
        let started = now();
        let taken = &mut self.taken;
        match self.prefetch.wait_until(deadline, |prefetch| prefetch.take(taken)).await {
            Ok(result) => self.after_take(result),
            Err(_) => Err(timeout(started)),
        }
    }

    /// The next batch if one is there already; never waits.
    ///
    /// # Errors
    /// As [`Consumer::next`], but for `timeout`: nothing there yet is `None`, and so is the end of the stream.
    pub fn try_next(&mut self) -> Result<Option<Delivered>, Error> {
        if let Some(delivered) = self.hand_out() {
            return delivered.map(Some);
        }
        self.ensure_reading();
        let taken = &mut self.taken;
        match self.prefetch.with(|prefetch| prefetch.take(taken)) {
            Some(result) => self.after_take(result),
            None => Ok(None),
        }
    }

    /// Hands out the first of what was taken.
    pub(super) fn hand_out(&mut self) -> Option<Result<Delivered, Error>> {
        if let Some(error) = &self.failed {
            return Some(Err(error.clone()));
        }
        self.follow();
        let delivered = self.taken.batches.pop_front()?.deliver();
        match &delivered {
            Ok(delivered) => {
                self.batch_bytes = delivered.bytes;
                self.note(delivered.partition, delivered.offset);
            }
            Err(error) => self.failed = Some(error.clone()),
        }
        Some(delivered)
    }

    /// Hands out the first of what was just taken, and lets the reader use the room.
    pub(super) fn after_take(&mut self, result: Result<bool, Error>) -> Result<Option<Delivered>, Error> {
        self.prefetch.wake();
        match result {
            Ok(true) => self.hand_out().transpose(),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the subscription went on elsewhere, what was taken before is of no more use.
    fn follow(&mut self) {
        let moves = self.moves.load(Acquire);
        if moves != self.moved {
            self.moved = moves;
            self.taken.follow(moves);
            self.handed = Some(Offsets::new());
        }
    }

    fn note(&mut self, partition: PartitionId, offset: Offset) {
        if let Some(handed) = &mut self.handed {
            handed.insert(partition, offset.plus(1));
        }
    }

    /// Whether there is something to hand out at once: batches, or the error that reading has ended with.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.batches.is_empty() || self.failed.is_some()
    }

    /// Hands out what was taken and what is there already, up to so many batches and about so many bytes.
    pub(super) fn hand_out_joined(&mut self, batches_max: usize, bytes_max: u64) -> Result<Vec<Joined>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.follow();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while batches.len() < batches_max && bytes < bytes_max {
            if self.taken.batches.is_empty() && !self.prefetch.with(|prefetch| prefetch.take_ready(&mut self.taken)) {
                break;
            }
            let Some(ready) = self.taken.batches.pop_front() else { break };
            bytes += ready.origin.bytes;
            self.batch_bytes = ready.origin.bytes;
            self.note(ready.origin.partition, ready.origin.offset);
            batches.push(ready);
        }
        self.prefetch.wake();
        let (joined, result) = joined(batches);
        self.failed = result.err();
        match &self.failed {
            Some(error) if joined.is_empty() => Err(error.clone()),
            _ => Ok(joined),
        }
    }

    /// The stream's schema, as soon as it has one; none if it ended without.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn schema(&mut self, deadline: Option<Instant>) -> Result<Option<SchemaRef>, Error> {
        self.ensure_reading();
        let started = now();
        match self.prefetch.wait_until(deadline, Prefetch::schema_or_end).await {
            Ok(result) => result,
            Err(_) => Err(timeout(started)),
        }
    }

    /// The subscription is done with all batches of the partition before `offset`. After a seek the next batches come from where
    /// that has put the subscription, and what was handed out before it can no longer be acked: such acks do nothing. Returns at once: acks are sent in
    /// the background, the newest for all the older ones, up to two milliseconds later where many come; and once more after
    /// the connection broke, for a coordinator that was started again may have forgotten the last ones.
    ///
    /// # Errors
    /// `invalid_argument` without a subscription; what an earlier ack was refused with.
    pub fn ack(&mut self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.follow();
        let batch_bytes = self.batch_bytes;
        let is_before = |handed: &Offsets| handed.get(&partition).is_none_or(|end| offset > *end);
        if self.handed.as_ref().is_some_and(is_before) {
            return self.acks().map(drop);
        }
        self.acks()?.ack(partition, offset, batch_bytes)
    }

    /// Waits until all acks so far are confirmed.
    ///
    /// # Errors
    /// `subscription_not_found`, `stream_replaced`, `offset_ahead`, `unavailable` after `retry_deadline`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn flush_acks(&mut self) -> Result<(), Error> {
        match &self.acks {
            Some(acks) => acks.flush().await,
            None => Ok(()),
        }
    }

    /// Flushes the acks and ends reading.
    ///
    /// # Errors
    /// As [`Consumer::flush_acks`].
    pub async fn close(mut self) -> Result<(), Error> {
        self.reader = None;
        self.flush_acks().await
    }

    /// Starts the reader's task, or starts it again after an error that allows it has been reported.
    pub(super) fn ensure_reading(&mut self) {
        if self.prefetch.with(Prefetch::start) {
            let (client, plan, to_ack) = (self.client.clone(), self.plan.clone(), self.to_ack.clone());
            let reader = Reader { client, plan, prefetch: self.prefetch.clone(), to_ack, moves: self.moves.clone() };
            let prefetch = self.prefetch.clone();
            let on_panic = move |error| prefetch.update(|prefetch| prefetch.end(Err(error)));
            self.reader = Some(OwnedTask::spawn(self.client.runtime(), reader.run(), on_panic));
        }
    }

    pub(super) fn prefetch(&self) -> &Arc<Watched<Prefetch>> {
        &self.prefetch
    }

    pub(super) fn open_acks(&self) -> Option<&Acks> {
        self.acks.as_ref()
    }

    fn acks(&mut self) -> Result<&mut Acks, Error> {
        let Some(subscription) = &self.subscription else {
            return Err(Error::invalid("this consumer reads without a subscription, so there is nothing to ack; name one when opening it"));
        };
        let (client, plan, to_ack) = (&self.client, &self.plan, &self.to_ack);
        let new = || Acks::new(client.clone(), plan.command.stream.clone(), subscription.clone(), plan.stream_id, to_ack.clone());
        Ok(self.acks.get_or_insert_with(new))
    }
}

pub(super) fn timeout(started: Instant) -> Error {
    Error::Timeout { what: "the next batch", waited: now().saturating_duration_since(started), stored: StoredState::No }
}
