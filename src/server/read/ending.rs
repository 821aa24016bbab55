//! How a read ends: whether its stream goes on, and what who reads by leases waits for then.

use std::sync::Arc;
use std::time::Duration;

use super::super::cell::Look;
use super::super::error::Error;
use super::Reading;
use crate::engine::{Standing, StreamState};

/// Whether a stream goes on.
#[derive(Debug)]
pub(super) enum Ending {
    GoesOn,
    /// It has ended, but a crash would take that back, and perhaps what came before it.
    Unsettled,
    /// It has ended, and all of it is with consumers, or to go over once they have acked; what they do not ack comes again.
    AllSent,
    Ended(Result<(), Error>),
}

impl Reading {
    /// Whether nothing more will come, and why. Asked *before* looking for batches: what is visible by then
    /// is found by the look that follows.
    ///
    /// # Errors
    /// `subscription_moved`: who reads for it goes on elsewhere.
    pub(super) fn ending(&self) -> Result<Ending, Error> {
        let Look { state, lost_producer, moved } = self.cell.look(self.reads_for.as_ref());
        if let Some(moved) = moved {
            return Err(moved);
        }
        let is_shutting_down = self.coordinator.shutdown().is_cancelled();
        Ok(match state {
            StreamState::Open if is_shutting_down => Ending::Ended(Err(Error::ShuttingDown)),
            StreamState::Open => match lost_producer {
                Some(producer) => Ending::Ended(Err(Error::ProducerLost { producer })),
                None => Ending::GoesOn,
            },
            _ if !self.cell.is_durable() => match is_shutting_down {
                true => Ending::Ended(Err(Error::ShuttingDown)),
                false => Ending::Unsettled,
            },
            StreamState::Completed => self.end_of(Ok(()), is_shutting_down)?,
            StreamState::Failed { reason } => self.end_of(Err(stream_failed(reason)), is_shutting_down)?,
        })
    }

    /// How it ends for this reader. A consumer that reads by leases stays until all is acked, to take over from those who die; an
    /// error it is told as soon as there is nothing more to be sent.
    fn end_of(&self, end: Result<(), Error>, is_shutting_down: bool) -> Result<Ending, Error> {
        let Some(standing) = self.leases.as_ref().map(|leases| leases.standing(&self.cell)).transpose()? else {
            return Ok(Ending::Ended(end));
        };
        Ok(match (standing, end) {
            (Standing { is_acked: true, .. }, end) | (Standing { is_sent: true, .. }, end @ Err(_)) => Ending::Ended(end),
            _ if is_shutting_down => Ending::Ended(Err(Error::ShuttingDown)),
            (Standing { is_sent: true, .. }, Ok(())) | (Standing { needs_acks: true, .. }, _) => Ending::AllSent,
            (Standing { is_sent: false, .. }, _) => Ending::GoesOn,
        })
    }

    /// Waits until something may be there: because of others, or by time alone.
    pub(super) async fn changed(&self) {
        match self.leases.as_ref().and_then(|leases| leases.next_due(&self.cell)) {
            // The timer of tokio is one of milliseconds.
            Some(due) => drop(tokio::time::timeout(due + Duration::from_millis(1), self.watch.changed()).await),
            None => self.watch.changed().await,
        }
    }

    /// Waits until the end is durable, or anything else is new.
    pub(super) async fn settled(&self) -> Result<(), Error> {
        tokio::select! {
            biased;
            durable = self.cell.durable() => durable,
            () = self.watch.changed() => Ok(()),
            () = self.coordinator.shutdown().cancelled() => Ok(()),
        }
    }
}

pub(super) fn stream_failed(reason: Arc<str>) -> Error {
    Error::Engine(crate::engine::Error::StreamFailed { reason })
}
