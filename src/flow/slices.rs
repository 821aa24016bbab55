//! Windows of a fixed size: time is cut in slices, each of which lies in the same windows as a whole, so that a row is added once,
//! whatever the number of windows that it is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::arrow::array::{Int64Array, UInt32Array};
use datafusion_common::arrow::compute::{max, min};

use super::aggregates::{Aggregates, Evaluated};
use super::aggregation::{Closed, Windows};
use super::firings::{Due, Firing};
use super::groups::Groups;
use super::parts::{Part, Parts, merged};
use super::store::Store;
use super::time::common;

/// The slices whose windows are not all over.
#[derive(Debug)]
pub(super) struct Slices {
    plan: Arc<Aggregates>,
    size: i64,
    slide: i64,
    /// How long a slice is.
    width: i64,
    /// By their start.
    open: BTreeMap<i64, Slice>,
}

#[derive(Debug, Default)]
struct Slice {
    /// What came since the last part.
    live: Option<Groups>,
    parts: Parts,
    /// Whether rows came since the last early results.
    is_changed: bool,
    /// Whether rows came since the last results.
    is_touched: bool,
}

impl Slices {
    /// Windows of `size` that begin every `slide`, in units of the event time.
    pub(super) fn new(plan: &Arc<Aggregates>, size: i64, slide: i64) -> Self {
        Self { plan: plan.clone(), size, slide, width: common(size, slide), open: BTreeMap::new() }
    }

    /// Adds rows to a slice.
    fn update(&mut self, start: i64, rows: &Evaluated) -> Result<()> {
        let slice = self.open.entry(start).or_default();
        if slice.live.is_none() {
            slice.live = Some(Groups::new(&self.plan)?);
        }
        (slice.is_changed, slice.is_touched) = (true, true);
        slice.live.as_mut().map_or(Ok(()), |live| live.update(rows))
    }

    /// The start of the last window that a time is in.
    fn last_window(&self, time: i64) -> i64 {
        time.div_euclid(self.slide) * self.slide
    }

    /// The windows that a slice is in and that have a result now, by their starts.
    fn windows(&self, slice: i64, of: &Slice, due: &Due) -> impl Iterator<Item = (i64, Firing)> {
        let (size, slide, due) = (self.size, self.slide, *due);
        let (is_changed, is_touched) = (of.is_changed, of.is_touched);
        let windows = std::iter::successors(Some(self.last_window(slice)), move |start| start.checked_sub(slide));
        // With gaps between windows, a slice may be in none.
        let windows = windows.take_while(move |start| start.saturating_add(size) > slice);
        windows.filter_map(move |start| Some((start, due.firing(start.saturating_add(size), is_changed, is_touched)?)))
    }

    /// What a window has come to; `is_last` if it has no result after this one.
    fn close(&mut self, window: i64, firing: Firing, is_last: bool, store: &mut Store, closed: &mut Vec<Closed>) -> Result<()> {
        let end = window.saturating_add(self.size);
        let of_window: Vec<i64> = self.open.range(window..end).map(|(start, _)| *start).collect();
        if let [start] = of_window[..] {
            let is_last = is_last && self.last_window(start) == window;
            if let Some(slice) = self.open.get_mut(&start).filter(|slice| is_last && slice.parts.is_empty()) {
                if let Some(live) = slice.live.take() {
                    closed.push(Closed::of(firing, window, end, live.finish()?));
                }
                return Ok(());
            }
        }
        for (_, slice) in self.open.range_mut(window..end) {
            seal(slice, store)?;
            if !is_last {
                slice.parts.compact(&self.plan, store)?;
            }
        }
        let parts: Vec<&Part> = self.open.range(window..end).flat_map(|(_, slice)| slice.parts.iter()).collect();
        merged(&self.plan, &parts, store, |groups| {
            closed.push(Closed::of(firing, window, end, groups.finish()?));
            Ok(())
        })
    }
}

impl Windows for Slices {
    fn late_before(&self, watermark: i64) -> i64 {
        // The first window that is not over; nothing before it counts any more.
        let over = watermark.saturating_sub(self.size).div_euclid(self.slide);
        over.saturating_add(1).saturating_mul(self.slide)
    }

    fn push(&mut self, rows: &Evaluated, times: &Int64Array) -> Result<()> {
        let (Some(first), Some(last)) = (min(times), max(times)) else { return Ok(()) };
        let width = self.width;
        let slice_of = |time: i64| time.div_euclid(width) * width;
        // Between windows that are further apart than they are long is nothing.
        let is_covered = |slice: i64, slices: &Self| slices.last_window(slice).saturating_add(slices.size) > slice;
        if slice_of(first) == slice_of(last) {
            let slice = slice_of(first);
            return if is_covered(slice, self) { self.update(slice, rows) } else { Ok(()) };
        }
        let mut found: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let (mut current, mut of_current) = (slice_of(times.value(0)), Vec::new());
        for (row, time) in times.values().iter().enumerate() {
            if !(current..current.saturating_add(width)).contains(time) {
                found.entry(current).or_default().append(&mut of_current);
                current = slice_of(*time);
            }
            of_current.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        found.entry(current).or_default().append(&mut of_current);
        for (slice, numbers) in found {
            if !is_covered(slice, self) {
                continue;
            }
            let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { continue };
            let is_run = (last - first) as usize + 1 == numbers.len();
            let own =
                if is_run { rows.slice(*first as usize, numbers.len())? } else { rows.take(&UInt32Array::from_iter_values(numbers))? };
            self.update(slice, &own)?;
        }
        Ok(())
    }

    fn fire(&mut self, due: &Due, store: &mut Store) -> Result<Vec<Closed>> {
        let firing: BTreeMap<i64, Firing> = self.open.iter().flat_map(|(start, slice)| self.windows(*start, slice, due)).collect();
        let mut closed = Vec::new();
        for (window, firing) in firing {
            let is_last = due.is_done(window.saturating_add(self.size));
            self.close(window, firing, is_last, store, &mut closed)?;
        }
        let is_done = |slice: i64| due.is_done(self.last_window(slice).saturating_add(self.size));
        let done: Vec<i64> = self.open.keys().filter(|slice| is_done(**slice)).copied().collect();
        for slice in done.iter().filter_map(|slice| self.open.remove(slice)) {
            slice.parts.iter().for_each(|part| store.discard(part));
        }
        for slice in self.open.values_mut() {
            slice.is_touched = false;
            slice.is_changed &= !due.early;
        }
        Ok(closed)
    }

    fn seal(&mut self, store: &mut Store) -> Result<()> {
        for slice in self.open.values_mut() {
            seal(slice, store)?;
            slice.parts.compact(&self.plan, store)?;
        }
        Ok(())
    }

    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_> {
        Box::new(self.open.iter_mut().flat_map(|(start, slice)| slice.parts.iter_mut().map(move |part| (*start, part))))
    }

    fn restore(&mut self, slice: i64, part: Part) -> Result<()> {
        let slice = self.open.entry(slice).or_default();
        slice.parts.push(part);
        // For all that is known.
        slice.is_changed = true;
        Ok(())
    }

    fn bytes(&self) -> usize {
        let bytes = |slice: &Slice| slice.live.as_ref().map_or(0, Groups::bytes) + slice.parts.held();
        self.open.values().map(bytes).sum()
    }
}

fn seal(slice: &mut Slice, store: &mut Store) -> Result<()> {
    if let Some(live) = slice.live.take() {
        slice.parts.push(store.add(live.seal()?));
    }
    Ok(())
}
