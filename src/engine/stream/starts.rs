//! Where starts lie in a stream, and what a seek moves.

use super::super::partition::Partition;
use super::super::{Epoch, Error, Offset, PartitionId, PartitionMove, ProducerId, Start, SubscriptionName};
use super::Stream;

impl<D: Clone> Stream<D> {
    /// The offset in each partition at which a start lies, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::OffsetGone`], [`Error::TimeGone`] or [`Error::EpochGone`] if something behind it is no longer kept;
    /// [`Error::OffsetAhead`], [`Error::EpochAhead`], [`Error::EpochOfWhom`], [`Error::PartitionOutOfRange`].
    pub fn locate(&self, start: &Start) -> Result<Vec<Offset>, Error> {
        self.locate_or(start, |_, partition| partition.start())
    }

    /// The same; partitions that [`Start::Offsets`] does not name get another offset.
    fn locate_or(&self, start: &Start, unnamed: impl Fn(usize, &Partition<D>) -> Offset) -> Result<Vec<Offset>, Error> {
        let partitions = self.partitions.iter();
        match start {
            Start::Earliest => Ok(partitions.map(Partition::start).collect()),
            Start::Latest => Ok(partitions.map(Partition::visible_end).collect()),
            Start::Offsets(offsets) => {
                for (partition, offset) in offsets {
                    self.partition(*partition)?.check_kept(*offset)?;
                }
                let named = |(index, number)| offsets.get(&number).copied().unwrap_or_else(|| unnamed(index, &self.partitions[index]));
                Ok((0..self.partitions.len()).zip((0..).map(PartitionId)).map(named).collect())
            }
            Start::Time(time) => partitions.map(|partition| partition.first_since(*time)).collect(),
            Start::Epoch { producer, epoch } => {
                let producer = self.producer_of_epoch(producer.as_ref(), *epoch)?;
                partitions.map(|partition| partition.first_of(producer, *epoch)).collect()
            }
        }
    }

    /// The producer that an epoch to start at is of, if it has come that far.
    fn producer_of_epoch(&self, asked: Option<&ProducerId>, epoch: Epoch) -> Result<&ProducerId, Error> {
        let commits = || self.producers.iter().filter(|(_, producer)| producer.committed.is_some());
        let found = match asked {
            Some(asked) => self.producers.get_key_value(asked),
            None => Some(commits()).and_then(|mut only| only.next().filter(|_| only.next().is_none())),
        };
        let Some((producer, state)) = found else {
            return Err(Error::EpochOfWhom { asked: asked.cloned(), known: commits().map(|(producer, _)| producer.clone()).collect() });
        };
        let next = state.committed.map_or(Epoch(0), |committed| Epoch(committed.0.saturating_add(1)));
        if epoch > next {
            return Err(Error::EpochAhead { producer: producer.clone(), epoch, committed: state.committed, next });
        }
        Ok(producer)
    }

    /// What a seek moves, partition by partition.
    pub(super) fn moves(&self, name: &SubscriptionName, to: &Start) -> Result<Vec<PartitionMove>, Error> {
        let cursors = &self.subscription(name)?.cursors;
        // An evicted one may stand before the earliest.
        let targets = self.locate_or(to, |index, partition| cursors[index].acked.max(partition.start()))?;
        let places = self.partitions.iter().zip(cursors.iter().map(|cursor| cursor.acked)).zip(targets);
        let mut moves: Vec<_> =
            (0..).map(PartitionId).zip(places).map(|(id, ((partition, from), to))| moved(id, partition, from, to)).collect();
        if *to == Start::Earliest {
            moves.iter_mut().for_each(|moved| moved.gone_batches = moved.to.0);
        }
        Ok(moves)
    }
}

fn moved<D>(id: PartitionId, partition: &Partition<D>, from: Offset, to: Offset) -> PartitionMove {
    let (first, last) = (from.min(to), from.max(to));
    let ((rows, bytes), (rows_before, bytes_before)) = (partition.totals_before(last), partition.totals_before(first));
    let (rows, bytes) = (rows - rows_before, bytes - bytes_before);
    PartitionMove { partition: id, from, to, batches: last.since(first), rows, bytes, gone_batches: 0 }
}
