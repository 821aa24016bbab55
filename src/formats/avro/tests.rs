//! Records in, batches and reasons out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, Field, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::formats::{Decoded, Format, Names, RowDecoder};

const WRITER: &str = r#"{"type": "record", "name": "Click", "namespace": "shop", "fields": [
    {"name": "uid", "type": "long"},
    {"name": "more", "type": ["null", {"type": "array", "items": {"type": "map", "values": "Click"}}]},
    {"name": "name", "type": ["null", "string"], "default": null},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "tags", "type": {"type": "array", "items": ["null", "int"]}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["VIEW", "BUY"]}},
    {"name": "where", "type": {"type": "record", "name": "Place", "fields": [
        {"name": "x", "type": "double"}, {"name": "by", "type": {"type": "map", "values": "boolean"}}]}}]}"#;

fn columns() -> SchemaRef {
    let by = Field::new_map(
        "by",
        "entries",
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Boolean, true),
        false,
        true,
    );
    let place = DataType::Struct(vec![Field::new("x", DataType::Float64, false), by, Field::new("none", DataType::Int8, true)].into());
    Arc::new(Columns::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, true),
        Field::new("price", DataType::Decimal128(12, 4), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("tags", DataType::LargeList(Arc::new(Field::new_list_field(DataType::Int32, true))), true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("where", place, true),
    ]))
}

fn decoder(writers: Writers, schema: SchemaRef, rules: Rules) -> Result<RowDecoder, FormatError> {
    let names = match schema.column_with_name("id") {
        Some(_) => Names::new([("id".to_owned(), vec!["uid".to_owned()])]),
        None => Names::default(),
    };
    RowDecoder::new(Format::Avro(writers), schema, &names, rules)
}

fn decode(decoder: &RowDecoder, rows: &[Vec<u8>]) -> Decoded {
    decoder.decode(rows.iter().map(|row| Some(row.as_slice()))).unwrap()
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len().try_into().unwrap()), value.as_bytes().to_vec()].concat()
}

/// A row of [`WRITER`]: its price is -1.50, it has the tags null and 7, and `by` has yes: true.
fn row(uid: i64, name: &str) -> Vec<u8> {
    let more = [long(0)].concat();
    let price = [long(2), vec![0xff, 0x6a]].concat();
    // A block with its size, and one without.
    let tags = [long(-1), long(1), long(0), long(1), long(1), long(7), long(0)].concat();
    let place = [1.5_f64.to_le_bytes().to_vec(), long(1), text("yes"), vec![1], long(0)].concat();
    [long(uid), more, long(1), text(name), price, long(1_700_000_000_123), tags, long(1), place].concat()
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn one(field: &str, into: DataType, lenient: bool) -> Result<RowDecoder, FormatError> {
    let text = format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "v", "type": {field}}}]}}"#);
    let schema = Arc::new(Columns::new(vec![Field::new("v", into, true)]));
    decoder(Writers::One(text), schema, Rules { lenient, ..Rules::default() })
}

#[test]
fn rows_have_what_their_writer_wrote() {
    let decoder = decoder(Writers::One(WRITER.to_owned()), columns(), Rules::default()).unwrap();
    let decoded = decode(&decoder, &[row(i64::MIN, "é"), row(i64::MAX, "")]);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = &decoded.batch;
    assert_eq!(batch.schema(), columns());
    assert_eq!(ids(batch), [i64::MIN, i64::MAX]);
    assert_eq!(batch.column(1).as_string_view().value(0), "é");
    assert_eq!(batch.column(2).as_primitive::<Decimal128Type>().value(0), -15_000);
    assert_eq!(batch.column(3).as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_000);
    let tags = batch.column(4).as_list::<i64>().value(1);
    assert_eq!(tags.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [None, Some(7)]);
    assert_eq!(batch.column(5).as_string::<i32>().value(0), "BUY");
    let place = batch.column(6).as_struct();
    assert_eq!(place.column(1).as_map().value(1).column(0).as_string::<i32>().value(0), "yes");
    assert_eq!(place.column(2).null_count(), 2);
}

