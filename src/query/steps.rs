//! What is done with a batch, one step after the other.

use std::sync::Arc;

use datafusion_common::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion_common::arrow::compute::prep_null_mask_filter;
use datafusion_common::arrow::datatypes::SchemaRef;
use datafusion_common::cast::as_boolean_array;
use datafusion_common::{DataFusionError, Result};
use datafusion_physical_expr::PhysicalExpr;

/// One of them.
#[derive(Debug)]
pub(crate) enum Step {
    /// Rows for which this is true go on.
    Filter(Arc<dyn PhysicalExpr>),
    /// These columns go on.
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// The rows for which a condition is true; what is neither true nor false is not chosen.
pub(crate) fn chosen(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let chosen = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let chosen = as_boolean_array(&chosen)?;
    Ok(if chosen.null_count() > 0 { prep_null_mask_filter(chosen) } else { chosen.clone() })
}

/// The values of expressions, as columns of a batch with this schema.
pub(crate) fn projected(exprs: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    with_columns(schema, evaluated(exprs, batch)?, batch.num_rows())
}

/// The values of expressions for each row.
pub(crate) fn evaluated(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

/// A batch, also of no columns.
pub(crate) fn with_columns(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(DataFusionError::from)
}
