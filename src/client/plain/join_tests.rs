//! Batches joined from their messages, against what Arrow makes of the batches; and messages that lie.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{batch, schema, types, without_nulls, written_by_arrow};
use super::{PlainDecoder, PlainEncoder, SmallBatch, join};
use crate::client::decode::caught;
use crate::client::project::Shape;
use crate::wire::ipc;

const BODY_BYTES_MAX: usize = 1 << 20;

/// The message, as the reader leaves it.
fn small(header: &Bytes, body: Bytes, schema: &SchemaRef) -> SmallBatch {
    let body_len = body.len() as u64;
    ipc::inspect(header, body_len).expect("passes the guard");
    let message = arrow_ipc::root_as_message(header).expect("a message");
    let table = message.header_as_record_batch().expect("a batch");
    let decoder = PlainDecoder::new(header, body_len, &table, schema).expect("plain");
    SmallBatch { decoder: Arc::new(decoder), schema: schema.clone(), body, shape: Shape::AsTheyAre }
}

/// As our encoder writes it, or as Arrow's does.
fn sent(batch: &RecordBatch, by_arrow: bool) -> SmallBatch {
    let schema = batch.schema();
    let plain = (!by_arrow).then(|| PlainEncoder::new(&schema, BODY_BYTES_MAX).expect("plain").encode(batch)).flatten();
    match plain {
        Some(message) => small(&message.header, message.body.contiguous(), &schema),
        None => {
            let (header, body) = written_by_arrow(batch, 64);
            small(&header, Bytes::from(body.to_vec()), &schema)
        }
    }
}

/// As [`Ready`](crate::client::ready) calls them: a panic is an error.
fn checked(decode: impl FnOnce() -> Result<RecordBatch, ArrowError>) -> Result<RecordBatch, String> {
    caught(std::panic::AssertUnwindSafe(|| decode().map_err(|error| error.to_string())))
}

/// Joins them, and decodes each. The one works where the others all do, and is the same.
fn check(parts: &[SmallBatch]) -> Result<RecordBatch, String> {
    let each: Result<Vec<_>, _> = parts.iter().map(|part| checked(|| part.decode())).collect();
    let joined = checked(|| join(parts));
    match (each, &joined) {
        (Ok(each), Ok(joined)) => {
            assert_eq!(joined, &concat_batches(&parts[0].schema, &each).expect("one schema"));
            for column in joined.columns() {
                column.to_data().validate_full().expect("valid");
            }
        }
        (Err(_), Err(_)) => {}
        (each, joined) => panic!("each: {each:?}\njoined: {joined:?}"),
    }
    joined
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn joined_batches_are_what_arrow_makes_of_them(
        types in proptest::sample::subsequence(types(), 1..6),
        parts in proptest::collection::vec((0_usize..40, any::<bool>(), 0_usize..20, any::<bool>()), 1..12),
    ) {
        let schema = schema(&types);
        let batches: Vec<_> = parts.iter().map(|(rows, nulls, skipped, _)| {
            let skipped = *skipped.min(rows);
            batch(&schema, *rows, *nulls).slice(skipped, rows - skipped)
        }).collect();
        let sent: Vec<_> = batches.iter().zip(&parts).map(|(batch, (.., by_arrow))| sent(batch, *by_arrow)).collect();
        prop_assert_eq!(check(&sent).expect("good ones"), concat_batches(&schema, &batches).expect("one schema"));
    }

    /// Whatever the bodies are: what is no batch by itself is none among others.
    #[test]
    fn bytes_that_changed_are_an_error_or_other_values_and_the_same_by_itself_and_among_others(
        types in proptest::sample::subsequence(types(), 1..4),
        parts in proptest::collection::vec((0_usize..12, any::<bool>()), 1..5),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let schema = schema(&types);
        let mut sent: Vec<_> = parts.iter().map(|(rows, nulls)| sent(&batch(&schema, *rows, *nulls), false)).collect();
        for (part, at, byte) in changes {
            let part = part.get(&sent);
            let mut body = part.body.to_vec();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let changed = SmallBatch { body: body.into(), ..part.clone() };
            let index = sent.iter().position(|other| std::ptr::eq(other, part)).expect("one of them");
            sent[index] = changed;
        }
        drop(check(&sent));
    }
}

#[test]
fn nulls_in_some_parts_only_and_parts_without_rows_are_joined() {
    for data_type in types() {
        let schema = schema(&[data_type.clone(), DataType::Boolean, DataType::Utf8]);
        let shapes = [(0, false), (9, false), (0, true), (3, true), (8, false), (17, true), (0, false)];
        let batches: Vec<_> = shapes.iter().map(|(rows, nulls)| batch(&schema, *rows, *nulls)).collect();
        for by_arrow in [false, true] {
            let sent: Vec<_> = batches.iter().map(|batch| sent(batch, by_arrow)).collect();
            assert_eq!(check(&sent).expect("good ones"), concat_batches(&schema, &batches).expect("one schema"), "{data_type}");
            assert_eq!(check(&sent[..1]).expect("good ones"), batches[0], "{data_type}: no rows at all");
        }
    }
}

