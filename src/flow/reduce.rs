//! Aggregation by a caller's own function of two rows of a key, many pairs at a time.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion_common::arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, StructArray, UInt32Array, new_null_array};
use datafusion_common::arrow::compute::{
    concat_batches, filter_record_batch, interleave_record_batch, is_not_null, not, nullif, prep_null_mask_filter, take,
};
use datafusion_common::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};

use super::groups::rows_of;
use super::parts::held;

/// What the aggregate is called in plans.
const NAME: &str = "reduce";
/// Rows that are no group's any more are let go once there are as many as groups, and so many.
const LEFT_MIN: usize = 1024;

/// From two batches of as many rows, of which those with the same number are of one key, to one with a row for each of them.
type Pairwise = dyn Fn(&RecordBatch, &RecordBatch) -> Result<RecordBatch, String> + Send + Sync;

/// A function of two rows of a key that gives one. It is asked in any order and grouping: it has to be associative and commutative.
#[derive(Clone)]
pub struct Reduction(Arc<Pairwise>);

impl Reduction {
    /// The function gets two batches of the same schema and as many rows, of which those with the same number are of one key, and gives
    /// a batch of the same schema with a row for each of these pairs; or says why it cannot.
    pub fn new(function: impl Fn(&RecordBatch, &RecordBatch) -> Result<RecordBatch, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    fn of(&self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
        let reduced = (self.0)(left, right).map_err(DataFusionError::Execution)?;
        if reduced.num_rows() != left.num_rows() || reduced.schema().fields() != left.schema().fields() {
            let (rows, pairs) = (reduced.num_rows(), left.num_rows());
            let said = |batch: &RecordBatch| {
                let columns =
                    batch.schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>();
                columns.join(", ")
            };
            return Err(DataFusionError::Execution(format!(
                "the function of reduce gave {rows} rows of {} for {pairs} pairs of {}; it gives one row for each pair, of the same columns",
                said(&reduced),
                said(left),
            )));
        }
        Ok(reduced)
    }
}

impl std::fmt::Debug for Reduction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Reduction")
    }
}

impl PartialEq for Reduction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Reduction {}

impl Hash for Reduction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

/// It as an aggregate of these columns, whose value is a struct of them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Reduce {
    signature: Signature,
    fields: Fields,
    reduction: Reduction,
}

impl Reduce {
    pub(super) fn new(columns: Vec<(String, DataType)>, reduction: &Reduction) -> Self {
        let fields: Fields = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
        Self { signature: Signature::any(fields.len(), Volatility::Immutable), fields, reduction: reduction.clone() }
    }
}

impl AggregateUDFImpl for Reduce {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Err(DataFusionError::NotImplemented("reduce of one group alone".to_owned()))
    }

    fn state_fields(&self, _arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(NAME, DataType::Struct(self.fields.clone()), true))])
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let schema = Arc::new(Schema::new(self.fields.clone()));
        Ok(Box::new(Reduced { schema, reduction: self.reduction.clone(), batches: Vec::new(), groups: Vec::new() }))
    }
}

/// What each group has come to.
struct Reduced {
    schema: SchemaRef,
    reduction: Reduction,
    /// Rows, some of which are no group's any more.
    batches: Vec<RecordBatch>,
    /// The batch of each group's row, and which it is there; none: it has had no row.
    groups: Vec<Option<(usize, usize)>>,
}

