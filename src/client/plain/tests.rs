//! Plain batches against Arrow's own encoder and decoder: each reads what the other wrote.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch, StringArray, UInt16Array,
    downcast_primitive,
};
use arrow::datatypes::ArrowPrimitiveType;
use arrow_buffer::{Buffer, MutableBuffer, ScalarBuffer};
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::{RecordBatchDecoder, StreamReader};
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use bytes::{BufMut, Bytes};
use proptest::prelude::*;

use super::{PlainDecoder, PlainEncoder};
use crate::wire::ipc::Message;
use crate::wire::schema::StreamSchema;

pub(super) const COPY_BYTES_MAX: usize = 1 << 10;

/// One of each kind of width and of parameter.
pub(super) fn types() -> Vec<DataType> {
    vec![
        DataType::Int8,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float64,
        DataType::Date32,
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(38, 9),
        DataType::Decimal256(70, 3),
        DataType::Boolean,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::Decimal32(9, 2),
        DataType::Decimal64(18, 2),
    ]
}

/// An array of any bytes, every third value null if `nulls`.
fn array(data_type: &DataType, rows: usize, nulls: bool) -> ArrayRef {
    let valid = |row: usize| !nulls || row % 3 != 1;
    let text = |row: usize| valid(row).then(|| "a\u{e9}".repeat(row % 5));
    macro_rules! primitive {
        ($type:ty) => {{
            type Native = <$type as ArrowPrimitiveType>::Native;
            let bytes: Buffer =
                (0..rows * size_of::<Native>()).map(|byte| u8::try_from(byte % 251).unwrap_or(0)).collect::<MutableBuffer>().into();
            let nulls = nulls.then(|| (0..rows).map(valid).collect::<Vec<_>>().into());
            Arc::new(PrimitiveArray::<$type>::new(ScalarBuffer::new(bytes, 0, rows), nulls).with_data_type(data_type.clone())) as ArrayRef
        }};
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => Arc::new(BooleanArray::from_iter((0..rows).map(|row| valid(row).then_some(row % 2 == 0)))),
        DataType::Utf8 => Arc::new(StringArray::from_iter((0..rows).map(text))),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from_iter((0..rows).map(text))),
        DataType::Binary => Arc::new(BinaryArray::from_iter((0..rows).map(text))),
        _ => Arc::new(LargeBinaryArray::from_iter((0..rows).map(text))),
    }
}

pub(super) fn schema(types: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| Field::new(format!("c{index}"), data_type.clone(), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

pub(super) fn batch(schema: &SchemaRef, rows: usize, nulls: bool) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| array(field.data_type(), rows, nulls)).collect();
    RecordBatch::try_new(schema.clone(), columns).expect("fits")
}

/// What Arrow's stream reader makes of a message.
fn read_by_arrow(schema: &Schema, message: &Message) -> RecordBatch {
    let mut stream = StreamSchema::from_arrow(schema).expect("a schema").encapsulated().to_vec();
    let header = message.header.len().next_multiple_of(8);
    stream.put_u32_le(u32::MAX);
    stream.put_u32_le(u32::try_from(header).expect("small"));
    stream.put_slice(&message.header);
    stream.put_bytes(0, header - message.header.len());
    stream.put_slice(&message.body.contiguous());
    let mut reader = StreamReader::try_new(stream.as_slice(), None).expect("a stream");
    reader.next().expect("a batch").expect("readable")
}

/// What Arrow's encoder makes of a batch: header and body.
pub(super) fn written_by_arrow(batch: &RecordBatch, alignment: usize) -> (Bytes, Buffer) {
    let options = IpcWriteOptions::try_new(alignment, false, MetadataVersion::V5).expect("valid");
    let mut encoder = StreamEncoder::try_new_with_options(batch.schema_ref(), options).expect("encodable");
    let flat = |buffers: Vec<Buffer>| buffers.iter().flat_map(|buffer| buffer.to_vec()).collect::<Vec<u8>>();
    let first = flat(encoder.encode(batch).expect("encodable"));
    let second = flat(encoder.encode(batch).expect("encodable"));
    assert!(first.len() > second.len(), "the schema comes once");
    let header = u32::from_le_bytes(second[4..8].try_into().expect("four bytes")) as usize;
    (second[8..8 + header].to_vec().into(), second[8 + header..].to_vec().into())
}

fn decode(header: &Bytes, body: &Buffer, schema: &SchemaRef) -> Option<RecordBatch> {
    let message = arrow_ipc::root_as_message(header).expect("a message");
    let table = message.header_as_record_batch().expect("a batch");
    let decoder = PlainDecoder::new(header, body.len() as u64, &table, schema)?;
    assert!(decoder.is_for(header, body.len() as u64) && !decoder.is_for(header, body.len() as u64 + 8));
    let mut aligned = MutableBuffer::new(body.len());
    aligned.extend_from_slice(body);
    Some(decoder.decode(&aligned.into(), schema).expect("decodable"))
}

