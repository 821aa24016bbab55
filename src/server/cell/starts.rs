//! Where starts lie in a stream, and seeks.

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{Command, Offset, Outcome, PartitionMove, Start, SubscriptionName};

impl StreamCell {
    /// See [`Stream::locate`](crate::engine::Stream::locate).
    ///
    /// # Errors
    /// `offset_gone`, `offset_ahead`, `partition_out_of_range`, `invalid_argument`.
    pub(in crate::server) fn locate(&self, start: &Start) -> Result<Vec<Offset>, Error> {
        Ok(self.inner.lock().stream.locate(start)?)
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
