//! Where starts lie, looked up in everything that ever was.

use bowstring::engine::{Code, Epoch, PartitionId, ProducerId, Start, SubscriptionName};

use super::{Held, Log, Model};

impl Model {
    /// The offset in each partition, or what the start is refused with. Offsets that are not named: at the subscription's cursor,
    /// else at the earliest.
    pub(crate) fn locate(&self, start: &Start, unnamed: Option<&SubscriptionName>) -> Result<Vec<u64>, Code> {
        match start {
            Start::Earliest => Ok(self.logs.iter().map(|log| log.start as u64).collect()),
            Start::Latest => Ok(self.logs.iter().map(|log| log.batches.len() as u64).collect()),
            Start::Offsets(offsets) => {
                for (partition, offset) in offsets {
                    let log = self.logs.get(partition.index()).ok_or(Code::PartitionOutOfRange)?;
                    match offset.0 {
                        offset if offset < log.start as u64 => return Err(Code::OffsetGone),
                        offset if offset > log.batches.len() as u64 => return Err(Code::OffsetAhead),
                        _ => (),
                    }
                }
                let otherwise = |index: usize| match unnamed {
                    Some(name) => self.subscriptions[name][index].acked.max(self.logs[index].start as u64),
                    None => self.logs[index].start as u64,
                };
                let numbered = (0..).map(PartitionId).take(self.logs.len());
                Ok(numbered.map(|number| offsets.get(&number).map_or_else(|| otherwise(number.index()), |offset| offset.0)).collect())
            }
            Start::Time(time) => self.first_in_each(|batch| batch.appended_at >= *time),
            Start::Epoch { producer, epoch } => {
                let producer = self.producer_of_epoch(producer.as_ref(), *epoch)?;
                self.first_in_each(|batch| batch.producer == *producer && batch.epoch.is_some_and(|of| of >= *epoch))
            }
        }
    }

    fn first_in_each(&self, is_it: impl Fn(&Held) -> bool) -> Result<Vec<u64>, Code> {
        let first = |log: &Log| match log.batches.iter().position(&is_it) {
            Some(first) if first < log.start => Err(Code::OffsetGone),
            first => Ok(first.unwrap_or(log.batches.len()) as u64),
        };
        self.logs.iter().map(first).collect()
    }

    fn producer_of_epoch<'a>(&'a self, asked: Option<&'a ProducerId>, epoch: Epoch) -> Result<&'a ProducerId, Code> {
        let committing: Vec<_> = self.producers.iter().filter(|(_, state)| state.committed.is_some()).map(|(name, _)| name).collect();
        let producer = match (asked, &committing[..]) {
            (Some(asked), _) => asked,
            (None, [only]) => only,
            (None, _) => return Err(Code::InvalidArgument),
        };
        let committed = self.producers.get(producer).ok_or(Code::InvalidArgument)?.committed;
        match committed {
            Some(committed) if epoch.0 > committed.0.saturating_add(1) => Err(Code::OffsetAhead),
            None if epoch.0 > 0 => Err(Code::OffsetAhead),
            _ => Ok(producer),
        }
    }
}
