//! Encoding and decoding together: what comes out is what went in, and hostile bytes do no harm.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int8Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{Int8Type, Int32Type};
use arrow_ipc::CompressionType;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;

use super::Compression;
use super::decode::{BatchDecoder, Decoded};
use super::encode::BatchEncoder;
use crate::wire::batch::EncodedBatch;
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::Message;

fn one_column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("c", array, true)]).expect("one column")
}

/// A decoder that has seen the schema.
fn decoder(encoder: &BatchEncoder) -> BatchDecoder {
    let mut decoder = BatchDecoder::default();
    match decoder.decode(encoder.schema_header(), &Body::new()) {
        Ok(Decoded::Schema(_)) => decoder,
        other => panic!("no schema but {other:?}"),
    }
}

fn decode(decoder: &mut BatchDecoder, held: &mut Arc<DictionarySet>, batch: &EncodedBatch) -> RecordBatch {
    for dictionary in batch.dictionaries.missing_from(held) {
        decoder.decode(&dictionary.header, &dictionary.body).expect("a dictionary");
    }
    *held = batch.dictionaries.clone();
    match decoder.decode(&batch.message.header, &batch.message.body) {
        Ok(Decoded::Batch(batch)) => batch,
        other => panic!("no batch but {other:?}"),
    }
}

/// Sends `batches` through one encoder and one decoder.
fn check(batches: &[RecordBatch], compression: Compression) {
    let mut encoder = BatchEncoder::new(batches[0].schema(), compression).expect("an encodable schema");
    let mut decoder = decoder(&encoder);
    let mut held = DictionarySet::empty();
    for batch in batches {
        let encoded = encoder.encode(batch).expect("encodable");
        assert_eq!(encoded.rows, batch.num_rows() as u64);
        assert_eq!(&decode(&mut decoder, &mut held, &encoded), batch);
    }
}

fn dictionary(values: &[&str], keys: &[Option<i32>]) -> ArrayRef {
    let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys.to_vec()), values).expect("keys in range"))
}

fn nested_dictionary(words: &[&str]) -> ArrayRef {
    let inner = DictionaryArray::<Int8Type>::try_new(Int8Array::from(vec![0, 1, 0]), Arc::new(StringArray::from(words.to_vec())));
    let inner: ArrayRef = Arc::new(inner.expect("keys in range"));
    let field = Arc::new(Field::new("word", inner.data_type().clone(), true));
    let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, inner)]));
    Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![2, 0]), structs).expect("keys in range"))
}

#[test]
fn batches_of_any_size_come_out_as_they_went_in() {
    for rows in [0, 1, 1_000, 100_000] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 7 != 0).then_some(row))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| row.to_string())));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).expect("equal lengths");
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            check(std::slice::from_ref(&batch), compression);
        }
    }
}

#[test]
fn slices_come_out_as_slices_and_a_batch_without_columns_keeps_its_rows() {
    let array = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(
        (0..100).map(|row| (row % 3 != 0).then(|| (0..row % 5).map(Some).collect::<Vec<_>>())),
    );
    let batch = one_column(Arc::new(array));
    check(&[batch.slice(13, 50), batch.slice(99, 1), batch.slice(0, 0)], Compression::None);
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(5));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
    check(&[empty], Compression::None);
}

#[test]
fn a_codec_that_comes_and_goes_loses_no_dictionary() {
    let batches = [&["a", "b"][..], &["a", "b", "c"], &["a", "b", "c"], &["x"]]
        .map(|words| one_column(dictionary(words, &[Some(0), None, i32::try_from(words.len() - 1).ok()])));
    let mut encoder = BatchEncoder::new(batches[0].schema(), Compression::Auto).expect("an encodable schema");
    let mut decoder = decoder(&encoder);
    let mut held = DictionarySet::empty();
    for (batch, codec) in batches.iter().zip([None, Some(CompressionType::LZ4_FRAME), None, Some(CompressionType::ZSTD)]) {
        encoder.use_codec(codec).expect("is supported");
        let encoded = encoder.encode(batch).expect("encodable");
        assert_eq!(&decode(&mut decoder, &mut held, &encoded), batch);
    }
}

#[test]
fn dictionaries_are_kept_replaced_and_grown() {
    let batches = [
        dictionary(&["a", "b"], &[Some(1), None, Some(0)]),
        dictionary(&["a", "b"], &[Some(0)]),
        dictionary(&["a", "b", "c"], &[Some(2)]),
        dictionary(&["x"], &[Some(0)]),
    ]
    .map(one_column);
    check(&batches, Compression::None);
    check(&batches, Compression::Lz4);
}

#[test]
fn a_grown_dictionary_sends_only_what_is_new() {
    let first = one_column(dictionary(&["a", "b"], &[Some(1)]));
    let mut encoder = BatchEncoder::new(first.schema(), Compression::None).expect("an encodable schema");
    let first = encoder.encode(&first).expect("encodable");
    let same = encoder.encode(&one_column(dictionary(&["a", "b"], &[Some(0)]))).expect("encodable");
    assert!(same.dictionaries.missing_from(&first.dictionaries).is_empty());
    let grown = encoder.encode(&one_column(dictionary(&["a", "b", "c"], &[Some(2)]))).expect("encodable");
    assert_eq!(grown.dictionaries.missing_from(&first.dictionaries).len(), 1);
    assert_eq!(grown.dictionaries.missing_from(&DictionarySet::empty()).len(), 2);
}

#[test]
fn dictionaries_inside_dictionaries_come_through() {
    check(&[nested_dictionary(&["a", "b"]), nested_dictionary(&["c", "d"])].map(one_column), Compression::None);
}

