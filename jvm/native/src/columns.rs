//! A batch as Arrow's IPC format lays it out flat: a node (rows and nulls) for each array, and the arrays' buffers, depth first. So it
//! crosses between Rust and the JVM's vectors.

use std::slice::ChunksExact;
use std::vec;

use arrow::array::{Array, ArrayData, ArrayDataBuilder, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use bowstring::client::Error;
use jni::sys::jlong;

/// A batch, taken apart.
pub(crate) struct Flat {
    /// Rows and nulls of each array.
    pub(crate) nodes: Vec<jlong>,
    /// What the arrays' values lie in; empty ones where there are no nulls.
    pub(crate) buffers: Vec<Buffer>,
}

/// Puts a batch together.
///
/// # Errors
/// `invalid_argument` if the parts are no batch of the schema, and for text that is not UTF-8.
pub(crate) fn assemble(schema: &SchemaRef, rows: usize, nodes: &[jlong], buffers: Vec<Buffer>) -> Result<RecordBatch, Error> {
    let mut parts = Parts { nodes: nodes.chunks_exact(2), buffers: buffers.into_iter() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data = parts.array(field.data_type()).map_err(|reason| invalid(&format!("column '{}': {reason}", field.name())))?;
        columns.push(make_array(data));
    }
    if parts.nodes.next().is_some() || parts.buffers.next().is_some() {
        return Err(invalid("the batch has more columns than its schema"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| invalid(&error.to_string()))
}

fn invalid(reason: &str) -> Error {
    Error::InvalidArgument { what: format!("the rows cannot be sent: {reason}; cast the column before it is written") }
}

struct Parts<'a> {
    nodes: ChunksExact<'a, jlong>,
    buffers: vec::IntoIter<Buffer>,
}

impl Parts<'_> {
    fn array(&mut self, data_type: &DataType) -> Result<ArrayData, String> {
        let node = self.nodes.next().ok_or("fewer nodes than columns")?;
        let (rows, nulls) = (usize::try_from(node[0]), usize::try_from(node[1]));
        let (rows, nulls) = (rows.map_err(|_| "fewer than no rows")?, nulls.map_err(|_| "fewer than no nulls")?);
        let layout = arrow::array::layout(data_type);
        let mut builder = ArrayDataBuilder::new(data_type.clone()).len(rows);
        if layout.can_contain_null_mask {
            let validity = self.buffer()?;
            builder = builder.null_bit_buffer((nulls > 0).then_some(validity)).null_count(nulls);
        }
        for _ in &layout.buffers {
            builder = builder.add_buffer(self.buffer()?);
        }
        for child in children(data_type) {
            builder = builder.add_child_data(self.array(child)?);
        }
        builder.build().map_err(|error| error.to_string())
    }

    fn buffer(&mut self) -> Result<Buffer, String> {
        self.buffers.next().ok_or_else(|| "fewer buffers than columns".to_owned())
    }
}

fn children(data_type: &DataType) -> Vec<&DataType> {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        DataType::List(field) | DataType::Map(field, _) => vec![field.data_type()],
        _ => Vec::new(),
    }
}

