//! Messages in, batches and reasons out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DurationMillisecondType, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use proptest::prelude::*;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::*;
use crate::formats::{Decoded, Format, Names, RowDecoder};

const FILE: &str = r#"syntax = "proto3"; package shop;
import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
message Other { message Inner { int64 uid = 1; } Inner inner = 1; }
message Click {
  enum Kind { VIEW = 0; BUY = 1; }
  message Place { int32 x = 1; map<string, Place> near = 2; optional Click click = 3; }
  int64 uid = 1; optional string name = 2; google.protobuf.Timestamp at = 3; google.protobuf.Duration took = 4;
  repeated sint32 tags = 5; Kind kind = 6; Place where = 7; google.protobuf.UInt64Value count = 8;
  oneof one { string text = 9; Place place = 10; } map<int32, bool> by = 11; string unused = 12; bytes raw = 13;
}"#;

struct Source;

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "shop.proto" { File::from_source(name, FILE) } else { Err(protox::Error::file_not_found(name)) }
    }
}

fn descriptors() -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Source);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("shop.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

fn columns() -> SchemaRef {
    let near = |name: &str, key: DataType, value: DataType| {
        Field::new_map(name, "entries", Field::new("key", key, false), Field::new("value", value, true), false, true)
    };
    let deep = DataType::Struct(vec![Field::new("x", DataType::Int8, false)].into());
    let place = Fields::from(vec![Field::new("x", DataType::Int32, false), near("near", DataType::Utf8, deep)]);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true),
        Field::new("took", DataType::Duration(TimeUnit::Millisecond), true),
        Field::new("tags", DataType::new_list(DataType::Int32, false), true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("where", DataType::Struct(place), true),
        Field::new("count", DataType::UInt64, true),
        Field::new("text", DataType::Utf8View, true),
        near("by", DataType::Int64, DataType::Boolean),
        Field::new("absent", DataType::Int8, true),
    ]))
}

fn click(framing: Framing) -> Protobuf {
    Protobuf { descriptors: descriptors(), message: "shop.Click".to_owned(), framing }
}

fn decoder(of: Protobuf, schema: SchemaRef, rules: Rules) -> Result<RowDecoder, FormatError> {
    let names = match schema.column_with_name("id") {
        Some(_) => Names::new([("id".to_owned(), vec!["uid".to_owned()])]),
        None => Names::default(),
    };
    RowDecoder::new(Format::Protobuf(of), schema, &names, rules)
}

fn clicks() -> RowDecoder {
    decoder(click(Framing::None), columns(), Rules::default()).unwrap()
}

fn decode(decoder: &RowDecoder, rows: &[Vec<u8>]) -> Decoded {
    decoder.decode(rows.iter().map(|row| Some(row.as_slice()))).unwrap()
}

fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value.cast_unsigned())].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len().try_into().unwrap()), value.to_vec()].concat()
}

/// A row with all fields; `tags` are -1 and 2.
fn row(uid: i64, name: &str) -> Vec<u8> {
    let near = [bytes(1, b"k"), bytes(2, &number(1, 3))].concat();
    let place = [number(1, -7), bytes(2, &near)].concat();
    let at = [number(1, -1), number(2, 5)].concat();
    let by = [number(1, -4), number(2, 1)].concat();
    let parts = [bytes(4, &number(1, -2)), bytes(5, &[1, 4]), number(6, 1), bytes(7, &place), bytes(8, &number(1, -1)), bytes(9, b"t")];
    [number(1, uid), bytes(2, name.as_bytes()), bytes(3, &at), parts.concat(), bytes(11, &by)].concat()
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn rows_have_what_their_writer_wrote() {
    let decoded = decode(&clicks(), &[row(i64::MIN, "é"), vec![]]);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = &decoded.batch;
    assert_eq!((batch.schema(), ids(batch)), (columns(), vec![i64::MIN, 0]));
    assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("é"), None]);
    assert_eq!(batch.column(2).as_primitive::<TimestampNanosecondType>().iter().collect::<Vec<_>>(), [Some(-999_999_995), None]);
    assert_eq!(batch.column(3).as_primitive::<DurationMillisecondType>().value(0), -2_000);
    assert_eq!(batch.column(4).as_list::<i32>().value(0).as_primitive::<Int32Type>().values(), &[-1, 2]);
    assert_eq!((batch.column(4).as_list::<i32>().value(1).len(), batch.column(4).null_count()), (0, 0));
    assert_eq!(batch.column(5).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("BUY"), Some("VIEW")]);
    let place = batch.column(6).as_struct();
    assert_eq!((place.column(0).as_primitive::<Int32Type>().value(0), place.is_null(1)), (-7, true));
    assert_eq!(place.column(1).as_map().value(0).column(0).as_string::<i32>().value(0), "k");
    assert_eq!(batch.column(7).as_primitive::<UInt64Type>().iter().collect::<Vec<_>>(), [Some(u64::MAX), None]);
    assert_eq!(batch.column(8).as_string_view().value(0), "t");
    assert_eq!(batch.column(9).as_map().value(0).column(0).as_primitive::<Int64Type>().values(), &[-4]);
    assert_eq!(batch.column(10).null_count(), 2);
}

