//! Where starts lie in a stream, and seeks.

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{Command, Generation, Offset, Outcome, PartitionMove, Start, SubscriptionName};

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

    /// Refuses who reads for cursors that are of no more use.
    ///
    /// # Errors
    /// `subscription_not_found`, `subscription_moved`.
    pub(in crate::server) fn check_generation(&self, subscription: &SubscriptionName, asked: Generation) -> Result<(), Error> {
        Ok(self.inner.lock().stream.check_generation(subscription, asked)?)
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
