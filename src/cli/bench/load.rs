//! What a benchmark carries: batches of one size and one kind of columns, the same in every process that makes them.

use std::sync::Arc;

use arrow::array::builder::{ListBuilder, StringBuilder};
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array as _, ArrayRef, PrimitiveArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use clap::ValueEnum;

use crate::cli::error::CliError;

/// Bytes of a row of eight int64.
const FIXED_ROW_BYTES: usize = 64;
/// About: an int64, three strings of 16 bytes on average and their offsets.
const STRING_ROW_BYTES: usize = 68;
/// About: an int64, a list of four int64 on average, a struct of a float64 and a string of 8 bytes on average.
const NESTED_ROW_BYTES: usize = 64;

/// The columns of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Columns {
    /// Eight int64
    Fixed,
    /// An int64 and three strings of 4 to 28 bytes
    String,
    /// An int64, a nullable list of int64 and a struct of a float64 and a string
    Nested,
}

impl Columns {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::String => "string",
            Self::Nested => "nested",
        }
    }
}

/// A batch and what it weighs.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) batch: RecordBatch,
    /// Bytes of the batch's buffers: what throughput counts.
    pub(super) bytes: u64,
}

impl Load {
    /// A batch of about so many bytes, at least one row.
    pub(super) fn new(columns: Columns, bytes: u64) -> Result<Self, CliError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let batch = match columns {
            Columns::Fixed => fixed((bytes / FIXED_ROW_BYTES).max(1)),
            Columns::String => strings((bytes / STRING_ROW_BYTES).max(1)),
            Columns::Nested => nested((bytes / NESTED_ROW_BYTES).max(1)),
        };
        let batch = batch.map_err(|error| failed(&error))?;
        let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
        let bytes = sizes.sum::<Result<usize, ArrowError>>().map_err(|error| failed(&error))?;
        Ok(Self { batch, bytes: bytes as u64 })
    }
}

fn failed(error: &ArrowError) -> CliError {
    CliError::Bench { reason: format!("the batch could not be made: {error}") }
}

fn numbers(rows: usize) -> ArrayRef {
    Arc::new((0..rows as u64).map(|row| i64::try_from(row).unwrap_or(0)).collect::<PrimitiveArray<Int64Type>>())
}

fn fixed(rows: usize) -> Result<RecordBatch, ArrowError> {
    // Each column has its own memory, as real ones have.
    RecordBatch::try_from_iter((0..8).map(|number| (format!("c{number}"), numbers(rows))))
}

/// Letters from row to row in another length, `shortest` to `longest`: few rows have about the same mean as many.
fn texts(rows: usize, shortest: usize, longest: usize) -> StringArray {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    (0..rows).map(|row| Some(&LETTERS[row % 24..][..shortest + row * 7 % (longest - shortest + 1)])).collect()
}

fn strings(rows: usize) -> Result<RecordBatch, ArrowError> {
    let column = |_| -> ArrayRef { Arc::new(texts(rows, 4, 28)) };
    let columns = std::iter::once(("id".to_owned(), numbers(rows)));
    RecordBatch::try_from_iter(columns.chain((0..3).map(|number| (format!("s{number}"), column(number)))))
}

fn nested(rows: usize) -> Result<RecordBatch, ArrowError> {
    let mut lists = ListBuilder::new(PrimitiveArray::<Int64Type>::builder(rows * 4));
    for row in 0..rows {
        let value = i64::try_from(row).unwrap_or(0);
        // 1 to 7 items, and every sixteenth list is null.
        (0..1 + row % 7).for_each(|_| lists.values().append_value(value));
        lists.append(row % 16 != 15);
    }
    let mut tags = StringBuilder::new();
    texts(rows, 4, 12).iter().for_each(|tag| tags.append_option(tag));
    let floats: PrimitiveArray<Float64Type> = (0..rows).map(|row| f64::from(u32::try_from(row % 1000).unwrap_or(0)) / 8.0).collect();
    let point = StructArray::try_new(
        vec![Field::new("x", DataType::Float64, false), Field::new("tag", DataType::Utf8, true)].into(),
        vec![Arc::new(floats), Arc::new(tags.finish())],
        None,
    )?;
    let columns: [(&str, ArrayRef); 3] = [("id", numbers(rows)), ("items", Arc::new(lists.finish())), ("point", Arc::new(point))];
    RecordBatch::try_from_iter(columns)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn a_batch_weighs_about_what_was_asked_for() {
        for columns in [Columns::Fixed, Columns::String, Columns::Nested] {
            for asked in [1 << 10, 64 << 10, 1 << 20] {
                let load = Load::new(columns, asked).unwrap();
                let (most, least) = (asked + asked / 8, asked - asked / 8);
                assert!((least..=most).contains(&load.bytes), "{columns:?}: {} of {asked}", load.bytes);
            }
            assert_eq!(Load::new(columns, 1).unwrap().batch.num_rows(), 1);
        }
    }
}
