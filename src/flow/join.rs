//! Joins of two streams: rows of both with the same keys, whose times are not too far from each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use datafusion_common::arrow::compute::kernels::cmp::eq;
use datafusion_common::arrow::compute::{concat_batches, filter_record_batch, max, min};
use datafusion_common::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};

use super::groups::{hashes, rows_of};
use super::late::LateRows;
use super::matching::{Index, Pairs, keys_of, known, plain};
use super::parts::{Part, behind, held};
use super::state::{Input, Operator, Progress};
use super::store::Store;
use super::time::{EventTime, Time, are_distinct};
use super::watermarks::Watermarks;
use super::{FlowError, JoinSpec, RowStep, Rows};
use crate::query::steps::with_columns;

/// Slices of rows that wait are a part of the bounds' distance long, and never shorter than this.
const SLICE_MIN: Duration = Duration::from_secs(1);
const SLICES: i64 = 4;
/// So many pairs are one batch of results.
const PAIRS_MAX: usize = 1 << 16;
/// What a right column is called if the left one has its name.
const SUFFIX: &str = "_right";

/// The join of two inputs: rows of each wait for those of the other that may still come.
#[derive(Debug)]
pub(super) struct Join {
    sides: [Side; 2],
    /// How far a right row may be from a left one, in units of their time.
    bounds: (i64, i64),
    /// Which columns of the right are in the results.
    right: Vec<usize>,
    results: SchemaRef,
    /// Results that nobody has asked for yet.
    ready: Vec<RecordBatch>,
}

#[derive(Debug)]
struct Side {
    schema: SchemaRef,
    keys: Rows,
    time: Time,
    watermarks: Watermarks,
    late: LateRows,
    /// How long a slice is.
    width: i64,
    /// Rows that wait, by the number of their slice since 1970.
    slices: BTreeMap<i64, Vec<Waiting>>,
}

/// Rows that wait for others.
#[derive(Debug)]
struct Waiting {
    part: Part,
    /// Made when it is looked into.
    index: Option<Index>,
}

impl Join {
    /// The join of a left input and a right one.
    ///
    /// # Errors
    /// [`FlowError::Refused`].
    pub(super) fn new(left: &Input, right: &Input, spec: &JoinSpec, now: Duration) -> Result<Self, FlowError> {
        if spec.on.is_empty() {
            return Err(FlowError::refused("a join without keys; say which columns of both sides have to be the same"));
        }
        let (left_keys, right_keys): (Vec<String>, Vec<String>) = spec.on.iter().cloned().unzip();
        let mut sides = [Side::new(left, left_keys, &spec.times[0], now)?, Side::new(right, right_keys, &spec.times[1], now)?];
        let [left_time, right_time] = sides.each_ref().map(|side| side.time.data_type());
        if left_time != right_time {
            let reason = format!("the left side's time is {left_time}, and the right side's is {right_time}: cast one of them first");
            return Err(FlowError::refused(reason));
        }
        for (index, on) in spec.on.iter().enumerate() {
            let [left, right] = sides.each_ref().map(|side| side.keys.schema().field(index).data_type().clone()).map(plain);
            let empty = datafusion_common::arrow::array::new_empty_array(&left);
            if left != right || eq(&empty, &empty).is_err() {
                let reason = format!("{} is {left}, and {} is {right}: they cannot be compared; cast one of them first", on.0, on.1);
                return Err(FlowError::refused(reason));
            }
        }
        let time = &sides[0].time;
        let bounds = (time.signed_units("a bound", spec.from_micros)?, time.signed_units("a bound", spec.to_micros)?);
        if bounds.0 > bounds.1 {
            let reason = format!("right rows from {} to {} us after left ones: that is none", spec.from_micros, spec.to_micros);
            return Err(FlowError::refused(reason));
        }
        let width = ((bounds.1 - bounds.0) / SLICES).max(time.units("a slice", SLICE_MIN)?);
        sides.iter_mut().for_each(|side| side.width = width);
        let (right, results) = results(&sides, spec)?;
        Ok(Self { sides, bounds, right, results, ready: Vec::new() })
    }

    /// How far the other side's rows may be from those of a side, at the earliest and at the latest.
    fn reach(&self, side: usize) -> (i64, i64) {
        if side == 0 { self.bounds } else { (-self.bounds.1, -self.bounds.0) }
    }

