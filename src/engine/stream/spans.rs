//! Spans: where the batches of the next epoch lie, over all partitions.

use std::collections::BTreeMap;

use super::super::{Epoch, Error, Offset, PartitionId, ProducerId};
use super::Stream;

/// What a reader wants of a partition: from an offset on, up to one if there is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to be read.
    pub next: Offset,
    /// Exclusive; none: whatever comes.
    pub end: Option<Offset>,
}

/// What one epoch has left to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochSpan {
    /// Whose epoch, and which. None: one batch that came without an epoch.
    pub epoch: Option<(ProducerId, Epoch)>,
    /// Per partition that has some of it, one past the last offset.
    pub ends: BTreeMap<PartitionId, Offset>,
    /// Batches, over all of these partitions.
    pub batches: u64,
}

impl<D: Clone> Stream<D> {
    /// The epoch that was committed first of all that have batches from these offsets on, as far as it lies there; none if
    /// nothing is there, or if not all of the epoch is visible yet. With `committed` visibility an epoch's batches are
    /// contiguous in each partition, and epochs come in the same order in all of them, so that the oldest head's epoch is at the
    /// head wherever it is.
    ///
    /// # Errors
    /// [`Error::PartitionOutOfRange`].
    pub fn next_epoch(&self, wanted: &[Wanted]) -> Result<Option<EpochSpan>, Error> {
        let mut oldest = None;
        for one in wanted {
            let partition = self.partition(one.partition)?;
            let next = one.next.max(partition.start());
            let head = partition.find(next).filter(|_| one.end.is_none_or(|end| next < end));
            oldest = [oldest, head].into_iter().flatten().min_by_key(|batch| batch.age);
        }
        let Some(head) = oldest else { return Ok(None) };
        let mut span =
            EpochSpan { epoch: head.facts.epoch.map(|epoch| (head.facts.producer.clone(), epoch)), ends: BTreeMap::new(), batches: 0 };
        for one in wanted {
            let partition = self.partition(one.partition)?;
            let first = one.next.max(partition.start());
            let mut next = first;
            while let Some(batch) = partition.find(next).filter(|_| one.end.is_none_or(|end| next < end)) {
                let is_of_it = match &span.epoch {
                    Some((producer, epoch)) => batch.facts.epoch == Some(*epoch) && batch.facts.producer == *producer,
                    None => batch.age == head.age,
                };
                if !is_of_it {
                    break;
                }
                next = next.plus(1);
            }
            if next > partition.visible_end() {
                return Ok(None);
            }
            if next > first {
                span.ends.insert(one.partition, next);
                span.batches += next.since(first);
            }
        }
        Ok(Some(span))
    }
}
