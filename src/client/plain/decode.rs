//! Arrow IPC messages to plain batches.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions, downcast_primitive, make_array};
use arrow::datatypes::ArrowPrimitiveType;
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use bytes::Bytes;

use super::PlainLayout;

/// Where the arrays of a batch lie in its body: made for one header, good for every batch that has the same.
#[derive(Debug)]
pub(in crate::client) struct PlainDecoder {
    header: Bytes,
    body_len: u64,
    pub(super) rows: usize,
    pub(super) columns: Vec<Column>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) nulls: usize,
    /// Empty if there are no nulls.
    pub(super) validity: Range<usize>,
    /// The values, or the offsets of strings.
    pub(super) values: Range<usize>,
    /// Strings' bytes.
    pub(super) data: Option<Range<usize>>,
}

impl PlainDecoder {
    /// None if a column is not plain, or the batch is compressed, or not laid out as its schema says: Arrow's decoder
    /// knows what to do or to say. The header's ranges lie in the body; the guard has seen to that.
    pub(in crate::client) fn new(header: &[u8], body_len: u64, batch: &arrow_ipc::RecordBatch<'_>, schema: &Schema) -> Option<Self> {
        if PlainLayout::of_schema(schema).is_none() || batch.compression().is_some() {
            return None;
        }
        let rows = usize::try_from(batch.length()).ok()?;
        let mut nodes = batch.nodes()?.iter();
        let mut buffers = batch.buffers()?.iter();
        let mut range = || {
            let buffer = buffers.next()?;
            let start = usize::try_from(buffer.offset()).ok()?;
            Some(start..start.checked_add(usize::try_from(buffer.length()).ok()?)?)
        };
        let mut column = |data_type: &DataType| {
            let node = nodes.next().filter(|node| node.length() == batch.length())?;
            let validity = range()?;
            let has_data = matches!(PlainLayout::of(data_type), Some(PlainLayout::Variable(_)));
            let column = Column {
                nulls: usize::try_from(node.null_count()).ok()?,
                validity: if node.null_count() > 0 { validity } else { 0..0 },
                values: range()?,
                data: if has_data { Some(range()?) } else { None },
            };
            let is_complete = node.null_count() == 0 || column.validity.len() >= rows.div_ceil(8);
            (is_complete && holds(data_type, rows, &column.values)).then_some(column)
        };
        let columns = schema.fields().iter().map(|field| column(field.data_type())).collect::<Option<_>>()?;
        // The header may be part of a large chunk.
        Some(Self { header: Bytes::copy_from_slice(header), body_len, rows, columns })
    }

    /// For one body whose columns lie there.
    pub(super) fn of_columns(rows: usize, columns: Vec<Column>) -> Self {
        Self { header: Bytes::new(), body_len: 0, rows, columns }
    }

    /// Whether it was made for this header.
    pub(in crate::client) fn is_for(&self, header: &[u8], body_len: u64) -> bool {
        self.body_len == body_len && *self.header == *header
    }

    /// The batch in a body whose memory is aligned to 64 bytes.
    ///
    /// # Errors
    /// Values that are not of their type, for instance strings that are not UTF-8.
    pub(in crate::client) fn decode(&self, body: &Buffer, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter().zip(schema.fields()).map(|(column, field)| column.array(self.rows, body, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_, _>>()?, &options)
    }
}

/// Whether the values of so many rows fit in their buffer, and can be used where they are.
fn holds(data_type: &DataType, rows: usize, values: &Range<usize>) -> bool {
    macro_rules! primitive {
        ($type:ty) => {{
            type Native = <$type as ArrowPrimitiveType>::Native;
            rows.checked_mul(size_of::<Native>()).is_some_and(|bytes| bytes <= values.len()) && values.start % align_of::<Native>() == 0
        }};
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => rows.div_ceil(8) <= values.len(),
        // Arrow checks the offsets of strings itself.
        _ => true,
    }
}

impl Column {
    fn array(&self, rows: usize, body: &Buffer, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls(rows, body)?;
        macro_rules! primitive {
            ($type:ty) => {{
                let values = ScalarBuffer::new(slice(body, &self.values), 0, rows);
                let array = PrimitiveArray::<$type>::try_new(values, nulls)?;
                // Its own type may lack a time zone, a precision and a scale.
                Ok(if <$type as ArrowPrimitiveType>::DATA_TYPE == *data_type {
                    Arc::new(array)
                } else {
                    Arc::new(array.with_data_type(data_type.clone()))
                })
            }};
        }
        downcast_primitive! {
            data_type => (primitive),
            DataType::Boolean => Ok(Arc::new(BooleanArray::new(BooleanBuffer::new(slice(body, &self.values), 0, rows), nulls))),
            _ => {
                let buffers = std::iter::once(&self.values).chain(&self.data).map(|range| slice(body, range));
                let strings = ArrayData::builder(data_type.clone()).len(rows).nulls(nulls).buffers(buffers.collect());
                Ok(make_array(strings.build()?))
            }
        }
    }

    /// A count that is wrong is refused, as Arrow's decoder does.
    fn nulls(&self, rows: usize, body: &Buffer) -> Result<Option<NullBuffer>, ArrowError> {
        if self.validity.is_empty() {
            return Ok(None);
        }
        let nulls = NullBuffer::new(BooleanBuffer::new(slice(body, &self.validity), 0, rows));
        if nulls.null_count() != self.nulls {
            let reason =
                format!("null_count value ({}) doesn't match actual number of nulls in array ({})", self.nulls, nulls.null_count());
            return Err(ArrowError::InvalidArgumentError(reason));
        }
        Ok(Some(nulls))
    }
}

fn slice(body: &Buffer, range: &Range<usize>) -> Buffer {
    body.slice_with_length(range.start, range.len())
}
