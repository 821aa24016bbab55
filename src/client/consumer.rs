//! A consumer: reads a stream's batches in order, ahead of the caller, and acks what the caller is done with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use parking_lot::Mutex;

use super::acker::Acker;
use super::acks::{Acks, Pending};
use super::delivered::Delivered;
use super::feed::{Feed, Step};
use super::handed_out::HandedOut;
use super::in_flight::{Held, InFlight};
use super::membership::Kept;
use super::plan::{self, ReadPlan, Starts};
use super::prefetch::Prefetch;
use super::reader::Reader;
use super::ready::{Joined, joined};
use super::retry::now;
use super::shares::Shares;
use super::sizing::Target;
use super::task::OwnedTask;
use super::updates::Updates;
use super::watched::Watched;
use super::{Client, ConsumerOptions, Error};
use crate::engine::{Generation, LeaseId, Offset, PartitionId, StoredState, StreamId};

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
    prefetch: Arc<Watched<Prefetch>>,
    pub(super) feed: Feed,
    /// Met a batch that cannot be decoded: reading ends there.
    failed: Option<(Error, Option<Generation>)>,
    reader: Option<OwnedTask>,
    /// What is to be acked. With the reader, which knows when the coordinator may have forgotten some.
    to_ack: Arc<Watched<Pending>>,
    acker: Acker,
    in_flight: Arc<Mutex<InFlight>>,
    /// Where the subscription goes on now.
    current: Arc<AtomicU64>,
    membership: Option<Kept>,
}

impl Consumer {
    pub(super) async fn open(client: Client, stream: &str, options: ConsumerOptions) -> Result<Self, Error> {
        options.check()?;
        let subscription = options.subscription.clone();
        let (batches, bytes) = (options.prefetch_batches, options.prefetch_bytes);
        let target = Target::new(options.target_rows, options.target_bytes, options.linger, options.prefetch_bytes);
        let in_flight = (options.max_in_flight_batches, options.max_in_flight_bytes);
        let (plan, Starts { offsets, generation, .. }, schema) = plan::plan(&client, stream, options).await?;
        let to_ack = Arc::new(Watched::new(Pending::new(plan.acks_urgent, generation)));
        let prefetch = Arc::new(Watched::new(Prefetch::new((batches, bytes), offsets, generation, schema)));
        let sharing = plan.membership.as_ref().and_then(|membership| Some((membership.sharing.as_ref()?, membership.most())));
        let updates = sharing.map(|(_, most)| Arc::new(Watched::new(Updates::new(most))));
        if let (Some((terms, _)), Some(updates)) = (sharing, &updates) {
            prefetch.update(|prefetch| prefetch.shares = Some(Shares::new(terms, updates.clone())));
        }
        let leased = plan.membership.as_ref().filter(|_| updates.is_none()).map(|_| HandedOut::default());
        let (is_counted, in_flight) = if updates.is_some() { (false, (None, None)) } else { (subscription.is_some(), in_flight) };
        let in_flight = InFlight::new(is_counted, plan.command.by_epoch, in_flight, generation, leased);
        let in_flight = Arc::new(Mutex::new(in_flight));
        let (of, watched) = ((plan.command.stream.as_str(), plan.stream_id), prefetch.clone());
        let mut consumer = Self {
            feed: Feed::new(target, in_flight.clone()),
            failed: None,
            reader: None,
            acker: Acker::new(client.clone(), of, subscription, in_flight.clone(), watched, (to_ack.clone(), updates.clone())),
            client,
            plan: Arc::new(plan),
            prefetch,
            to_ack,
            in_flight,
            current: Arc::new(AtomicU64::new(as_number(generation))),
            membership: None,
        };
        if let Some(membership) = consumer.plan.membership.clone() {
            let kept = membership.join(&consumer.client, consumer.prefetch.clone(), updates).await?;
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
            Some(_) => {
                self.prefetch.with(|prefetch| prefetch.shares.as_ref().map_or_else(|| prefetch.leases.partitions(), Shares::partitions))
            }
            None => self.plan.partitions.clone(),
        }
    }

