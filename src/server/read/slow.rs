//! How fast a read goes, where its principal has a quota.

use super::super::access::{Flow, Usage};
use super::super::error::Error;
use super::Reading;

impl Reading {
    /// Whether its principal has read more than it may.
    pub(super) fn must_slow(&self) -> bool {
        self.usage.as_ref().is_some_and(|usage| usage.must_wait(Flow::Read))
    }

    /// Waits until it may read on. Before batches are taken, so that nothing is leased or held meanwhile: what has been taken
    /// goes out at once, and is owed.
    pub(super) async fn slow(&self) -> Result<(), Error> {
        let Some(usage) = &self.usage else { return Ok(()) };
        tokio::select! {
            biased;
            () = self.coordinator.shutdown().cancelled() => Err(Error::ShuttingDown),
            () = usage.pass(Flow::Read, 0) => Ok(()),
        }
    }

    /// Takes what goes out.
    pub(super) fn charge(&self, bytes: u64) {
        self.usage.iter().for_each(|usage| Usage::charge(usage, Flow::Read, bytes));
    }
}