#[test]
fn rows_of_any_schema_that_was_given_are_read_by_their_headers() {
    let user = r#"{"type": "record", "name": "User", "namespace": "n", "doc": "x", "fields": [{"name": "id", "type": {"type": "int"}}]}"#;
    let print = Schema::parse(user).unwrap().fingerprint();
    let schema = Arc::new(Columns::new(vec![Field::new("id", DataType::Int64, false)]));
    let by_print = decoder(Writers::ByFingerprint(vec![WRITER.to_owned(), user.to_owned()]), schema.clone(), Rules::default()).unwrap();
    let framed = |print: u64, datum: &[u8]| [&[0xc3, 1], print.to_le_bytes().as_slice(), datum].concat();
    let other = Schema::parse(WRITER).unwrap().fingerprint();
    let rows = [framed(print, &long(5)), framed(other, &row(6, "")), framed(1, &long(7)), long(8), vec![0xc3], vec![]];
    let decoded = decode(&by_print, &rows);
    assert_eq!((ids(&decoded.batch), decoded.kept), (vec![5, 6], vec![0, 1]));
    assert!(decoded.rejected[0].reason.contains("fingerprint 0000000000000001"));
    // Dates are ints to a fingerprint.
    let dates = user.replace(r#"{"type": "int"}"#, r#"{"type": "int", "logicalType": "date"}"#);
    let twice = Writers::ByFingerprint(vec![dates, user.to_owned()]);
    assert!(matches!(decoder(twice, schema.clone(), Rules::default()), Err(FormatError::Schema(_))));
    let by_id = decoder(Writers::ById([(7, user.to_owned()), (9, WRITER.to_owned())].into()), schema, Rules::default()).unwrap();
    let framed = |id: u32, datum: &[u8]| [&[0], id.to_be_bytes().as_slice(), datum].concat();
    let decoded = decode(&by_id, &[framed(9, &row(6, "")), framed(8, &long(1)), framed(7, &long(5)), vec![1, 0, 0, 0, 7, 10]]);
    assert_eq!((ids(&decoded.batch), decoded.kept), (vec![6, 5], vec![0, 2]));
    assert!(decoded.rejected[0].reason.contains("number 8"));
}

#[test]
fn fingerprints_are_those_that_other_libraries_make() {
    let record = r#"{"type": "record", "name": "User", "namespace": "n", "doc": "x", "fields": [{"name": "id", "type": {"type": "int"}},
        {"name": "e", "type": ["null", {"type": "enum", "name": "E", "symbols": ["A", "B"]}]},
        {"name": "m", "type": {"type": "map", "values": "E"}}]}"#;
    for (text, print) in [
        ("\"null\"", 7_195_948_357_588_979_594_u64),
        ("\"int\"", 8_247_732_601_305_521_295),
        (r#"{"type": "fixed", "size": 15, "name": "Foo", "doc": "x"}"#, 3_524_383_828_543_974_029),
        (record, 3_136_950_797_206_943_172),
    ] {
        assert_eq!(Schema::parse(text).unwrap().fingerprint(), print, "{text}");
    }
}

#[test]
fn bad_rows_are_set_aside_with_the_reason() {
    let decoder = decoder(Writers::One(WRITER.to_owned()), columns(), Rules::default()).unwrap();
    let good = row(1, "a");
    let rows: Vec<Vec<u8>> =
        (0..good.len()).map(|len| good[..len].to_vec()).chain([[good.as_slice(), b"x"].concat(), good.clone()]).collect();
    let decoded = decode(&decoder, &rows);
    assert_eq!((decoded.kept, ids(&decoded.batch)), (vec![good.len() + 1], vec![1]));
    assert!(decoded.rejected[0].reason.contains("too early"));
    assert!(decoded.rejected.last().unwrap().reason.contains("after its record"));
}

