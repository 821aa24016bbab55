//! Reading by leases: what a consumer of a partitioned subscription is sent, and when it has seen all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cell::{ConsumerWatch, Leased, LeasedReader, StreamCell, Watch};
use super::super::error::Error;
use super::{BATCHES_AT_ONCE, BYTES_AT_ONCE, Work};
use crate::engine::{InFlight, PartitionId, Standing, SubscriptionMode, SubscriptionName};
use crate::wire::command::{GetTarget, LeasedTarget};

/// A `DoGet` by leases under way.
pub(super) struct Leases {
    reader: LeasedReader,
    _watch: ConsumerWatch,
    /// Its consumer was told that all is sent, and nothing was since.
    has_told: bool,
    /// Batches that were dropped before one that is not sent: the next one of the partition tells of them.
    untold: BTreeMap<PartitionId, u64>,
}

impl Leases {
    /// Begins to read, if the target says by leases.
    pub(super) fn open(cell: &Arc<StreamCell>, target: &GetTarget, watch: &Watch) -> Result<Option<Self>, Error> {
        let Some((subscription, LeasedTarget { consumer, got })) = target.subscription.as_ref().zip(target.leased.as_ref()) else {
            return check_static(cell, target.subscription.as_ref()).map(|()| None);
        };
        let reader = cell.read_leased(subscription, *consumer, got.clone())?;
        let watch = cell.watch_consumer(*consumer, watch.notify());
        Ok(Some(Self { reader, _watch: watch, has_told: false, untold: BTreeMap::new() }))
    }

    pub(super) fn standing(&self, cell: &StreamCell) -> Result<Standing, Error> {
        cell.standing(&self.reader)
    }

    /// The next batches; whether to look again at once, since other partitions are watched now.
    pub(super) fn take(&mut self, cell: &StreamCell, watch: &mut Watch) -> Result<(Vec<Work>, bool), Error> {
        let most = InFlight { batches: BATCHES_AT_ONCE as u64, bytes: BYTES_AT_ONCE };
        let (leased, partitions) = cell.take_leased(&mut self.reader, most)?;
        let has_changed = partitions.is_some();
        partitions.into_iter().for_each(|partitions| watch.watch(partitions));
        let work: Vec<_> = leased
            .into_iter()
            .map(|Leased { lease, shares, partition, batch, skipped }| {
                let untold = self.untold.remove(&partition).unwrap_or(0);
                Work { partition, lease, shares, batch, skipped: skipped + untold, is_alone: false }
            })
            .collect();
        self.has_told &= work.is_empty();
        Ok((work, has_changed))
    }

    /// What is read for.
    pub(super) fn subscription(&self) -> &SubscriptionName {
        &self.reader.subscription
    }

    /// So many batches were dropped before one of a partition that is not sent.
    pub(super) fn tell_later(&mut self, partition: PartitionId, skipped: u64) {
        if skipped > 0 {
            *self.untold.entry(partition).or_default() += skipped;
        }
    }

    /// How long until something may be there by time alone.
    pub(super) fn next_due(&self, cell: &StreamCell) -> Option<Duration> {
        cell.next_due(&self.reader)
    }

    /// Whether the consumer is to be told now that all is sent.
    pub(super) fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.has_told, true)
    }
}

/// Who reads without a lease would get what others hold.
fn check_static(cell: &StreamCell, subscription: Option<&SubscriptionName>) -> Result<(), Error> {
    subscription.map_or(Ok(()), |subscription| cell.check_mode(subscription, SubscriptionMode::Static))
}
