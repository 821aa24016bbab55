//! Where starts lie in a stream, and seeks.

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{
    Code, Command, EpochSpan, Generation, Offset, Outcome, PartitionMove, ProducerId, Start, StreamState, SubscriptionName, Wanted,
};

/// A stream as a reader sees it before it looks for batches.
#[derive(Debug)]
pub(in crate::server) struct Look {
    pub(in crate::server) state: StreamState,
    pub(in crate::server) lost_producer: Option<ProducerId>,
    /// That the subscription goes on elsewhere or was evicted, if so.
    pub(in crate::server) moved: Option<Error>,
}

impl StreamCell {
    /// See [`Stream::locate`](crate::engine::Stream::locate).
    ///
    /// # Errors
    /// `offset_gone`, `offset_ahead`, `partition_out_of_range`, `invalid_argument`.
    pub(in crate::server) fn locate(&self, start: &Start) -> Result<Vec<Offset>, Error> {
        Ok(self.inner.lock().stream.locate(start)?)
    }

    /// Which of a subscription's cursors count.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub(in crate::server) fn generation(&self, subscription: &SubscriptionName) -> Result<Generation, Error> {
        Ok(self.inner.lock().stream.generation(subscription)?)
    }

    /// Whether the stream goes on, for who reads for a subscription's cursors or for none: under one lock, for it is asked before
    /// each look for batches.
    pub(in crate::server) fn look(&self, reads_for: Option<&(SubscriptionName, Generation)>) -> Look {
        let inner = self.inner.lock();
        let checked = reads_for.map_or(Ok(()), |(name, generation)| inner.stream.check_generation(name, *generation));
        Look {
            state: inner.stream.state().clone(),
            lost_producer: inner.stream.lost_producer().cloned(),
            // Who deletes a subscription ends nobody's reading.
            moved: checked.err().filter(|error| error.code() != Code::SubscriptionNotFound).map(Error::Engine),
        }
    }

    /// Refuses who reads for cursors that are of no more use.
    ///
    /// # Errors
    /// `subscription_not_found`, `subscription_moved`, `subscription_evicted`.
    pub(in crate::server) fn check_generation(&self, subscription: &SubscriptionName, asked: Generation) -> Result<(), Error> {
        Ok(self.inner.lock().stream.check_generation(subscription, asked)?)
    }

    /// See [`Stream::next_epoch`](crate::engine::Stream::next_epoch).
    ///
    /// # Errors
    /// `partition_out_of_range`.
    pub(in crate::server) fn next_epoch(&self, wanted: &[Wanted]) -> Result<Option<EpochSpan>, Error> {
        Ok(self.inner.lock().stream.next_epoch(wanted)?)
    }

    /// Moves a subscription, or says what that would do.
    ///
    /// # Errors
    /// As [`locate`](Self::locate), and `subscription_not_found`.
    pub(in crate::server) fn seek(&self, subscription: SubscriptionName, to: Start, dry_run: bool) -> Result<Vec<PartitionMove>, Error> {
        match self.apply(Command::Seek { subscription, to, dry_run })? {
            Outcome::Moved(moves) => Ok(moves),
            other => Err(Error::unexpected(&other)),
        }
    }
}
