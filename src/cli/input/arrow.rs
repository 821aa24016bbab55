//! Arrow IPC, as a file or as a stream: which it is, its first bytes say.

use std::io::BufRead as _;

use ::arrow::array::RecordBatch;
use ::arrow::error::ArrowError;
use ::arrow::ipc::reader::{FileReader, StreamReader};

use super::{Batches, Extent, Input, InputOptions, seekable, source, split};
use crate::cli::error::CliError;
use crate::cli::format::Place;

/// What an Arrow IPC file begins with; a stream has no such mark.
const FILE_MARK: &[u8] = b"ARROW1";

pub(super) fn open(place: &Place, options: &InputOptions) -> Result<Input, CliError> {
    let failed = |error: ArrowError| malformed(place, &error);
    let (mut reader, extent) = source(place)?;
    let is_file = reader.fill_buf().map_err(|reason| failed(reason.into()))?.starts_with(FILE_MARK);
    if !is_file {
        let reader = StreamReader::try_new(reader, None).map_err(failed)?;
        return Ok(Input { schema: reader.schema(), batches: batches(reader, place, options), extent });
    }
    // A pipe cannot be opened anew: what was looked at is still in the reader.
    let file = if matches!(extent, Extent::Bytes(..)) { seekable(place)? } else { super::spool(&mut reader)? };
    let reader = FileReader::try_new_buffered(file, None).map_err(failed)?;
    Ok(Input { schema: reader.schema(), batches: batches(reader, place, options), extent: Extent::Unknown })
}

fn batches(
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    place: &Place,
    options: &InputOptions,
) -> Batches {
    let place = place.clone();
    let rows = options.batch_rows;
    Box::new(reader.flat_map(move |batch| -> Batches {
        match batch {
            Ok(batch) => Box::new(split(batch, rows).map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(malformed(&place, &error)))),
        }
    }))
}

fn malformed(place: &Place, error: &ArrowError) -> CliError {
    let hint = "it may be cut short or of another format: --format says which";
    CliError::Malformed { name: place.name("stdin"), format: "arrow", reason: error.to_string(), hint }
}
