//! A stream in the server: the engine's stream behind a lock, and those who wait for it.

mod appender;
mod commit;
mod leases;
mod readers;
mod schemas;
mod shares;
mod starts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub(super) use self::appender::Appender;
pub(super) use self::commit::NamedWriter;
pub(super) use self::leases::{ConsumerWatch, Leased, LeasedReader, SignOfLife};
use self::readers::Reader;
pub(super) use self::readers::{ConsumerView, ReaderName, Watch};
use self::shares::Burial;
pub(super) use self::starts::Look;
use super::clock::Clock;
use super::counters::StreamCounters;
use super::dictionaries::DictionaryRoom;
use super::error::Error;
use super::log::{LogState, Pending, is_in_memory, is_late};
use super::queries::Queries;
use crate::engine::{
    AppenderId, AppenderKind, Batch, Command, Connection, ConsumerId, Effects, Error as EngineError, Offset, OnOverflow, Outcome,
    PartitionId, Place, Stream, StreamId, StreamName, StreamOptions, StreamSnapshot, StreamState, StreamTotals, StreamView,
    SubscriptionName, Timestamp,
};
use crate::storage::StoredBatch;
use crate::storage::log::Cache;
use crate::wire::evolution::SchemaVersions;

/// What a wait for room ends with.
type Grant = Result<Place, EngineError>;

/// A stream and its waiters. Cheap to share by `Arc`.
#[derive(Debug)]
pub struct StreamCell {
    name: StreamName,
    id: StreamId,
    options: StreamOptions,
    clock: Arc<dyn Clock>,
    counters: StreamCounters,
    dictionaries: DictionaryRoom,
    /// The partition of the next batch that names none, before the modulo.
    round_robin: AtomicU32,
    inner: Mutex<Inner>,
    /// Who reads now, in the order in which they came.
    readers: Mutex<Vec<Arc<Reader>>>,
    /// Why dead letters cannot be written, of the subscriptions whose cannot.
    burials: Mutex<BTreeMap<SubscriptionName, Burial>>,
    /// What its subscriptions ask of each batch.
    queries: Queries,
    /// Of a durable stream.
    log: Option<Arc<LogState>>,
}

/// Everything under the lock. Invariant: whoever the engine calls waiting has an entry in `waiting`, put
/// there before the lock was let go.
#[derive(Debug)]
struct Inner {
    stream: Stream<StoredBatch>,
    /// The versions of the stream's schema, each parsed once.
    schemas: SchemaVersions,
    waiting: BTreeMap<AppenderId, oneshot::Sender<Grant>>,
    /// Per partition, the readers that are to be woken.
    readers: Vec<Vec<Arc<Notify>>>,
    /// Those who read by leases, to be woken for their own sake: always in one order, which says who is given what.
    consumers: BTreeMap<ConsumerId, Arc<Notify>>,
    /// Those who wait for changes and for no batches.
    watchers: Vec<Arc<Notify>>,
    /// Of the last command: their memory is used again.
    effects: Effects,
    /// Of a durable stream.
    pending: Option<Pending>,
}

impl StreamCell {
    pub(super) fn new(name: StreamName, id: StreamId, options: StreamOptions, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let schemas = SchemaVersions::new(options.schema_policy);
        Ok(Self::of(Stream::new(name, id, options)?, schemas, clock))
    }

    /// A new stream that has a log.
    pub(super) fn with_log(name: StreamName, id: StreamId, options: StreamOptions, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let schemas = SchemaVersions::new(options.schema_policy);
        let cell = Self::of(Stream::durable(name, id, options)?, schemas, clock);
        cell.inner.lock().pending.iter_mut().for_each(Pending::create);
        cell.log.iter().for_each(|log| log.work.notify_one());
        Ok(cell)
    }

    /// A durable stream that a restart has found.
    pub(super) fn restored(
        name: StreamName,
        id: StreamId,
        snapshot: StreamSnapshot<StoredBatch>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let now = clock.now();
        let producers: Vec<_> = snapshot.producers.iter().map(|(producer, _)| producer.clone()).collect();
        let schemas = SchemaVersions::restore(snapshot.options.schema_policy, &snapshot.schemas)?;
        let cell = Self::of(Stream::restore(name, id, snapshot, now)?, schemas, clock);
        cell.inner.lock().pending.iter_mut().for_each(|pending| pending.restored(producers.iter().cloned()));
        Ok(cell)
    }