#[test]
fn values_that_a_column_cannot_hold_are_bad_rows() {
    let bad = |field: &str, into: DataType, lenient: bool, datum: &[u8], words: &str| {
        let decoded = decode(&one(field, into, lenient).unwrap(), &[datum.to_vec()]);
        assert!(decoded.rejected.iter().any(|row| row.reason.contains(words)), "{field}: {:?} {:?}", decoded.rejected, decoded.batch);
    };
    bad("\"long\"", DataType::Int32, false, &long(1 << 31), "outside of Int32");
    bad("\"long\"", DataType::UInt64, false, &long(-1), "outside of UInt64");
    bad("\"long\"", DataType::Float64, false, &long((1 << 53) + 1), "outside of Float64");
    bad("\"double\"", DataType::Int64, false, &1.5_f64.to_le_bytes(), "fraction");
    bad("\"double\"", DataType::Float32, false, &1e300_f64.to_le_bytes(), "outside of Float32");
    bad("\"int\"", DataType::Int64, false, &long(1 << 31), "32 bits");
    bad("\"string\"", DataType::Utf8, false, &[2, 0xff], "UTF-8");
    bad("\"string\"", DataType::Int64, true, &text("x"), "no Int64");
    bad("\"boolean\"", DataType::Boolean, false, &[2], "boolean");
    bad("\"bytes\"", DataType::FixedSizeBinary(2), false, &[2, 0], "1 bytes");
    let millis = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
    bad(millis, DataType::Timestamp(TimeUnit::Second, None), false, &long(1001), "fraction");
    bad(millis, DataType::Timestamp(TimeUnit::Nanosecond, None), false, &long(i64::MAX), "outside");
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    bad(decimal, DataType::Decimal128(9, 1), false, &[4, 0xff, 0x69], "cut");
    bad(decimal, DataType::Decimal32(3, 2), false, &[4, 0x7f, 0xff], "outside");
    bad(r#"{"type": "array", "items": "int"}"#, DataType::new_fixed_size_list(DataType::Int8, 2, true), false, &[2, 2, 0], "1 items");
    bad(r#"["null", "long", "string"]"#, DataType::Int64, false, &[4, 0], "have string");
    bad(r#"["null", "long"]"#, DataType::Int64, false, &[4], "place 2 of 2");
    let not_null = DataType::List(Arc::new(Field::new_list_field(DataType::Int8, false)));
    bad(r#"{"type": "array", "items": ["null", "int"]}"#, not_null, false, &[2, 0, 0], "not nullable");
}

#[test]
fn lenient_rules_convert() {
    let decoded =
        |field: &str, into: DataType, datum: &[u8]| decode(&one(field, into, true).unwrap(), &[datum.to_vec()]).batch.column(0).clone();
    assert_eq!(decoded("\"string\"", DataType::Int64, &text("-12")).as_primitive::<Int64Type>().values(), &[-12]);
    assert_eq!(decoded("\"string\"", DataType::Decimal128(9, 3), &text("-12.5")).as_primitive::<Decimal128Type>().values(), &[-12_500]);
    assert_eq!(decoded("\"double\"", DataType::Utf8, &1.5_f64.to_le_bytes()).as_string::<i32>().value(0), "1.5");
    assert_eq!(decoded("\"bytes\"", DataType::Utf8, &text("a")).as_string::<i32>().value(0), "a");
}

#[test]
fn what_never_fits_gives_no_decoder() {
    assert!(matches!(one("\"string\"", DataType::Int64, false), Err(FormatError::Misfit { .. })));
    assert!(matches!(one("[\"null\", \"string\"]", DataType::Int64, false).map(drop), Ok(())));
    assert!(matches!(one("[\"string\", \"bytes\"]", DataType::Int64, false), Err(FormatError::Misfit { .. })));
    assert!(matches!(
        one("{\"type\": \"array\", \"items\": \"null\"}", DataType::new_list(DataType::Int8, true), false),
        Err(FormatError::Misfit { .. })
    ));
    assert!(matches!(one("\"nothing\"", DataType::Int64, false), Err(FormatError::Schema(_))));
    assert!(matches!(one("\"int\"", DataType::new_fixed_size_list(DataType::Int8, 0, true), false), Err(FormatError::Type { .. })));
    assert!(matches!(decoder(Writers::One("\"int\"".to_owned()), columns(), Rules::default()), Err(FormatError::Schema(_))));
    assert!(matches!(decoder(Writers::One("{".to_owned()), columns(), Rules::default()), Err(FormatError::Schema(_))));
}

#[test]
fn unknown_and_missing_fields_are_bad_only_where_it_is_said() {
    let rules = Rules { refuse_unknown: true, ..Rules::default() };
    let decoded = decode(&decoder(Writers::One(WRITER.to_owned()), columns(), rules).unwrap(), &[row(1, "")]);
    assert!(decoded.rejected[0].reason.contains("\"more\""));
    let schema = Arc::new(Columns::new(vec![Field::new("uid", DataType::Int64, true), Field::new("none", DataType::Int64, false)]));
    let decoded = decode(&decoder(Writers::One(WRITER.to_owned()), schema, Rules::default()).unwrap(), &[row(1, "")]);
    assert!(decoded.rejected[0].reason.contains("\"none\""));
}

#[test]
fn hostile_rows_take_neither_the_stack_nor_the_memory() {
    let recursive = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]},
        {"name": "nulls", "type": {"type": "array", "items": "null"}}, {"name": "v", "type": {"type": "array", "items": "int"}}]}"#;
    let schema = Arc::new(Columns::new(vec![Field::new("v", DataType::new_list(DataType::Int32, true), true)]));
    let make = |text: String, schema| decoder(Writers::One(text), schema, Rules::default());
    let decoder = make(recursive.to_owned(), schema).unwrap();
    let many = long(i64::MAX);
    let rows = [
        vec![2; 1 << 20],
        [&[0], many.as_slice(), &[0], many.as_slice()].concat(),
        [&[0, 0], long(i64::MIN).as_slice(), long(-1).as_slice()].concat(),
        [&[0], many.as_slice(), &[0, 2, 14, 0]].concat(),
    ];
    let decoded = decode(&decoder, &rows);
    assert_eq!(decoded.kept, [3]);
    assert!(decoded.rejected[0].reason.contains("128 levels"));
    // Each of its types is twice in the next, and nothing in the end; and a record that never ends.
    let twice = |place: usize| format!(r#"{{"name": "a", "type": "{0}"}}, {{"name": "b", "type": "{0}"}}"#, format_args!("E{place}"));
    let types = (1..64).fold(r#"{"type": "record", "name": "E0", "fields": []}"#.to_owned(), |types, place| {
        format!(r#"{types}, {{"type": "record", "name": "E{place}", "fields": [{}]}}"#, twice(place - 1))
    });
    let fields = format!(r#"{{"name": "x", "type": [{types}]}}, {{"name": "y", "type": "E63"}}, {{"name": "v", "type": "int"}}"#);
    let endless = r#", {"name": "z", "type": ["null", {"type": "record", "name": "Z", "fields": [{"name": "z", "type": "Z"}]}]}"#;
    let text = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}{endless}]}}"#);
    let schema = Arc::new(Columns::new(vec![Field::new("v", DataType::Int32, false)]));
    let decoder = make(text, schema).unwrap();
    let decoded = decode(&decoder, &[[long(63), long(7), long(0)].concat(), [long(0), long(7), long(1)].concat()]);
    assert_eq!(decoded.kept, [0]);
    assert!(decoded.rejected[0].reason.contains("128 levels"));
}