#[test]
fn fields_that_come_again_are_merged_and_of_a_oneof_the_last_counts() {
    let merged = [number(1, 1), bytes(7, &number(1, 1)), number(5, 3), bytes(5, &[1]), bytes(7, &bytes(2, &bytes(1, b"a"))), number(1, 9)];
    let cleared = [bytes(9, b"t"), bytes(10, b"")].concat();
    let keys = [number(1, 1), number(2, 0)].concat();
    let again = [bytes(11, &keys), bytes(11, &number(1, 2)), bytes(11, &[keys, number(2, 1)].concat())].concat();
    let decoded = decode(&clicks(), &[merged.concat(), cleared, [bytes(10, b""), bytes(9, b"u")].concat(), again]);
    assert_eq!((ids(&decoded.batch), decoded.kept.len()), (vec![9, 0, 0, 0], 4));
    assert_eq!(decoded.batch.column(4).as_list::<i32>().value(0).as_primitive::<Int32Type>().values(), &[-2, -1]);
    let place = decoded.batch.column(6).as_struct();
    assert_eq!((place.column(0).as_primitive::<Int32Type>().value(0), place.column(1).as_map().value_length(0)), (1, 1));
    assert_eq!(decoded.batch.column(8).as_string_view().iter().collect::<Vec<_>>(), [None, None, Some("u"), None]);
    let by = decoded.batch.column(9).as_map().value(3);
    assert_eq!(by.column(0).as_primitive::<Int64Type>().values(), &[2, 1]);
    assert_eq!(by.column(1).as_boolean().iter().collect::<Vec<_>>(), [Some(false), Some(true)]);
}

#[test]
fn a_value_that_is_none_of_its_fields_clears_no_other_of_the_oneof() {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
    let decoder = decoder(click(Framing::None), schema, Rules::default()).unwrap();
    let decoded = decode(&decoder, &[[bytes(9, b"t"), number(10, 7)].concat(), [bytes(9, b"t"), bytes(10, b"")].concat()]);
    assert_eq!(decoded.batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("t"), None]);
}

#[test]
fn bytes_that_a_row_does_not_have_are_null_where_they_cannot_be_empty() {
    let schema = Arc::new(Schema::new(vec![Field::new("raw", DataType::FixedSizeBinary(2), true)]));
    let decoder = decoder(click(Framing::None), schema, Rules::default()).unwrap();
    let decoded = decode(&decoder, &[Vec::new(), bytes(13, b"ab"), bytes(13, b"")]);
    assert_eq!((decoded.kept, decoded.batch.column(0).null_count()), (vec![0, 1], 1));
}

