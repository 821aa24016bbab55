//! What columns take of JSON's values.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::formats::{BYTES_MAX, Format, FormatError, Names, RowDecoder, Rules};

fn decoder(data_type: &DataType, lenient: bool) -> Result<RowDecoder, FormatError> {
    let schema = Arc::new(Schema::new(vec![Field::new("x", data_type.clone(), true)]));
    RowDecoder::new(Format::Json, schema, &Names::default(), Rules { lenient, ..Rules::default() })
}

/// What a column has of a value, as Arrow shows it; or why the row is bad.
fn taken(data_type: &DataType, lenient: bool, value: &str) -> Result<String, String> {
    let row = format!("{{\"x\": {value}}}");
    let decoded = decoder(data_type, lenient).unwrap().decode([Some(row.as_bytes())].into_iter()).unwrap();
    if let [bad] = &decoded.rejected[..] {
        return Err(bad.reason.clone());
    }
    decoded.batch.column(0).to_data().validate_full().unwrap();
    let options = FormatOptions::new().with_null("null");
    Ok(ArrayFormatter::try_new(decoded.batch.column(0), &options).unwrap().value(0).to_string())
}

fn takes(data_type: &DataType, pairs: &[(&str, &str)]) {
    for (value, shown) in pairs {
        assert_eq!(taken(data_type, false, value).as_deref(), Ok(*shown), "{data_type} of {value}");
    }
}

fn refuses(data_type: &DataType, pairs: &[(&str, &str)]) {
    for (value, word) in pairs {
        let reason = taken(data_type, false, value).unwrap_err();
        assert!(reason.starts_with("column \"x\": ") && reason.contains(word), "{data_type} of {value}: {reason}");
    }
}

#[test]
fn integers_are_exact() {
    takes(
        &DataType::Int64,
        &[
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775807", "9223372036854775807"),
            ("9007199254740993.0", "9007199254740993"),
            ("1e18", "1000000000000000000"),
            ("-0.0", "0"),
            ("0e-400", "0"),
        ],
    );
    refuses(
        &DataType::Int64,
        &[
            ("9223372036854775808", "outside"),
            ("1e400", "outside"),
            ("1e-400", "fraction"),
            ("123456789012345678.5", "fraction"),
            ("\"1\"", "text"),
            ("true", "boolean"),
            ("[1]", "a list"),
            ("{}", "an object"),
        ],
    );
    takes(&DataType::UInt64, &[("18446744073709551615", "18446744073709551615"), ("1.8446744073709551615e19", "18446744073709551615")]);
    refuses(&DataType::UInt64, &[("-1", "outside"), ("18446744073709551616", "outside")]);
    refuses(&DataType::Int8, &[("128", "outside"), ("-129", "outside")]);
}

#[test]
fn floats_are_rounded_once_and_never_to_infinity() {
    takes(&DataType::Float64, &[("0.1", "0.1"), ("9007199254740993", "9007199254740992.0"), ("1e-400", "0.0"), ("-1e300", "-1e300")]);
    refuses(&DataType::Float64, &[("1e999", "outside"), ("\"1\"", "text")]);
    // Halfway between two floats but for a bit that a double has no room for: 1 + 2^-24 + 2^-60.
    takes(&DataType::Float32, &[("1.000000059604644775390626", "1.0000001"), ("3.4028235e38", "3.4028235e38")]);
    refuses(&DataType::Float32, &[("3.5e38", "outside"), ("-1e39", "outside")]);
    refuses(&DataType::Float16, &[("65520", "outside"), ("1e5", "outside")]);
    assert!(taken(&DataType::Float64, true, "\"1e999\"").unwrap_err().contains("outside"));
    assert_eq!(taken(&DataType::Float64, true, "\"inf\""), Ok("inf".to_owned()));
}

