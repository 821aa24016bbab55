//! What a partition remembers of batches that it no longer has: whether a start lies behind them.

use std::collections::BTreeMap;

use super::limits::DROPPED_EPOCHS_MAX;
use super::{BatchFacts, Epoch, ProducerId, Timestamp};

/// Of a partition's dropped batches, the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The newest time at which any of them was appended. None: none was dropped, or only while nobody kept account of it.
    pub newest_at: Option<Timestamp>,
    /// Per producer, the newest epoch that any of its batches had; of at most 32 producers.
    pub epochs: BTreeMap<ProducerId, Epoch>,
    /// The newest epoch of those producers that `epochs` had no room for.
    pub others: Option<Epoch>,
}

impl Dropped {
    /// Takes account of a batch that is dropped.
    pub(super) fn note(&mut self, facts: &BatchFacts) {
        self.newest_at = self.newest_at.max(Some(facts.appended_at));
        if let Some(epoch) = facts.epoch {
            self.note_epoch(&facts.producer, epoch);
        }
    }

    /// Takes account of a producer's batch. If there are too many producers, the one whose newest epoch is the lowest is no
    /// longer told from others: of those it may then be said that more is gone than is, and never less.
    pub(super) fn note_epoch(&mut self, producer: &ProducerId, epoch: Epoch) {
        if let Some(newest) = self.epochs.get_mut(producer) {
            *newest = epoch.max(*newest);
            return;
        }
        // It may be one of the others.
        self.epochs.insert(producer.clone(), self.others.map_or(epoch, |others| others.max(epoch)));
        if self.epochs.len() > DROPPED_EPOCHS_MAX
            && let Some(lowest) = self.epochs.iter().min_by_key(|(_, epoch)| **epoch).map(|(producer, _)| producer.clone())
        {
            self.others = self.others.max(self.epochs.remove(&lowest));
        }
    }

    /// The newest epoch of a producer that a dropped batch had, as far as is known.
    pub(super) fn newest_epoch(&self, producer: &ProducerId) -> Option<Epoch> {
        self.epochs.get(producer).copied().or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> ProducerId {
        ProducerId::new(&format!("p{number}")).expect("a name")
    }

    fn facts(producer: u64, epoch: Option<u64>, appended_at: u64) -> BatchFacts {
        BatchFacts { rows: 1, bytes: 1, producer: name(producer), epoch: epoch.map(Epoch), appended_at: Timestamp(appended_at) }
    }

    #[test]
    fn the_newest_is_kept_whatever_the_order() {
        let mut dropped = Dropped::default();
        assert_eq!((dropped.newest_at, dropped.newest_epoch(&name(0))), (None, None));
        for (epoch, at) in [(Some(3), 30), (Some(5), 20), (Some(4), 10), (None, 5)] {
            dropped.note(&facts(0, epoch, at));
        }
        assert_eq!((dropped.newest_at, dropped.newest_epoch(&name(0))), (Some(Timestamp(30)), Some(Epoch(5))));
        assert_eq!(dropped.newest_epoch(&name(1)), None);
    }

    #[test]
    fn of_32_producers_each_is_known_and_of_more_never_too_little() {
        let mut dropped = Dropped::default();
        let max = DROPPED_EPOCHS_MAX as u64;
        for producer in 0..max {
            dropped.note(&facts(producer, Some(10 + producer), 0));
        }
        assert!((0..max).all(|producer| dropped.newest_epoch(&name(producer)) == Some(Epoch(10 + producer))));
        assert_eq!((dropped.newest_epoch(&name(max)), dropped.others), (None, None));
        dropped.note(&facts(max, Some(10 + max), 0));
        assert_eq!((dropped.epochs.len(), dropped.others), (DROPPED_EPOCHS_MAX, Some(Epoch(10))), "the lowest has gone");
        assert_eq!(dropped.newest_epoch(&name(0)), Some(Epoch(10)));
        dropped.note(&facts(0, Some(2), 0));
        assert_eq!(dropped.newest_epoch(&name(0)), Some(Epoch(10)), "a late one of an earlier epoch takes nothing back");
    }
}