#[test]
fn bad_rows_are_set_aside_with_the_reason() {
    let bad = |row: &[u8], words: &str| {
        let decoded = decode(&clicks(), &[number(1, 1), row.to_vec(), number(1, 2)]);
        assert_eq!((decoded.kept, ids(&decoded.batch)), (vec![0, 2], vec![1, 2]), "{words}");
        assert!(decoded.rejected[0].reason.contains(words), "{words}: {:?}", decoded.rejected);
    };
    bad(&[8], "too early");
    bad(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], "64 bits");
    bad(&[0], "number 0");
    bad(&[14], "wire type 6");
    bad(&[12], "did not begin");
    bad(&[11, 20], "not the one that began last");
    bad(&[11], "too early");
    bad(&[18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], "too early");
    bad(&bytes(1, b"x"), "\"uid\": it is int64, and the row has bytes");
    bad(&bytes(2, &[0xff]), "UTF-8");
    bad(&bytes(3, &number(2, 1_000_000_000)), "\"at\"");
    bad(&bytes(3, &number(1, i64::MAX)), "a time of 9223372036854775807 seconds");
    bad(&bytes(3, &number(1, 253_402_300_799)), "outside of Timestamp");
    bad(&bytes(4, &number(2, 1)), "fraction");
    bad(&bytes(4, &[number(1, 1), number(2, -1)].concat()), "nanoseconds");
    bad(&number(5, 1 << 33), "32 bits");
    bad(&number(6, 7), "\"kind\"");
    bad(&number(7, 1), "it is a message, and the row has a varint");
    bad(&bytes(7, &number(1, 1 << 31)), "\"x\": the row has 2147483648 for 32 bits");
    bad(&bytes(7, &bytes(2, &bytes(2, &number(1, 300)))), "outside of Int8");
    bad(&bytes(11, &number(3, 1)), "entry has the field 3");
    bad(&[99].repeat(1 << 20), "128 levels");
}

#[test]
fn framed_rows_are_of_the_message_that_they_name() {
    let framed = |place: &[u8], row: &[u8]| [&[0, 0, 0, 0, 7], place, row].concat();
    let second = decoder(click(Framing::Confluent), columns(), Rules::default()).unwrap();
    let rows = [framed(&[2, 2], &row(5, "")), framed(&[0], &row(6, "")), framed(&[4, 0, 0], &[]), row(7, ""), vec![1, 0, 0, 0, 7], vec![]];
    let decoded = decode(&second, &rows);
    assert_eq!((ids(&decoded.batch), decoded.kept), (vec![5], vec![0]));
    assert!(decoded.rejected[0].reason.contains("another message"));
    let message = |name: &str| Protobuf { message: name.to_owned(), ..click(Framing::Confluent) };
    let inner = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let inner = decoder(message("shop.Other.Inner"), inner, Rules::default()).unwrap();
    assert_eq!(decode(&inner, &[framed(&[4, 0, 0], &number(1, 3)), framed(&[2, 0], &[]), framed(&[4, 0, 2], &[])]).kept, [0]);
    let first = Arc::new(Schema::new(vec![Field::new("inner", DataType::Struct(Fields::empty()), true)]));
    let first = decoder(message("shop.Other"), first, Rules::default()).unwrap();
    assert_eq!(decode(&first, &[framed(&[0], &[]), framed(&[2, 0], &[]), framed(&[1], &[])]).kept, [0, 1]);
}

#[test]
fn unknown_fields_are_ignored_or_refused() {
    let rows = [[row(1, ""), number(99, 1)].concat(), [row(2, ""), bytes(12, b"x")].concat(), row(3, "")];
    assert_eq!(ids(&decode(&clicks(), &rows).batch), [1, 2, 3]);
    let rules = Rules { refuse_unknown: true, ..Rules::default() };
    let decoded = decode(&decoder(click(Framing::None), columns(), rules).unwrap(), &rows);
    assert_eq!(decoded.kept, [2]);
    assert!(decoded.rejected[0].reason.contains("number 99"));
}