fn check(batch: &RecordBatch, encoder: &mut PlainEncoder) {
    if let Some(message) = encoder.encode(batch) {
        crate::wire::ipc::inspect(&message.header, message.body.len()).expect("passes the guard");
        let schema = StreamSchema::from_arrow(batch.schema_ref()).expect("a schema");
        schema.inspect(&message.header, message.body.len()).expect("passes the stream's check");
        assert_eq!(&read_by_arrow(batch.schema_ref(), &message), batch);
        assert_eq!(decode(&message.header, &message.body.contiguous().to_vec().into(), batch.schema_ref()).as_ref(), Some(batch));
    }
    let (header, body) = written_by_arrow(batch, 64);
    assert_eq!(decode(&header, &body, batch.schema_ref()).as_ref(), Some(batch));
    // As C++ and Java pad. A value of 16 bytes may then lie where it has to be copied: that is left to Arrow.
    let (header, body) = written_by_arrow(batch, 8);
    if let Some(decoded) = decode(&header, &body, batch.schema_ref()) {
        assert_eq!(&decoded, batch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plain_batches_are_what_arrow_makes_of_them(
        types in proptest::sample::subsequence(types(), 1..6),
        sizes in proptest::collection::vec((0_usize..300, any::<bool>(), 0_usize..70), 1..5),
    ) {
        let schema = schema(&types);
        let mut encoder = PlainEncoder::new(&schema, COPY_BYTES_MAX).expect("plain");
        for (rows, nulls, skipped) in sizes {
            let whole = batch(&schema, rows, nulls);
            let skipped = skipped.min(rows);
            check(&whole, &mut encoder);
            check(&whole.slice(skipped, rows - skipped), &mut encoder);
            check(&whole.slice(0, rows - skipped), &mut encoder);
        }
    }
}

#[test]
fn values_larger_than_their_alignment_are_found_wherever_they_lie() {
    let wide = [DataType::Interval(IntervalUnit::MonthDayNano), DataType::Decimal256(70, 3), DataType::Decimal128(38, 9)];
    for data_type in wide {
        for before in 1..6 {
            let mut types = vec![DataType::UInt64; before];
            types.push(data_type.clone());
            let batch = batch(&schema(&types), 1, false);
            let (header, body) = written_by_arrow(&batch, 8);
            let decoded = decode(&header, &body, batch.schema_ref());
            assert!(decoded.is_none_or(|decoded| decoded == batch), "{data_type} behind {before} columns");
        }
    }
}

/// Makes a batch's columns ones that promise to have no nulls.
pub(super) fn without_nulls(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(false)).collect::<Vec<_>>()))
}

/// What Arrow's decoder and ours make of a message; each an error's text.
fn decode_both(header: &Bytes, body: &Buffer, schema: &SchemaRef) -> [Result<RecordBatch, String>; 2] {
    let message = arrow_ipc::root_as_message(header).expect("a message");
    let table = message.header_as_record_batch().expect("a batch");
    let plain = PlainDecoder::new(header, body.len() as u64, &table, schema).expect("plain");
    let (dictionaries, version) = (HashMap::new(), message.version());
    let arrow = RecordBatchDecoder::try_new(body, table, schema.clone(), &dictionaries, &version);
    let arrow = arrow.and_then(RecordBatchDecoder::read_record_batch);
    [arrow, plain.decode(body, schema)].map(|decoded| decoded.map_err(|error| error.to_string()))
}

#[test]
fn nulls_in_a_column_that_promises_none_are_encoded_and_refused_by_both_decoders_in_the_same_words() {
    for data_type in types() {
        let nullable = schema(std::slice::from_ref(&data_type));
        let promised = without_nulls(&nullable);
        let batch = batch(&nullable, 20, true);
        let ours = PlainEncoder::new(&promised, COPY_BYTES_MAX).expect("plain").encode(&batch).expect("encodes what it is given");
        let (header, body) = written_by_arrow(&batch, 64);
        for (header, body) in [(ours.header, Buffer::from(ours.body.contiguous().to_vec())), (header, body)] {
            let mut aligned = MutableBuffer::new(body.len());
            aligned.extend_from_slice(&body);
            let [arrow, plain] = decode_both(&header, &aligned.into(), &promised);
            assert!(arrow.as_ref().is_err_and(|error| error.contains("non-nullable")), "{data_type}: {arrow:?}");
            assert_eq!(arrow, plain, "{data_type}");
        }
    }
}

