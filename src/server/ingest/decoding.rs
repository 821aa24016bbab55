//! From a body to what a `DoPut` sends: the good rows as one batch, the bad ones as another.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, LargeBinaryArray, RecordBatch, StringArray};
use arrow_flight::FlightDescriptor;
use arrow_flight::utils::batches_to_flight_data;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::{Bytes, BytesMut};

use super::answer::Refused;
use super::body::BYTES_MAX as BODY_BYTES_MAX;
use super::media::Layout;
use super::room::BYTES_MAX as ROOM_BYTES_MAX;
use super::split;
use crate::formats::{FormatError, Rejected, RowDecoder};
use crate::server::error::Error;
use crate::wire::frame::frame_proto;

/// About what a row costs beside its columns: where it lies, and why it is bad.
const ROW_BYTES: u64 = 192;

/// A `DoPut`'s command for each of the two batches.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) good: Vec<u8>,
    pub(super) bad: Vec<u8>,
}

/// The rows of a request, ready to be appended.
#[derive(Debug)]
pub(super) struct Ready {
    /// Good rows, and their `DoPut`.
    pub(super) good: (usize, Bytes),
    /// Bad rows, and theirs.
    pub(super) bad: (usize, Bytes),
    /// What is wrong with the first bad row.
    pub(super) reason: Option<Rejected>,
}

impl Ready {
    pub(super) fn bytes(&self) -> u64 {
        (self.good.1.len() + self.bad.1.len()) as u64
    }
}

/// About the memory that a body's rows take until they are ready. A row costs what its columns do, and a list's item what its own do, also
/// where all of them are null: a body of next to nothing would otherwise fill the memory.
///
/// # Errors
/// 413 for more than there is altogether.
pub(super) fn bytes(body: &[u8], rows: usize, layout: Layout, schema: &Schema, aliases: u64) -> Result<u64, Refused> {
    let columns = schema.fields().iter().map(|field| width(field.data_type()));
    let widest = columns.clone().max().unwrap_or(0);
    let row = columns.sum::<u64>().saturating_add(widest.saturating_mul(aliases));
    let of_rows = row.saturating_mul(3).saturating_add(ROW_BYTES).saturating_mul(rows as u64);
    let item = schema.fields().iter().map(|field| item_width(field.data_type())).max().unwrap_or(0);
    let of_items = if item == 0 { 0 } else { item.saturating_mul(items_max(body, layout)) };
    let bytes = of_rows.saturating_add(of_items).saturating_add(4 * body.len() as u64);
    if bytes > ROOM_BYTES_MAX {
        let text =
            format!("{rows} rows of this schema may take {bytes} bytes of memory, and there are {ROOM_BYTES_MAX}; send fewer at a time");
        return Err(Refused::too_large(text));
    }
    Ok(bytes)
}

/// What a row has of a column at least, in bytes.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Null => 0,
        DataType::Boolean => 1,
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(..) => 5,
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => 9,
        DataType::FixedSizeBinary(size) => 1 + u64::try_from(*size).unwrap_or(0),
        DataType::FixedSizeList(item, size) => 1 + width(item.data_type()).saturating_mul(u64::try_from(*size).unwrap_or(0)),
        DataType::Struct(fields) => 1 + fields.iter().map(|field| width(field.data_type())).sum::<u64>(),
        DataType::Dictionary(_, values) => 9 + width(values),
        other => 1 + other.primitive_width().map_or(16, |width| width as u64),
    }
}

/// Most items that the lists and maps of a body can have: in JSON each but the first has a comma before it, else each takes a byte.
fn items_max(body: &[u8], layout: Layout) -> u64 {
    match layout {
        Layout::Document | Layout::Lines => body.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() as u64,
        Layout::One | Layout::Delimited => body.len() as u64,
    }
}

/// What an item of the widest list or map within a column has at least, in bytes.
fn item_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
            width(item.data_type()).max(item_width(item.data_type()))
        }
        DataType::FixedSizeList(item, _) => item_width(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| item_width(field.data_type())).max().unwrap_or(0),
        _ => 0,
    }
}

/// Decodes the rows of a body and makes what is sent of them. Blocks for as long as that takes.
///
/// # Errors
/// Those of [`split::rows`]; never for what is in a row.
pub(super) fn decode(decoder: &RowDecoder, body: &[u8], layout: Layout, commands: Commands) -> Result<Ready, Refused> {
    debug_assert!(body.len() <= BODY_BYTES_MAX, "a body is bounded before it is decoded");
    let rows = split::rows(body, layout)?;
    let decoded = decoder.decode(rows.iter().copied().map(Some)).map_err(|error| match error {
        FormatError::TooManyRows | FormatError::TooManyBytes => Refused::too_large(error.to_string()),
        other => failed(other),
    })?;
    let rejected = rejected(&rows, &decoded.rejected).map_err(failed)?;
    let put = |batch: RecordBatch, command| match batch.num_rows() {
        0 => Ok((0, Bytes::new())),
        count => Ok::<_, Refused>((count, frames(batch, command).map_err(failed)?)),
    };
    Ok(Ready { bad: put(rejected, commands.bad)?, good: put(decoded.batch, commands.good)?, reason: decoded.rejected.into_iter().next() })
}

