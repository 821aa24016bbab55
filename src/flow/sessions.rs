//! Sessions: rows of a key that follow each other in less than a gap.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion_common::arrow::array::{ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch};
use datafusion_common::arrow::compute::{filter_record_batch, interleave};
use datafusion_common::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};

use super::aggregates::{Aggregates, Evaluated};
use super::aggregation::{Closed, Windows};
use super::firings::{Due, Firing};
use super::groups::{States, values};
use super::parts::Part;
use super::store::Store;
use crate::query::steps::with_columns;

/// So many parts are made one.
const PARTS_MAX: usize = 8;

/// The sessions that are not over, in fragments: what rows of a key have come to, with the times of the first and the last of them.
#[derive(Debug)]
pub(super) struct Sessions {
    plan: Arc<Aggregates>,
    gap: i64,
    /// Keys and states of fragments, then the times.
    schema: SchemaRef,
    /// Of each batch since the last part.
    live: Vec<RecordBatch>,
    parts: Vec<Part>,
    /// No last row of a session that has had no result is older: `None` if there is none.
    oldest: Option<i64>,
    /// Whether rows came since the last early results.
    is_changed: bool,
}

/// Where a row is, or a fragment.
#[derive(Debug, Clone, Copy)]
struct Spot {
    group: usize,
    first: i64,
    last: i64,
    batch: usize,
    row: usize,
}

impl Sessions {
    /// Sessions that end `gap` after their last row, in units of the event time.
    pub(super) fn new(plan: &Arc<Aggregates>, gap: i64) -> Self {
        let time = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let fields = plan.part_schema.fields().iter().cloned().chain([time("first"), time("last")]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { plan: plan.clone(), gap, schema, live: Vec::new(), parts: Vec::new(), oldest: None, is_changed: false }
    }

    /// Says of each spot which session it is of, by batch and row; gives the first spot of each session, and its times.
    fn sessions(&self, mut spots: Vec<Spot>, rows: &[usize]) -> (Vec<Vec<usize>>, Vec<Spot>) {
        spots.sort_unstable_by_key(|spot| (spot.group, spot.first, Reverse(spot.last), spot.batch, spot.row));
        let mut session_of: Vec<Vec<usize>> = rows.iter().map(|rows| vec![0; *rows]).collect();
        let mut sessions: Vec<Spot> = Vec::new();
        for spot in spots {
            match sessions.last_mut() {
                Some(session) if session.group == spot.group && spot.first.saturating_sub(session.last) < self.gap => {
                    session.last = session.last.max(spot.last);
                }
                _ => sessions.push(spot),
            }
            session_of[spot.batch][spot.row] = sessions.len() - 1;
        }
        (session_of, sessions)
    }

    /// The group of each row, over several batches' keys.
    fn groups(&self, keys: &[&[ArrayRef]], rows: &[usize]) -> Result<Vec<Vec<usize>>> {
        let Some(mut values) = values(&self.plan)? else { return Ok(rows.iter().map(|rows| vec![0; *rows]).collect()) };
        let mut groups = Vec::with_capacity(keys.len());
        for keys in keys {
            let mut of_rows = Vec::new();
            values.intern(keys, &mut of_rows)?;
            groups.push(of_rows);
        }
        Ok(groups)
    }

    /// Sessions as fragments, whose keys are those of their first spots.
    fn fragments(&self, keys: &[&[ArrayRef]], states: Vec<ArrayRef>, sessions: &[Spot]) -> Result<RecordBatch> {
        let spots: Vec<(usize, usize)> = sessions.iter().map(|spot| (spot.batch, spot.row)).collect();
        let key = |index: usize| {
            let arrays: Vec<&dyn datafusion_common::arrow::array::Array> = keys.iter().map(|keys| keys[index].as_ref()).collect();
            interleave(&arrays, &spots).map_err(DataFusionError::from)
        };
        let mut columns = (0..self.plan.keys()).map(key).collect::<Result<Vec<_>>>()?;
        columns.extend(states);
        columns.push(Arc::new(Int64Array::from_iter_values(sessions.iter().map(|spot| spot.first))));
        columns.push(Arc::new(Int64Array::from_iter_values(sessions.iter().map(|spot| spot.last))));
        with_columns(&self.schema, columns, sessions.len())
    }

    /// Fragments of several batches as sessions.
    fn merged(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let keys: Vec<&[ArrayRef]> = batches.iter().map(|batch| &batch.columns()[..self.plan.keys()]).collect();
        let rows: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        let groups = self.groups(&keys, &rows)?;
        let mut spots = Vec::with_capacity(rows.iter().sum());
        for (batch, groups) in groups.iter().enumerate() {
            let (firsts, lasts) = times(&batches[batch]);
            let of_batch = groups.iter().enumerate();
            spots.extend(of_batch.map(|(row, group)| Spot { group: *group, first: firsts.value(row), last: lasts.value(row), batch, row }));
        }
        let (mut session_of, sorted) = self.sessions(spots, &rows);
        let mut states = States::new(&self.plan)?;
        // An aggregate takes all groups that it was told of for seen: they are numbered as they come.
        let mut numbers = vec![None; sorted.len()];
        let mut sessions = Vec::with_capacity(sorted.len());
        for (batch, session_of) in batches.iter().zip(&mut session_of) {
            for session in session_of.iter_mut() {
                *session = *numbers[*session].get_or_insert_with(|| {
                    sessions.push(sorted[*session]);
                    sessions.len() - 1
                });
            }
            states.merge(self.states_of(batch), session_of, sessions.len())?;
        }
        self.fragments(&keys, states.states()?, &sessions)
    }

    fn states_of<'a>(&self, batch: &'a RecordBatch) -> &'a [ArrayRef] {
        &batch.columns()[self.plan.keys()..batch.num_columns() - 2]
    }

    /// All parts and what is live, as one batch of sessions; nothing is left of them.
    fn take_all(&mut self, store: &mut Store) -> Result<RecordBatch> {
        let mut batches = self.parts.iter().map(|part| store.read(part)).collect::<Result<Vec<_>>>()?;
        self.parts.drain(..).for_each(|part| store.discard(&part));
        batches.append(&mut self.live);
        if batches.is_empty() { Ok(RecordBatch::new_empty(self.schema.clone())) } else { self.merged(&batches) }
    }

    fn keep(&mut self, sessions: RecordBatch, store: &mut Store) {
        if sessions.num_rows() > 0 {
            self.parts.push(store.add(sessions));
        }
    }

    fn results(&self, firing: Firing, sessions: &RecordBatch) -> Result<Closed> {
        let indices: Vec<usize> = (0..sessions.num_rows()).collect();
        let mut states = States::new(&self.plan)?;
        states.merge(self.states_of(sessions), &indices, indices.len())?;
        let results = self.plan.results(sessions.columns()[..self.plan.keys()].to_vec(), states.values()?, indices.len())?;
        let (firsts, lasts) = times(sessions);
        let ends = lasts.unary(|last: i64| last.saturating_add(self.gap));
        Ok(Closed { firing, starts: firsts.clone(), ends, results })
    }
}

