//! The process's background runtime, and what belongs to one process only.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::client::Error;

/// Threads of the background runtime: one can receive and decode while another sends.
const WORKER_THREADS: usize = 2;

static RUNTIME: Mutex<Option<OfProcess<Arc<Runtime>>>> = Mutex::new(None);

/// The background runtime; built at first use in this process.
pub(super) fn runtime() -> Result<Handle, Error> {
    let mut current = RUNTIME.lock();
    if let Some(runtime) = current.as_ref().and_then(OfProcess::get) {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("bowstring-client")
        .enable_all()
        .build()
        .map_err(|error| Error::Internal { reason: format!("cannot start the background threads: {error}") })?;
    let handle = runtime.handle().clone();
    *current = Some(OfProcess::new(Arc::new(runtime)));
    Ok(handle)
}

/// A value that only the process that made it may use or drop: after a fork the child has copies of the parent's
/// sockets and locks but none of its threads, so that even dropping a runtime would wait for ever, and would take
/// the parent's sockets off their shared epoll.
#[derive(Debug)]
pub(super) struct OfProcess<T> {
    process: u32,
    value: Option<T>,
}

impl<T> OfProcess<T> {
    pub(super) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Some(value) }
    }

    /// None in another process.
    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process == std::process::id())
    }

    /// The value.
    ///
    /// # Errors
    /// `invalid_argument` in another process.
    pub(super) fn get_mut(&mut self) -> Result<&mut T, Error> {
        if self.process != std::process::id() {
            return Err(Error::invalid("it was made before this process was forked; make a new one after the fork"));
        }
        self.value.as_mut().ok_or_else(|| Error::invalid("it is closed"))
    }

    /// The value in whatever process, for what needs neither threads nor sockets: it saves the system call.
    pub(super) fn peek_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    /// The value, which the owner is done with.
    ///
    /// # Errors
    /// As [`OfProcess::get_mut`].
    pub(super) fn take(&mut self) -> Result<T, Error> {
        self.get_mut()?;
        self.value.take().ok_or_else(|| Error::invalid("it is closed"))
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}