    /// The results of rows with those of the other side that wait.
    fn found(&mut self, side: usize, batch: &RecordBatch, times: &Int64Array, keys: &[ArrayRef], store: &Store) -> Result<()> {
        let (Some(first), Some(last)) = (min(times), max(times)) else { return Ok(()) };
        let (earliest, latest) = self.reach(side);
        let hashed = hashes(keys, batch.num_rows())?;
        let mut results = Vec::new();
        let other = &mut self.sides[1 - side];
        let slices = first.saturating_add(earliest).div_euclid(other.width)..=last.saturating_add(latest).div_euclid(other.width);
        for waiting in other.slices.range_mut(slices).flat_map(|(_, parts)| parts) {
            let of_part = store.read(&waiting.part)?;
            let index = match waiting.index.take() {
                Some(index) => index,
                None => Index::new(&of_part, &other.keys, &other.time)?,
            };
            let mut pairs = Pairs { ours: Vec::new(), theirs: Vec::new() };
            for (row, hash) in hashed.iter().enumerate() {
                let (from, to) = (times.value(row).saturating_add(earliest), times.value(row).saturating_add(latest));
                for theirs in index.of(*hash) {
                    if (from..=to).contains(&index.times.value(theirs as usize)) {
                        pairs.ours.push(u32::try_from(row).unwrap_or(u32::MAX));
                        pairs.theirs.push(theirs);
                    }
                }
                if pairs.ours.len() >= PAIRS_MAX {
                    results.push((pairs.of_same(keys, &index.keys)?, of_part.clone()));
                    pairs = Pairs { ours: Vec::new(), theirs: Vec::new() };
                }
            }
            results.push((pairs.of_same(keys, &index.keys)?, of_part));
            // What is on the disk alone is not held here, either.
            waiting.index = waiting.part.batch.is_some().then_some(index);
        }
        for (pairs, theirs) in results {
            if pairs.ours.is_empty() {
                continue;
            }
            let (ours, theirs) = (pairs.rows(&pairs.ours, batch)?, pairs.rows(&pairs.theirs, &theirs)?);
            let (mut columns, right) = if side == 0 { (ours, theirs) } else { (theirs, ours) };
            columns.extend(self.right.iter().map(|column| right[*column].clone()));
            self.ready.push(with_columns(&self.results, columns, pairs.ours.len())?);
        }
        Ok(())
    }

    /// Lets go of rows that no other can be joined with any more.
    fn forget(&mut self, store: &mut Store) {
        for side in [0, 1] {
            let Some(watermark) = self.sides[1 - side].watermarks.current() else { continue };
            let (_, latest) = self.reach(side);
            let side = &mut self.sides[side];
            let is_over = |slice: i64| slice.saturating_add(1).saturating_mul(side.width).saturating_add(latest) <= watermark;
            while let Some(slice) = side.slices.first_entry().filter(|slice| is_over(*slice.key())) {
                slice.remove().iter().for_each(|waiting| store.discard(&waiting.part));
            }
        }
    }
}

impl Operator for Join {
    fn schema(&self) -> &SchemaRef {
        &self.results
    }

    fn said(&self) -> String {
        let types =
            self.sides.iter().map(|side| side.schema.fields().iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>());
        types.map(|types| types.join(", ")).collect::<Vec<_>>().join(" and ")
    }

    fn restore(&mut self, progress: &Progress, parts: Vec<(i64, Part)>, now: Duration) -> Result<()> {
        for (slice, part) in parts {
            let (side, slice) = (usize::from(slice % 2 != 0), slice.div_euclid(2));
            self.sides[side].slices.entry(slice).or_default().push(Waiting { part, index: None });
        }
        for (side, saved) in self.sides.iter_mut().zip(&progress.watermarks) {
            side.watermarks.restore(saved, now);
        }
        self.sides[0].late.rows = progress.late_rows;
        Ok(())
    }

    fn push(&mut self, input: usize, partition: u32, batch: &RecordBatch, now: Duration, store: &mut Store) -> Result<()> {
        let side = &mut self.sides[input];
        let watermark = side.watermarks.current();
        let times = side.time.values(batch)?;
        let (batch, times) = side.late.set_aside(batch, times, watermark.unwrap_or(i64::MIN), watermark, &side.time)?;
        drop(side.late.take());
        if let Some(newest) = max(&times) {
            side.watermarks.observe(partition, newest, now);
            side.watermarks.advance(now);
            // Nothing is the same as null.
            let keys = side.keys(&batch)?;
            let known = known(&keys)?;
            let batch = filter_record_batch(&batch, &known).map_err(DataFusionError::from)?;
            let (keys, times) = (side.keys(&batch)?, side.time.values(&batch)?);
            self.found(input, &batch, &times, &keys, store)?;
            self.sides[input].add(&batch, &times, store)?;
        }
        Ok(())
    }

    fn end(&mut self, partitions: &[u32]) {
        self.sides.iter_mut().for_each(|side| side.watermarks.end(partitions));
    }

    fn fire(&mut self, now: Option<Duration>, store: &mut Store) -> Result<Vec<RecordBatch>> {
        if let Some(now) = now {
            self.sides.iter_mut().for_each(|side| {
                side.watermarks.advance(now);
            });
        }
        self.forget(store);
        Ok(std::mem::take(&mut self.ready))
    }

    fn take_late(&mut self) -> Vec<RecordBatch> {
        // Those of both sides have not one schema: they are counted, and nothing else.
        Vec::new()
    }