#[test]
fn a_column_that_promises_no_nulls_may_come_with_a_bitmap_and_one_whose_header_counts_none_has_none() {
    for data_type in types() {
        let nullable = schema(std::slice::from_ref(&data_type));
        let batch = batch(&nullable, 20, true);
        let nulls = batch.column(0).null_count();
        let (header, body) = written_by_arrow(&batch, 64);
        let header = counting(&header, nulls, 0);
        for schema in [without_nulls(&nullable), nullable] {
            let [arrow, plain] = decode_both(&header, &body, &schema);
            assert_eq!(plain.as_ref().expect("readable").column(0).null_count(), 0, "{data_type}");
            assert_eq!(arrow, plain, "{data_type}");
        }
    }
}

#[test]
fn a_header_that_miscounts_the_nulls_is_refused_by_both_decoders() {
    for data_type in types() {
        let nullable = schema(std::slice::from_ref(&data_type));
        let batch = batch(&nullable, 20, true);
        let nulls = batch.column(0).null_count();
        let (header, body) = written_by_arrow(&batch, 64);
        for counted in [1, nulls - 1, nulls + 1, 20] {
            for schema in [without_nulls(&nullable), nullable.clone()] {
                let [arrow, plain] = decode_both(&counting(&header, nulls, counted), &body, &schema);
                assert!(arrow.is_err(), "{data_type}: {counted} instead of {nulls}");
                assert_eq!(arrow, plain, "{data_type}: {counted} instead of {nulls}");
            }
        }
    }
}

/// The header with another count of nulls.
fn counting(header: &Bytes, nulls: usize, counted: usize) -> Bytes {
    let mut header = header.to_vec();
    // A node: 20 rows, and how many of them are null.
    let node = |nulls: usize| [20, nulls].map(|number| (number as u64).to_le_bytes()).concat();
    let at = header.windows(16).position(|bytes| bytes == node(nulls)).expect("one column");
    header[at..at + 16].copy_from_slice(&node(counted));
    header.into()
}

#[test]
fn batches_of_one_shape_share_their_header() {
    let schema = schema(&[DataType::Int64, DataType::Utf8]);
    let mut encoder = PlainEncoder::new(&schema, COPY_BYTES_MAX).expect("plain");
    let mut header = |rows| encoder.encode(&batch(&schema, rows, false)).expect("plain").header;
    let (first, same, other) = (header(20), header(20), header(21));
    assert_eq!(first.as_ptr(), same.as_ptr());
    assert_ne!(first, other);
}

#[test]
fn a_slice_of_strings_and_other_kinds_of_columns_are_left_to_arrow() {
    let strings = schema(&[DataType::Utf8]);
    let mut encoder = PlainEncoder::new(&strings, COPY_BYTES_MAX).expect("plain");
    assert!(encoder.encode(&batch(&strings, 10, false).slice(3, 4)).is_none());
    for other in [DataType::Null, DataType::Utf8View, DataType::new_list(DataType::Int8, true), DataType::FixedSizeBinary(4)] {
        assert!(PlainEncoder::new(&schema(&[DataType::Int8, other.clone()]), COPY_BYTES_MAX).is_none(), "{other}");
    }
    assert!(PlainEncoder::new(&Schema::empty(), COPY_BYTES_MAX).is_none());
}

#[test]
fn buffers_too_short_for_their_rows_are_left_to_arrow_to_refuse() {
    let short = batch(&schema(&[DataType::UInt16]), 8, false);
    let (header, body) = written_by_arrow(&short, 64);
    for wider in [DataType::Int32, DataType::Int64, DataType::Decimal128(38, 0)] {
        assert!(decode(&header, &body, &schema(&[wider])).is_none());
    }
    assert!(decode(&header, &body, &schema(&[DataType::UInt16])).is_some());
    assert!(decode(&header, &body, &schema(&[DataType::UInt16, DataType::UInt16])).is_none(), "a column is missing");
}

#[test]
fn strings_that_are_no_text_are_an_error() {
    let binary = RecordBatch::try_from_iter([("c0", Arc::new(BinaryArray::from_vec(vec![b"\xff\xfe"])) as ArrayRef)]).expect("one column");
    let (header, body) = written_by_arrow(&binary, 64);
    let message = arrow_ipc::root_as_message(&header).expect("a message");
    let table = message.header_as_record_batch().expect("a batch");
    let schema = schema(&[DataType::Utf8]);
    let decoder = PlainDecoder::new(&header, body.len() as u64, &table, &schema).expect("plain");
    assert!(decoder.decode(&body, &schema).is_err());
}

#[test]
fn large_bodies_are_not_copied() {
    let schema = schema(&[DataType::UInt16]);
    let column = Arc::new(UInt16Array::from_iter_values(0..10_000));
    let address = column.values().as_ptr().cast::<u8>();
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).expect("fits");
    let message = PlainEncoder::new(&schema, COPY_BYTES_MAX).expect("plain").encode(&batch).expect("plain");
    assert_eq!(message.body.chunks()[0].as_ptr(), address);
    assert_eq!(message.body.len() % 64, 0);
}
