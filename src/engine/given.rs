//! How far a partition's batches were given to consumers of a shared subscription: by rows, or by the lanes of keys.

use super::partition::Partition;
use super::share::{LANES, part_of};
use super::{Offset, Share};

/// How far it is. What lies before it and is no piece, is acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The next offset and, of that, the next row; one of each lane where rows are shared by keys.
    places: Vec<(Offset, u64)>,
    /// The next offset of which anything is to be given. Invariant: the lowest of the places.
    next: Offset,
    /// Batches that were dropped and that nobody was told of.
    pub(super) skipped: u64,
}

impl Given {
    pub(super) fn new(next: Offset, is_keyed: bool) -> Self {
        Self { places: vec![(next, 0); if is_keyed { LANES as usize } else { 1 }], next, skipped: 0 }
    }

    /// As it was saved: one place where all lanes are at the same.
    pub(super) fn restore(places: &[(Offset, u64)], is_keyed: bool) -> Self {
        let mut given = Self::new(places.first().map_or(Offset(0), |(offset, _)| *offset), is_keyed);
        if places.len() == given.places.len() {
            given.places = places.to_vec();
            given.find_next();
        }
        given
    }

    pub(super) fn saved(&self) -> Vec<(Offset, u64)> {
        match self.places.as_slice() {
            [first, rest @ ..] if rest.iter().all(|place| place == first) => vec![*first],
            places => places.to_vec(),
        }
    }

    /// The next offset of which anything is to be given.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    fn find_next(&mut self) {
        self.next = self.places.iter().map(|(offset, _)| *offset).min().unwrap_or_default();
    }

    /// About how many rows and bytes are to be given yet.
    pub(super) fn left<D>(&self, partition: &Partition<D>) -> (u64, u64) {
        let (end_rows, end_bytes) = partition.totals_before(partition.visible_end());
        let of_place = |(offset, row): &(Offset, u64)| {
            let (rows, bytes) = partition.totals_before(*offset);
            let begun = partition.get(*offset).map_or(0, |batch| part_of(batch.facts.bytes, *row, batch.facts.rows));
            (u128::from((end_rows - rows).saturating_sub(*row)), u128::from((end_bytes - bytes).saturating_sub(begun)))
        };
        let (rows, bytes) = self.places.iter().map(of_place).fold((0, 0), |sum, left| (sum.0 + left.0, sum.1 + left.1));
        let of_one = |sum: u128| u64::try_from(sum / self.places.len().max(1) as u128).unwrap_or(u64::MAX);
        (of_one(rows), of_one(bytes))
    }

    /// The next offset for these lanes (all where rows are given in order), and which of them are there.
    pub(super) fn next_of(&self, lanes: u64) -> Option<(Offset, u64)> {
        let asked = || self.places.iter().enumerate().filter(|(number, _)| self.places.len() == 1 || lanes & (1 << number) != 0);
        let next = asked().map(|(_, (offset, _))| *offset).min()?;
        Some((next, asked().filter(|(_, (offset, _))| *offset == next).fold(0, |mask, (number, _)| mask | 1 << number)))
    }

    /// What is next of a batch of so many rows: at most `max_rows`, or all of these lanes.
    pub(super) fn share(&self, lanes: u64, rows: u64, max_rows: u64) -> Share {
        match self.places.as_slice() {
            [(_, row)] => Share::Rows { start: *row, end: rows.min(row.saturating_add(max_rows.max(1))).max(*row) },
            _ => Share::Lanes(lanes),
        }
    }

    /// That is given, of a batch of so many rows.
    pub(super) fn give(&mut self, share: Share, rows: u64) {
        match (share, self.places.as_mut_slice()) {
            (Share::Rows { end, .. }, [(offset, row)]) => {
                *row = end;
                if end >= rows {
                    (*offset, *row) = (offset.plus(1), 0);
                }
            }
            (Share::Lanes(mask), places) => {
                let places = places.iter_mut().enumerate().filter(|(number, _)| mask & (1 << number) != 0);
                places.for_each(|(_, (offset, _))| *offset = offset.plus(1));
            }
            (Share::Rows { .. }, _) => {}
        }
        self.find_next();
    }

    /// What lies from `end` on was never there, or is not there any more.
    pub(super) fn clamp_to(&mut self, end: Offset) {
        for place in self.places.iter_mut().filter(|(offset, _)| *offset >= end) {
            *place = (end, 0);
        }
        self.find_next();
    }

    /// What lies before `start` is gone.
    pub(super) fn drop_before(&mut self, start: Offset) {
        for (offset, row) in self.places.iter_mut().filter(|(offset, _)| *offset < start) {
            (*offset, *row) = (start, 0);
        }
        self.find_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_given_in_order_and_a_batch_of_none_is_given_as_a_whole() {
        let mut given = Given::new(Offset(3), false);
        let mut next = |rows| {
            let share = given.share(0, rows, 4);
            given.give(share, rows);
            (share, given.saved()[0])
        };
        assert_eq!(next(10), (Share::Rows { start: 0, end: 4 }, (Offset(3), 4)));
        assert_eq!(next(10), (Share::Rows { start: 4, end: 8 }, (Offset(3), 8)));
        assert_eq!(next(10), (Share::Rows { start: 8, end: 10 }, (Offset(4), 0)));
        assert_eq!(next(0), (Share::Rows { start: 0, end: 0 }, (Offset(5), 0)));
        given.clamp_to(Offset(6));
        assert_eq!(given.next(), Offset(5));
        given.clamp_to(Offset(2));
        assert_eq!(given.next(), Offset(2));
        given.drop_before(Offset(7));
        assert_eq!((given.next(), Given::restore(&given.saved(), false)), (Offset(7), given));
    }

    #[test]
    fn each_lane_goes_on_where_it_is() {
        let mut given = Given::new(Offset(0), true);
        assert_eq!(given.saved(), [(Offset(0), 0)]);
        assert_eq!(given.next_of(0b11), Some((Offset(0), 0b11)));
        given.give(Share::Lanes(0b01), 10);
        assert_eq!(given.next_of(0b11), Some((Offset(0), 0b10)));
        assert_eq!(given.next_of(0b01), Some((Offset(1), 0b01)));
        assert_eq!((given.next(), given.next_of(0)), (Offset(0), None));
        assert_eq!(Given::restore(&given.saved(), true), given);
    }
}
