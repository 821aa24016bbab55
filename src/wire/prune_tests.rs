//! Pruned batches are what a reader that decodes all and drops columns has.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array, ListBuilder, NullArray,
    RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray,
};
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use proptest::prelude::*;

use super::body::Body;
use super::ipc::Message;
use super::schema::StreamSchema;

/// A column of each layout, with nulls.
fn batch(rows: i32) -> RecordBatch {
    let texts = || (0..rows).map(|row| (row % 3 != 0).then(|| "text ".repeat(usize::try_from(row).expect("small") % 7 + 1)));
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut views = BinaryViewBuilder::new();
    for row in 0..rows {
        lists.append_option((row % 4 != 1).then(|| (0..row % 5).map(|item| Some(item.to_string()))));
        views.append_option((row % 2 == 0).then_some([7; 40]));
    }
    let inner: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 5 != 0).then_some(i64::from(row)))));
    let fields = vec![Arc::new(Field::new("inner", DataType::Int64, true))].into();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("int", Arc::new(Int32Array::from_iter_values(0..rows))),
        ("text", Arc::new(StringArray::from_iter(texts()))),
        ("nothing", Arc::new(NullArray::new(usize::try_from(rows).expect("small")))),
        ("view", Arc::new(StringViewArray::from_iter(texts()))),
        ("list", Arc::new(lists.finish())),
        ("struct", Arc::new(StructArray::new(fields, vec![inner], None))),
        ("bool", Arc::new(BooleanArray::from_iter((0..rows).map(|row| (row % 3 == 0).then_some(row % 2 == 0))))),
        ("views", Arc::new(views.finish())),
        (
            "fixed",
            Arc::new(
                FixedSizeBinaryArray::try_from_iter((0..rows.max(1)).map(|_| [1u8; 3]))
                    .expect("of one size")
                    .slice(0, usize::try_from(rows).expect("small")),
            ),
        ),
        ("decimal", Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)))),
    ];
    let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(nullable).expect("columns of one length")
}

/// Its message, the body cut into chunks of so many bytes.
fn message(batch: &RecordBatch, codec: Option<CompressionType>, chunk_bytes: usize) -> Message {
    let options = IpcWriteOptions::default().try_with_compression(codec).expect("is built in");
    let mut tracker = DictionaryTracker::new(false);
    let (_, encoded) =
        IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut IpcWriteContext::default()).expect("can be encoded");
    let mut body = Body::new();
    encoded.arrow_data.chunks(chunk_bytes).for_each(|chunk| body.push(Bytes::copy_from_slice(chunk)));
    Message { header: encoded.ipc_message.into(), body }
}

fn decoded(message: &Message, schema: &Arc<Schema>) -> RecordBatch {
    let header = arrow_ipc::root_as_message(&message.header).expect("a message");
    let body = Buffer::from_vec(message.body.contiguous().to_vec());
    let table = header.header_as_record_batch().expect("a batch");
    read_record_batch(&body, table, schema.clone(), &HashMap::new(), None, &header.version()).expect("can be read")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn some_columns_are_what_is_left_of_all(
        rows in 0..200i32,
        columns in proptest::collection::vec(0..10usize, 0..14),
        codec in prop_oneof![Just(None), Just(Some(CompressionType::LZ4_FRAME)), Just(Some(CompressionType::ZSTD))],
        chunk_bytes in 1..5000usize,
    ) {
        let batch = batch(rows);
        let schema = StreamSchema::from_arrow(batch.schema_ref()).expect("a schema");
        let pruned = schema.prune(&message(&batch, codec, chunk_bytes), &columns).expect("has these columns");
        let expected = batch.project(&columns).expect("has these columns");
        let header = StreamSchema::from_arrow(expected.schema_ref()).expect("a schema");
        header.inspect(&pruned.header, pruned.body.len()).expect("passes the guard");
        prop_assert_eq!(decoded(&pruned, expected.schema_ref()), expected);
    }
}

#[test]
fn nothing_is_copied() {
    let batch = batch(100);
    let whole = message(&batch, None, usize::MAX);
    let schema = StreamSchema::from_arrow(batch.schema_ref()).expect("a schema");
    let pruned = schema.prune(&whole, &[1, 4]).expect("has these columns");
    let all = whole.body.contiguous();
    let range = all.as_ptr_range();
    let own: u64 = pruned.body.chunks().iter().filter(|chunk| !range.contains(&chunk.as_ptr())).map(|chunk| chunk.len() as u64).sum();
    assert!(own < 3 * 64, "{own} bytes are not the batch's own: more than what aligns its columns");
    assert!(pruned.body.len() < whole.body.len() / 2, "{} of {}", pruned.body.len(), whole.body.len());
}

#[test]
fn a_column_that_is_not_there_is_refused() {
    let batch = batch(3);
    let schema = StreamSchema::from_arrow(batch.schema_ref()).expect("a schema");
    let error = schema.prune(&message(&batch, None, 100), &[10]).expect_err("has ten columns");
    assert!(error.to_string().contains("column 10"), "{error}");
}
