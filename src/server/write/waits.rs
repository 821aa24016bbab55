//! How long an append waits for room, and for its principal's quota.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::super::access::{Flow, Held};
use super::super::cell::StreamCell;
use super::super::error::Error;
use super::Writing;
use crate::engine::Command;
use crate::wire::metadata::AppendResult;

/// Lets time pass in the stream once an append has waited for as long as the stream says: it is refused then.
pub(super) async fn tick_in_time(cell: &StreamCell) -> Infallible {
    if let Some(max_wait) = cell.options().max_wait {
        tokio::time::sleep(max_wait).await;
        let ticked = cell.apply(Command::Tick);
        debug_assert!(ticked.is_ok(), "a tick is never refused");
    }
    std::future::pending().await
}

/// Ends when the earlier of a time from now and a deadline is there; never if there is neither.
pub(super) async fn until(timeout: Option<Duration>, deadline: Option<Instant>) {
    let timeout = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let deadline = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = timeout => (),
        () = deadline => (),
    }
}

impl Writing {
    /// Waits for `wanted`. What is stored meanwhile is reported.
    ///
    /// # Errors
    /// Its own, and why the call cannot go on: the server shuts down, its caller's permit has ended, or what was stored cannot be
    /// confirmed.
    pub(super) async fn meanwhile<T>(
        &mut self,
        progress: &watch::Sender<Option<AppendResult>>,
        wanted: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::pin!(wanted);
        loop {
            // In this order: what gets done in between is still waited for, and said next.
            self.confirmed.forget_done(self.cell.log());
            self.report(progress);
            tokio::select! {
                biased;
                () = self.coordinator.shutdown().cancelled() => return Err(Error::ShuttingDown),
                refusal = self.permit.ended() => return Err(refusal.into()),
                wanted = &mut wanted => return wanted,
                more = self.confirmed.more(self.cell.log()) => more?,
            }
        }
    }

    /// Waits until the caller's quota lets a message in, whose body has not been taken: its sender cannot send more for so long.
    pub(super) async fn slow(&mut self, bytes: u64, progress: &watch::Sender<Option<AppendResult>>) -> Result<(), Error> {
        let Some(usage) = self.permit.usage().cloned() else { return Ok(()) };
        let passed = usage.pass(Flow::Append, bytes);
        tokio::pin!(passed);
        if futures::poll!(&mut passed).is_ready() {
            return Ok(());
        }
        let (cell, started) = (self.cell.clone(), self.cell.now());
        // The append's own time is for room: it is not there to be refused by.
        let over = until(None, self.deadline);
        let in_time = async {
            tokio::select! {
                biased;
                () = passed => Ok(()),
                () = over => Err(usage.append_timeout(bytes, cell.now().since(started))),
            }
        };
        self.meanwhile(progress, in_time).await
    }

    /// Waits until a batch has room in the caller's quota of memory. One of an open epoch does not wait: what holds the room may be the
    /// epoch's own, which nobody can ack before its commit.
    pub(super) async fn hold(&mut self, bytes: u64, progress: &watch::Sender<Option<AppendResult>>) -> Result<Option<Held>, Error> {
        let Some(usage) = self.permit.usage().cloned() else { return Ok(None) };
        let held = usage.hold(bytes);
        tokio::pin!(held);
        if let Poll::Ready(held) = futures::poll!(&mut held) {
            return held;
        }
        if self.is_staged {
            return Err(usage.buffer_full(bytes, Duration::ZERO));
        }
        self.waits += 1;
        let (cell, started) = (self.cell.clone(), self.cell.now());
        let over = until(self.append_timeout, self.deadline);
        let in_time = async {
            tokio::select! {
                biased;
                held = held => held,
                () = over => Err(usage.buffer_full(bytes, cell.now().since(started))),
            }
        };
        self.meanwhile(progress, in_time).await
    }
}
