//! Parquet, row group by row group.

use std::fmt::Display;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{BATCH_ROWS_DEFAULT, Extent, Input, InputOptions, seekable};
use crate::cli::error::CliError;
use crate::cli::format::Place;

pub(super) fn open(place: &Place, options: &InputOptions) -> Result<Input, CliError> {
    let file = seekable(place)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| malformed(place, &error))?;
    let rows = builder.metadata().file_metadata().num_rows();
    let builder = builder.with_batch_size(options.batch_rows.unwrap_or(BATCH_ROWS_DEFAULT));
    let reader = builder.build().map_err(|error| malformed(place, &error))?;
    let schema = ::arrow::array::RecordBatchReader::schema(&reader);
    let place = place.clone();
    let batches = Box::new(reader.map(move |batch| batch.map_err(|error| malformed(&place, &error))));
    Ok(Input { schema, batches, extent: Extent::Rows(rows.unsigned_abs()) })
}

fn malformed(place: &Place, error: &dyn Display) -> CliError {
    let hint = "it may be cut short or of another format: --format says which";
    CliError::Malformed { name: place.name("stdin"), format: "parquet", reason: error.to_string(), hint }
}