#[test]
fn decimals_are_numbers_or_text_and_are_not_cut() {
    let money = DataType::Decimal128(10, 2);
    takes(&money, &[("1.5", "1.50"), ("\"-12.50\"", "-12.50"), ("12345678.90000", "12345678.90"), ("1.25e1", "12.50"), ("7", "7.00")]);
    let long = format!("1.{}", "0".repeat(300));
    takes(&money, &[(&long, "1.00")]);
    refuses(&money, &[("1.005", "cut"), ("\"1.005\"", "cut"), ("123456789", "outside"), ("\"one\"", "no decimal"), ("true", "boolean")]);
    takes(
        &DataType::Decimal256(60, 20),
        &[(
            "1234567890123456789012345678901234567890.12345678901234567890",
            "1234567890123456789012345678901234567890.12345678901234567890",
        )],
    );
}

#[test]
fn times_are_text_or_numbers_and_are_not_cut() {
    let seconds = DataType::Timestamp(TimeUnit::Second, None);
    takes(
        &seconds,
        &[
            ("7", "1970-01-01T00:00:07"),
            ("\"1970-01-01T00:00:07\"", "1970-01-01T00:00:07"),
            ("\"1970-01-01T02:00:07+02:00\"", "1970-01-01T00:00:07"),
            ("\"1969-12-31 23:59:59.000Z\"", "1969-12-31T23:59:59"),
        ],
    );
    refuses(&seconds, &[("7.5", "fraction"), ("\"1970-01-01T00:00:07.5\"", "fraction"), ("\"soon\"", "soon"), ("\"7\"", "7")]);
    let zoned = |zone: &str| DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.into()));
    takes(&zoned("+02:00"), &[("\"1970-01-01T02:00:00.000000001\"", "1970-01-01T02:00:00.000000001+02:00")]);
    refuses(&zoned("UTC"), &[("\"1970-01-01T00:00:00.0000000001Z\"", "nanosecond"), ("\"9999-01-01\"", "outside")]);
    for zone in ["Europe/Berlin", "nowhere"] {
        assert!(matches!(decoder(&zoned(zone), false), Err(FormatError::Misfit { .. })), "{zone}");
    }
    takes(&DataType::Date32, &[("\"1970-01-11\"", "1970-01-11"), ("\"1970-01-11T00:00:00Z\"", "1970-01-11"), ("10", "1970-01-11")]);
    refuses(&DataType::Date32, &[("\"1970-01-11T01:00:00Z\"", "1970-01-11T01"), ("\"1970-02-30\"", "02-30")]);
    let day = DataType::Time32(TimeUnit::Second);
    takes(&day, &[("\"23:59:59\"", "23:59:59"), ("86399", "23:59:59"), ("\"07:30\"", "07:30:00")]);
    refuses(
        &day,
        &[("\"23:59:60\"", "outside"), ("\"01:02:03.5\"", "fraction"), ("86400", "outside"), ("-1", "outside"), ("\"5\"", "no Time32")],
    );
    let span = DataType::Duration(TimeUnit::Millisecond);
    takes(&span, &[("-1500", "-PT1.5S")]);
    refuses(&span, &[("\"1500\"", "text")]);
    assert_eq!(taken(&span, true, "\"1500\""), Ok("PT1.5S".to_owned()));
}

#[test]
fn text_and_bytes_and_booleans() {
    takes(&DataType::Utf8View, &[("\"a\\n\\u00e9\\ud83d\\ude00\"", "a\n\u{e9}\u{1f600}"), ("\"\"", ""), ("null", "null")]);
    refuses(&DataType::Utf8, &[("\"\\ud800\"", "hex escape"), ("1", "a number"), ("false", "a boolean")]);
    assert_eq!(taken(&DataType::Utf8, true, "1.50e3"), Ok("1.50e3".to_owned()));
    assert_eq!(taken(&DataType::Utf8, true, "false"), Ok("false".to_owned()));
    takes(&DataType::Binary, &[("\"00fF\"", "00ff"), ("\"\"", "")]);
    refuses(&DataType::BinaryView, &[("\"0\"", "hexadecimal"), ("\"+1\"", "hexadecimal"), ("1", "a number")]);
    refuses(&DataType::FixedSizeBinary(2), &[("\"00\"", "1 bytes")]);
    takes(&DataType::Boolean, &[("true", "true"), ("false", "false")]);
    refuses(&DataType::Boolean, &[("1", "a number"), ("\"true\"", "text")]);
    takes(&DataType::Null, &[("null", "null")]);
    refuses(&DataType::Null, &[("1", "a number")]);
}