#[test]
fn a_block_has_the_bytes_that_it_says() {
    let tags = r#"{"type": "array", "items": "int"}"#;
    let text =
        format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "v", "type": {tags}}}, {{"name": "w", "type": {tags}}}]}}"#);
    let list = DataType::new_list(DataType::Int32, true);
    let block = |says: i64| [long(-2), long(says), long(5), long(300), long(0)].concat();
    // One that is read, and one that no column has.
    for column in ["v", "w"] {
        let schema = Arc::new(Columns::new(vec![Field::new(column, list.clone(), true)]));
        let decoder = decoder(Writers::One(text.clone()), schema, Rules::default()).unwrap();
        let rows =
            [[block(3), block(3)].concat(), [block(3), block(2)].concat(), [block(4), block(3)].concat(), [block(-1), block(3)].concat()];
        let decoded = decode(&decoder, &rows);
        assert_eq!(decoded.kept, [0], "{column}");
        assert!(decoded.rejected.iter().all(|bad| bad.reason.contains("a block that says")), "{:?}", decoded.rejected);
    }
}

#[test]
fn lists_have_as_many_values_as_their_bytes_account_for() {
    // Items of one byte, for which there are many columns, or a list with as many items as the column says.
    let fields: Vec<Field> = (0..1000).map(|place| Field::new(format!("c{place}"), DataType::Int8, true)).collect();
    let items = r#"{"type": "array", "items": {"type": "record", "name": "I", "fields": [{"name": "c0", "type": "int"}]}}"#;
    let datum = |items: usize| [long(items.try_into().unwrap()), vec![2; items], long(0)].concat();
    let decoder = one(items, DataType::new_list(DataType::Struct(fields.into()), true), false).unwrap();
    let decoded = decode(&decoder, &[datum(20_000), datum(100)]);
    assert_eq!(decoded.kept, [1]);
    assert!(decoded.rejected[0].reason.contains("too many values"));
    let nulls = r#"{"type": "array", "items": ["null", {"type": "array", "items": "int"}]}"#;
    let decoder = one(nulls, DataType::new_list(DataType::new_fixed_size_list(DataType::Int8, 1 << 25, true), true), false).unwrap();
    assert!(decode(&decoder, &[[long(1), long(0), long(0)].concat()]).rejected[0].reason.contains("too many values"));
}