    /// The next batch; none at the end of the stream. Waits up to `deadline`, or for ever. None, too, if the stream has ended and
    /// nothing more comes to who shares by leases before it acks what it holds: unless it [`has_ended`](Self::has_ended), ask again then.
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
            let due = self.feed.due();
            let until = due.map(|due| deadline.map_or(due, |deadline| deadline.min(due))).or(deadline);
            let feed = &mut self.feed;
            match self.prefetch.wait_until(until, |prefetch| feed.step(prefetch, due)).await {
                // A seek may come in between, and there is nothing again.
                Ok(Ok(Step::Ready)) => self.prefetch.wake(),
                Ok(Ok(Step::Lingers)) => {}
                Ok(Ok(Step::End)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) if due.is_some() => self.feed.stop_lingering(),
                Err(_) => return Err(self.timeout(now().saturating_duration_since(started))),
            }
        }
    }

    /// Whether reading has ended for good, with an error or without, and nothing is left of what was read ahead.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.feed.has_nothing() && self.prefetch.with(|prefetch| prefetch.has_ended())
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
        let due = self.feed.due();
        if due.is_some_and(|due| due <= now()) {
            self.feed.stop_lingering();
        }
        let feed = &mut self.feed;
        match self.prefetch.with(|prefetch| feed.step(prefetch, due)) {
            Some(Ok(Step::Ready)) => {
                self.prefetch.wake();
                self.hand_out().transpose()
            }
            Some(Err(error)) => Err(error),
            Some(Ok(Step::Lingers | Step::End)) | None => Ok(None),
        }
    }

    /// Hands out the first of what was taken, if that is not of before a seek, and if it need not wait for acks.
    pub(super) fn hand_out(&mut self) -> Option<Result<Delivered, Error>> {
        self.follow();
        if let Some((error, _)) = &self.failed {
            return Some(Err(error.clone()));
        }
        self.drop_lost();
        let (ready, unacked) = self.feed.pop()?;
        let delivered = ready.deliver(unacked);
        if let Err(error) = &delivered {
            self.failed = Some((error.clone(), self.feed.generation()));
        }
        Some(delivered)
    }

    /// Where the subscription went on elsewhere, what was taken before is of no more use, nor where reading had failed.
    fn follow(&mut self) {
        let current = self.current.load(Acquire);
        if current != as_number(self.feed.generation()) {
            self.feed.clear();
        }
        if self.failed.as_ref().is_some_and(|(_, of)| current != as_number(*of)) {
            self.failed = None;
        }
    }

    /// What came by a lease that is lost since comes again, to whoever has the partition now.
    fn drop_lost(&mut self) {
        if self.feed.is_leased() {
            self.prefetch.with(|prefetch| self.feed.drop_lost(prefetch));
        }
    }

    /// Which of the subscription's cursors the batches were read for that were handed out last: another one after a seek.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.in_flight.lock().generation()
    }

    /// Whether there is something to hand out at once: batches, or the error that reading has ended with.
    pub(super) fn has_taken(&self) -> bool {
        self.failed.is_some() || (self.feed.has_next() && !self.feed.is_full())
    }

    /// Hands out what was taken and what is there already, up to so many batches and about so many bytes.
    pub(super) fn hand_out_joined(&mut self, batches_max: usize, bytes_max: u64) -> Result<Vec<Joined>, Error> {
        self.follow();
        if let Some((error, _)) = &self.failed {
            return Err(error.clone());
        }
        let (mut batches, mut bytes, mut of) = (Vec::new(), 0, None);
        // What is not with the caller can go to others.
        let batches_max = if self.acker.is_shared() { 1 } else { batches_max };
        while batches.len() < batches_max && bytes < bytes_max {
            let feed = &mut self.feed;
            if !feed.has_next() && !self.prefetch.with(|prefetch| feed.fill(prefetch)) {
                break;
            }
            if *of.get_or_insert(feed.generation()) != feed.generation() {
                break;
            }
            self.drop_lost();
            let Some((ready, _)) = self.feed.pop() else { break };
            bytes += ready.origin.bytes;
            batches.push(ready);
        }
        self.prefetch.wake();
        let generation = self.generation();
        let (joined, result) = joined(batches);
        self.failed = result.err().map(|error| (error, generation));
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
            Err(_) => Err(no_batch(now().saturating_duration_since(started))),
        }
    }

    /// The subscription is done with all batches of the partition before `offset`. Returns at once: acks are sent in
    /// the background, the newest for all the older ones, up to two milliseconds later where many come; and once more after
    /// the connection broke, for a coordinator that was started again may have forgotten the last ones.
    ///
    /// A batch that was cut is acked with its last part: ack [`Delivered::ack_offset`]. Its parts count as in flight until then,
    /// unless they are acked by [`Acker::ack_through`] or [`Acker::ack_one`].
    ///
    /// A seek overrules what was acked, and what is acked of batches that were handed out before it does nothing. Once those
    /// behind it are handed out, from where it has put the subscription, they are acked by their offsets.
    ///
    /// # Errors
    /// `invalid_argument` without a subscription; what an earlier ack was refused with.
    pub fn ack(&mut self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.acker.ack(partition, offset)
    }

    /// The same for batches that came by this lease ([`Delivered::lease`]). One that was lost since acks nothing, and
    /// [`flush_acks`](Consumer::flush_acks) says so.
    ///
    /// # Errors
    /// As [`Consumer::ack`].
    pub fn ack_by(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        self.acker.ack_by(partition, offset, lease)
    }

    /// Acks batches from elsewhere, and one by one: for who works on several at a time.
    #[must_use]
    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }

    /// Waits until all acks so far are confirmed.
    ///
    /// # Errors
    /// `subscription_not_found`, `stream_replaced`, `offset_ahead`, `unavailable` after `retry_deadline`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn flush_acks(&mut self) -> Result<(), Error> {
        self.acker.flush().await
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

    pub(super) fn updates(&self) -> Option<&Arc<Watched<Updates>>> {
        self.acker.updates()
    }

    pub(super) fn open_acks(&self) -> Option<&Acks> {
        self.acker.open_acks()
    }

    /// Why there was no next batch in time.
    pub(super) fn timeout(&self, waited: Duration) -> Error {
        if !self.feed.is_full() {
            return no_batch(waited);
        }
        let Held { batches, bytes, batches_max, bytes_max } = self.in_flight.lock().held();
        Error::InFlight { waited, batches, bytes, batches_max, bytes_max }
    }
}

/// 0 for none.
fn as_number(generation: Option<Generation>) -> u64 {
    generation.map_or(0, |generation| generation.0)
}

fn no_batch(waited: Duration) -> Error {
    Error::Timeout { what: "the next batch", waited, stored: StoredState::No }
}
