//! Batches out of a file or stdin.

mod arrow;
mod csv;
mod json;
mod lines;
mod parquet;
mod schema;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;

use super::error::CliError;
use super::format::{Format, Place};

/// Rows per batch where neither the file nor the user says: large enough that the cost per batch does not show, small
/// enough that several fit in a buffer.
pub(super) const BATCH_ROWS_DEFAULT: usize = 65_536;
/// Rows that the schema of CSV and JSON is inferred from, unless the user says.
pub(super) const INFER_ROWS_DEFAULT: usize = 1000;

/// How to read.
#[derive(Debug, Clone)]
pub(super) struct InputOptions {
    /// Most rows of a batch. None: as an Arrow file has them, else [`BATCH_ROWS_DEFAULT`].
    pub(super) batch_rows: Option<usize>,
    /// Rows of CSV and JSON that the schema is inferred from.
    pub(super) infer_rows: usize,
    /// The schema to read CSV and JSON with, instead of inferring one.
    pub(super) schema: Option<SchemaRef>,
    /// Whether the first line of CSV names the columns.
    pub(super) csv_header: bool,
    /// What stands for null in CSV, besides nothing at all.
    pub(super) csv_null: Option<String>,
}

/// An opened input.
pub(super) struct Input {
    pub(super) schema: SchemaRef,
    pub(super) batches: Batches,
    pub(super) extent: Extent,
}

/// The batches of an input, one by one.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, CliError>> + Send>;

/// How much there is to read, for the progress bar.
#[derive(Debug, Clone)]
pub(super) enum Extent {
    /// So many rows.
    Rows(u64),
    /// So many bytes, of which the counter tells how many are read.
    Bytes(u64, Arc<AtomicU64>),
    /// Nobody knows: stdin.
    Unknown,
}

/// Opens the input and reads as far as needed to know its schema. Blocks.
pub(super) fn open(place: &Place, options: &InputOptions) -> Result<Input, CliError> {
    match place.format {
        Format::Table => {
            Err(CliError::usage("a table is for reading on the terminal: put takes parquet, csv, json, arrow or arrow-stream"))
        }
        Format::Parquet => parquet::open(place, options),
        Format::Csv => csv::open(place, options),
        Format::Json => json::open(place, options),
        Format::Arrow | Format::ArrowStream => arrow::open(place, options),
    }
}

/// Bytes of the input, counted as they are read.
type Source = BufReader<Counted<Box<dyn Read + Send>>>;

/// The place's bytes from its start. Large buffers: text files are read from end to end.
fn source(place: &Place) -> Result<(Source, Extent), CliError> {
    let counter = Arc::new(AtomicU64::new(0));
    let (reader, extent): (Box<dyn Read + Send>, _) = match &place.path {
        None => (Box::new(io::stdin()), Extent::Unknown),
        Some(path) => {
            let file = File::open(path).map_err(|reason| CliError::file(path, reason))?;
            let length = file.metadata().map_err(|reason| CliError::file(path, reason))?.len();
            // A pipe or device has no length.
            let extent = if length == 0 { Extent::Unknown } else { Extent::Bytes(length, counter.clone()) };
            (Box::new(file), extent)
        }
    };
    Ok((BufReader::with_capacity(1 << 20, Counted { inner: reader, counter }), extent))
}

/// The place as a file that can be read at any offset: what comes through a pipe is copied to a temporary file first.
fn seekable(place: &Place) -> Result<File, CliError> {
    let Some(path) = &place.path else {
        return spool(&mut io::stdin().lock());
    };
    let mut file = File::open(path).map_err(|reason| CliError::file(path, reason))?;
    let regular = file.metadata().map_err(|reason| CliError::file(path, reason))?.is_file();
    if regular { Ok(file) } else { spool(&mut file) }
}

fn spool(reader: &mut impl Read) -> Result<File, CliError> {
    let failed = |reason| CliError::Io { doing: "copying the input to a temporary file", reason };
    let mut file = tempfile::tempfile().map_err(failed)?;
    io::copy(reader, &mut file).map_err(failed)?;
    io::Seek::rewind(&mut file).map_err(failed)?;
    Ok(file)
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.counter.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Batches of at most `rows` rows; slices share the batch's memory.
fn split(batch: RecordBatch, rows: Option<usize>) -> impl Iterator<Item = RecordBatch> {
    let total = batch.num_rows();
    let rows = rows.unwrap_or(total).max(1);
    // An empty batch stays one.
    let starts = (0..total.max(1)).step_by(rows);
    starts.map(move |start| batch.slice(start, rows.min(total - start)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn batches_split_without_losing_a_row() {
        let column: ::arrow::array::ArrayRef = Arc::new(::arrow::array::Int64Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let sizes = |rows| split(batch.clone(), rows).map(|part| part.num_rows()).collect::<Vec<_>>();
        assert_eq!(sizes(Some(4)), [4, 4, 2]);
        assert_eq!(sizes(Some(10)), [10]);
        assert_eq!(sizes(None), [10]);
        assert_eq!(split(batch.slice(0, 0), Some(4)).count(), 1);
    }
}