/// Takes a batch apart. What lies at odd places is copied; all else is shared.
///
/// # Errors
/// `invalid_argument` for a column whose copy would be larger than its type can be.
pub(crate) fn flatten(batch: &RecordBatch) -> Result<Flat, Error> {
    let mut flat = Flat { nodes: Vec::new(), buffers: Vec::new() };
    for column in batch.columns() {
        flat.add(&column.to_data()).map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(flat)
}

impl Flat {
    fn add(&mut self, data: &ArrayData) -> Result<(), ArrowError> {
        if data.offset() != 0 && *data.data_type() != DataType::Boolean {
            let mut compact = MutableArrayData::new(vec![data], false, data.len());
            compact.try_extend(0, 0, data.len())?;
            return self.add(&compact.freeze());
        }
        let nulls = data.nulls().filter(|nulls| nulls.null_count() > 0);
        let count = if *data.data_type() == DataType::Null { data.len() } else { data.null_count() };
        self.nodes.extend([data.len(), count].map(number));
        if arrow::array::layout(data.data_type()).can_contain_null_mask {
            self.buffers.push(nulls.map_or_else(empty, |nulls| nulls.inner().sliced()));
        }
        for buffer in data.buffers() {
            self.buffers.push(match data.data_type() {
                DataType::Boolean => BooleanBuffer::new(buffer.clone(), data.offset(), data.len()).sliced(),
                _ => buffer.clone(),
            });
        }
        data.child_data().iter().try_for_each(|child| self.add(child))
    }

    /// Addresses and sizes of the buffers.
    pub(crate) fn places(&self) -> impl Iterator<Item = jlong> {
        self.buffers.iter().flat_map(|buffer| [buffer.as_ptr() as jlong, number(buffer.len())])
    }
}

fn empty() -> Buffer {
    Buffer::from(&[] as &[u8])
}

/// A size in memory is far below what a `long` holds.
pub(crate) fn number(size: usize) -> jlong {
    jlong::try_from(size).unwrap_or(jlong::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int32Array, ListArray, NullArray, StringArray, StructArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("a batch")
    }

    fn there_and_back(batch: &RecordBatch) {
        let flat = flatten(batch).expect("small");
        let again = assemble(&batch.schema(), batch.num_rows(), &flat.nodes, flat.buffers).expect("its own parts");
        assert_eq!(again, *batch);
    }

    fn sample() -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(4)])]);
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("long enough")]));
        let inner = Field::new("s", DataType::Utf8, true);
        let nested = StructArray::new(vec![inner].into(), vec![text.clone()], None);
        batch(vec![
            ("i", Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
            ("s", text),
            ("l", Arc::new(lists)),
            ("t", Arc::new(nested)),
            ("n", Arc::new(NullArray::new(4))),
        ])
    }

    #[test]
    fn a_batch_taken_apart_is_the_same_put_together() {
        there_and_back(&sample());
        there_and_back(&sample().slice(1, 3));
        there_and_back(&sample().slice(3, 1));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &RecordBatchOptions::new().with_row_count(Some(7)));
        there_and_back(&none.expect("rows without columns"));
    }

    #[test]
    fn bits_begin_at_the_first_row() {
        let bits = BooleanArray::from((0..100).map(|row| if row % 7 == 0 { None } else { Some(row % 3 == 0) }).collect::<Vec<_>>());
        let slice = batch(vec![("b", Arc::new(bits.slice(13, 50)))]);
        let flat = flatten(&slice).expect("small");
        let first = |buffer: &Buffer| buffer.as_slice()[0] & 1 == 1;
        assert_eq!((first(&flat.buffers[0]), first(&flat.buffers[1])), (13 % 7 != 0, 13 % 3 == 0));
        there_and_back(&slice);
    }

    #[test]
    fn what_is_no_batch_of_the_schema_is_refused() {
        let whole = sample();
        let parts = || flatten(&whole).expect("small");
        let mut fewer = parts();
        fewer.buffers.pop();
        let cases = [
            (fewer.nodes, fewer.buffers, whole.schema()),
            (parts().nodes[2..].to_vec(), parts().buffers, whole.schema()),
            (parts().nodes, parts().buffers, Arc::new(Schema::new(vec![whole.schema().field(0).clone()]))),
            (vec![-1, 0], vec![], Arc::new(Schema::new(vec![Field::new("n", DataType::Null, true)]))),
        ];
        for (nodes, buffers, schema) in cases {
            assert!(assemble(&schema, 4, &nodes, buffers).is_err(), "{schema}");
        }
        let text = batch(vec![("s", Arc::new(StringArray::from(vec!["ab"])))]);
        let mut wrong = flatten(&text).expect("small");
        wrong.buffers[2] = Buffer::from(&[0xff_u8, 0xfe][..]);
        let error = assemble(&text.schema(), 1, &wrong.nodes, wrong.buffers).expect_err("no UTF-8");
        assert!(error.to_string().contains("column 's'"), "{error}");
    }
}
