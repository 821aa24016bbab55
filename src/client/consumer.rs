//! A consumer: reads a stream's batches in order, ahead of the caller, and acks what the caller is done with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::acks::{Acks, Pending};
use super::handed_out::HandedOut;
use super::membership::Kept;
use super::options::Offsets;
use super::plan::{self, ReadPlan, Starts};
use super::prefetch::{Prefetch, Taken};
use super::reader::Reader;
use super::ready::{Joined, Ready, joined};
use super::retry::now;
use super::task::OwnedTask;
use super::watched::Watched;
use super::{Client, ConsumerOptions, Error};
use crate::engine::{Epoch, Generation, LeaseId, Offset, PartitionId, StoredState, StreamId, Timestamp};

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
    /// The lease by which it came, of a consumer that shares its subscription by leases.
    pub lease: Option<LeaseId>,
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
    failed: Option<(Error, Option<Generation>)>,
    /// Of the batch that was handed out last: acks go by it.
    batch_bytes: u64,
    reader: Option<OwnedTask>,
    /// What is to be acked. With the reader, which knows when the coordinator may have forgotten some.
    to_ack: Arc<Watched<Pending>>,
    acks: Option<Acks>,
    /// Where the subscription goes on now, and what the batch was read for that was handed out last.
    current: Arc<AtomicU64>,
    generation: Option<Generation>,
    /// After a seek, one past the last batch handed out since, of each partition: more is not the caller's to ack.
    handed: Option<Offsets>,
    /// What was handed out by leases.
    leased: HandedOut,
    membership: Option<Kept>,
}

