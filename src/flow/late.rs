//! Rows that came too late to count.

use std::sync::Arc;

use datafusion_common::arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch};
use datafusion_common::arrow::compute::{filter, filter_record_batch, min, not};
use datafusion_common::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};

use super::parts::held;
use super::time::Time;
use crate::query::steps::with_columns;

/// How late a row came, in microseconds behind the watermark; null if it has no event time.
const LATE_BY: &str = "late_by_micros";

/// Those of one schema.
#[derive(Debug)]
pub(super) struct LateRows {
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    /// Since the flow's beginning.
    pub(super) rows: u64,
}

impl LateRows {
    pub(super) fn new(of: &Schema) -> Self {
        let late_by = Arc::new(Field::new(LATE_BY, DataType::Int64, true));
        let schema = Schema::new(of.fields().iter().cloned().chain([late_by]).collect::<Vec<_>>());
        Self { schema: Arc::new(schema), held: Vec::new(), rows: 0 }
    }

    /// Sets aside the rows before `threshold` and those without a time. Gives the others, and when they are.
    pub(super) fn set_aside(
        &mut self,
        batch: &RecordBatch,
        times: Int64Array,
        threshold: i64,
        watermark: Option<i64>,
        time: &Time,
    ) -> Result<(RecordBatch, Int64Array)> {
        if times.null_count() == 0 && min(&times).is_none_or(|oldest| oldest >= threshold) {
            return Ok((batch.clone(), times));
        }
        let is_good: BooleanArray = times.iter().map(|time| Some(time.is_some_and(|time| time >= threshold))).collect();
        let late_by: Int64Array = times.iter().map(|at| Some(time.micros(watermark?.saturating_sub(at?)))).collect();
        let columns = batch.columns().iter().cloned().chain([Arc::new(late_by) as ArrayRef]).collect();
        let all = with_columns(&self.schema, columns, batch.num_rows())?;
        let late = filter_record_batch(&all, &not(&is_good).map_err(DataFusionError::from)?).map_err(DataFusionError::from)?;
        self.rows += late.num_rows() as u64;
        self.held.push(late);
        let good = filter_record_batch(batch, &is_good).map_err(DataFusionError::from)?;
        let times = filter(&times, &is_good).map_err(DataFusionError::from)?;
        Ok((good, times.as_primitive::<Int64Type>().clone()))
    }

    /// Those since this was asked last.
    pub(super) fn take(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.held)
    }

    /// Memory that is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        held(&self.held)
    }
}
