//! How long an append waits for room.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::super::cell::StreamCell;
use crate::engine::Command;

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
