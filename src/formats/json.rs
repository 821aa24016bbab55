//! JSON objects by arrow-json: many at once, and by halves where one of them is refused.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow_schema::SchemaRef;

use super::{Rejected, Rules};

/// Rows that are decoded at once: the decoder takes room for each column of each row before it sees them.
const ROWS_AT_ONCE: usize = 4096;
/// Most bytes of a reason: arrow-json's holds the value that it is about.
const REASON_BYTES_MAX: usize = 512;

/// Whether arrow-json has columns of these types.
pub(super) fn check(schema: &SchemaRef) -> Result<(), ArrowError> {
    ReaderBuilder::new(schema.clone()).with_batch_size(1).build_decoder().map(drop)
}

/// Batches, each with the indices of its rows. The rows have passed `shape::check`: each is one object.
pub(super) fn decode(
    schema: &SchemaRef,
    rows: &[(usize, &[u8])],
    rules: Rules,
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<(RecordBatch, Vec<usize>)>, ArrowError> {
    let mut batches = Vec::new();
    // What is still to be decoded, the next at the end.
    let mut parts: Vec<&[(usize, &[u8])]> = rows.chunks(ROWS_AT_ONCE).rev().collect();
    while let Some(part) = parts.pop() {
        match (at_once(schema, part, rules), part) {
            (Ok(batch), _) => batches.push((batch, part.iter().map(|(index, _)| *index).collect())),
            (Err(error), [(index, _)]) => rejected.push(Rejected { index: *index, reason: reason(&error) }),
            (Err(_), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok(batches)
}

fn at_once(schema: &SchemaRef, rows: &[(usize, &[u8])], rules: Rules) -> Result<RecordBatch, ArrowError> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len()).with_coerce_primitive(rules.lenient);
    let mut decoder = builder.build_decoder()?;
    for (_, row) in rows {
        let taken = decoder.decode(row)?;
        if taken != row.len() || decoder.has_partial_record() {
            return Err(ArrowError::JsonError("a row is not one object".to_owned()));
        }
    }
    match decoder.flush()? {
        Some(batch) if batch.num_rows() == rows.len() => Ok(batch),
        _ => Err(ArrowError::JsonError("a row is not one object".to_owned())),
    }
}

fn reason(error: &ArrowError) -> String {
    let mut text = error.to_string();
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
        text.push_str("...");
    }
    text
}
