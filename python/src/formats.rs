//! Rows of other formats on their way to batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bowstring::formats::{self, Format, Framing, Names, Protobuf, Rules};
use pyo3::prelude::*;

use crate::arrow_ffi::{Batches, Input, input, schema};
use crate::errors::{internal, invalid};

/// Makes rows of one format batches of one schema.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct RowDecoder(formats::RowDecoder);

/// The schemas that rows in Avro were written with: a text, texts that rows name by fingerprints, or by numbers.
#[derive(FromPyObject)]
enum Writers {
    One(String),
    ById(BTreeMap<u32, String>),
    ByFingerprint(Vec<String>),
}

/// What rows are, if not JSON: Avro by its writers' schemas; or Protobuf by descriptors, a message's name, and whether rows are framed.
#[derive(FromPyObject)]
enum Binary {
    Protobuf(Vec<u8>, String, bool),
    Avro(Writers),
}

impl From<Binary> for Format {
    fn from(binary: Binary) -> Self {
        match binary {
            Binary::Avro(writers) => Self::Avro(writers.into()),
            Binary::Protobuf(descriptors, message, is_framed) => {
                let framing = if is_framed { Framing::Confluent } else { Framing::None };
                Self::Protobuf(Protobuf { descriptors, message, framing })
            }
        }
    }
}

impl From<Writers> for formats::Writers {
    fn from(writers: Writers) -> Self {
        match writers {
            Writers::One(text) => Self::One(text),
            Writers::ById(texts) => Self::ById(texts),
            Writers::ByFingerprint(texts) => Self::ByFingerprint(texts),
        }
    }
}

#[pymethods]
impl RowDecoder {
    /// Rows are JSON unless `binary` is given.
    #[new]
    fn new(
        of: &Bound<'_, PyAny>,
        aliases: BTreeMap<String, Vec<String>>,
        lenient: bool,
        refuse_unknown: bool,
        row_bytes_max: usize,
        binary: Option<Binary>,
    ) -> PyResult<Self> {
        let rules = Rules { lenient, refuse_unknown, row_bytes_max };
        let format = binary.map_or(Format::Json, Format::from);
        let decoder = formats::RowDecoder::new(format, Arc::new(schema(of)?), &Names::new(aliases), rules);
        Ok(Self(decoder.map_err(|error| invalid(&error.to_string()))?))
    }

    /// Of a batch with one column, the rows: the good ones' batch, their indices, and the indices and reasons of the others.
    fn decode(&self, rows: &Bound<'_, PyAny>) -> PyResult<(Batches, Batches, Batches)> {
        let Input::One(column) = input(rows)? else { return Err(invalid("rows come as one record batch with one column")) };
        let decoded = rows.py().detach(|| self.0.decode_column(column.column(0))).map_err(|error| invalid(&error.to_string()))?;
        let kept = decoded.kept.into_iter().map(index).collect::<Int64Array>();
        let rejected: Int64Array = decoded.rejected.iter().map(|row| index(row.index)).collect();
        let reasons = StringArray::from_iter_values(decoded.rejected.iter().map(|row| &row.reason));
        Ok((
            alone(decoded.batch),
            alone(named([("index", Arc::new(kept))])?),
            alone(named([("index", Arc::new(rejected) as ArrayRef), ("reason", Arc::new(reasons))])?),
        ))
    }
}

/// At most [`formats::ROWS_MAX`].
fn index(index: usize) -> Option<i64> {
    i64::try_from(index).ok()
}

fn named<const N: usize>(columns: [(&str, ArrayRef); N]) -> PyResult<RecordBatch> {
    RecordBatch::try_from_iter(columns).map_err(internal)
}

fn alone(batch: RecordBatch) -> Batches {
    Batches::new(batch.schema(), vec![batch])
}
