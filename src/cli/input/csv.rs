//! CSV: types inferred from the first rows, unless the stream has a schema.

use std::sync::Arc;

use ::arrow::csv::ReaderBuilder;
use ::arrow::csv::reader::Format as CsvFormat;
use ::arrow::datatypes::{Schema, SchemaRef};
use ::arrow::error::ArrowError;
use regex::Regex;

use super::{BATCH_ROWS_DEFAULT, Input, InputOptions, lines, schema, source};
use crate::cli::error::CliError;
use crate::cli::format::Place;

pub(super) fn open(place: &Place, options: &InputOptions) -> Result<Input, CliError> {
    let failed = |error: &ArrowError| malformed(place, options, &error.to_string());
    let (reader, extent) = source(place)?;
    // One line more for the header, one more still so that a quoted line break at the end does no harm.
    let (head, reader) = lines::peek(reader, options.infer_rows.saturating_add(2)).map_err(|reason| failed(&reason.into()))?;
    let format = csv_format(place, options)?;
    let schema = match &options.schema {
        Some(schema) => schema.clone(),
        None => infer(format.clone(), &head, options.infer_rows).map_err(|error| failed(&error))?,
    };
    if schema.fields().is_empty() {
        return Err(malformed(place, options, "it has no columns"));
    }
    let rows = options.batch_rows.unwrap_or(BATCH_ROWS_DEFAULT);
    let builder = ReaderBuilder::new(schema.clone()).with_format(format).with_batch_size(rows);
    let batches = builder.build_buffered(reader).map_err(|error| failed(&error))?;
    let (place, options) = (place.clone(), options.clone());
    let batches = Box::new(batches.map(move |batch| batch.map_err(|error| malformed(&place, &options, &error.to_string()))));
    Ok(Input { schema, batches, extent })
}

fn csv_format(place: &Place, options: &InputOptions) -> Result<CsvFormat, CliError> {
    // Against the stream's schema the columns must be its own, in its order: their names say so.
    let named = options.csv_header && options.schema.is_some();
    let format = CsvFormat::default().with_header(options.csv_header).with_header_validation(named).with_delimiter(place.delimiter);
    let Some(null) = &options.csv_null else {
        return Ok(format);
    };
    let pattern = Regex::new(&format!("^(?:{})?$", regex::escape(null))).map_err(|error| CliError::usage(error.to_string()))?;
    Ok(format.with_null_regex(pattern))
}

fn infer(format: CsvFormat, head: &[u8], rows: usize) -> Result<SchemaRef, ArrowError> {
    // The head may end within a row.
    let (inferred, _) = format.with_truncated_rows(true).infer_schema(head, Some(rows))?;
    Ok(Arc::new(Schema::new(schema::text_for_null(inferred.fields()))))
}

fn malformed(place: &Place, options: &InputOptions, reason: &str) -> CliError {
    let hint = match &options.schema {
        Some(_) => "the columns and types must be the stream's: see `bowstring stream describe`",
        None => "types come from the first rows: --infer-rows looks at more; --null, --delimiter and --no-header say how it is written",
    };
    CliError::Malformed { name: place.name("stdin"), format: "csv", reason: reason.to_owned(), hint }
}
