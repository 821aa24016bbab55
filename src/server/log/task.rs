//! The task of a stream's log: takes what there is to do, and says when it is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::elsewhere;
use super::pending::Work;
use super::relief::relieve;
use super::write::{Step, step};
use crate::engine::PartitionId;
use crate::server::cell::StreamCell;
use crate::server::log::LogState;
use crate::storage::StorageError;
use crate::storage::catalog::Catalog;
use crate::storage::log::StreamLog;
use crate::storage::remote::Remote;

/// How long the catalog may not know what it may learn later.
const LATE_LINGER: Duration = Duration::from_millis(100);
/// How often a full disk is tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

/// Writes a stream's log until it is stopped or the stream is deleted.
#[derive(Debug)]
pub(in crate::server) struct LogTask {
    pub(in crate::server) cell: Arc<StreamCell>,
    pub(in crate::server) state: Arc<LogState>,
    pub(in crate::server) files: Files,
    pub(in crate::server) stopping: CancellationToken,
}

/// What the work is done with.
#[derive(Debug)]
pub(in crate::server) struct Files {
    pub(in crate::server) log: StreamLog,
    pub(in crate::server) catalog: Arc<Catalog>,
    /// Where all of it has to be as well, if anywhere.
    pub(in crate::server) remote: Option<Arc<Remote>>,
    /// Whether they block for real: then they have a thread.
    pub(in crate::server) is_real: bool,
}

impl LogTask {
    /// Runs until all is done that was there when it was stopped.
    pub(in crate::server) async fn run(self) {
        let Self { cell, state, mut files, stopping } = self;
        let ending = Ending { cell: &cell, state: &state, is_expected: false };
        let linger = files.remote.as_ref().map_or(LATE_LINGER, |_| elsewhere::LATE_LINGER);
        let mut late_at: Option<Instant> = None;
        loop {
            let is_last = tokio::select! {
                biased;
                () = stopping.cancelled() => true,
                () = state.work.notified() => false,
                () = reached(late_at) => false,
                fenced = fenced(files.remote.as_deref()) => {
                    cell.log_failed(&state, fenced);
                    return ending.expected();
                }
            };
            // There may be more for as long as somebody appends: what is late has its turn all the same.
            loop {
                if late_at.is_none() && cell.has_late_work() {
                    late_at = Some(Instant::now() + linger);
                }
                let with_late = is_last || late_at.is_some_and(|at| at <= Instant::now());
                if with_late {
                    late_at = None;
                }
                // Before the stream's state is looked at: see `dead_segments`.
                let dead = files.log.dead_segments();
                let Some(work) = cell.take_work(with_late) else { break };
                let is_deleted = work.is_deleted;
                match perform(&cell, &state, files, work, dead, &stopping).await {
                    Ok(returned) => files = returned,
                    Err(error) => {
                        tracing::error!(stream = %cell.name(), %error, "the log has failed: nothing more is written or confirmed");
                        cell.log_failed(&state, error);
                        return ending.expected();
                    }
                }
                if is_deleted {
                    return ending.expected();
                }
            }
            if is_last {
                let (files, sealed) = files.run(|files| files.log.seal()).await;
                let sealed = match (sealed, &files.remote) {
                    (Ok(()), Some(remote)) => elsewhere::sealed(&files, remote).await,
                    (sealed, _) => sealed,
                };
                sealed.unwrap_or_else(|error| tracing::warn!(%error, "a segment is not sealed"));
                return ending.expected();
            }
        }
    }
}

/// Tells those who wait if the task ends before its time, by a panic.
struct Ending<'a> {
    cell: &'a StreamCell,
    state: &'a LogState,
    is_expected: bool,
}

impl Ending<'_> {
    fn expected(mut self) {
        self.is_expected = true;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.is_expected && std::thread::panicking() {
            self.cell.log_failed(self.state, StorageError::Unsure { file: format!("the log of stream {}", self.cell.name()) });
        }
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn fenced(remote: Option<&Remote>) -> StorageError {
    match remote {
        Some(remote) => remote.fenced().await,
        None => std::future::pending().await,
    }
}

/// Does all of the work, step by step; tries again where the disk is full.
async fn perform(
    cell: &StreamCell,
    state: &LogState,
    mut files: Files,
    mut work: Work,
    mut dead: Vec<(PartitionId, u64)>,
    stopping: &CancellationToken,
) -> Result<Files, StorageError> {
    loop {
        let last = dead.clone();
        let done;
        (files, done) = match files.remote.clone() {
            None => {
                let local = move |files: &mut Files| {
                    let (step, result) = step(&mut files.log, &files.catalog, &mut work, &last);
                    (work, step, result)
                };
                files.run(local).await
            }
            Some(remote) => elsewhere::step(files, &remote, work, last, stopping).await,
        };
        let (rest, step, result) = done;
        work = rest;
        let Step { appended, durable, is_finished, .. } = step;
        cell.settle(state, appended, durable);
        match result {
            Ok(()) if is_finished => {
                state.advance(work.number);
                return Ok(files);
            }
            Ok(()) => {}
            Err(error) if error.is_no_room() && !stopping.is_cancelled() => {
                tracing::warn!(stream = %cell.name(), %error, "the disk is full: the log waits for room");
                state.wait_for_room(error);
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => (),
                    () = tokio::time::sleep(ROOM_PAUSE) => (),
                }
                // Before the stream's state is looked at: see `dead_segments`.
                files.log.retire();
                dead = files.log.dead_segments();
                if let Some(later) = cell.take_work(true) {
                    work.join(later);
                }
                let dead = dead.clone();
                let mut result = Ok(());
                if let Some(remote) = files.remote.clone() {
                    (files, (work, result)) = elsewhere::relieved(files, &remote, work, &dead, stopping).await;
                }
                if result.is_ok() {
                    (files, (work, result)) = files
                        .run(move |files| {
                            let result = relieve(&mut files.log, &files.catalog, &mut work, &dead);
                            (work, result)
                        })
                        .await;
                }
                match result {
                    Ok(()) => state.relieve(work.number),
                    Err(error) if error.is_no_room() => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

impl Files {
    /// Does something that blocks.
    pub(super) async fn run<T: Send + 'static>(mut self, work: impl FnOnce(&mut Self) -> T + Send + 'static) -> (Self, T) {
        if !self.is_real {
            let result = work(&mut self);
            return (self, result);
        }
        let working = tokio::task::spawn_blocking(move || {
            let result = work(&mut self);
            (self, result)
        });
        match working.await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends, and everything with it.
            Err(_) => std::future::pending().await,
        }
    }
}
