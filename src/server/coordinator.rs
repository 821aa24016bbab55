//! The coordinator: all streams by name, and what they share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::access::{Counted, Slot, Usage};
use super::cell::StreamCell;
use super::clock::{Clock, SystemClock};
use super::connections::ConnectionCounters;
use super::counters::ErrorCounters;
use super::disks::Disks;
use super::error::Error;
use super::same::difference;
use super::shared::{Links, SharedMemory};
use super::store::{Store, StoreError};
use super::trace::Tracer;
use super::validation::{Validation, ValidationRoom};
use crate::engine::{Code, Command, Limits, StreamId, StreamName, StreamOptions, Timestamp};
use crate::shared::random;
use crate::storage::Spool;
use crate::wire::schema::StreamSchema;

/// Most streams of a coordinator: each costs a few kilobytes and a place in every scrape.
const STREAMS_MAX: usize = 10_000;

/// What the coordinator does where a caller leaves it open.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Options of streams that are created without.
    pub stream_defaults: StreamOptions,
    /// Whether a `DoPut` to an unknown stream creates it.
    pub create_on_put: bool,
    /// Largest message taken, in bytes.
    pub message_bytes_max: u64,
    /// How long an append waits for room unless its caller says otherwise; none: as long as its caller waits.
    pub append_timeout: Option<Duration>,
    /// How closely batches are looked at.
    pub validation: Validation,
    /// Bytes that full validation takes at once, of all connections together.
    pub validation_bytes_max: u64,
    /// Most bytes that a compressed batch or dictionary may become.
    pub decompressed_bytes_max: u64,
}

/// All streams by name, and what they share.
#[derive(Debug)]
pub struct Coordinator {
    options: CoordinatorOptions,
    clock: Arc<dyn Clock>,
    spool: Spool,
    /// Where streams are durable; none: all are in memory.
    store: Option<Store>,
    streams: RwLock<BTreeMap<StreamName, Arc<StreamCell>>>,
    /// Those that count in the quota of the principal that has made them.
    owned: Mutex<BTreeMap<StreamName, Slot>>,
    /// Deleted, but a restart would still find them.
    leaving: Mutex<BTreeMap<StreamName, Arc<StreamCell>>>,
    shutdown: CancellationToken,
    errors: ErrorCounters,
    connections: Arc<ConnectionCounters>,
    links: Arc<Links>,
    disks: Disks,
    validation_room: ValidationRoom,
    started_at: Timestamp,
    pub(super) access: OnceLock<Arc<super::Access>>,
    pub(super) tracer: OnceLock<Arc<Tracer>>,
}

impl Coordinator {
    /// A coordinator without streams, on the machine's clock.
    #[must_use]
    pub fn new(options: CoordinatorOptions, spool: Spool) -> Arc<Self> {
        Self::with_clock(options, spool, Arc::new(SystemClock::default()))
    }

