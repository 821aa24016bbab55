//! Where a batch came from, as columns beside its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::cli::error::CliError;
use crate::client::Delivered;

/// The schema with `_partition`, `_offset` and `_epoch` behind it.
pub(in crate::cli) fn schema_with_offsets(schema: &SchemaRef) -> SchemaRef {
    let own = [
        Field::new("_partition", DataType::UInt32, false),
        Field::new("_offset", DataType::UInt64, false),
        Field::new("_epoch", DataType::UInt64, true),
    ];
    let fields: Vec<_> = schema.fields().iter().cloned().chain(own.map(Arc::new)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The batch with those columns.
pub(in crate::cli) fn with_offsets(delivered: &Delivered) -> Result<RecordBatch, CliError> {
    let batch = &delivered.batch;
    let rows = batch.num_rows();
    let own: [ArrayRef; 3] = [
        Arc::new(UInt32Array::from_value(delivered.partition.0, rows)),
        Arc::new(UInt64Array::from_value(delivered.offset.0, rows)),
        Arc::new(delivered.epoch.map_or_else(|| UInt64Array::new_null(rows), |epoch| UInt64Array::from_value(epoch.0, rows))),
    ];
    let columns = batch.columns().iter().cloned().chain(own).collect();
    RecordBatch::try_new(schema_with_offsets(&batch.schema()), columns)
        .map_err(|error| CliError::usage(format!("--with-offsets does not fit this stream: {error}")))
}
