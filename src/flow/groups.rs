//! Rows grouped by their keys, each group with what its aggregates have come to.

use std::sync::Arc;

use datafusion_common::arrow::array::{ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use datafusion_common::arrow::compute::take;
use datafusion_common::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::hash_utils::{RandomState, create_hashes};
use datafusion_common::{DataFusionError, HashSet, Result};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use datafusion_physical_expr::aggregate::LoweredAggregate;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

use super::aggregates::{Aggregates, Evaluated};
use crate::query::steps::with_columns;

/// Groups by key.
pub(super) struct Groups {
    plan: Arc<Aggregates>,
    /// None: there are no keys, and all rows are one group.
    values: Option<Box<dyn GroupValues>>,
    states: States,
    /// The group of each row of the last batch; kept for its memory.
    indices: Vec<usize>,
    is_empty: bool,
}

impl Groups {
    pub(super) fn new(plan: &Arc<Aggregates>) -> Result<Self> {
        Ok(Self { plan: plan.clone(), values: values(plan)?, states: States::new(plan)?, indices: Vec::new(), is_empty: true })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub(super) fn len(&self) -> usize {
        self.values.as_ref().map_or_else(|| usize::from(!self.is_empty), |values| values.len())
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size()) + self.states.bytes() + self.indices.capacity() * size_of::<usize>()
    }

    /// Adds rows.
    pub(super) fn update(&mut self, rows: &Evaluated) -> Result<()> {
        let groups = self.intern(&rows.keys, rows.rows)?;
        self.states.update(rows, &self.indices, groups)
    }

    /// Adds what a part has.
    pub(super) fn merge(&mut self, part: &RecordBatch) -> Result<()> {
        let groups = self.intern(&part.columns()[..self.plan.keys()], part.num_rows())?;
        self.states.merge(&part.columns()[self.plan.keys()..], &self.indices, groups)
    }

    /// Adds what a part has of the first `groups` groups, and little of others.
    pub(super) fn merge_known(&mut self, part: &RecordBatch, groups: usize, known: &HashSet<u64>) -> Result<()> {
        let hashes = hashes(&part.columns()[..self.plan.keys()], part.num_rows())?;
        let rows = hashes.iter().zip(0_u32..).filter(|(hash, _)| known.contains(*hash)).map(|(_, row)| row);
        let part = &rows_of(part, &UInt32Array::from_iter_values(rows))?;
        // Keys of the same hash are not the same yet.
        self.intern(&part.columns()[..self.plan.keys()], part.num_rows())?;
        let rows: Vec<usize> = (0..part.num_rows()).filter(|row| self.indices[*row] < groups).collect();
        let indices: Vec<usize> = rows.iter().map(|row| self.indices[*row]).collect();
        let rows = UInt32Array::from_iter_values(rows.iter().map(|row| u32::try_from(*row).unwrap_or(u32::MAX)));
        let states: Vec<ArrayRef> = part.columns()[self.plan.keys()..].iter().map(|column| taken(column, &rows)).collect::<Result<_>>()?;
        self.states.merge(&states, &indices, groups)
    }

    /// What it has as a part. (`GroupValues` that were emitted still find the groups that they had: they are of no more use.)
    pub(super) fn seal(mut self) -> Result<RecordBatch> {
        let (keys, rows) = self.emit()?;
        let columns = keys.into_iter().chain(self.states.states()?).collect();
        with_columns(&self.plan.part_schema, columns, rows)
    }

    /// The results of all groups.
    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let (keys, rows) = self.emit()?;
        let values = self.states.values()?;
        self.plan.results(keys, values, rows)
    }

    /// The results of the first groups, which alone have a state.
    pub(super) fn finish_first(mut self, groups: usize) -> Result<RecordBatch> {
        let keys = match &mut self.values {
            Some(values) => values.emit(EmitTo::First(groups))?,
            None => Vec::new(),
        };
        let values = self.states.values()?;
        self.plan.results(keys, values, groups)
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize> {
        self.is_empty &= rows == 0;
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.indices)?;
                Ok(values.len())
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                Ok(1)
            }
        }
    }

    fn emit(&mut self) -> Result<(Vec<ArrayRef>, usize)> {
        let rows = self.len();
        let keys = match &mut self.values {
            Some(values) => values.emit(EmitTo::All)?,
            None => Vec::new(),
        };
        Ok((keys, rows))
    }
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Groups").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What aggregates have come to, group by group.
pub(super) struct States(Vec<State>);

