//! Rows in, batches and reasons out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), true),
    ]))
}

fn names() -> Names {
    Names::new([("id".to_owned(), vec!["userId".to_owned(), "uid".to_owned()])])
}

fn decode(rules: Rules, rows: &[&str]) -> Decoded {
    let decoder = RowDecoder::new(Format::Json, schema(), &names(), rules).unwrap();
    decoder.decode(rows.iter().map(|row| Some(row.as_bytes()))).unwrap()
}

fn ids(decoded: &Decoded) -> Vec<i64> {
    decoded.batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// The only row is bad, and the reason has these words.
fn is_bad(rules: Rules, row: &str, words: &[&str]) {
    let decoded = decode(rules, &[row]);
    assert_eq!((decoded.batch.num_rows(), decoded.rejected.len()), (0, 1), "{row}");
    let reason = &decoded.rejected[0].reason;
    assert!(words.iter().all(|word| reason.contains(word)), "{row}: {reason}");
}

#[test]
fn bad_rows_are_set_aside_with_the_reason() {
    let strict = Rules::default();
    is_bad(strict, r#"{"name": "a"}"#, &["\"id\"", "missing"]);
    is_bad(strict, r#"{"id": null}"#, &["\"id\"", "null"]);
    is_bad(strict, r#"{"id": "12"}"#, &["\"id\"", "Int64", "text"]);
    is_bad(strict, r#"{"id": 1.5}"#, &["\"id\"", "fraction"]);
    is_bad(strict, r#"{"id": 1, "name": 3}"#, &["\"name\"", "number"]);
    is_bad(strict, r#"{"id": 1, "name": {}}"#, &["\"name\"", "object"]);
    is_bad(strict, r#"{"id": 1, "tags": [1, "2"]}"#, &["\"tags\"", "text"]);
    is_bad(strict, r#"{"id": 1, "tags": 1}"#, &["\"tags\"", "number"]);
    is_bad(strict, r#"{"id": 1, "id": 2}"#, &["\"id\"", "twice"]);
    is_bad(strict, r#"{"id": 99999999999999999999}"#, &["99999999999999999999"]);
    for row in ["", "1", "[]", "{", "{\"id\": 1", "{\"id\": 1}{\"id\": 2}", "\u{0}", "{\"id\": 1},"] {
        is_bad(strict, row, &[]);
    }
}

#[test]
fn other_names_are_the_columns_and_the_first_that_is_not_null_counts() {
    let decoded = decode(
        Rules::default(),
        &[r#"{"id": 1, "uid": 9}"#, r#"{"userId": 2}"#, r#"{"uid": 3}"#, r#"{"id": null, "userId": null, "uid": 4}"#],
    );
    assert_eq!(ids(&decoded), [1, 2, 3, 4]);
    assert!(decoded.rejected.is_empty());
}

#[test]
fn lenient_rules_convert() {
    let lenient = Rules { lenient: true, ..Rules::default() };
    let decoded = decode(lenient, &[r#"{"id": "12", "name": 3, "tags": ["4"]}"#]);
    assert_eq!((ids(&decoded), decoded.batch.column(1).as_string::<i32>().value(0)), (vec![12], "3"));
    is_bad(lenient, r#"{"id": "twelve"}"#, &["twelve"]);
}

#[test]
fn unknown_fields_are_ignored_or_refused() {
    let row = r#"{"id": 1, "more": {"a": [1, {}]}}"#;
    assert_eq!(ids(&decode(Rules::default(), &[row])), [1]);
    is_bad(Rules { refuse_unknown: true, ..Rules::default() }, row, &["\"more\""]);
}

#[test]
fn limits_hold_on_both_sides() {
    let rules = Rules { row_bytes_max: 9, ..Rules::default() };
    assert_eq!(ids(&decode(rules, &[r#"{"id": 1}"#])), [1]);
    is_bad(rules, r#"{"id": 12}"#, &["10 bytes", "at most 9"]);
    let nested = |depth: usize| format!(r#"{{"id": 1, "x": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    // What no column has is passed over, however deep it is.
    assert_eq!(ids(&decode(Rules::default(), &[&nested(1_000_000)])), [1]);
    let decoder = RowDecoder::new(Format::Json, schema(), &names(), rules).unwrap();
    assert!(decoder.decode((0..ROWS_MAX).map(|_| None)).is_ok());
    assert!(matches!(decoder.decode((0..=ROWS_MAX).map(|_| None)), Err(FormatError::TooManyRows)));
}

#[test]
fn ambiguous_names_give_no_decoder() {
    let new = |schema, names: &Names| RowDecoder::new(Format::Json, schema, names, Rules::default());
    let alias = |name: &str, other: &str| Names::new([(name.to_owned(), vec![other.to_owned()])]);
    assert!(matches!(new(schema(), &alias("id", "name")), Err(FormatError::AliasTwice(_))));
    assert!(matches!(new(schema(), &alias("no", "x")), Err(FormatError::NoSuchColumn(_))));
    let twice = Arc::new(Schema::new(vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Int8, true)]));
    assert!(matches!(new(twice, &Names::default()), Err(FormatError::ColumnTwice(_))));
}

#[test]
fn no_rows_are_an_empty_batch() {
    let decoded = decode(Rules::default(), &[]);
    assert_eq!((decoded.batch.num_rows(), decoded.batch.schema()), (0, schema()));
}

proptest! {
    #[test]
    fn exactly_the_corrupted_rows_are_rejected(rows in prop::collection::vec((any::<i64>(), ".{0,8}", 0..8_u8), 0..200)) {
        let texts: Vec<Vec<u8>> = rows.iter().map(|(id, name, corruption)| {
            let text = serde_json::json!({"uid": id, "name": name}).to_string().into_bytes();
            match corruption {
                0 => text[..text.len() - 1].to_vec(),
                1 => serde_json::json!({"uid": id.to_string()}).to_string().into_bytes(),
                2 => [text.as_slice(), b"}"].concat(),
                // Fits no integer of 64 bits with a sign.
                3 => format!("{{\"id\": {}}}", u64::MAX).into_bytes(),
                _ => text,
            }
        }).collect();
        let decoder = RowDecoder::new(Format::Json, schema(), &names(), Rules::default()).unwrap();
        let decoded = decoder.decode(texts.iter().map(|text| Some(text.as_slice()))).unwrap();
        let good: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].2 > 3).collect();
        let bad: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].2 <= 3).collect();
        prop_assert_eq!(&decoded.kept, &good);
        prop_assert_eq!(decoded.rejected.iter().map(|row| row.index).collect::<Vec<_>>(), bad);
        prop_assert_eq!(ids(&decoded), good.iter().map(|row| rows[*row].0).collect::<Vec<_>>());
        let names = decoded.batch.column(1).as_string::<i32>();
        for (place, row) in good.iter().enumerate() {
            prop_assert_eq!(names.value(place), rows[*row].1.as_str());
        }
        prop_assert_eq!(decoded.batch.column(2).null_count(), good.len());
    }
}

#[test]
fn reasons_are_short_however_long_a_row_is() {
    let row = format!("\"{}\"", "\u{80}".repeat(100_000));
    let decoded = decode(Rules::default(), &[&row]);
    assert!(decoded.rejected[0].reason.len() <= 512, "{}", decoded.rejected[0].reason.len());
    assert!(decoded.rejected[0].reason.ends_with("..."));
}
