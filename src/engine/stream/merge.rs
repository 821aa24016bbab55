//! The order over all partitions of what a restart has found: that in which it was committed, as far as that can be told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;
use std::vec::IntoIter;

use super::super::{BatchFacts, Epoch, PartitionSnapshot, ProducerId, Timestamp};

/// An epoch whose batches go together.
type Whole = (ProducerId, Epoch);

/// Takes each partition's batches in their order. Those of an epoch come together, once it is at the head of every partition that
/// has some of it, for epochs were committed in the same order in all of them; else they come by when they were appended.
#[derive(Debug)]
pub(super) struct Merge<D> {
    left: Vec<Peekable<IntoIter<(BatchFacts, D)>>>,
    /// Epochs that go together, and how many partitions have some of each.
    wholes: BTreeMap<Whole, usize>,
    /// The partitions at whose heads they are.
    heads: BTreeMap<Whole, Vec<usize>>,
    /// What can come next: when the first of it was appended, and a partition that it is of.
    turns: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// What is to come before anything else, last first.
    next: Vec<usize>,
}

impl<D> Merge<D> {
    /// `goes_together`: whether epochs were committed as a whole. With `immediate` visibility they were not.
    pub(super) fn new(found: Vec<PartitionSnapshot<D>>, goes_together: bool) -> Self {
        let mut wholes = BTreeMap::new();
        for partition in found.iter().filter(|_| goes_together) {
            let mut last = None;
            for whole in partition.batches.iter().map(|(facts, _)| whole(facts)) {
                if let Some(whole) = whole.clone().filter(|_| whole != last) {
                    *wholes.entry(whole).or_default() += 1;
                }
                last = whole;
            }
        }
        let left: Vec<_> = found.into_iter().map(|partition| partition.batches.into_iter().peekable()).collect();
        let partitions = left.len();
        let mut merge = Self { left, wholes, heads: BTreeMap::new(), turns: BinaryHeap::new(), next: Vec::new() };
        (0..partitions).for_each(|index| merge.offer(index));
        merge
    }

    /// A partition has another head.
    fn offer(&mut self, index: usize) {
        let Some((facts, _)) = self.left[index].peek() else { return };
        let appended_at = facts.appended_at;
        let known = whole(facts).and_then(|whole| Some((*self.wholes.get(&whole)?, whole)));
        let Some((count, whole)) = known else {
            return self.turns.push(Reverse((appended_at, index)));
        };
        let heads = self.heads.entry(whole).or_default();
        heads.push(index);
        if heads.len() == count {
            self.turns.push(Reverse((appended_at, index)));
        }
    }

    /// The next partition to take from.
    fn turn(&mut self) -> Option<usize> {
        loop {
            if let Some(index) = self.next.pop() {
                return Some(index);
            }
            if let Some(Reverse((_, index))) = self.turns.pop() {
                match self.left[index].peek().and_then(|(facts, _)| whole(facts)).and_then(|whole| self.heads.remove(&whole)) {
                    Some(mut heads) => {
                        heads.sort_unstable_by_key(|head| Reverse(*head));
                        self.next = heads;
                    }
                    None => return Some(index),
                }
                continue;
            }
            // Nothing of this can be if the log is what this program has written. It is still all there.
            let (stuck, _) = self.heads.pop_first()?;
            self.wholes.remove(&stuck);
            let partitions = 0..self.left.len();
            let of_it = |index: &usize| self.left[*index].peek().is_some_and(|(facts, _)| whole(facts).as_ref() == Some(&stuck));
            partitions.filter(of_it).collect::<Vec<_>>().into_iter().for_each(|index| self.offer(index));
        }
    }
}

impl<D> Iterator for Merge<D> {
    /// A partition's index, and its next batch.
    type Item = (usize, (BatchFacts, D));

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.turn()?;
        let taken = self.left[index].next()?;
        let goes_on = whole(&taken.0)
            .is_some_and(|of| self.wholes.contains_key(&of) && self.left[index].peek().is_some_and(|(facts, _)| whole(facts) == Some(of)));
        if goes_on {
            self.next.push(index);
        } else {
            self.offer(index);
        }
        Some((index, taken))
    }
}

fn whole(facts: &BatchFacts) -> Option<Whole> {
    Some((facts.producer.clone(), facts.epoch?))
}
