//! How far a partition's batches were given to consumers of a shared subscription: by rows, or by the lanes of keys.

use super::share::LANES;
use super::{Offset, Share};

/// How far it is. What lies before it and is no piece, is acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The next offset and, of that, the next row; one of each lane where rows are shared by keys.
    places: Vec<(Offset, u64)>,
    /// Batches that were dropped and that nobody was told of.
    pub(super) skipped: u64,
}

impl Given {
    pub(super) fn new(next: Offset, is_keyed: bool) -> Self {
        Self { places: vec![(next, 0); if is_keyed { LANES as usize } else { 1 }], skipped: 0 }
    }

    /// As it was saved: one place where all lanes are at the same.
    pub(super) fn restore(places: &[(Offset, u64)], is_keyed: bool) -> Self {
        let mut given = Self::new(places.first().map_or(Offset(0), |(offset, _)| *offset), is_keyed);
        if places.len() == given.places.len() {
            given.places = places.to_vec();
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
        self.places.iter().map(|(offset, _)| *offset).min().unwrap_or_default()
    }

    /// Rows of the next offset that are given, where they are given in order.
    pub(super) fn row(&self) -> u64 {
        if let [(_, row)] = self.places.as_slice() { *row } else { 0 }
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
    }

    /// What lies from `end` on was never durable, and is not there.
    pub(super) fn end_at(&mut self, end: Offset) {
        for (offset, row) in self.places.iter_mut().filter(|(offset, _)| *offset >= end) {
            (*offset, *row) = (end, 0);
        }
    }

    /// What lies before `start` is gone.
    pub(super) fn drop_before(&mut self, start: Offset) {
        for (offset, row) in self.places.iter_mut().filter(|(offset, _)| *offset < start) {
            (*offset, *row) = (start, 0);
        }
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
            (share, given.next(), given.row())
        };
        assert_eq!(next(10), (Share::Rows { start: 0, end: 4 }, Offset(3), 4));
        assert_eq!(next(10), (Share::Rows { start: 4, end: 8 }, Offset(3), 8));
        assert_eq!(next(10), (Share::Rows { start: 8, end: 10 }, Offset(4), 0));
        assert_eq!(next(0), (Share::Rows { start: 0, end: 0 }, Offset(5), 0));
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