#[test]
fn what_never_fits_gives_no_decoder() {
    let one = |name: &str, data_type: DataType, lenient: bool| {
        let schema = Arc::new(Schema::new(vec![Field::new(name, data_type, true)]));
        decoder(click(Framing::None), schema, Rules { lenient, ..Rules::default() })
    };
    for (name, data_type) in [
        ("name", DataType::Int64),
        ("uid", DataType::Utf8),
        ("at", DataType::Int64),
        ("tags", DataType::Int32),
        ("uid", DataType::new_list(DataType::Int64, true)),
        ("by", DataType::new_list(DataType::Int64, true)),
        ("where", DataType::Utf8),
        ("count", DataType::Boolean),
    ] {
        assert!(matches!(one(name, data_type, false), Err(FormatError::Misfit { .. })), "{name}");
    }
    assert!(one("name", DataType::Int64, true).is_ok());
    let named = |message: &str, descriptors: Vec<u8>| {
        decoder(Protobuf { descriptors, message: message.to_owned(), framing: Framing::None }, columns(), Rules::default())
    };
    assert!(matches!(named("Click", descriptors()), Err(FormatError::Schema(_))));
    assert!(matches!(named("shop.Click", Vec::new()), Err(FormatError::Schema(_))));
    assert!(matches!(named("shop.Click", vec![255]), Err(FormatError::Schema(_))));
}

#[test]
fn lists_have_as_many_values_as_their_bytes_account_for() {
    let column = DataType::new_fixed_size_list(DataType::Int8, 1 << 25, true);
    let value = DataType::Struct(vec![Field::new("none", column, true)].into());
    let near = Field::new_map("near", "entries", Field::new("key", DataType::Utf8, false), Field::new("value", value, true), false, true);
    let schema = Arc::new(Schema::new(vec![Field::new("where", DataType::Struct(vec![near].into()), true)]));
    let decoder = decoder(click(Framing::None), schema, Rules::default()).unwrap();
    let decoded = decode(&decoder, &[bytes(7, &bytes(2, b"")), bytes(7, b"")]);
    assert_eq!(decoded.kept, [1]);
    assert!(decoded.rejected[0].reason.contains("too many values"));
}

proptest! {
    #[test]
    fn mutated_rows_are_kept_or_rejected_and_the_others_are_whole(
        rows in prop::collection::vec((any::<i64>(), ".{0,8}", prop::option::of((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8))), 0..60)
    ) {
        let all: Vec<Vec<u8>> = rows.iter().map(|(uid, name, mutation)| {
            let mut bytes = row(*uid, name);
            if let Some((place, byte, how)) = mutation {
                let place = place.index(bytes.len());
                match how {
                    0 => bytes[place] = *byte,
                    1 => bytes.insert(place, *byte),
                    2 => drop(bytes.remove(place)),
                    _ => bytes.truncate(place),
                }
            }
            bytes
        }).collect();
        let decoded = decode(&clicks(), &all);
        let mut indices: Vec<usize> = decoded.kept.iter().copied().chain(decoded.rejected.iter().map(|row| row.index)).collect();
        indices.sort_unstable();
        prop_assert_eq!(indices, (0..rows.len()).collect::<Vec<_>>());
        prop_assert_eq!(decoded.batch.num_rows(), decoded.kept.len());
        for (place, index) in decoded.kept.iter().enumerate().filter(|(_, index)| rows[**index].2.is_none()) {
            prop_assert_eq!(ids(&decoded.batch)[place], rows[*index].0);
            prop_assert_eq!(decoded.batch.column(1).as_string::<i32>().value(place), &rows[*index].1);
        }
        prop_assert!(rows.iter().enumerate().all(|(index, row)| row.2.is_some() || decoded.kept.contains(&index)));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let decoded = decode(&clicks(), &[bytes]);
        prop_assert_eq!(decoded.kept.len() + decoded.rejected.len(), 1);
    }

    #[test]
    fn no_descriptors_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut of = click(Framing::Confluent);
        for (place, byte) in changes {
            let place = place.index(of.descriptors.len());
            of.descriptors[place] = byte;
        }
        if let Ok(decoder) = decoder(of, columns(), Rules::default()) {
            prop_assert_eq!(decode(&decoder, &[[vec![0, 0, 0, 0, 7, 2, 2], row(1, "a")].concat()]).rejected.len() <= 1, true);
        }
    }
}