struct State {
    accumulator: Box<dyn GroupsAccumulator>,
    /// How many columns its state is.
    columns: usize,
}

impl States {
    pub(super) fn new(plan: &Aggregates) -> Result<Self> {
        let state = |function: &LoweredAggregate| -> Result<State> {
            Ok(State { accumulator: accumulator(function)?, columns: function.aggregate.state_fields()?.len() })
        };
        Ok(Self(plan.functions.iter().map(state).collect::<Result<_>>()?))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|state| state.accumulator.size()).sum()
    }

    /// Adds rows, each to its group of so many.
    pub(super) fn update(&mut self, rows: &Evaluated, indices: &[usize], groups: usize) -> Result<()> {
        for ((state, arguments), filter) in self.0.iter_mut().zip(&rows.arguments).zip(&rows.filters) {
            state.accumulator.update_batch(arguments, indices, filter.as_ref(), groups)?;
        }
        Ok(())
    }

    /// Adds states, each to its group of so many.
    pub(super) fn merge(&mut self, mut columns: &[ArrayRef], indices: &[usize], groups: usize) -> Result<()> {
        for state in &mut self.0 {
            let (own, rest) = columns.split_at(state.columns);
            state.accumulator.merge_batch(own, indices, groups)?;
            columns = rest;
        }
        Ok(())
    }

    /// All states, and nothing is left.
    pub(super) fn states(&mut self) -> Result<Vec<ArrayRef>> {
        let states = self.0.iter_mut().map(|state| state.accumulator.state(EmitTo::All)).collect::<Result<Vec<_>>>()?;
        Ok(states.into_iter().flatten().collect())
    }

    /// The values of all groups, and nothing is left.
    pub(super) fn values(&mut self) -> Result<Vec<ArrayRef>> {
        self.0.iter_mut().map(|state| state.accumulator.evaluate(EmitTo::All)).collect()
    }
}

pub(super) fn values(plan: &Aggregates) -> Result<Option<Box<dyn GroupValues>>> {
    if plan.keys() == 0 {
        return Ok(None);
    }
    new_group_values(plan.key_schema.clone(), &GroupOrdering::None).map(Some)
}

fn accumulator(function: &LoweredAggregate) -> Result<Box<dyn GroupsAccumulator>> {
    if function.aggregate.groups_accumulator_supported() {
        return function.aggregate.create_groups_accumulator();
    }
    let aggregate = function.aggregate.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}

/// Keys of which those that are the same number have the same bits: zeros of both signs, and all that are none.
pub(super) fn same_bits(keys: ArrayRef) -> ArrayRef {
    // Of both zeros the sum with zero is the positive one.
    match keys.data_type() {
        DataType::Float64 => {
            Arc::new(keys.as_primitive::<Float64Type>().unary::<_, Float64Type>(|key| if key.is_nan() { f64::NAN } else { key + 0.0 }))
        }
        DataType::Float32 => {
            Arc::new(keys.as_primitive::<Float32Type>().unary::<_, Float32Type>(|key| if key.is_nan() { f32::NAN } else { key + 0.0 }))
        }
        _ => keys,
    }
}

/// Of the keys of rows; the same in every process.
pub(super) fn hashes(keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(keys, &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}

/// These rows of a batch.
pub(super) fn rows_of(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| taken(column, rows)).collect::<Result<_>>()?;
    with_columns(&batch.schema(), columns, rows.len())
}

/// These rows of a column.
pub(super) fn taken(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    take(column, rows, None).map_err(DataFusionError::from)
}

impl Evaluated {
    /// These rows of it.
    pub(super) fn take(&self, rows: &UInt32Array) -> Result<Self> {
        self.each(rows.len(), |column| taken(column, rows))
    }

    /// A run of its rows.
    pub(super) fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        self.each(length, |column| Ok(column.slice(offset, length)))
    }

    fn each(&self, rows: usize, work: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<Self> {
        let arguments = |columns: &Vec<ArrayRef>| columns.iter().map(&work).collect::<Result<_>>();
        let filter = |filter: &Option<datafusion_common::arrow::array::BooleanArray>| {
            let filter = filter.clone().map(|filter| work(&(Arc::new(filter) as ArrayRef))).transpose()?;
            Ok(filter.map(|filter| filter.as_boolean().clone()))
        };
        Ok(Self {
            rows,
            keys: self.keys.iter().map(&work).collect::<Result<_>>()?,
            arguments: self.arguments.iter().map(arguments).collect::<Result<_>>()?,
            filters: self.filters.iter().map(filter).collect::<Result<_>>()?,
        })
    }
}
