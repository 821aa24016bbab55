//! Of a durable stream: what its log has written, and what is durable there.

use super::super::{Effects, Error, Offset, Outcome, PartitionId, Timestamp};
use super::Stream;

impl<D: Clone> Stream<D> {
    pub(super) fn settle(
        &mut self,
        batches: u64,
        bytes: u64,
        durable: &[(PartitionId, Offset)],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        for &(partition, _) in durable {
            self.partition(partition)?;
        }
        self.budget.written(batches, bytes);
        for &(partition, offset) in durable {
            if self.partitions[partition.index()].settle(offset, now) {
                effects.visible.push(partition);
            }
        }
        Ok(Outcome::Done)
    }

    /// Bytes that are appended or reserved, and not yet written.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        if self.is_durable { self.budget.used().memory_bytes } else { 0 }
    }

    /// One past the last offset of a partition, visible or not.
    ///
    /// # Errors
    /// [`Error::PartitionOutOfRange`].
    pub fn log_end(&self, partition: PartitionId) -> Result<Offset, Error> {
        Ok(self.partition(partition)?.end())
    }

    /// The batches of a partition from `from` on, those too that are not visible yet: for its log.
    ///
    /// # Errors
    /// [`Error::PartitionOutOfRange`].
    pub fn unsettled(&self, partition: PartitionId, from: Offset) -> Result<impl Iterator<Item = &super::Batch<D>>, Error> {
        let partition = self.partition(partition)?;
        let mut next = from.max(partition.start());
        Ok(std::iter::from_fn(move || {
            let batch = partition.find(next)?;
            next = next.plus(1);
            Some(batch)
        }))
    }
}
