//! Where `get` writes: a file or pipe in some format, or a table on the terminal.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches_with_schema;

use crate::cli::error::CliError;
use crate::cli::format::{Format, Place};
use crate::cli::output::Output;
use crate::cli::print_lines;
use crate::cli::quantity::rows;
use crate::client::Delivered;

/// Rows of a table that nobody asked to be longer.
pub(super) const TABLE_ROWS_DEFAULT: usize = 50;

/// An opened destination.
pub(super) enum Destination {
    File(Output),
    /// One table of all rows, printed at the end.
    Table(SchemaRef, Vec<RecordBatch>),
    /// A table per batch, printed as it comes.
    Tables(SchemaRef),
}

impl Destination {
    pub(super) fn open(place: &Place, schema: &SchemaRef, follow: bool) -> Result<Self, CliError> {
        match place.format {
            Format::Table if place.path.is_some() => {
                Err(CliError::usage("a table is for the terminal: a file wants --format parquet, csv, json, arrow or arrow-stream"))
            }
            Format::Table if follow => Ok(Self::Tables(schema.clone())),
            Format::Table => Ok(Self::Table(schema.clone(), Vec::new())),
            Format::Parquet | Format::Csv | Format::Json | Format::Arrow | Format::ArrowStream => {
                Output::open(place, schema).map(Self::File)
            }
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, delivered: &Delivered) -> Result<(), CliError> {
        match self {
            Self::File(output) => output.write(batch),
            Self::Table(_, batches) => {
                batches.push(batch.clone());
                Ok(())
            }
            Self::Tables(schema) => {
                let shown = batch.num_rows().min(TABLE_ROWS_DEFAULT);
                let more = if shown < batch.num_rows() { format!(", the first {shown} of them:") } else { ":".to_owned() };
                let heading =
                    format!("partition {} offset {}: {}{more}", delivered.partition, delivered.offset, rows(batch.num_rows() as u64));
                print_lines([heading, table(schema, &[batch.slice(0, shown)])?])
            }
        }
    }

    /// Lets go of what can be let go of, so that it is seen, and before it is acked.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        match self {
            Self::File(output) => output.flush(),
            Self::Table(..) | Self::Tables(_) => Ok(()),
        }
    }

    /// Ends what was written; `cut` says on stderr that there may be more.
    pub(super) fn finish(self, cut: bool) -> Result<(), CliError> {
        match self {
            Self::File(output) => output.finish(),
            Self::Table(schema, batches) => {
                print_lines([table(&schema, &batches)?])?;
                if cut {
                    eprintln!("the first {TABLE_ROWS_DEFAULT} rows; --limit shows more, -o writes all to a file");
                }
                Ok(())
            }
            Self::Tables(_) => Ok(()),
        }
    }
}

/// What to do where there is no schema: nothing, or for a file that cannot be written without one, fail.
pub(super) fn without_schema(place: &Place, stream: &str) -> Result<(), CliError> {
    let format = match place.format {
        Format::Parquet => "parquet",
        Format::Arrow => "arrow",
        Format::ArrowStream => "arrow-stream",
        Format::Table | Format::Csv | Format::Json => {
            eprintln!("stream {stream} is empty");
            return Ok(());
        }
    };
    Err(CliError::NoSchema { stream: stream.to_owned(), format })
}

/// The rows as a table.
pub(in crate::cli) fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, CliError> {
    let printed = pretty_format_batches_with_schema(schema.clone(), batches);
    printed.map(|table| table.to_string()).map_err(|error| CliError::Unwritable {
        name: "stdout".to_owned(),
        format: "table",
        reason: error.to_string(),
        hint: "--format json prints every type",
    })
}