#[test]
fn large_buffers_are_not_copied_and_small_bodies_are_one_chunk() {
    let large = Int64Array::from_iter_values(0..100_000);
    let address = large.values().as_ptr().cast::<u8>();
    let batch = one_column(Arc::new(large));
    let mut encoder = BatchEncoder::new(batch.schema(), Compression::None).expect("an encodable schema");
    let encoded = encoder.encode(&batch).expect("encodable");
    assert!(encoded.message.body.chunks().iter().any(|chunk| chunk.as_ptr() == address));
    let small = encoder.encode(&batch.slice(0, 100)).expect("encodable");
    assert_eq!(small.message.body.chunks().len(), 1);
}

#[test]
fn a_body_in_many_chunks_decodes_into_aligned_memory() {
    let batch = one_column(Arc::new(Int64Array::from_iter_values(0..1_000)));
    let mut encoder = BatchEncoder::new(batch.schema(), Compression::None).expect("an encodable schema");
    let encoded = encoder.encode(&batch).expect("encodable");
    let whole = encoded.message.body.contiguous();
    let mut body = Body::new();
    for at in (0..whole.len()).step_by(37) {
        body.push(whole.slice(at..whole.len().min(at + 37)));
    }
    let cut = EncodedBatch { message: Message { header: encoded.message.header.clone(), body }, ..encoded };
    let decoded = decode(&mut decoder(&encoder), &mut DictionarySet::empty(), &cut);
    assert_eq!(decoded, batch);
    assert_eq!(decoded.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().as_ptr().align_offset(64), 0);
}

#[test]
fn another_schema_is_refused_but_metadata_and_nullability_may_differ() {
    let schema = |name: &str, nullable| -> SchemaRef { Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, nullable)])) };
    let batch = |schema: SchemaRef| RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).expect("one column");
    let mut encoder = BatchEncoder::new(schema("c", true), Compression::None).expect("an encodable schema");
    assert!(encoder.encode(&batch(schema("c", false))).is_ok());
    let tagged = Schema::new_with_metadata(schema("c", true).fields().clone(), [("k".to_owned(), "v".to_owned())]);
    assert!(encoder.encode(&batch(Arc::new(tagged))).is_ok());
    let error = encoder.encode(&batch(schema("d", true))).expect_err("another column");
    assert_eq!(error.code(), crate::engine::Code::SchemaMismatch);
}

#[test]
fn nulls_where_the_appends_began_without_are_refused_before_they_are_encoded_whichever_encoder_it_is() {
    for compression in [Compression::None, Compression::Lz4] {
        let numbers = |nullable, value| {
            let schema = Schema::new(vec![Field::new("c", DataType::Int64, nullable)]);
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![value]))]).expect("one column")
        };
        let mut encoder = BatchEncoder::new(numbers(false, Some(1)).schema(), compression).expect("an encodable schema");
        let error = encoder.encode(&numbers(true, None)).expect_err("a null");
        assert_eq!(error.code(), crate::engine::Code::SchemaMismatch);
        assert!(error.to_string().contains("nulls"), "{error}");
        encoder.encode(&numbers(false, Some(2))).expect("goes on");
    }
}

#[test]
fn nulls_in_a_column_that_promises_none_are_an_error_that_names_it_whichever_decoder_it_is() {
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let promised: SchemaRef = Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, false)]));
    let texts = [Compression::None, Compression::Lz4, Compression::Zstd].map(|compression| {
        let schema = BatchEncoder::new(promised.clone(), compression).expect("an encodable schema");
        let encoded = BatchEncoder::new(one_column(nulls.clone()).schema(), compression)
            .and_then(|mut encoder| encoder.encode(&one_column(nulls.clone())));
        let message = encoded.expect("encodable").message;
        let mut decoder = decoder(&schema);
        // The second one has a known header.
        let [first, second] = [0, 1].map(|_| decoder.decode(&message.header, &message.body).expect_err("a null"));
        assert_eq!(first, second);
        first
    });
    assert!(texts.iter().all(|text| text.contains("'c'") && *text == texts[0]), "{texts:?}");
}

#[test]
fn the_same_schema_after_a_reconnect_is_the_same_object() {
    let batch = one_column(Arc::new(Int64Array::from(vec![1])));
    let encoder = BatchEncoder::new(batch.schema(), Compression::None).expect("an encodable schema");
    let known = batch.schema();
    match BatchDecoder::new(Some(known.clone())).decode(encoder.schema_header(), &Body::new()) {
        Ok(Decoded::Schema(schema)) => assert!(Arc::ptr_eq(&schema, &known)),
        other => panic!("no schema but {other:?}"),
    }
}

#[test]
fn mutated_messages_are_errors_or_batches_but_never_a_crash() {
    let batch = one_column(Arc::new(StringArray::from_iter_values((0..50).map(|row| "x".repeat(row)))));
    for compression in [Compression::None, Compression::Lz4] {
        let mut encoder = BatchEncoder::new(batch.schema(), compression).expect("an encodable schema");
        let encoded = encoder.encode(&batch).expect("encodable");
        let body = encoded.message.body.contiguous();
        for seed in 0..3_000usize {
            let mut header = encoded.message.header.to_vec();
            let mut body = body.to_vec();
            let at = seed * 2_654_435_761 % header.len();
            header[at] = header[at].wrapping_add(u8::try_from(seed % 255).unwrap_or(0) + 1);
            let at = seed * 40_503 % body.len();
            body[at] ^= 0xff;
            // Errors are as good as batches here: what counts is that this loop ends.
            drop(decoder(&encoder).decode(&Bytes::from(header), &Body::from(Bytes::from(body))));
        }
    }
}
