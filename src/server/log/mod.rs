//! The log of a durable stream, as the server has it: what is still to be written, and how far it is.
//!
//! Whatever changes a durable stream adds to its [`Pending`] work under the stream's lock, so that the log has everything in the
//! order in which it happened. The log's task takes all of it together, writes it, makes it durable, and then says so: only
//! then is it visible, and only then are calls answered that told of it or could have seen it.

mod elsewhere;
mod pending;
mod relief;
mod task;
mod write;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) use pending::{Pending, Work, is_in_memory, is_late};
pub(super) use task::{Files, LogTask};

use super::error::Error;
use crate::storage::StorageError;
use crate::storage::log::Cache;
use crate::storage::remote::Remote;

/// What a stream's calls share with its log's task.
#[derive(Debug)]
pub(super) struct LogState {
    /// There is work.
    pub(super) work: Notify,
    pub(super) cache: Cache,
    progress: Mutex<Progress>,
    /// Where all of it has to be as well, if anywhere.
    remote: OnceLock<Arc<Remote>>,
    /// Wakes those who wait for progress in the order in which they came, unlike a watch channel.
    progressed: Notify,
}

/// How far the log is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// All work up to this number is as durable as it has to be.
    done: u64,
    /// While the log waits for room: the subscriptions are as durable as they have to be up to this number.
    relieved: u64,
    /// The disk is full: the log tries again, and what has come since waits.
    pub(super) waiting: Option<Arc<StorageError>>,
    /// Since when it waits or has failed.
    stuck_since: Option<Instant>,
    /// Nobody knows what is durable: nothing more is written, nor confirmed.
    failed: Option<Arc<StorageError>>,
}

impl LogState {
    pub(super) fn new(cache: Cache) -> Self {
        Self { work: Notify::new(), cache, progress: Mutex::default(), remote: OnceLock::new(), progressed: Notify::new() }
    }

    /// Refuses what could never be written.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.progress.lock().failed {
            Some(why) => Err(Error::LogFailed { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Whether all work up to this number is done.
    pub(super) fn is_done(&self, number: u64) -> bool {
        self.progress.lock().done >= number
    }

    /// Why the log does not go on at the moment, if it does not.
    pub(super) fn waits_for(&self) -> Option<Arc<StorageError>> {
        let progress = self.progress.lock();
        let why = progress.failed.clone().or_else(|| progress.waiting.clone());
        why.or_else(|| self.remote.get()?.trouble())
    }

    /// How long the log has not gone on because of its disk; zero if that does, and where it waits for an object store.
    pub(super) fn stuck_for(&self) -> Duration {
        self.progress.lock().stuck_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Work is done when that has it, too.
    pub(super) fn go_on_with(&self, remote: Arc<Remote>) {
        drop(self.remote.set(remote));
    }

    /// Waits until all work up to this number is done.
    ///
    /// # Errors
    /// `storage` if it never will be.
    pub(super) async fn done(&self, number: u64) -> Result<(), Error> {
        self.until(|progress| progress.done >= number).await
    }

    /// The same for what was done to subscriptions alone: who could make room on a full disk does not wait for it.
    ///
    /// # Errors
    /// `storage` if it never will be.
    pub(super) async fn done_to_subscriptions(&self, number: u64) -> Result<(), Error> {
        self.until(|progress| progress.done.max(progress.relieved) >= number).await
    }

    async fn until(&self, is_reached: impl Fn(&Progress) -> bool) -> Result<(), Error> {
        loop {
            let woken = self.progressed.notified();
            tokio::pin!(woken);
            // Before looking, so that progress between the look and the wait is not missed.
            woken.as_mut().enable();
            if is_reached(&self.progress.lock()) {
                return Ok(());
            }
            self.check()?;
            woken.await;
        }
    }

    pub(super) fn relieve(&self, relieved: u64) {
        self.change(|progress| progress.relieved = relieved);
    }

    pub(super) fn advance(&self, done: u64) {
        self.change(|progress| {
            progress.done = done;
            progress.waiting = None;
            progress.stuck_since = None;
        });
    }

    pub(super) fn wait_for_room(&self, why: StorageError) {
        self.change(|progress| {
            progress.waiting = Some(Arc::new(why));
            progress.stuck_since.get_or_insert_with(Instant::now);
        });
    }

    pub(super) fn fail(&self, why: StorageError) {
        self.change(|progress| {
            progress.failed = Some(Arc::new(why));
            progress.stuck_since.get_or_insert_with(Instant::now);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
        self.progressed.notify_waiters();
    }
}