#[test]
fn structs_lists_and_maps_nest() {
    let pair = DataType::Struct(vec![Field::new("a", DataType::Int8, false), Field::new("b", DataType::Utf8, true)].into());
    takes(&pair, &[("{\"b\": \"z\", \"more\": [{}], \"a\": 1}", "{a: 1, b: z}"), ("{\"a\": 1}", "{a: 1, b: null}"), ("null", "null")]);
    refuses(
        &pair,
        &[
            ("{\"a\": 1, \"a\": 2}", "twice"),
            ("{}", "not nullable"),
            ("{\"a\": null}", "not nullable"),
            ("[]", "a list"),
            ("3", "a number"),
        ],
    );
    let pairs = DataType::new_list(pair, true);
    takes(&pairs, &[("[{\"a\": 1}, null]", "[{a: 1, b: null}, null]"), ("[]", "[]")]);
    refuses(&pairs, &[("[{\"a\": \"1\"}]", "text"), ("{}", "an object"), ("true", "a boolean"), ("\"\"", "text")]);
    let two = DataType::new_fixed_size_list(DataType::Int64, 2, true);
    takes(&two, &[("[1, null]", "[1, null]"), ("null", "null")]);
    refuses(&two, &[("[1]", "1 items"), ("[1, 2, 3]", "3 items")]);
    let (key, value) = (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::new_list(DataType::Int8, true), true));
    let map = |key: Field| Field::new_map("x", "entries", key, value.clone(), false, true).data_type().clone();
    takes(&map(key.clone()), &[("{\"k\": [1], \"\\u00e9\": null}", "{k: [1], \u{e9}: null}"), ("{}", "{}")]);
    refuses(&map(key.clone()), &[("{\"k\": [1], \"k\": [2]}", "twice"), ("{\"k\": [300]}", "outside")]);
    assert!(matches!(decoder(&map(key.with_data_type(DataType::Int8)), false), Err(FormatError::Misfit { .. })));
}

#[test]
fn types_without_columns_give_no_decoder() {
    let run = DataType::RunEndEncoded(
        Arc::new(Field::new("run_ends", DataType::Int32, false)),
        Arc::new(Field::new("values", DataType::Int8, true)),
    );
    for odd in [run, DataType::Interval(arrow_schema::IntervalUnit::DayTime), DataType::new_fixed_size_list(DataType::Int8, 0, true)] {
        assert!(matches!(decoder(&odd, false), Err(FormatError::Type { .. })), "{odd}");
    }
}

#[test]
fn few_bytes_do_not_fill_the_memory() {
    let wide = DataType::Struct((0..1000).map(|place| Field::new(format!("c{place}"), DataType::Decimal256(9, 2), true)).collect());
    let decoder = decoder(&DataType::new_list(wide, true), false).unwrap();
    let row = format!("{{\"x\": [{}{{}}]}}", "{},".repeat(100_000));
    let decoded = decoder.decode([Some(row.as_bytes()), Some(b"{\"x\": [{}]}")].into_iter()).unwrap();
    assert_eq!(decoded.kept, [1]);
    assert!(decoded.rejected[0].reason.contains("too many values"), "{}", decoded.rejected[0].reason);
    let fixed = self::decoder(&DataType::FixedSizeBinary(1 << 20), false).unwrap();
    let most = BYTES_MAX >> 20;
    let rows = |rows: usize| fixed.decode((0..rows).map(|_| Some(b"{}".as_slice())));
    assert!(matches!(rows(most + 1), Err(FormatError::TooManyBytes)));
    assert_eq!(rows(3).unwrap().batch.column(0).null_count(), 3);
}

#[test]
fn names_with_escapes_are_found() {
    let decoded = decoder(&DataType::Int64, false).unwrap().decode([Some(b"{\"\\u0078\": 5}".as_slice())].into_iter()).unwrap();
    assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().values(), &[5]);
    let twice = decoder(&DataType::Int64, false).unwrap().decode([Some(b"{\"\\u0078\": 5, \"x\": null}".as_slice())].into_iter()).unwrap();
    assert!(twice.rejected[0].reason.contains("twice"));
}