/// A column of strings whose message has these offsets and this text.
fn strings(data_type: &DataType, offsets: &[i64], text: &[u8]) -> SmallBatch {
    let width = if *data_type == DataType::Utf8 { 4 } else { 8 };
    let schema = schema(std::slice::from_ref(data_type));
    let rows = offsets.len() - 1;
    let lengths: Vec<_> = (0..rows).map(|row| if row == 0 { "x".repeat(text.len()) } else { String::new() }).collect();
    let column = arrow::compute::cast(&arrow::array::StringArray::from(lengths), data_type).expect("strings");
    let good = sent(&RecordBatch::try_new(schema, vec![column]).expect("one column"), false);
    let mut body = good.body.to_vec();
    let at = good.decoder.columns[0].values.start;
    for (index, offset) in offsets.iter().enumerate() {
        body[at + index * width..][..width].copy_from_slice(&offset.to_le_bytes()[..width]);
    }
    let data = good.decoder.columns[0].data.clone().expect("text");
    body[data].copy_from_slice(text);
    SmallBatch { body: body.into(), ..good }
}

#[test]
fn offsets_that_lie_are_errors_wherever_they_stand() {
    for data_type in [DataType::Utf8, DataType::LargeUtf8] {
        let good = || strings(&data_type, &[0, 2, 5], b"hello");
        check(&[good(), good(), good()]).expect("good ones");
        let shifted = strings(&data_type, &[2, 3, 5], b"hello");
        let joined = check(&[good(), shifted, good()]).expect("text before the first offset is of no row");
        assert_eq!(joined.num_rows(), 6);
        let largest = if data_type == DataType::Utf8 { i64::from(i32::MAX) } else { i64::MAX };
        let smallest = -largest - 1;
        let lies = [
            [0, 4, 2],
            [0, 6, 5],
            [0, 2, 6],
            [3, 4, 2],
            [0, -1, 5],
            [-1, 2, 5],
            [-5, -3, 0],
            [0, 2, -1],
            [0, largest, 5],
            [0, smallest, 5],
            [largest, largest, largest],
            [smallest, 0, largest],
        ];
        for offsets in lies {
            let bad = || strings(&data_type, &offsets, b"hello");
            for parts in [vec![bad(), good()], vec![good(), bad()], vec![good(), bad(), good()], vec![bad(), bad()]] {
                assert!(check(&parts).is_err(), "{data_type}: {offsets:?}");
            }
        }
    }
}

#[test]
fn an_offset_of_no_strings_that_lies_is_an_error_by_itself_and_among_others() {
    for data_type in [DataType::Utf8, DataType::LargeUtf8] {
        let (good, empty) = (strings(&data_type, &[0, 2, 5], b"hello"), |offset| strings(&data_type, &[offset], b""));
        check(&[good.clone(), empty(0), good.clone()]).expect("good ones");
        for offset in [1, 5, -1] {
            drop(check(&[good.clone(), empty(offset), good.clone()]));
        }
    }
}

#[test]
fn a_letter_that_is_cut_in_two_is_no_text_though_both_halves_are_there() {
    for data_type in [DataType::Utf8, DataType::LargeUtf8] {
        let first = || strings(&data_type, &[0, 1, 2], b"a\xc3");
        let second = || strings(&data_type, &[0, 1, 2], b"\xa9a");
        assert!(check(&[first(), second()]).is_err(), "{data_type}");
        assert!(check(&[strings(&data_type, &[0, 1, 2], b"\xc3\xa9")]).is_err(), "{data_type}: within a part");
        check(&[strings(&data_type, &[0, 2, 3], b"\xc3\xa9a"), strings(&data_type, &[0, 2], b"\xc3\xa9")]).expect("text");
    }
}

/// A batch of nine rows whose header counts three nulls, and whose bitmap has so many.
fn nulls(data_type: &DataType, nulls: u32) -> SmallBatch {
    let good = sent(&batch(&schema(std::slice::from_ref(data_type)), 9, true), false);
    let column = &good.decoder.columns[0];
    assert_eq!(column.nulls, 3);
    let bits = u16::MAX << nulls;
    let mut body = good.body.to_vec();
    body[column.validity.clone()].copy_from_slice(&bits.to_le_bytes());
    SmallBatch { body: body.into(), ..good }
}

#[test]
fn nulls_that_are_miscounted_are_an_error_though_another_part_makes_up_for_them() {
    for data_type in types() {
        let good = || nulls(&data_type, 3);
        check(&[good(), good()]).expect("good ones");
        assert!(check(&[good(), nulls(&data_type, 4)]).is_err(), "{data_type}");
        assert!(check(&[nulls(&data_type, 2), nulls(&data_type, 4)]).is_err(), "{data_type}");
        assert!(check(&[nulls(&data_type, 0), good(), nulls(&data_type, 6)]).is_err(), "{data_type}");
    }
}

#[test]
fn nulls_where_the_schema_promises_none_are_an_error() {
    for data_type in types() {
        let nullable = schema(std::slice::from_ref(&data_type));
        let promised = without_nulls(&nullable);
        let of = |nulls: bool| SmallBatch { schema: promised.clone(), ..sent(&batch(&nullable, 9, nulls), false) };
        check(&[of(false), of(false)]).expect("none");
        assert!(check(&[of(false), of(true), of(false)]).is_err(), "{data_type}");
    }
}

#[test]
fn nothing_cannot_be_joined() {
    assert!(join(&[]).is_err());
}
