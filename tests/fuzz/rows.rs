//! Rows in JSON, Avro and Protobuf, and the schema of an Avro writer: each row is kept or rejected for itself, whatever is beside it.

use std::sync::{Arc, OnceLock};

use arrow::array::Array as _;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bowstring::formats::{Format, Framing, Names, Protobuf, RowDecoder, Rules, Writers};
use protox::Compiler;
use protox::file::{File, FileResolver};
use rand::rngs::StdRng;

use crate::corpus::Input;
use crate::engine::{Verdict, within};

/// What decoding takes beside what its rows are, in bytes, and for each of theirs.
const BYTES: u64 = 4 << 20;
const TIMES: u64 = 4096;

const WRITER: &str = r#"{"type": "record", "name": "Click", "fields": [
    {"name": "uid", "type": "long"},
    {"name": "more", "type": ["null", {"type": "array", "items": {"type": "map", "values": "Click"}}]},
    {"name": "name", "type": ["null", "string"]},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "tags", "type": {"type": "array", "items": ["null", "int"]}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["VIEW", "BUY"]}},
    {"name": "where", "type": {"type": "record", "name": "Place", "fields": [
        {"name": "x", "type": "double"}, {"name": "by", "type": {"type": "map", "values": "boolean"}}]}}]}"#;

const PROTO: &str = r#"syntax = "proto3";
message Click {
  enum Kind { VIEW = 0; BUY = 1; }
  message Place { double x = 1; map<string, bool> by = 2; Click click = 3; }
  int64 uid = 1; optional string name = 2; repeated sint32 tags = 5; Kind kind = 6; Place where = 7; bytes unused = 8;
  oneof one { fixed64 at = 9; Place place = 10; }
}"#;

struct Source;

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "click.proto" { File::from_source(name, PROTO) } else { Err(protox::Error::file_not_found(name)) }
    }
}

fn columns(has_price: bool) -> SchemaRef {
    let (key, value) = (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Boolean, true));
    let place = vec![Field::new("x", DataType::Float64, false), Field::new_map("by", "entries", key, value, false, true)];
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true),
        Field::new("tags", DataType::new_list(DataType::Int32, true), true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("where", DataType::Struct(place.into()), true),
    ];
    if has_price {
        fields.push(Field::new("price", DataType::Decimal128(12, 4), true));
    }
    Arc::new(Schema::new(fields))
}

fn decoder(format: Format) -> RowDecoder {
    let names = Names::new([("id".to_owned(), vec!["uid".to_owned()])]);
    let has_price = !matches!(format, Format::Protobuf(_));
    // Writers of Avro have a field that is no column: to be passed over.
    let refuse_unknown = !matches!(format, Format::Avro(_));
    RowDecoder::new(format, columns(has_price), &names, Rules { refuse_unknown, ..Rules::default() }).unwrap()
}

/// The rows together, and each alone.
fn check(decoder: &RowDecoder, rows: &Input) -> Verdict {
    let bytes: usize = rows.iter().map(Vec::len).sum();
    let decode = |rows: &[Vec<u8>]| decoder.decode(rows.iter().map(|row| Some(row.as_slice()))).unwrap();
    let together = within(BYTES + TIMES * bytes as u64, "decoding rows", || decode(rows));
    for column in together.batch.columns() {
        column.to_data().validate_full().unwrap();
    }
    let mut kept = together.kept.iter();
    let mut rejected = together.rejected.iter();
    for (index, row) in rows.iter().enumerate() {
        let alone = decode(std::slice::from_ref(row));
        if let [reason] = &alone.rejected[..] {
            let together = rejected.next().unwrap();
            assert_eq!((together.index, &together.reason), (index, &reason.reason), "a row is rejected for itself");
        } else {
            let at = together.kept.len() - kept.len();
            assert_eq!(kept.next(), Some(&index), "a row that is good alone is kept");
            assert_eq!(together.batch.slice(at, 1), alone.batch, "row {index} is the same alone");
        }
    }
    assert_eq!((kept.next(), rejected.next()), (None, None));
    if together.rejected.is_empty() { Verdict::Accepted } else { Verdict::Refused }
}