impl Reduced {
    /// Adds rows, each to its group.
    fn add(&mut self, rows: &RecordBatch, indices: &[usize], groups: usize) -> Result<()> {
        self.groups.resize(groups.max(self.groups.len()), None);
        if rows.num_rows() == 0 {
            return Ok(());
        }
        // The rows of each group, in order, what it had before first.
        let mut numbered: Vec<(usize, usize)> = indices.iter().copied().zip(0..).collect();
        numbered.sort_unstable();
        let mut held = Vec::new();
        let mut runs: Vec<(usize, usize)> = Vec::with_capacity(numbered.len());
        for (group, row) in numbered {
            if runs.last().is_none_or(|(before, _)| *before != group)
                && let Some(place) = self.groups[group]
            {
                runs.push((group, rows.num_rows() + held.len()));
                held.push(place);
            }
            runs.push((group, row));
        }
        let mut table = if held.is_empty() { rows.clone() } else { concat_batches(&self.schema, [rows, &self.rows_at(&held)?])? };
        // Neighbours of one group become one, until each group has one row.
        while runs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            let (mut left, mut right, mut alone, mut next) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let mut rest = &runs[..];
            while let [first, others @ ..] = rest {
                rest = others;
                match others {
                    [second, others @ ..] if second.0 == first.0 => {
                        rest = others;
                        next.push((first.0, true, left.len()));
                        left.push(first.1);
                        right.push(second.1);
                    }
                    _ => {
                        next.push((first.0, false, alone.len()));
                        alone.push(first.1);
                    }
                }
            }
            let pairs = left.len();
            let reduced = self.reduction.of(&picked(&table, &left)?, &picked(&table, &right)?)?.with_schema(self.schema.clone())?;
            table = concat_batches(&self.schema, [&reduced, &picked(&table, &alone)?])?;
            runs = next.into_iter().map(|(group, is_pair, row)| (group, if is_pair { row } else { pairs + row })).collect();
        }
        for (group, row) in &runs {
            self.groups[*group] = Some((self.batches.len(), *row));
        }
        self.batches.push(table);
        self.let_go()
    }

    /// The rows at these places, as one batch.
    fn rows_at(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        if self.batches.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        interleave_record_batch(&batches, places).map_err(DataFusionError::from)
    }

    /// Rows that are no group's any more are let go once they are as many as the others.
    fn let_go(&mut self) -> Result<()> {
        let rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        if rows < LEFT_MIN + 2 * self.groups.len() {
            return Ok(());
        }
        let places: Vec<(usize, usize)> = self.groups.iter().flatten().copied().collect();
        self.batches = vec![self.rows_at(&places)?];
        let mut row = 0..;
        for place in self.groups.iter_mut().flatten() {
            *place = (0, row.next().unwrap_or_default());
        }
        Ok(())
    }

    /// What groups have come to; null for those without a row.
    fn taken(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let places: Vec<(usize, usize)> = groups.iter().flatten().copied().collect();
        let values: ArrayRef = Arc::new(StructArray::from(self.rows_at(&places)?));
        if self.groups.is_empty() {
            self.batches.clear();
        }
        if places.len() == groups.len() {
            return Ok(values);
        }
        let mut row = 0..;
        let rows: UInt32Array = groups.iter().map(|place| place.and_then(|_| row.next())).collect();
        if places.is_empty() {
            return Ok(new_null_array(values.data_type(), groups.len()));
        }
        take(&values, &rows, None).map_err(DataFusionError::from)
    }
}

impl GroupsAccumulator for Reduced {
    fn update_batch(&mut self, values: &[ArrayRef], indices: &[usize], filter: Option<&BooleanArray>, groups: usize) -> Result<()> {
        if filter.is_some() {
            return Err(DataFusionError::NotImplemented("reduce of chosen rows".to_owned()));
        }
        self.add(&RecordBatch::try_new(self.schema.clone(), values.to_vec())?, indices, groups)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], indices: &[usize], groups: usize) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let has_rows = is_not_null(values)?;
        let (_, columns, _) = values.as_struct().clone().into_parts();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        if has_rows.true_count() == rows.num_rows() {
            return self.add(&rows, indices, groups);
        }
        let indices: Vec<usize> =
            indices.iter().zip(has_rows.values()).filter(|(_, has_rows)| *has_rows).map(|(group, _)| *group).collect();
        self.add(&filter_record_batch(&rows, &has_rows)?, &indices, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.taken(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.taken(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        // Each row as a group of its own.
        let values: ArrayRef = Arc::new(StructArray::from(RecordBatch::try_new(self.schema.clone(), values.to_vec())?));
        Ok(vec![match filter {
            Some(filter) => nullif(&values, &not(&prep_null_mask_filter(filter))?)?,
            None => values,
        }])
    }

    fn size(&self) -> usize {
        held(&self.batches) + self.groups.capacity() * size_of::<Option<(usize, usize)>>()
    }
}

fn picked(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    rows_of(batch, &UInt32Array::from_iter_values(rows.iter().map(|row| u32::try_from(*row).unwrap_or(u32::MAX))))
}
