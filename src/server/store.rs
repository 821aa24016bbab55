//! The store: the data directory of a coordinator whose streams are durable.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cell::StreamCell;
use super::clock::Clock;
use super::error::Error;
use super::log::{Files, LogTask};
use crate::engine::{PartitionSnapshot, StreamSnapshot};
use crate::shared::random;
use crate::storage::catalog::{Catalog, Marker};
use crate::storage::disk::{Disk, Folder};
use crate::storage::log::{LoggedBatch, RecoveredStream, StreamLog, check_has_catalog, recover_stream, remove_unknown};
use crate::storage::remote::{KeepAfter, Remote, Starter};
use crate::storage::{StorageError, StoredBatch};

/// How long a start waits for another coordinator to let go of the data directory.
const LOCK_TIME: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where durable streams are.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    catalog: Arc<Catalog>,
    /// Bytes of the disk that batches never use.
    reserve_bytes: u64,
    /// The disk's calls block: they get threads of their own.
    is_real: bool,
    /// None: the log's own.
    segment_bytes_cut: Option<u64>,
    /// Where everything is as well, if anywhere.
    remote: Option<Arc<Remote>>,
    /// When it is tidied up.
    keep_after: KeepAfter,
    stopping: CancellationToken,
    tasks: TaskTracker,
    /// The tasks of the object store, which end after those of the logs.
    remote_tasks: TaskTracker,
    /// Held for as long as anything is written.
    lock: Option<File>,
}

/// The object store that streams are in as well.
#[derive(Debug, Clone)]
pub struct ObjectStoreOptions {
    /// Where it is.
    pub url: String,
    /// When commits are summed up.
    pub keep_after: KeepAfter,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses it.
    #[error("another coordinator uses it; stop that one, or choose another data_dir")]
    InUse,
    /// It cannot be made or locked.
    #[error("{0}; check the path and its permissions")]
    Io(#[from] std::io::Error),
    /// A file in it cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is in it cannot be used.
    #[error("stream {stream} cannot be opened: {source}")]
    Stream {
        /// Its name.
        stream: String,
        /// Why.
        source: Box<Error>,
    },
}

impl Store {
    /// The data directory at a path, made if it is not there. With an object store it takes that over, and has what is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path, reserve_bytes: u64, object_store: Option<&ObjectStoreOptions>) -> Result<Self, StoreError> {
        let folder = Folder::open(path)?;
        let started = tokio::time::Instant::now();
        let lock = loop {
            match folder.lock()? {
                Some(lock) => break lock,
                None if started.elapsed() < LOCK_TIME => tokio::time::sleep(LOCK_PAUSE).await,
                None => return Err(StoreError::InUse),
            }
        };
        let opened = tokio::task::spawn_blocking(move || Self::on(Arc::new(folder), reserve_bytes, true)).await;
        let mut store = opened.map_err(std::io::Error::other)??;
        store.lock = Some(lock);
        match object_store {
            Some(options) => store.taking_over(options).await,
            None => store.alone(),
        }
    }