    fn of(stream: Stream<StoredBatch>, schemas: SchemaVersions, clock: Arc<dyn Clock>) -> Self {
        let (name, id, options) = (stream.name().clone(), stream.id(), stream.options().clone());
        let partitions = options.partitions as usize;
        let limits = options.limits;
        let log = stream.is_durable().then(|| Arc::new(LogState::new(Cache::new(limits.max_buffered_batches, limits.max_buffered_bytes))));
        let ends = (0..options.partitions).map(|partition| stream.log_end(PartitionId(partition)).unwrap_or_default());
        let pending = log.is_some().then(|| Pending::new(ends.collect()));
        let inner = Inner {
            stream,
            schemas,
            waiting: BTreeMap::new(),
            readers: vec![Vec::new(); partitions],
            consumers: BTreeMap::new(),
            watchers: Vec::new(),
            effects: Effects::default(),
            pending,
        };
        Self {
            name,
            id,
            dictionaries: DictionaryRoom::new(limits.max_buffered_bytes),
            options,
            clock,
            counters: StreamCounters::new(partitions),
            round_robin: AtomicU32::new(0),
            inner: Mutex::new(inner),
            readers: Mutex::default(),
            burials: Mutex::default(),
            queries: Queries::default(),
            log,
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

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// The account of its dictionaries.
    pub(super) fn dictionaries(&self) -> &DictionaryRoom {
        &self.dictionaries
    }

    /// What it shares with its log's task, if it is durable.
    pub(super) fn log(&self) -> Option<&Arc<LogState>> {
        self.log.as_ref()
    }

    /// Looks at what its log has to do, together with the stream; none if it is not durable.
    pub(super) fn pending<T>(&self, look: impl FnOnce(&mut Pending, &Stream<StoredBatch>) -> T) -> Option<T> {
        let mut inner = self.inner.lock();
        let Inner { pending, stream, .. } = &mut *inner;
        Some(look(pending.as_mut()?, stream))
    }

    /// Its totals.
    #[must_use]
    pub fn counters(&self) -> &StreamCounters {
        &self.counters
    }

    /// Refuses a caller that means another stream of the same name.
    ///
    /// # Errors
    /// `stream_replaced`.
    pub fn check_id(&self, expected: Option<StreamId>) -> Result<(), Error> {
        match expected {
            Some(id) if id != self.id => Err(Error::StreamReplaced { stream: self.name.clone() }),
            _ => Ok(()),
        }
    }

    /// Applies a command and wakes whom it concerns.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn apply(&self, command: Command<StoredBatch>) -> Result<Outcome, Error> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        self.apply_locked(&mut inner, command, now)
    }

    fn apply_locked(&self, inner: &mut Inner, command: Command<StoredBatch>, now: Timestamp) -> Result<Outcome, Error> {
        if let Some(log) = &self.log
            && !is_in_memory(&command)
        {
            log.check()?;
        }
        let is_late = is_late(&command);
        let mut effects = std::mem::take(&mut inner.effects);
        inner.stream.apply_into(command, now, &mut effects);
        if let (Some(log), Some(pending)) = (&self.log, &mut inner.pending) {
            if !effects.touched.is_empty() {
                pending.touch(is_late, &mut effects);
                log.work.notify_one();
            }
            log.cache.make_room(inner.stream.unwritten_bytes());
        }
        self.counters.count_dropped(effects.dropped_batches);
        inner.wake(&effects);
        let outcome = std::mem::replace(&mut effects.outcome, Ok(Outcome::Done));
        inner.effects = effects;
        Ok(outcome?)
    }

    /// Whether the stream goes on.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.inner.lock().stream.state().clone()
    }

    /// The whole stream as plain data.
    #[must_use]
    pub fn describe(&self) -> StreamView {
        let now = self.clock.now();
        let mut view = self.inner.lock().stream.describe(now);
        if let Some(log) = &self.log {
            let (batches, bytes) = log.cache.used();
            view.buffered_batches += batches;
            view.buffered_bytes += bytes;
        }
        view
    }

    /// What it has taken in so far, and holds.
    #[must_use]
    pub fn totals(&self) -> StreamTotals {
        let mut totals = self.inner.lock().stream.totals();
        totals.buffered_bytes += self.log.as_ref().map_or(0, |log| log.cache.used().1);
        totals
    }

    /// The visible range `[start, end)` of a partition.
    ///
    /// # Errors
    /// `partition_out_of_range`.
    pub fn range(&self, partition: PartitionId) -> Result<(Offset, Offset), Error> {
        Ok(self.inner.lock().stream.range(partition)?)
    }

