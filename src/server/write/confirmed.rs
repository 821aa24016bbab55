//! What of its appends a client may be told: of a durable stream, what is as durable as it has to be.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::error::Error;
use super::super::log::LogState;

/// The ordinal that comes next, by what is confirmed.
#[derive(Debug)]
pub(super) struct Confirmed {
    next_ordinal: u64,
    /// The log's work, and the ordinal that comes next once that is done.
    waiting: VecDeque<(u64, u64)>,
}

impl Confirmed {
    pub(super) fn new(next_ordinal: u64) -> Self {
        Self { next_ordinal, waiting: VecDeque::new() }
    }

    /// A batch was appended; confirmed once this work of the log is done, or at once if there is no log.
    pub(super) fn appended(&mut self, work: Option<u64>, next_ordinal: u64) {
        match work {
            Some(number) => self.waiting.push_back((number, next_ordinal)),
            None => self.next_ordinal = next_ordinal,
        }
    }

    /// What the client is told comes next.
    pub(super) fn next_ordinal(&self, log: Option<&Arc<LogState>>) -> u64 {
        let done = self.waiting.iter().take_while(|(number, _)| is_done(log, *number)).last();
        done.map_or(self.next_ordinal, |(_, next_ordinal)| *next_ordinal)
    }

    /// Forgets what need not be waited for any more.
    pub(super) fn forget_done(&mut self, log: Option<&Arc<LogState>>) {
        while let Some((number, next_ordinal)) = self.waiting.front().copied()
            && is_done(log, number)
        {
            self.next_ordinal = next_ordinal;
            self.waiting.pop_front();
        }
    }

    /// Waits until more is confirmed; for ever where all is.
    ///
    /// # Errors
    /// `unavailable` if it never will be.
    pub(super) async fn more(&self, log: Option<&Arc<LogState>>) -> Result<(), Error> {
        match (log, self.waiting.front()) {
            (Some(log), Some((number, _))) => log.done(*number).await,
            _ => std::future::pending().await,
        }
    }
}

fn is_done(log: Option<&Arc<LogState>>, number: u64) -> bool {
    log.is_none_or(|log| log.is_done(number))
}