pub(crate) fn json_seeds() -> Vec<Input> {
    let rows = [
        r#"{"uid": 7, "name": "é\n", "at": "2026-01-02T03:04:05.6Z", "tags": [1, null, -3], "kind": "BUY", "price": "-1.50"}"#,
        r#"{"id": -9223372036854775808, "where": {"x": 1e300, "by": {"yes": true, "no": null}}, "price": 12.3456, "at": -5}"#,
        r#"{"id": 1, "name": null, "tags": [], "where": null}"#,
    ];
    vec![rows.map(|row| row.as_bytes().to_vec()).to_vec(), vec![rows[1].as_bytes().to_vec()]]
}

pub(crate) fn run_json(rows: &Input, _: &mut StdRng) -> Verdict {
    static DECODER: OnceLock<RowDecoder> = OnceLock::new();
    check(DECODER.get_or_init(|| decoder(Format::Json)), rows)
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

/// As Avro has numbers.
fn long(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

pub(crate) fn avro_seeds() -> Vec<Input> {
    let text = |text: &str| [long(text.len().try_into().unwrap()), text.as_bytes().to_vec()].concat();
    let place = [1.5_f64.to_le_bytes().to_vec(), long(1), text("yes"), vec![1], long(0)].concat();
    let row = |uid: i64, name: &str| {
        // A block with its size, and one without.
        let tags = [long(-1), long(1), long(0), long(1), long(1), long(7), long(0)].concat();
        let price = [long(2), vec![0xff, 0x6a]].concat();
        [long(uid), long(0), long(1), text(name), price, long(1_700_000_000_123), tags, long(1), place.clone()].concat()
    };
    vec![vec![row(5, "a"), row(i64::MIN, "é"), row(-1, "")], vec![row(i64::MAX, &"long".repeat(40))]]
}

pub(crate) fn run_avro(rows: &Input, _: &mut StdRng) -> Verdict {
    static DECODER: OnceLock<RowDecoder> = OnceLock::new();
    check(DECODER.get_or_init(|| decoder(Format::Avro(Writers::One(WRITER.to_owned())))), rows)
}

pub(crate) fn protobuf_seeds() -> Vec<Input> {
    let number = |field: u64, value: i64| [varint(field << 3), varint(value.cast_unsigned())].concat();
    let bytes = |field: u64, value: &[u8]| [varint(field << 3 | 2), varint(value.len().try_into().unwrap()), value.to_vec()].concat();
    let eight = |field: u64, value: [u8; 8]| [varint(field << 3 | 1), value.to_vec()].concat();
    let place = [eight(1, 1.5_f64.to_le_bytes()), bytes(2, &[bytes(1, b"yes"), number(2, 1)].concat())].concat();
    let row = [number(1, -7), bytes(2, "é".as_bytes()), bytes(5, &[1, 4]), number(5, 3), number(6, 1), bytes(7, &place)].concat();
    vec![vec![row.clone(), Vec::new(), number(1, 5)], vec![[row, eight(9, 5_u64.to_le_bytes())].concat()]]
}

pub(crate) fn run_protobuf(rows: &Input, _: &mut StdRng) -> Verdict {
    static DECODER: OnceLock<RowDecoder> = OnceLock::new();
    let decoder = DECODER.get_or_init(|| {
        let mut compiler = Compiler::with_file_resolver(Source);
        let descriptors = compiler.include_imports(true).open_file("click.proto").unwrap().encode_file_descriptor_set();
        decoder(Format::Protobuf(Protobuf { descriptors, message: "Click".to_owned(), framing: Framing::None }))
    });
    check(decoder, rows)
}

pub(crate) fn writer_seeds() -> Vec<Input> {
    vec![
        vec![WRITER.as_bytes().to_vec()],
        vec![br#"{"type": "record", "name": "n.R", "fields": [{"name": "id", "type": "int"}]}"#.to_vec()],
    ]
}

pub(crate) fn run_writer(input: &Input, _: &mut StdRng) -> Verdict {
    let text = String::from_utf8_lossy(&input.concat()).into_owned();
    let bytes = text.len() as u64;
    within(BYTES + TIMES * bytes, "reading a writer's schema", || {
        let names = Names::new([("id".to_owned(), vec!["uid".to_owned()])]);
        let decoder = RowDecoder::new(Format::Avro(Writers::One(text)), columns(true), &names, Rules::default());
        if let Ok(decoder) = &decoder {
            // Whatever was read of it can be decoded by.
            decoder.decode(avro_seeds().concat().iter().map(|row| Some(row.as_slice()))).unwrap();
        }
        Verdict::of(&decoder)
    })
}