fn failed(error: impl Into<FormatError>) -> Refused {
    let error: FormatError = error.into();
    Error::Task { reason: error.to_string() }.into()
}

/// The schema of bad rows: that of `RowDecoder` in Python.
pub(super) fn rejected_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("index", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("row", DataType::LargeBinary, true),
    ]))
}

fn rejected(rows: &[&[u8]], rejected: &[Rejected]) -> Result<RecordBatch, ArrowError> {
    let indices = rejected.iter().map(|row| i64::try_from(row.index).unwrap_or(i64::MAX));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(indices)),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| &row.reason))),
        Arc::new(LargeBinaryArray::from_iter(rejected.iter().map(|row| rows.get(row.index).copied()))),
    ];
    RecordBatch::try_new(rejected_schema(), columns)
}

/// A whole `DoPut` of one batch.
fn frames(batch: RecordBatch, command: Vec<u8>) -> Result<Bytes, ArrowError> {
    let mut messages = batches_to_flight_data(&batch.schema(), std::slice::from_ref(&batch))?;
    drop(batch);
    if let Some(first) = messages.first_mut() {
        first.flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    }
    let mut frames = BytesMut::new();
    messages.iter().for_each(|message| frames.extend_from_slice(&frame_proto(message)));
    Ok(frames.freeze())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn many_rows_of_a_wide_schema_are_too_many_however_small_they_are() {
        let wide =
            |columns: usize| Schema::new((0..columns).map(|at| Field::new(at.to_string(), DataType::Int64, true)).collect::<Vec<_>>());
        let body = "{}\n".repeat(1 << 20);
        assert!(bytes(body.as_bytes(), 1 << 20, Layout::Lines, &wide(4), 0).unwrap() > 200 << 20);
        assert!(bytes(body.as_bytes(), 1 << 20, Layout::Lines, &wide(100), 0).is_err());
        assert!(bytes(body.as_bytes(), 1 << 10, Layout::Lines, &wide(100), 0).is_ok());
        assert!(bytes(body.as_bytes(), 1 << 20, Layout::Lines, &wide(4), 100).is_err(), "each alias is a column until they are one");
        let nested = DataType::new_fixed_size_list(DataType::Int64, i32::MAX, true);
        assert!(bytes(b"{}", 1, Layout::Document, &Schema::new(vec![Field::new("a", nested, true)]), 0).is_err());
    }

    #[test]
    fn items_of_lists_cost_what_their_columns_do() {
        let item = DataType::Struct((0..100).map(|at| Field::new(at.to_string(), DataType::Int64, true)).collect());
        let list = |item: DataType| Schema::new(vec![Field::new("a", DataType::new_list(item, true), true)]);
        let body = format!("{{\"a\": [{{}}{}]}}", ",{}".repeat(1 << 20));
        let cost = |schema: &Schema, layout| bytes(body.as_bytes(), 1, layout, schema, 0);
        for layout in [Layout::Document, Layout::One] {
            assert!(cost(&list(item.clone()), layout).is_err(), "{layout:?}");
            assert!(cost(&list(DataType::new_list(item.clone(), true)), layout).is_err(), "{layout:?}");
            assert!(cost(&list(DataType::Int64), layout).unwrap() > 16 << 20, "{layout:?}");
        }
        assert!(bytes(br#"{"a": [{}, {}]}"#, 1, Layout::Document, &list(item), 0).is_ok());
    }

    #[test]
    fn an_array_of_bad_rows_keeps_each_with_its_reason() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let decoder = RowDecoder::new(crate::formats::Format::Json, schema, &crate::formats::Names::new([]), Default::default()).unwrap();
        let commands = Commands { good: Vec::new(), bad: Vec::new() };
        let ready = decode(&decoder, br#"[{"n": 1}, {"n": "x"}, 7]"#, Layout::Document, commands).unwrap();
        assert_eq!((ready.good.0, ready.bad.0, ready.reason.unwrap().index), (1, 2, 1));
        let rows: [&[u8]; 3] = [b"a", b"b", b"c"];
        let bad = rejected(&rows, &[Rejected { index: 2, reason: "why".to_owned() }]).unwrap();
        assert_eq!((bad.num_rows(), bad.schema()), (1, rejected_schema()));
    }
}
