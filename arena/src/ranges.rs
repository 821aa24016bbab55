//! Free ranges: which parts of an arena are not taken.

use std::collections::BTreeMap;

/// Where the free ranges begin, and their bytes. Invariant: none is empty, and no two touch.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: BTreeMap<usize, usize>,
    closed: bool,
}

impl Ranges {
    /// All of so many bytes is free.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: BTreeMap::from([(0, bytes)]), closed: false }
    }

    /// Bytes that are free.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.free.values().sum()
    }

    /// Takes the first range that begins at `from` or after it, whole.
    pub(crate) fn take_after(&mut self, from: usize) -> Option<(usize, usize)> {
        let (start, bytes) = self.free.range(from..).next().map(|(start, bytes)| (*start, *bytes))?;
        self.free.remove(&start);
        Some((start, bytes))
    }

    /// Nothing is free any more, and nothing will be.
    pub(crate) fn close(&mut self) {
        self.free.clear();
        self.closed = true;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.free.iter().map(|(start, bytes)| (*start, *bytes))
    }

    /// Takes the first range that is large enough; gives its start.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let (start, found) = self.iter().find(|(_, found)| *found >= bytes)?;
        self.free.remove(&start);
        if found > bytes {
            self.free.insert(start + bytes, found - bytes);
        }
        Some(start)
    }

    /// Frees a range that was taken, and joins it with its neighbours.
    pub(crate) fn put_back(&mut self, start: usize, bytes: usize) {
        if self.closed {
            return;
        }
        let (mut start, mut bytes) = (start, bytes);
        if let Some(after) = self.free.remove(&(start + bytes)) {
            bytes += after;
        }
        if let Some((before, length)) = self.free.range(..start).next_back().map(|(before, length)| (*before, *length))
            && before + length == start
        {
            self.free.remove(&before);
            start = before;
            bytes += length;
        }
        self.free.insert(start, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_never_overlap_and_all_is_free_again_in_the_end(steps in prop::collection::vec((1_usize..40, any::<prop::sample::Index>()), 1..200)) {
            let mut ranges = Ranges::new(256);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (bytes, index) in steps {
                if bytes % 3 == 0 && !taken.is_empty() {
                    let (start, bytes) = taken.swap_remove(index.index(taken.len()));
                    ranges.put_back(start, bytes);
                } else if let Some(start) = ranges.take(bytes) {
                    prop_assert!(start + bytes <= 256);
                    prop_assert!(taken.iter().all(|(other, length)| start + bytes <= *other || other + length <= start));
                    taken.push((start, bytes));
                }
                prop_assert_eq!(ranges.bytes() + taken.iter().map(|(_, bytes)| bytes).sum::<usize>(), 256);
                let free: Vec<_> = ranges.iter().collect();
                prop_assert!(free.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "neighbours are joined");
            }
            for (start, bytes) in taken {
                ranges.put_back(start, bytes);
            }
            prop_assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 256)]);
        }
    }
}
