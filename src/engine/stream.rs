//! A stream: the aggregate that commands change and readers look at.

mod append;
mod appenders;
mod cursors;
mod describe;
mod drain;
mod epochs;
mod leases;
mod merge;
mod overflow;
mod restore;
mod room;
mod settle;
mod shares;
mod spans;
mod starts;

pub use self::leases::Standing;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::spans::{EpochSpan, Wanted};
use super::appender::Appender;
use super::budget::Budget;
use super::epoch::Producer;
use super::limits::PARTITIONS_MAX;
use super::partition::Partition;
use super::shares::Sign;
use super::subscription::Subscription;
use super::{
    AppenderId, Batch, Command, Effects, Error, Generation, Offset, Outcome, Part, PartitionId, ProducerId, StreamId, StreamName,
    StreamOptions, SubscriptionName, Timestamp,
};

/// Whether a stream goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StreamState {
    /// It takes batches.
    #[default]
    Open,
    /// It ended in good order.
    Completed,
    /// It ended with an error.
    Failed {
        /// What went wrong.
        reason: Arc<str>,
    },
}

/// A named, schema-bound sequence of batches, split in partitions.
///
/// `D` is the caller's handle to a batch's bytes.
#[derive(Debug)]
pub struct Stream<D> {
    name: StreamName,
    id: StreamId,
    options: StreamOptions,
    /// Whether its batches go to a log, and are visible once they are durable there.
    is_durable: bool,
    /// By version.
    schemas: Vec<Arc<[u8]>>,
    state: StreamState,
    partitions: Vec<Partition<D>>,
    subscriptions: BTreeMap<SubscriptionName, Subscription>,
    producers: BTreeMap<ProducerId, Producer<D>>,
    appenders: BTreeMap<AppenderId, Appender>,
    /// Writers of all open epochs.
    writers: usize,
    /// Appenders that wait for room, by turn: first come, first served. Invariant: each is in
    /// `Progress::Waiting`, and the first one does not fit.
    waiting: BTreeMap<u64, AppenderId>,
    /// Reservations whose batch is visible as soon as it comes, so that consumers will free its room.
    passing: usize,
    /// Invariant: charged with exactly the visible batches, the staged batches and the reservations.
    budget: Budget,
    /// Whether those that wait do so until the stream has drained; counts only while somebody waits.
    draining: Option<drain::Draining>,
    next_appender: u64,
    next_turn: u64,
    next_age: u64,
    epochs_committed: u64,
    epochs_aborted: u64,
    epochs_replayed: u64,
}

impl<D: Clone> Stream<D> {
    /// An empty stream.
    ///
    /// # Errors
    /// [`Error::PartitionCount`] unless there are 1 to 4096 partitions.
    pub fn new(name: StreamName, id: StreamId, options: StreamOptions) -> Result<Self, Error> {
        let count = options.partitions;
        if count == 0 || count > PARTITIONS_MAX {
            return Err(Error::PartitionCount { asked: count, max: PARTITIONS_MAX });
        }
        Ok(Self {
            name,
            id,
            schemas: Vec::new(),
            state: StreamState::Open,
            partitions: (0..count).map(|number| Partition::new(PartitionId(number))).collect(),
            subscriptions: BTreeMap::new(),
            producers: BTreeMap::new(),
            appenders: BTreeMap::new(),
            writers: 0,
            waiting: BTreeMap::new(),
            passing: 0,
            budget: Budget::new(options.limits),
            options,
            is_durable: false,
            draining: None,
            next_appender: 0,
            next_turn: 0,
            next_age: 0,
            epochs_committed: 0,
            epochs_aborted: 0,
            epochs_replayed: 0,
        })
    }

    /// The same for a stream whose batches go to a log: they are charged against `max_disk_bytes`, and visible once
    /// [`Command::Settle`] says that they are durable.
    ///
    /// # Errors
    /// [`Error::PartitionCount`].
    pub fn durable(name: StreamName, id: StreamId, options: StreamOptions) -> Result<Self, Error> {
        Ok(Self { is_durable: true, ..Self::new(name, id, options)? })
    }

    /// Changes the stream. The effects count even where the command itself is refused: a refused append,
    /// for instance, gives its reservation to the next in line.
    pub fn apply(&mut self, command: Command<D>, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        self.apply_into(command, now, &mut effects);
        effects
    }