impl Consumer {
    pub(super) async fn open(client: Client, stream: &str, options: ConsumerOptions) -> Result<Self, Error> {
        let subscription = options.subscription.clone();
        let (batches, bytes) = (options.prefetch_batches, options.prefetch_bytes);
        let (plan, Starts { offsets, generation, .. }, schema) = plan::plan(&client, stream, options).await?;
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
            current: Arc::new(AtomicU64::new(as_number(generation))),
            generation,
            handed: None,
            leased: HandedOut::default(),
            membership: None,
        };
        if let Some(membership) = consumer.plan.membership.clone() {
            let kept = membership.join(&consumer.client, consumer.prefetch.clone()).await?;
            consumer.membership = Some(kept);
        }
        consumer.ensure_reading();
        Ok(consumer)
    }

    /// The stream's id: what tells it from another stream of the same name.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.plan.stream_id
    }

    /// The partitions that are read: those of which something has come, if they are leased.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        match self.plan.membership {
            Some(_) => self.prefetch.with(|prefetch| prefetch.leases.partitions()),
            None => self.plan.partitions.clone(),
        }
    }

    /// Whether something that was handed out by a lease is not acked.
    pub(super) fn has_unacked(&self) -> bool {
        self.leased.has_unacked()
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
        let started = now();
        loop {
            if let Some(delivered) = self.hand_out() {
                return delivered.map(Some);
            }
            self.ensure_reading();
            let has_unacked = self.has_unacked();
            let taken = &mut self.taken;
            match self.prefetch.wait_until(deadline, |prefetch| prefetch.take(taken, has_unacked)).await {
                // A seek may come in between, and there is nothing again.
                Ok(Ok(true)) => self.prefetch.wake(),
                Ok(Ok(false)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(timeout(started)),
            }
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
        let has_unacked = self.has_unacked();
        let taken = &mut self.taken;
        match self.prefetch.with(|prefetch| prefetch.take(taken, has_unacked)) {
            Some(Ok(true)) => {
                self.prefetch.wake();
                self.hand_out().transpose()
            }
            Some(Err(error)) => Err(error),
            Some(Ok(false)) | None => Ok(None),
        }
    }

    /// Hands out the first of what was taken, if that is not of before a seek.
    pub(super) fn hand_out(&mut self) -> Option<Result<Delivered, Error>> {
        self.follow();
        if let Some((error, _)) = &self.failed {
            return Some(Err(error.clone()));
        }
        let delivered = self.pop_taken()?.deliver();
        match &delivered {
            Ok(delivered) => {
                self.batch_bytes = delivered.bytes;
                self.note(delivered.partition, delivered.offset, delivered.lease);
            }
            Err(error) => self.failed = Some((error.clone(), self.taken.generation)),
        }
        Some(delivered)
    }

    /// Where the subscription went on elsewhere, what was taken before is of no more use, nor where reading had failed.
    fn follow(&mut self) {
        let current = self.current.load(Acquire);
        if current != as_number(self.taken.generation) {
            self.taken.batches.clear();
        }
        if self.failed.as_ref().is_some_and(|(_, of)| current != as_number(*of)) {
            self.failed = None;
        }
    }

    /// The next of what was taken. What came by a lease that is lost since comes again, to whoever has the partition now.
    fn pop_taken(&mut self) -> Option<Ready> {
        loop {
            let ready = self.taken.batches.pop_front()?;
            let Some(lease) = ready.origin.lease else { return Some(ready) };
            if self.prefetch.with(|prefetch| prefetch.leases.holds(ready.origin.partition, lease)) {
                return Some(ready);
            }
        }
    }

    /// A batch is about to be the caller's.
    fn note(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) {
        self.leased.note(partition, offset, lease);
        if self.generation != self.taken.generation {
            self.generation = self.taken.generation;
            self.handed = Some(Offsets::new());
        }
        if let Some(handed) = &mut self.handed {
            handed.insert(partition, offset.plus(1));
        }
    }

    /// Which of the subscription's cursors the batches were read for that were handed out last: another one after a seek.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Whether there is something to hand out at once: batches, or the error that reading has ended with.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.batches.is_empty() || self.failed.is_some()
    }

    /// Hands out what was taken and what is there already, up to so many batches and about so many bytes.
    pub(super) fn hand_out_joined(&mut self, batches_max: usize, bytes_max: u64) -> Result<Vec<Joined>, Error> {
        self.follow();
        if let Some((error, _)) = &self.failed {
            return Err(error.clone());
        }
        let (mut batches, mut bytes, mut of) = (Vec::new(), 0, None);
        while batches.len() < batches_max && bytes < bytes_max {
            if self.taken.batches.is_empty() && !self.prefetch.with(|prefetch| prefetch.take_ready(&mut self.taken)) {
                break;
            }
            if *of.get_or_insert(self.taken.generation) != self.taken.generation {
                break;
            }
            let Some(ready) = self.pop_taken() else { break };
            bytes += ready.origin.bytes;
            self.batch_bytes = ready.origin.bytes;
            self.note(ready.origin.partition, ready.origin.offset, ready.origin.lease);
            batches.push(ready);
        }
        self.prefetch.wake();
        let (joined, result) = joined(batches);
        self.failed = result.err().map(|error| (error, self.generation));
        match &self.failed {
            Some((error, _)) if joined.is_empty() => Err(error.clone()),
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

    /// The subscription is done with all batches of the partition before `offset`. Returns at once: acks are sent in
    /// the background, the newest for all the older ones, up to two milliseconds later where many come; and once more after
    /// the connection broke, for a coordinator that was started again may have forgotten the last ones.
    ///
    /// A seek overrules what was acked, and what is acked of batches that were handed out before it does nothing. Once those
    /// behind it are handed out, from where it has put the subscription, they are acked by their offsets.
    ///
    /// # Errors
    /// `invalid_argument` without a subscription; what an earlier ack was refused with.
    pub fn ack(&mut self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.ack_by(partition, offset, self.leased.lease(partition))
    }

    /// The same for batches that came by this lease ([`Delivered::lease`]). One that was lost since acks nothing, and
    /// [`flush_acks`](Consumer::flush_acks) says so.
    ///
    /// # Errors
    /// As [`Consumer::ack`].
    pub fn ack_by(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        if self.plan.membership.is_some() {
            return self.ack_leased(partition, offset, lease);
        }
        let (batch_bytes, of) = (self.batch_bytes, self.generation);
        let is_before = |handed: &Offsets| handed.get(&partition).is_none_or(|end| offset > *end);
        if self.handed.as_ref().is_some_and(is_before) {
            return self.acks().map(drop);
        }
        self.acks()?.ack(of, (partition, None), offset, batch_bytes)
    }

    fn ack_leased(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        let batch_bytes = self.batch_bytes;
        if !self.leased.ack(partition, offset, lease) {
            return self.acks().map(drop);
        }
        self.acks()?.ack(None, (partition, lease), offset, batch_bytes)
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
        let flushed = self.flush_acks().await;
        self.membership = None;
        flushed
    }

    /// Ends as the crash of its process would: nobody is told. For simulations.
    #[doc(hidden)]
    pub fn crash(mut self) {
        self.membership.take().into_iter().for_each(Kept::crash);
    }

    /// Starts the reader's task, or starts it again after an error that allows it has been reported.
    pub(super) fn ensure_reading(&mut self) {
        if self.prefetch.with(Prefetch::start) {
            let (client, plan, to_ack) = (self.client.clone(), self.plan.clone(), self.to_ack.clone());
            let reader = Reader { client, plan, prefetch: self.prefetch.clone(), to_ack, generation: self.current.clone() };
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

/// 0 for none: the coordinator gives none, or there is no subscription.
fn as_number(generation: Option<Generation>) -> u64 {
    generation.map_or(0, |generation| generation.0)
}

pub(super) fn timeout(started: Instant) -> Error {
    Error::Timeout { what: "the next batch", waited: now().saturating_duration_since(started), stored: StoredState::No }
}