    /// Where a subscription goes on reading in a partition.
    ///
    /// # Errors
    /// `subscription_not_found`, `partition_out_of_range`.
    pub fn cursor(&self, subscription: &SubscriptionName, partition: PartitionId) -> Result<Offset, Error> {
        Ok(self.inner.lock().stream.cursor(subscription, partition)?)
    }

    /// The same, and how many batches were dropped directly before.
    ///
    /// # Errors
    /// `subscription_not_found`, `partition_out_of_range`.
    pub(super) fn place(&self, subscription: &SubscriptionName, partition: PartitionId) -> Result<(Offset, u64), Error> {
        let inner = self.inner.lock();
        Ok((inner.stream.cursor(subscription, partition)?, inner.stream.gap(subscription, partition)?))
    }

    /// Whether a subscription's batches may be dropped under it, for itself alone.
    pub(super) fn may_skip(&self, subscription: &SubscriptionName) -> bool {
        self.inner.lock().stream.on_overflow(subscription) == Ok(OnOverflow::Skip)
    }

    /// See [`Stream::read`].
    ///
    /// # Errors
    /// `offset_gone`, `offset_ahead`, `partition_out_of_range`.
    pub(super) fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        batches_max: usize,
        bytes_max: u64,
    ) -> Result<Vec<Batch<StoredBatch>>, Error> {
        Ok(self.inner.lock().stream.read(partition, from, batches_max, bytes_max)?)
    }

    /// Each partition in turn, for batches that name none.
    pub(super) fn next_partition(&self) -> PartitionId {
        PartitionId(self.round_robin.fetch_add(1, Relaxed) % self.options.partitions)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Opens an appender; it closes when the guard is dropped.
    pub(super) fn open_appender(self: &Arc<Self>, kind: AppenderKind, connection: Option<Connection>) -> Result<(Appender, u64), Error> {
        match self.apply(Command::OpenAppender { kind: kind.clone(), connection })? {
            Outcome::Opened { appender, next_ordinal } => {
                self.counters.appender_opened();
                Ok((Appender { cell: self.clone(), id: appender, kind }, next_ordinal))
            }
            other => Err(Error::unexpected(&other)),
        }
    }

    /// Ends the stream and drops what is in it, also while readers and appenders still hold the cell: one that
    /// stands still would keep all of it.
    pub(super) fn delete(&self) {
        let fail = || Command::Fail { reason: "the stream was deleted".into() };
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        // One that has ended already needs no telling.
        let mut effects = std::mem::take(&mut inner.effects);
        inner.stream.apply_into(fail(), now, &mut effects);
        inner.wake(&effects);
        inner.effects = effects;
        let Ok(mut empty) = Stream::new(self.name.clone(), self.id, self.options.clone()) else { return };
        let failed = empty.apply(fail(), now).outcome;
        debug_assert!(failed.is_ok(), "a new stream is open");
        let full = std::mem::replace(&mut inner.stream, empty);
        if let (Some(pending), Some(log)) = (&mut inner.pending, &self.log) {
            pending.delete();
            log.work.notify_one();
        }
        drop(inner);
        drop(full);
    }

    /// Ends all waits for room: who waits looks at the log then.
    pub(super) fn end_waits(&self) {
        self.inner.lock().waiting.clear();
    }

    /// Wakes all readers, to see that the server is shutting down.
    pub(super) fn wake_all(&self) {
        self.inner.lock().wake_readers();
    }
}

impl Inner {
    /// Tells those whom the effects name.
    fn wake(&mut self, effects: &Effects) {
        for (appender, place) in &effects.granted {
            self.end_wait(*appender, Ok(*place));
        }
        for (appender, error) in &effects.refused {
            self.end_wait(*appender, Err(error.clone()));
        }
        for subscription in &effects.evicted {
            tracing::warn!(stream = %self.stream.name(), %subscription, "evicted: it held the room that an append needed");
        }
        for partition in &effects.visible {
            self.readers[partition.index()].iter().for_each(|reader| reader.notify_one());
        }
        for consumer in &effects.consumers {
            self.consumers.get(consumer).into_iter().for_each(|reader| reader.notify_one());
        }
        if effects.changed {
            self.wake_readers();
        }
    }

    fn wake_readers(&self) {
        let readers = self.readers.iter().flatten();
        readers.chain(self.consumers.values()).chain(&self.watchers).for_each(|reader| reader.notify_one());
    }

    fn end_wait(&mut self, appender: AppenderId, grant: Grant) {
        if let Some(waiting) = self.waiting.remove(&appender) {
            // Fails only if the waiting call is being dropped; then its guard closes the appender.
            let _ = waiting.send(grant);
        }
    }
}