#[test]
fn columns_of_every_type_are_filled() {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Duration, FixedSizeBinary, Float16,
        Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, Null, Time32, Time64, Timestamp, UInt8, UInt16, UInt32,
        UInt64, Utf8, Utf8View,
    };
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let numbers = [
        vec![Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float16, Float32, Float64, Date32, Date64],
        vec![Decimal32(9, 1), Decimal64(18, 1), Decimal128(38, -1), Decimal256(76, 1), Time32(Second), Time32(Millisecond)],
        vec![Time64(Microsecond), Time64(Nanosecond), Timestamp(Second, None), Timestamp(Nanosecond, Some("+01:00".into()))],
        vec![Duration(Second), Duration(Nanosecond)],
    ];
    let bytes = [Binary, LargeBinary, BinaryView, FixedSizeBinary(1)];
    let of = |writer: &'static str, datum: Vec<u8>| move |into: DataType| (writer, datum.clone(), into);
    let all = numbers.concat().into_iter().map(of("\"long\"", long(10)));
    let all = all.chain(bytes.into_iter().map(of("\"bytes\"", text("a"))));
    let all = all.chain([Utf8, LargeUtf8, Utf8View].into_iter().map(of("\"string\"", text("a"))));
    for (writer, datum, into) in all.chain([("\"boolean\"", vec![1], Boolean), ("\"null\"", vec![], Null)]) {
        let nests = [
            into.clone(),
            DataType::new_list(into.clone(), true),
            DataType::new_large_list(into.clone(), true),
            DataType::new_fixed_size_list(into.clone(), 1, true),
            DataType::Struct(vec![Field::new("s", into.clone(), writer == "\"null\"")].into()),
        ];
        for nest in nests {
            let plain = if nest == into { writer } else { "{\"type\": \"array\", \"items\": " };
            let (writer, datum) = match &nest {
                same if *same == into => (writer.to_owned(), datum.clone()),
                DataType::Struct(_) => {
                    (format!(r#"{{"type": "record", "name": "S", "fields": [{{"name": "s", "type": {writer}}}]}}"#), datum.clone())
                }
                _ if writer == "\"null\"" => continue,
                _ => (format!("{plain}{writer}}}"), [long(1), datum.clone(), long(0)].concat()),
            };
            let decoder = one(&format!("[\"null\", {writer}]").replace("[\"null\", \"null\"]", "[\"null\"]"), nest.clone(), false).unwrap();
            let there = if writer == "\"null\"" { long(0) } else { [long(1), datum].concat() };
            let decoded = decode(&decoder, &[long(0), there, long(9), long(0)]);
            assert_eq!((decoded.kept, decoded.batch.column(0).data_type()), (vec![0, 1, 3], &nest), "{:?}", decoded.rejected);
            assert_eq!(decoded.batch.column(0).logical_null_count(), if into == Null && nest == Null { 3 } else { 2 }, "{nest}");
        }
    }
}

proptest! {
    #[test]
    fn mutated_rows_are_kept_or_rejected_and_the_others_are_whole(
        rows in prop::collection::vec((any::<i64>(), ".{0,8}", prop::option::of((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8))), 0..60)
    ) {
        let bytes: Vec<Vec<u8>> = rows.iter().map(|(uid, name, mutation)| {
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
        let decoder = decoder(Writers::One(WRITER.to_owned()), columns(), Rules::default()).unwrap();
        let decoded = decode(&decoder, &bytes);
        let mut all: Vec<usize> = decoded.kept.iter().copied().chain(decoded.rejected.iter().map(|row| row.index)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
        prop_assert_eq!(decoded.batch.num_rows(), decoded.kept.len());
        for (place, index) in decoded.kept.iter().enumerate() {
            if rows[*index].2.is_none() {
                prop_assert_eq!(ids(&decoded.batch)[place], rows[*index].0);
                prop_assert_eq!(decoded.batch.column(1).as_string_view().value(place), &rows[*index].1);
            }
        }
        for (index, (_, _, mutation)) in rows.iter().enumerate() {
            prop_assert!(mutation.is_some() || decoded.kept.contains(&index));
        }
    }

    #[test]
    fn no_bytes_and_no_schema_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), schema in ".{0,60}") {
        let decoder = decoder(Writers::One(WRITER.to_owned()), columns(), Rules::default()).unwrap();
        let decoded = decode(&decoder, &[bytes]);
        prop_assert_eq!(decoded.kept.len() + decoded.rejected.len(), 1);
        drop(Schema::parse(&schema));
    }
}
