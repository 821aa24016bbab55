//! Aggregations: what the rows of a key come to, window by window.

use std::sync::Arc;
use std::time::Duration;

use datafusion_common::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion_common::arrow::compute::{cast, max, min};
use datafusion_common::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};

use super::aggregates::{Aggregates, Evaluated};
use super::firings::{Changes, Due, Firing};
use super::late::LateRows;
use super::parts::{Part, held};
use super::sessions::Sessions;
use super::slices::Slices;
use super::state::{Input, Operator, Progress};
use super::store::Store;
use super::time::{Extent, Time, Window, are_distinct};
use super::totals::Totals;
use super::watermarks::Watermarks;
use super::{AggregationSpec, FlowError};
use crate::query::steps::with_columns;

/// Where a window starts and ends, in its results.
const WINDOW_START: &str = "window_start";
const WINDOW_END: &str = "window_end";
/// Which of a window's results it is, if it may have several.
const FIRING: &str = "firing";

/// Windows of one kind.
pub(super) trait Windows: Send + std::fmt::Debug {
    /// Rows before this time are late: all their windows are over.
    fn late_before(&self, watermark: i64) -> i64;
    /// Adds rows that are not late.
    fn push(&mut self, rows: &Evaluated, times: &Int64Array) -> Result<()>;
    /// The results of windows that have some now.
    fn fire(&mut self, due: &Due, store: &mut Store) -> Result<Vec<Closed>>;
    /// Makes parts of what there is.
    fn seal(&mut self, store: &mut Store) -> Result<()>;
    /// All parts, with the slice that they are of.
    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_>;
    /// Takes a part that was kept.
    fn restore(&mut self, slice: i64, part: Part) -> Result<()>;
    /// Memory that is held, in bytes.
    fn bytes(&self) -> usize;
}

/// Results of windows.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) firing: Firing,
    pub(super) starts: Int64Array,
    pub(super) ends: Int64Array,
    pub(super) results: RecordBatch,
}

impl Closed {
    /// Results of one window.
    pub(super) fn of(firing: Firing, start: i64, end: i64, results: RecordBatch) -> Self {
        let rows = results.num_rows();
        let same = |time| Int64Array::from_value(time, rows);
        Self { firing, starts: same(start), ends: same(end), results }
    }
}

/// The aggregation of a flow.
#[derive(Debug)]
pub(super) struct Aggregation {
    plan: Arc<Aggregates>,
    time: Option<Time>,
    windows: Box<dyn Windows>,
    /// Whether a row may be late for one of its windows, and not for another.
    overlap: bool,
    changes: Changes,
    /// Whether results say which of several of their window they are.
    says_firing: bool,
    results: SchemaRef,
    watermarks: Watermarks,
    /// Windows that end until then have had their results.
    fired: Option<i64>,
    /// Results that nobody has asked for yet.
    ready: Vec<RecordBatch>,
    late: LateRows,
}

impl Aggregation {
    /// The aggregation of an input's rows.
    ///
    /// # Errors
    /// [`FlowError::Refused`].
    pub(super) fn new(input: &Input, spec: &AggregationSpec, now: Duration) -> Result<Self, FlowError> {
        let plan = Arc::new(Aggregates::new(&input.schema, spec)?);
        let of_time = spec.time.as_ref().filter(|_| spec.window != Window::All);
        let time = of_time.map(|time| Time::new(&input.schema, &time.column)).transpose()?;
        let extent = match &time {
            Some(time) => time.extent(spec.window)?,
            None if spec.window == Window::All => Extent::All,
            None => return Err(FlowError::refused("a window without event time; say which column is a row's time")),
        };
        let firings = spec.firings;
        if extent == Extent::All && firings.are_several() {
            return Err(FlowError::refused("early or late results without a window; a key has one each time that it has changed"));
        }
        let late = time.as_ref().map_or(Ok(0), |time| time.units("late results", firings.late))?;
        let overlap = matches!(extent, Extent::Fixed { size, slide } if slide < size);
        let windows: Box<dyn Windows> = match extent {
            Extent::All => Box::new(Totals::new(&plan)?),
            Extent::Fixed { size, slide } => Box::new(Slices::new(&plan, size, slide)),
            Extent::Session { gap } => Box::new(Sessions::new(&plan, gap)),
        };
        let mut fields: Vec<FieldRef> = Vec::new();
        if let Some(time) = &time {
            fields.extend([WINDOW_START, WINDOW_END].map(|name| Arc::new(Field::new(name, time.data_type().clone(), false))));
        }
        if firings.are_several() {
            fields.push(Arc::new(Field::new(FIRING, DataType::Utf8, false)));
        }
        fields.extend(plan.results.fields().iter().cloned());
        if !are_distinct(fields.iter().map(|field| field.name())) {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            return Err(FlowError::refused(format!("two of its results have the same name: {}; give them names", names.join(", "))));
        }
        let watermarks = match (&time, of_time) {
            (Some(time), Some(of_time)) => {
                Watermarks::new(&input.partitions, time.units("a lateness", of_time.lateness)?, of_time.idle, now)
            }
            _ => Watermarks::new(&input.partitions, 0, None, now),
        };
        let (results, late_rows) = (Arc::new(Schema::new(fields)), LateRows::new(&input.schema));
        let (changes, says_firing) = (Changes::new(firings.early, late, now), firings.are_several());
        Ok(Self {
            plan,
            time,
            windows,
            overlap,
            changes,
            says_firing,
            results,
            watermarks,
            fired: None,
            ready: Vec::new(),
            late: late_rows,
        })
    }