    /// The same into effects that are there already, whatever they are of. What a batch takes on its way in and out then
    /// allocates nothing.
    pub fn apply_into(&mut self, command: Command<D>, now: Timestamp, effects: &mut Effects) {
        effects.clear();
        effects.outcome = self.dispatch(command, now, effects);
        self.serve_waiting(now, effects);
        effects.visible.sort_unstable();
        effects.visible.dedup();
    }

    fn dispatch(&mut self, command: Command<D>, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Error> {
        match command {
            Command::AddSchema { schema } => self.add_schema(schema, effects),
            Command::OpenAppender { kind, connection } => self.open_appender(kind, connection, now, effects),
            Command::Reserve { appender, bytes } => self.reserve(appender, bytes, now, effects),
            Command::Append { appender, ordinal, partition, rows, bytes, data } => {
                self.append(appender, ordinal, partition, (rows, bytes, data), now, effects)
            }
            Command::FinishWriter { appender } => self.finish_writer(appender),
            Command::CloseAppender { appender } => self.close_appender(appender),
            Command::OpenEpoch { producer, run, epoch } => self.open_epoch(&producer, &run, epoch, now, effects),
            Command::CommitEpoch { producer, run, epoch, receipts } => self.commit_epoch(&producer, &run, epoch, &receipts, now, effects),
            Command::AbortEpoch { producer, run, epoch } => self.abort_epoch(&producer, &run, epoch, now, effects),
            Command::KeepProducer { producer, run, lease } => self.keep_producer(&producer, &run, lease, now, effects),
            Command::Subscribe { subscription, start, mode, on_overflow, sharing, query } => {
                self.subscribe(subscription, &start, (mode, on_overflow, sharing, query), now, effects)
            }
            Command::Unsubscribe { subscription } => self.unsubscribe(&subscription, now, effects),
            Command::Ack { subscription, generation, offsets } => self.ack(&subscription, generation, &offsets, now, effects),
            Command::Plan { subscription, offsets } => self.plan(&subscription, &offsets, effects),
            Command::Seek { subscription, to, dry_run } => self.seek(&subscription, &to, dry_run, now, effects),
            Command::KeepConsumer { subscription, consumer, name, lease, in_flight, terms } => {
                self.keep_consumer(&subscription, consumer, Sign { name, lease, in_flight, terms }, now, effects)
            }
            Command::ReadLeased { subscription, consumer, got } => self.read_leased(&subscription, consumer, &got, now, effects),
            Command::TakeLeased { subscription, consumer, reading, most } => {
                self.take_leased(&subscription, consumer, reading, most, now, effects)
            }
            Command::AckLeased { subscription, acks } => self.ack_leased(&subscription, &acks, now, effects),
            Command::UpdateLeases { subscription, updates, resumes, pauses } => {
                self.update_leases(&subscription, &updates, (resumes, pauses), now, effects)
            }
            Command::SaveShares { subscription } => self.save_shares(subscription, effects),
            Command::Bury { subscription, created_at, number } => self.bury(&subscription, (created_at, number), now, effects),
            Command::GiveBack { subscription, from } => self.give_back(&subscription, &from, now, effects),
            Command::Complete => self.end(StreamState::Completed, effects),
            Command::Fail { reason } => self.end(StreamState::Failed { reason }, effects),
            Command::Tick => {
                self.drop_retained(now, effects);
                self.expire_consumers(now, effects);
                self.expire_shares(now, effects);
                self.end_stalled_drain(now);
                self.serve_waiting(now, effects);
                self.expire_waits(now, effects);
                Ok(self.expire_producers(now, effects))
            }
            Command::Settle { batches, bytes, durable } => self.settle(batches, bytes, &durable, now, effects),
        }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// What tells it from another stream of the same name.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether its batches go to a log.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// Its encoded schema messages, by version; none while no producer has given one.
    #[must_use]
    pub fn schemas(&self) -> &[Arc<[u8]>] {
        &self.schemas
    }

    /// Whether it goes on.
    #[must_use]
    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// A producer that was lost, if there is one.
    #[must_use]
    pub fn lost_producer(&self) -> Option<&ProducerId> {
        self.producers.iter().find(|(_, producer)| producer.lost).map(|(id, _)| id)
    }

    /// The visible range `[start, end)` of a partition.
    ///
    /// # Errors
    /// [`Error::PartitionOutOfRange`].
    pub fn range(&self, partition: PartitionId) -> Result<(Offset, Offset), Error> {
        let partition = self.partition(partition)?;
        Ok((partition.start(), partition.visible_end()))
    }

    /// Visible batches from `from` on, in order: at most `batches_max` of them, and of at most `bytes_max`
    /// bytes together, but for the first, which is always there if it is visible.
    ///
    /// # Errors
    /// [`Error::OffsetGone`], [`Error::OffsetAhead`], [`Error::PartitionOutOfRange`].
    pub fn read(&self, partition: PartitionId, from: Offset, batches_max: usize, bytes_max: u64) -> Result<Vec<Batch<D>>, Error> {
        let partition = self.partition(partition)?;
        partition.check_kept(from)?;
        let mut batches = Vec::new();
        let mut bytes: u64 = 0;
        let mut next = from;
        while let Some(batch) = partition.get(next).filter(|_| batches.len() < batches_max) {
            bytes = bytes.saturating_add(batch.facts.bytes);
            if bytes > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(batch.clone());
            next = next.plus(1);
        }
        Ok(batches)
    }

    /// Where a subscription goes on reading in a partition: one past its last acked batch.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::PartitionOutOfRange`].
    pub fn cursor(&self, subscription: &SubscriptionName, partition: PartitionId) -> Result<Offset, Error> {
        self.partition(partition)?;
        Ok(self.subscription(subscription)?.cursors[partition.index()].acked)
    }

    /// Which of a subscription's cursors count.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn generation(&self, subscription: &SubscriptionName) -> Result<Generation, Error> {
        Ok(self.subscription(subscription)?.generation)
    }

    /// Refuses who reads or acks for cursors that are of no more use.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::SubscriptionMoved`], [`Error::SubscriptionEvicted`].
    pub fn check_generation(&self, subscription: &SubscriptionName, asked: Generation) -> Result<(), Error> {
        self.check_not_evicted(subscription)?;
        let current = self.generation(subscription)?;
        if asked == current { Ok(()) } else { Err(Error::SubscriptionMoved { subscription: subscription.clone(), asked, current }) }
    }

    fn partition(&self, partition: PartitionId) -> Result<&Partition<D>, Error> {
        let partitions = self.options.partitions;
        self.partitions.get(partition.index()).ok_or(Error::PartitionOutOfRange { partition, partitions })
    }

    fn subscription(&self, name: &SubscriptionName) -> Result<&Subscription, Error> {
        self.subscriptions.get(name).ok_or_else(|| Error::SubscriptionNotFound { subscription: name.clone() })
    }

    /// Takes note of what a restart has to find as it is now.
    fn touch(&self, part: Part, effects: &mut Effects) {
        if self.is_durable {
            effects.touched.push(part);
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        match &self.state {
            StreamState::Open => Ok(()),
            StreamState::Completed => Err(Error::StreamCompleted),
            StreamState::Failed { reason } => Err(Error::StreamFailed { reason: reason.clone() }),
        }
    }

    fn add_schema(&mut self, schema: Arc<[u8]>, effects: &mut Effects) -> Result<Outcome, Error> {
        self.check_open()?;
        if !self.schemas.contains(&schema) {
            self.schemas.push(schema);
            effects.changed = true;
            self.touch(Part::Stream, effects);
        }
        Ok(Outcome::Done)
    }

    /// Ends the stream. Ending it the same way again changes nothing; staged data of open epochs is dropped,
    /// since nothing can commit it any more.
    fn end(&mut self, state: StreamState, effects: &mut Effects) -> Result<Outcome, Error> {
        if self.state == state {
            return Ok(Outcome::Done);
        }
        self.check_open()?;
        self.state = state;
        effects.changed = true;
        self.touch(Part::Stream, effects);
        let epochs: Vec<_> = self.producers.values_mut().flat_map(|producer| std::mem::take(&mut producer.epochs)).collect();
        self.abort_epochs(epochs.into_iter().map(|(_, epoch)| epoch), effects);
        Ok(Outcome::Done)
    }
}