impl Windows for Sessions {
    fn late_before(&self, watermark: i64) -> i64 {
        // What is behind it might have been of a session that is over.
        watermark
    }

    fn push(&mut self, rows: &Evaluated, times: &Int64Array) -> Result<()> {
        let keys: [&[ArrayRef]; 1] = [&rows.keys];
        let groups = self.groups(&keys, &[rows.rows])?;
        let spot = |(row, group): (usize, &usize)| Spot { group: *group, first: times.value(row), last: times.value(row), batch: 0, row };
        let spots = groups[0].iter().enumerate().map(spot).collect();
        let (session_of, sessions) = self.sessions(spots, &[rows.rows]);
        let mut states = States::new(&self.plan)?;
        states.update(rows, &session_of[0], sessions.len())?;
        let fragments = self.fragments(&keys, states.states()?, &sessions)?;
        let oldest = sessions.iter().map(|session| session.last).min();
        self.oldest = self.oldest.into_iter().chain(oldest).min();
        self.is_changed = true;
        self.live.push(fragments);
        Ok(())
    }

    fn fire(&mut self, due: &Due, store: &mut Store) -> Result<Vec<Closed>> {
        let is_over = self.oldest.is_some_and(|oldest| oldest.saturating_add(self.gap) <= due.until);
        let early = due.early && self.is_changed;
        if !is_over && !due.has_late && !early {
            return Ok(Vec::new());
        }
        let all = self.take_all(store)?;
        let (_, lasts) = times(&all);
        let ends: Int64Array = lasts.unary(|last| last.saturating_add(self.gap));
        let mut closed = Vec::new();
        for firing in [Firing::Early, Firing::OnTime, Firing::Late] {
            let due = of(&all, &ends, |end| due.firing(end, early, due.has_late) == Some(firing))?;
            if due.num_rows() > 0 {
                closed.push(self.results(firing, &due)?);
            }
        }
        self.oldest = lasts.values().iter().zip(ends.values()).filter(|(_, end)| **end > due.until).map(|(last, _)| *last).min();
        self.is_changed &= !due.early;
        let kept = of(&all, &ends, |end| !due.is_done(end))?;
        self.keep(kept, store);
        Ok(closed)
    }

    fn seal(&mut self, store: &mut Store) -> Result<()> {
        if self.parts.len() >= PARTS_MAX {
            let all = self.take_all(store)?;
            self.keep(all, store);
        } else if !self.live.is_empty() {
            let live = std::mem::take(&mut self.live);
            let live = self.merged(&live)?;
            self.keep(live, store);
        }
        Ok(())
    }

    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_> {
        Box::new(self.parts.iter_mut().map(|part| (0, part)))
    }

    fn restore(&mut self, _slice: i64, part: Part) -> Result<()> {
        // Looked at when time goes on.
        self.oldest = Some(i64::MIN);
        self.is_changed = true;
        self.parts.push(part);
        Ok(())
    }

    fn bytes(&self) -> usize {
        let live: usize = self.live.iter().map(RecordBatch::get_array_memory_size).sum();
        live + self.parts.iter().map(Part::held).sum::<usize>()
    }
}

/// The sessions whose ends are such.
fn of(sessions: &RecordBatch, ends: &Int64Array, are: impl Fn(i64) -> bool) -> Result<RecordBatch> {
    filter_record_batch(sessions, &BooleanArray::from_unary(ends, are)).map_err(DataFusionError::from)
}

/// Of the first and of the last row of each fragment.
fn times(fragments: &RecordBatch) -> (&Int64Array, &Int64Array) {
    let column = |from_end: usize| fragments.column(fragments.num_columns() - from_end).as_primitive::<Int64Type>();
    (column(2), column(1))
}
