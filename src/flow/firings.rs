//! When windows have results: once they are over, and if asked for, so far before that, and anew after that.

use std::ops::Range;
use std::time::Duration;

use datafusion_common::arrow::array::{BooleanArray, Int64Array, RecordBatch};
use datafusion_common::arrow::compute::filter_record_batch;
use datafusion_common::{DataFusionError, HashSet, Result};

use super::aggregates::Evaluated;
use super::groups::hashes;

/// What results there are besides those of windows that are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Firings {
    /// So often windows that are not over have results so far, if rows have come for them; by the clock. None: never.
    pub early: Option<Duration>,
    /// For so long after its end, of event time, a window takes rows, and has another result with them.
    pub late: Duration,
}

impl Firings {
    /// Whether windows have more than one result.
    pub(super) fn are_several(&self) -> bool {
        self.early.is_some() || !self.late.is_zero()
    }
}

/// Why a window has a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Firing {
    /// It is not over: so far.
    Early,
    /// It is over.
    OnTime,
    /// It was over, and rows have come.
    Late,
}

impl Firing {
    /// As results say it; the terms are those of Apache Beam's panes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::OnTime => "on_time",
            Self::Late => "late",
        }
    }
}

/// Which windows have results now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// Those that end until then have had theirs.
    pub(super) after: Option<i64>,
    /// Those that end until then are over.
    pub(super) until: i64,
    /// So long after its end a window is kept.
    pub(super) late: i64,
    /// Whether rows have come for windows that had their results.
    pub(super) has_late: bool,
    /// Whether those that are not over have results, too.
    pub(super) early: bool,
}

impl Due {
    /// Why a window that ends then has a result now, if rows have come for it since the last early one, and since the last one of all.
    pub(super) fn firing(&self, end: i64, is_changed: bool, is_touched: bool) -> Option<Firing> {
        if end > self.until {
            (self.early && is_changed).then_some(Firing::Early)
        } else if self.after.is_none_or(|after| end > after) {
            Some(Firing::OnTime)
        } else {
            // One that was not kept at the last results has no more: what came in its time is of other windows.
            let is_kept = self.after.is_none_or(|after| end.saturating_add(self.late) > after);
            (is_touched && self.has_late && is_kept).then_some(Firing::Late)
        }
    }

    /// Whether a window that ends then needs nothing to be kept any more.
    pub(super) fn is_done(&self, end: i64) -> bool {
        end.saturating_add(self.late) <= self.until
    }
}

/// For which keys rows have come, and when early results are due.
#[derive(Debug)]
pub(super) struct Changes {
    early: Option<Duration>,
    /// In units of the event time.
    pub(super) late: i64,
    /// When there were early results last.
    early_at: Duration,
    /// Since then, by the keys' hashes; none: of any key, for all that is known.
    changed: Option<HashSet<u64>>,
    /// Since the last results, for windows that were over.
    belated: HashSet<u64>,
}

impl Changes {
    pub(super) fn new(early: Option<Duration>, late: i64, now: Duration) -> Self {
        Self { early, late, early_at: now, changed: Some(HashSet::new()), belated: HashSet::new() }
    }

    /// Of what was kept nobody knows what has changed.
    pub(super) fn restore(&mut self) {
        self.changed = None;
    }

    /// Rows come, of which those before `fired` may be of windows that were over.
    pub(super) fn note(&mut self, rows: &Evaluated, times: &Int64Array, fired: Option<i64>) -> Result<()> {
        let fired = fired.filter(|_| self.late > 0);
        if self.early.is_none() && fired.is_none() {
            return Ok(());
        }
        let hashes = hashes(&rows.keys, rows.rows)?;
        if let Some(fired) = fired {
            let belated = hashes.iter().zip(times.values()).filter(|(_, time)| **time < fired);
            self.belated.extend(belated.map(|(hash, _)| *hash));
        }
        if let (true, Some(changed)) = (self.early.is_some(), &mut self.changed) {
            changed.extend(hashes);
        }
        Ok(())
    }

    pub(super) fn is_early_due(&self, now: Duration) -> bool {
        self.early.is_some_and(|early| now.saturating_sub(self.early_at) >= early)
    }

    pub(super) fn has_late(&self) -> bool {
        !self.belated.is_empty()
    }

    /// Of a window's results those of keys that have changed, which are these columns.
    pub(super) fn chosen(&self, firing: Firing, results: RecordBatch, keys: Range<usize>) -> Result<RecordBatch> {
        let of_keys = match firing {
            Firing::Early => self.changed.as_ref(),
            Firing::OnTime => None,
            Firing::Late => Some(&self.belated),
        };
        let Some(of_keys) = of_keys else { return Ok(results) };
        let hashes = hashes(&results.columns()[keys], results.num_rows())?;
        let is_chosen = BooleanArray::from_iter(hashes.iter().map(|hash| Some(of_keys.contains(hash))));
        if is_chosen.true_count() == is_chosen.len() {
            return Ok(results);
        }
        filter_record_batch(&results, &is_chosen).map_err(DataFusionError::from)
    }

    /// There were results; early ones, too, if `early` says when.
    pub(super) fn fired(&mut self, early: Option<Duration>) {
        self.belated.clear();
        if let Some(now) = early {
            self.early_at = now;
            self.changed = Some(HashSet::new());
        }
    }

    /// Memory that is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        (self.belated.capacity() + self.changed.as_ref().map_or(0, HashSet::capacity)) * size_of::<u64>()
    }
}