    fn seal(&mut self, _store: &mut Store) -> Result<()> {
        // What was left to the disk since is not held here, either.
        for waiting in self.sides.iter_mut().flat_map(|side| side.slices.values_mut()).flatten() {
            waiting.index = waiting.index.take().filter(|_| waiting.part.batch.is_some());
        }
        Ok(())
    }

    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_> {
        Box::new(self.sides.iter_mut().enumerate().flat_map(|(number, side)| {
            side.slices.iter_mut().flat_map(move |(slice, parts)| {
                // As they are kept, the lowest bit says the side.
                let slice = slice.saturating_mul(2) | i64::from(number == 1);
                parts.iter_mut().map(move |waiting| (slice, &mut waiting.part))
            })
        }))
    }

    fn bytes(&self) -> usize {
        let of_waiting = |waiting: &Waiting| waiting.part.held() + waiting.index.as_ref().map_or(0, Index::bytes);
        let waiting = self.sides.iter().flat_map(|side| side.slices.values()).flatten();
        waiting.map(of_waiting).sum::<usize>() + held(&self.ready)
    }

    fn progress(&self) -> Progress {
        Progress {
            watermarks: self.sides.iter().map(|side| side.watermarks.saved()).collect(),
            fired: None,
            late_rows: self.sides.iter().map(|side| side.late.rows).sum(),
        }
    }

    fn watermark_micros(&self) -> Option<i64> {
        let [left, right] = self.sides.each_ref().map(|side| Some(side.time.micros(side.watermarks.current()?)));
        Some(left?.min(right?))
    }
}

impl Side {
    fn new(input: &Input, keys: Vec<String>, time: &EventTime, now: Duration) -> Result<Self, FlowError> {
        let keys = Rows::new(&input.schema, &[RowStep::Select(keys)])?;
        let of_rows = Time::new(&input.schema, &time.column)?;
        let watermarks = Watermarks::new(&input.partitions, of_rows.units("a lateness", time.lateness)?, time.idle, now);
        let late = LateRows::new(&input.schema);
        Ok(Self { schema: input.schema.clone(), keys, time: of_rows, watermarks, late, width: 1, slices: BTreeMap::new() })
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        keys_of(&self.keys, batch)
    }

    /// Keeps rows until nothing can come that they are joined with.
    fn add(&mut self, batch: &RecordBatch, times: &Int64Array, store: &mut Store) -> Result<()> {
        let mut found: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.values().iter().enumerate() {
            found.entry(time.div_euclid(self.width)).or_default().push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        for (slice, rows) in found {
            let own = rows_of(batch, &UInt32Array::from(rows))?;
            let parts = self.slices.entry(slice).or_default();
            parts.push(Waiting { part: store.add(own), index: None });
            compact(&self.schema, parts, store)?;
        }
        Ok(())
    }
}

/// Makes small parts one, as those of an aggregation.
fn compact(schema: &SchemaRef, parts: &mut Vec<Waiting>, store: &mut Store) -> Result<()> {
    let sizes: Vec<usize> = parts.iter().map(|waiting| waiting.part.rows).collect();
    let from = behind(&sizes);
    if parts.len() - from < 2 || parts[from..].iter().map(|waiting| waiting.part.bytes).sum::<usize>() > store.working_bytes() {
        return Ok(());
    }
    let mut batches = Vec::new();
    for waiting in parts.drain(from..) {
        batches.push(store.read(&waiting.part)?);
        store.discard(&waiting.part);
    }
    let merged = concat_batches(schema, &batches).map_err(DataFusionError::from)?;
    parts.push(Waiting { part: store.add(merged), index: None });
    Ok(())
}

/// Which columns of the right are in the results, and the results' schema: the left's columns, then these.
fn results(sides: &[Side; 2], spec: &JoinSpec) -> Result<(Vec<usize>, SchemaRef), FlowError> {
    let [left, right] = sides.each_ref().map(|side| &side.schema);
    let is_said = |name: &String| spec.on.iter().any(|(of_left, of_right)| of_left == name && of_right == name);
    let columns: Vec<usize> = (0..right.fields().len()).filter(|column| !is_said(right.field(*column).name())).collect();
    let renamed = |column: &usize| -> FieldRef {
        let field = right.field(*column);
        let is_taken = left.index_of(field.name()).is_ok();
        let name = if is_taken { format!("{}{SUFFIX}", field.name()) } else { field.name().clone() };
        Arc::new(Field::clone(field).with_name(name))
    };
    let fields: Vec<FieldRef> = left.fields().iter().cloned().chain(columns.iter().map(renamed)).collect();
    if !are_distinct(fields.iter().map(|field| field.name())) {
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        return Err(FlowError::refused(format!("two of its results have the same name: {}; give them names before", names.join(", "))));
    }
    Ok((columns, Arc::new(Schema::new(fields))))
}