    /// The same on any clock.
    #[must_use]
    pub fn with_clock(options: CoordinatorOptions, spool: Spool, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self::of(options, spool, clock, None))
    }

    /// A coordinator of durable streams, with those that are in its store. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn with_store(options: CoordinatorOptions, spool: Spool, clock: Arc<dyn Clock>, store: Store) -> Result<Arc<Self>, StoreError> {
        let found = store.load(&clock)?;
        store.settle()?;
        let coordinator = Arc::new(Self::of(options, spool, clock, Some(store)));
        let mut streams = coordinator.streams.write();
        for (cell, log) in found {
            if let Some(store) = &coordinator.store {
                store.start(&cell, log);
            }
            streams.insert(cell.name().clone(), cell);
        }
        drop(streams);
        Ok(coordinator)
    }

    fn of(options: CoordinatorOptions, spool: Spool, clock: Arc<dyn Clock>, store: Option<Store>) -> Self {
        let started_at = clock.now();
        Self {
            validation_room: ValidationRoom::new(options.validation_bytes_max),
            options,
            clock,
            spool,
            store,
            streams: RwLock::default(),
            owned: Mutex::default(),
            leaving: Mutex::default(),
            shutdown: CancellationToken::new(),
            errors: ErrorCounters::default(),
            connections: Arc::default(),
            links: Arc::default(),
            disks: Disks::default(),
            started_at,
            access: OnceLock::new(),
            tracer: OnceLock::new(),
        }
    }

    /// Who makes spans, if anybody does.
    pub(super) fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.get()
    }

    /// Whether its streams outlive it.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.store.is_some()
    }

    /// Where its streams are, in a word.
    pub(super) fn storage(&self) -> &'static str {
        match &self.store {
            None => "memory",
            Some(store) if store.remote().is_none() => "disk",
            Some(_) => "object_store",
        }
    }

    /// Its store, if its streams are durable.
    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &CoordinatorOptions {
        &self.options
    }

    /// The room that full validation takes.
    pub(super) fn validation_room(&self) -> &ValidationRoom {
        &self.validation_room
    }

    /// The links to shared memory that are open.
    pub(super) fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// The disks that it writes to.
    pub(super) fn disks(&self) -> &Disks {
        &self.disks
    }

    /// What of this host's memory its clients share through it.
    #[must_use]
    pub fn shared_memory(&self) -> SharedMemory {
        SharedMemory { links: self.links.count(), lent_bytes: self.links.mapped_bytes(), looked_at_bytes: self.links.looked_at_bytes() }
    }

    /// Creates a stream. One that exists with the same options is taken as it is if `if_not_exists`.
    ///
    /// # Errors
    /// `stream_exists`, `shutting_down`, `too_many`, `schema_mismatch`, `invalid_argument` for options that cannot be used.
    pub fn create(
        &self,
        name: &StreamName,
        options: StreamOptions,
        schema: Option<&StreamSchema>,
        if_not_exists: bool,
    ) -> Result<Arc<StreamCell>, Error> {
        self.create_for(None, name, options, schema, if_not_exists)
    }

    /// The same for a principal with a quota.
    pub(super) fn create_for(
        &self,
        owner: Option<&Arc<Usage>>,
        name: &StreamName,
        options: StreamOptions,
        schema: Option<&StreamSchema>,
        if_not_exists: bool,
    ) -> Result<Arc<StreamCell>, Error> {
        self.check_running()?;
        check_limits(&options.limits)?;
        check_resume_percent(options.resume_percent)?;
        let mut streams = self.streams.write();
        if let Some(cell) = streams.get(name).cloned() {
            drop(streams);
            return same_or_refused(cell, &options, schema, if_not_exists);
        }
        self.check_gone(name)?;
        if streams.len() >= STREAMS_MAX {
            return Err(Error::TooManyStreams { limit: STREAMS_MAX });
        }
        let slot = owner.map(|owner| owner.take(Counted::Streams)).transpose()?;
        let (name_of_it, id, clock) = (name.clone(), new_stream_id(), self.clock.clone());
        let cell = Arc::new(match &self.store {
            Some(_) => StreamCell::with_log(name_of_it, id, options, clock)?,
            None => StreamCell::new(name_of_it, id, options, clock)?,
        });
        if let Some(schema) = schema {
            cell.accept_schema(schema)?;
        }
        if let Some(store) = &self.store {
            store.start(&cell, store.new_log(&cell));
        }
        self.owned.lock().extend(slot.map(|slot| (name.clone(), slot)));
        streams.insert(name.clone(), cell.clone());
        drop(streams);
        tracing::info!(stream = %name, partitions = cell.options().partitions, "a stream was created");
        Ok(cell)
    }

    /// The stream of that name.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn get(&self, name: &StreamName) -> Result<Arc<StreamCell>, Error> {
        self.streams.read().get(name).cloned().ok_or_else(|| Error::StreamNotFound { stream: name.clone() })
    }

    /// The stream of that name, created with the defaults if the server's options allow it, for a principal with a quota.
    ///
    /// # Errors
    /// `stream_not_found`, `shutting_down`, `too_many`.
    pub(super) fn get_or_create(&self, owner: Option<&Arc<Usage>>, name: &StreamName) -> Result<Arc<StreamCell>, Error> {
        match self.get(name) {
            Err(_) if self.options.create_on_put => match self.create_for(owner, name, self.options.stream_defaults.clone(), None, false) {
                // Somebody else was faster.
                Err(Error::StreamExists { .. }) => self.get(name),
                created => created,
            },
            found => found,
        }
    }

    /// All streams, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<StreamCell>> {
        self.streams.read().values().cloned().collect()
    }

    /// Deletes a stream with everything in it. Its readers and appenders are told.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn delete(&self, name: &StreamName) -> Result<Arc<StreamCell>, Error> {
        let mut streams = self.streams.write();
        let cell = streams.remove(name).ok_or_else(|| Error::StreamNotFound { stream: name.clone() })?;
        cell.delete();
        drop(self.owned.lock().remove(name));
        if cell.log().is_some() {
            self.leaving.lock().insert(name.clone(), cell.clone());
        }
        drop(streams);
        tracing::info!(stream = %name, "a stream was deleted");
        Ok(cell)
    }

    /// Refuses the name of a stream that is not gone for good: a restart would find two of them.
    fn check_gone(&self, name: &StreamName) -> Result<(), Error> {
        let mut leaving = self.leaving.lock();
        leaving.retain(|_, cell| !cell.is_durable());
        match leaving.get(name) {
            Some(cell) => {
                cell.check_log()?;
                Err(Error::StreamLeaving { stream: name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Lets time pass in all streams: call it about once a second.
    pub fn tick(&self) {
        self.leaving.lock().retain(|_, cell| !cell.is_durable());
        for cell in self.list() {
            let ticked = cell.apply(Command::Tick);
            debug_assert!(ticked.is_ok(), "a tick is never refused");
        }
    }

    /// Refuses new work and wakes all readers, so that they see it.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
        self.list().iter().for_each(|cell| cell.wake_all());
    }

    /// Cancelled when the coordinator shuts down.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Refuses work while shutting down.
    ///
    /// # Errors
    /// `shutting_down`.
    pub fn check_running(&self) -> Result<(), Error> {
        if self.shutdown.is_cancelled() { Err(Error::ShuttingDown) } else { Ok(()) }
    }

    /// Where batches go that do not fit in memory.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Errors given to clients so far.
    #[must_use]
    pub fn errors(&self) -> &ErrorCounters {
        &self.errors
    }

    /// Takes note of an error that is given to a client.
    pub fn count_error(&self, code: Code) {
        self.errors.count(code);
    }

    /// The connections to it: how many are open, and why others were refused.
    #[must_use]
    pub fn connections(&self) -> &Arc<ConnectionCounters> {
        &self.connections
    }

    /// The time by its clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long the coordinator has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.clock.now().since(self.started_at)
    }
}

/// A buffer of nothing would refuse every append.
fn check_limits(limits: &Limits) -> Result<(), Error> {
    for (field, limit) in [("max_buffered_batches", limits.max_buffered_batches), ("max_buffered_bytes", limits.max_buffered_bytes)] {
        if limit == 0 {
            return Err(Error::InvalidArgument { field, reason: "it is 0, so that no batch would fit; use at least 1".to_owned() });
        }
    }
    Ok(())
}

fn check_resume_percent(percent: u32) -> Result<(), Error> {
    if percent > 100 {
        let reason = format!("it is {percent}, and a stream never holds more than 100 percent; use 0 to 100");
        return Err(Error::InvalidArgument { field: "resume_percent", reason });
    }
    Ok(())
}

fn new_stream_id() -> StreamId {
    let (high, low) = random::uuid().as_u64_pair();
    StreamId(high ^ low)
}

/// A stream that is there already, if it is what was asked for.
fn same_or_refused(
    cell: Arc<StreamCell>,
    options: &StreamOptions,
    schema: Option<&StreamSchema>,
    if_not_exists: bool,
) -> Result<Arc<StreamCell>, Error> {
    if !if_not_exists {
        return Err(Error::StreamExists { stream: cell.name().clone(), difference: None });
    }
    if let Some(difference) = difference(cell.options(), options) {
        return Err(Error::StreamExists { stream: cell.name().clone(), difference: Some(difference) });
    }
    if let Some(schema) = schema {
        cell.accept_schema(schema)?;
    }
    Ok(cell)
}