    /// What asks its disk how many bytes this user may still write. It blocks.
    pub(super) fn available(&self) -> impl FnOnce() -> std::io::Result<u64> + Send + 'static {
        let disk = self.disk.clone();
        move || disk.available()
    }

    /// Without an object store. A data directory that has one may be old, and what it takes alone would be lost.
    fn alone(self) -> Result<Self, StoreError> {
        match self.catalog.marker()? {
            Some(Marker { place, .. }) => Err(StorageError::NeedsObjectStore { folder: self.disk.place(), place }.into()),
            None => Ok(self),
        }
    }

    async fn taking_over(mut self, ObjectStoreOptions { url, keep_after }: &ObjectStoreOptions) -> Result<Self, StoreError> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let starter = Starter { id: random::uuid().simple().to_string(), host };
        let started = Remote::start(url, &self.disk, &self.catalog, starter, &self.remote_tasks).await?;
        (self.remote, self.keep_after) = (Some(started.remote), *keep_after);
        Ok(self)
    }

    /// One on any disk. Where its calls do not really block, they are made where they are needed.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn on(disk: Arc<dyn Disk>, reserve_bytes: u64, is_real: bool) -> Result<Self, StorageError> {
        check_has_catalog(&*disk)?;
        let catalog = Arc::new(Catalog::open(&disk)?);
        Ok(Self {
            disk,
            catalog,
            reserve_bytes,
            is_real,
            segment_bytes_cut: None,
            remote: None,
            keep_after: KeepAfter::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            remote_tasks: TaskTracker::new(),
            lock: None,
        })
    }

    /// Begins a new segment after so many bytes: small ones show in little time what large ones do in days.
    #[doc(hidden)]
    #[must_use]
    pub fn cut_segments_at(mut self, bytes: u64) -> Self {
        self.segment_bytes_cut = Some(bytes);
        self
    }

    /// Whether the disk's calls block.
    pub(super) fn is_real(&self) -> bool {
        self.is_real
    }

    /// The streams that are there, and their logs. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn load(&self, clock: &Arc<dyn Clock>) -> Result<Vec<(Arc<StreamCell>, StreamLog)>, StoreError> {
        let found = self.catalog.load()?;
        let known: BTreeSet<_> = found.iter().map(|stream| stream.id).collect();
        remove_unknown(&*self.disk, &known)?;
        found
            .into_iter()
            .map(|found| {
                let (id, name) = (found.id, found.saved.name.clone());
                let RecoveredStream { snapshot, log, damage } = recover_stream(&self.disk, self.reserve_bytes, found)?;
                damage.iter().for_each(|what| tracing::error!("{what}"));
                let error = |source| StoreError::Stream { stream: name.to_string(), source: Box::new(source) };
                let cell = StreamCell::restored(name.clone(), id, stored(snapshot), clock.clone()).map_err(error)?;
                Ok((Arc::new(cell), log))
            })
            .collect::<Result<_, StoreError>>()
    }

    /// Tells the object store what of it the logs have dropped because nobody could know of it. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Fenced`] among others.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        remote.settle(&*self.disk)?;
        remote.keep(&self.disk, self.keep_after, &self.remote_tasks);
        Ok(())
    }

    /// The object store, if there is one.
    pub(super) fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// The log of a new stream.
    pub(super) fn new_log(&self, cell: &StreamCell) -> StreamLog {
        StreamLog::new(&self.disk, self.reserve_bytes, cell.id(), cell.name().clone(), cell.options().partitions)
    }

    /// Writes a stream's log from now on.
    pub(super) fn start(&self, cell: &Arc<StreamCell>, mut log: StreamLog) {
        let Some(state) = cell.log().cloned() else { return };
        self.segment_bytes_cut.into_iter().for_each(|bytes| log.cut_segments_at(bytes));
        if let Some(remote) = &self.remote {
            log.keep_unstored();
            state.go_on_with(remote.clone());
        }
        let files = Files { log, catalog: self.catalog.clone(), remote: self.remote.clone(), is_real: self.is_real };
        self.tasks.spawn(LogTask { cell: cell.clone(), state, files, stopping: self.stopping.clone() }.run());
    }

    /// Writes what is there, and ends: whoever waits for more is told.
    pub(super) async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.stop();
        self.remote_tasks.wait().await;
    }

    /// The same, without waiting for it.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.remote.iter().for_each(|remote| remote.stop());
        self.remote_tasks.close();
    }
}

impl Drop for Store {
    /// What a start has begun that has failed later must not go on.
    fn drop(&mut self) {
        self.stop();
        self.lock.take();
    }
}

/// All of it lies in the log, visible.
fn stored(found: StreamSnapshot<Arc<LoggedBatch>>) -> StreamSnapshot<StoredBatch> {
    let StreamSnapshot { options, schemas, state, epochs, partitions, subscriptions, producers } = found;
    let logged = |batch| StoredBatch::Logged { batch, is_staged: false };
    let partition = |PartitionSnapshot { start, rows_before, bytes_before, dropped, batches }: PartitionSnapshot<Arc<LoggedBatch>>| {
        let batches = batches.into_iter().map(|(facts, batch)| (facts, logged(batch))).collect();
        PartitionSnapshot { start, rows_before, bytes_before, dropped, batches }
    };
    let partitions = partitions.into_iter().map(partition).collect();
    StreamSnapshot { options, schemas, state, epochs, partitions, subscriptions, producers }
}