    /// The results of windows that are over then, and early ones if `early` says when it is.
    fn fire_until(&mut self, until: i64, early: Option<Duration>, store: &mut Store) -> Result<Vec<RecordBatch>> {
        let (late, has_late) = (self.changes.late, self.changes.has_late());
        let due = Due { after: self.fired, until, late, has_late, early: early.is_some() };
        let closed = self.windows.fire(&due, store)?;
        let results = closed.into_iter().map(|closed| self.of_windows(closed)).collect();
        self.fired = self.fired.max(Some(until));
        self.changes.fired(early);
        results
    }

    /// Results, with their windows.
    fn of_windows(&self, closed: Closed) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.time.is_some() {
            for times in [closed.starts, closed.ends] {
                columns.push(cast(&times, self.results.field(0).data_type()).map_err(DataFusionError::from)?);
            }
        }
        let rows = closed.results.num_rows();
        if self.says_firing {
            columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(closed.firing.name(), rows))));
        }
        let before = columns.len();
        columns.extend(closed.results.columns().iter().cloned());
        let results = with_columns(&self.results, columns, rows)?;
        self.changes.chosen(closed.firing, results, before..before + self.plan.keys())
    }
}

impl Operator for Aggregation {
    fn schema(&self) -> &SchemaRef {
        &self.results
    }

    fn said(&self) -> String {
        self.plan.said()
    }

    fn restore(&mut self, progress: &Progress, parts: Vec<(i64, Part)>, now: Duration) -> Result<()> {
        for (slice, part) in parts {
            self.windows.restore(slice, part)?;
        }
        if let [saved] = &progress.watermarks[..] {
            self.watermarks.restore(saved, now);
        }
        self.fired = progress.fired;
        self.changes.restore();
        self.late.rows = progress.late_rows;
        Ok(())
    }

    fn push(&mut self, _input: usize, partition: u32, batch: &RecordBatch, now: Duration, store: &mut Store) -> Result<()> {
        let Some(time) = &self.time else {
            let rows = self.plan.evaluate(batch)?;
            return self.windows.push(&rows, &Int64Array::from_iter_values([]));
        };
        let times = time.values(batch)?;
        let watermark = self.watermarks.current();
        // Windows that end until then take no more rows.
        let kept_after = watermark.map(|watermark| watermark.saturating_sub(self.changes.late));
        let is_before = |time: i64| min(&times).is_some_and(|oldest| oldest < time);
        if let (true, Some(watermark)) = (self.overlap && kept_after.is_some_and(is_before), watermark) {
            // Some windows of these rows may take no more, and their results are not out yet.
            let results = self.fire_until(watermark, None, store)?;
            self.ready.extend(results);
        }
        let Some(time) = &self.time else { return Ok(()) };
        // Between two windows a row is in none, and not late for any.
        let threshold = kept_after.map_or(i64::MIN, |after| self.windows.late_before(after).min(after));
        let (batch, times) = self.late.set_aside(batch, times, threshold, watermark, time)?;
        if let Some(newest) = max(&times) {
            let rows = self.plan.evaluate(&batch)?;
            self.changes.note(&rows, &times, self.fired)?;
            self.windows.push(&rows, &times)?;
            self.watermarks.observe(partition, newest, now);
        }
        self.watermarks.advance(now);
        Ok(())
    }

    fn end(&mut self, partitions: &[u32]) {
        self.watermarks.end(partitions);
    }

    fn fire(&mut self, now: Option<Duration>, store: &mut Store) -> Result<Vec<RecordBatch>> {
        let mut results = std::mem::take(&mut self.ready);
        let early = now.filter(|now| self.changes.is_early_due(*now));
        let until = match now {
            None => Some(i64::MAX),
            Some(_) if self.time.is_none() => Some(i64::MIN),
            // Before there is a watermark no window is over.
            Some(now) => self.watermarks.advance(now).or(early.map(|_| i64::MIN)),
        };
        if let Some(until) = until {
            results.extend(self.fire_until(until, early, store)?);
        }
        Ok(results)
    }

    fn take_late(&mut self) -> Vec<RecordBatch> {
        self.late.take()
    }

    fn seal(&mut self, store: &mut Store) -> Result<()> {
        self.windows.seal(store)
    }

    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_> {
        self.windows.parts()
    }

    fn bytes(&self) -> usize {
        self.windows.bytes() + self.changes.bytes() + held(&self.ready) + self.late.bytes()
    }

    fn progress(&self) -> Progress {
        Progress { watermarks: vec![self.watermarks.saved()], fired: self.fired, late_rows: self.late.rows }
    }

    fn watermark_micros(&self) -> Option<i64> {
        self.watermarks.current().zip(self.time.as_ref()).map(|(watermark, time)| time.micros(watermark))
    }
}
