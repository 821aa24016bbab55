"""Rows that fastavro wrote become batches of a declared schema; bad ones are set aside with the reason."""

import datetime
import decimal
import io
import json
import random
import struct

import fastavro
import pyarrow as pa
import pytest

import bowstring

UTC = datetime.timezone.utc
WRITER = {
    "type": "record",
    "name": "Click",
    "namespace": "shop",
    "fields": [
        {"name": "uid", "type": "long"},
        {"name": "page", "type": ["null", "string"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}},
        {
            "name": "fixed",
            "type": {"type": "fixed", "name": "F", "size": 5, "logicalType": "decimal", "precision": 9, "scale": 0},
        },
        {"name": "ratio", "type": "float"},
        {"name": "exact", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "is_new", "type": "boolean"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["VIEW", "BUY"]}},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "scores", "type": {"type": "map", "values": "double"}},
        {"name": "ignored", "type": ["null", {"type": "array", "items": {"type": "map", "values": "Click"}}]},
        {
            "name": "place",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "Place",
                    "fields": [{"name": "x", "type": "int"}, {"name": "k", "type": "Kind"}],
                },
            ],
        },
    ],
}
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        ("page", pa.string_view()),
        ("at", pa.timestamp("ns", "UTC")),
        ("local", pa.timestamp("us")),
        ("day", pa.date32()),
        ("clock", pa.time64("us")),
        ("price", pa.decimal128(20, 4)),
        ("fixed", pa.decimal256(40, 0)),
        ("ratio", pa.float64()),
        ("exact", pa.float64()),
        ("raw", pa.large_binary()),
        ("is_new", pa.bool_()),
        ("kind", pa.string()),
        ("tags", pa.large_list(pa.string())),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("place", pa.struct({"x": pa.int32(), "k": pa.large_string(), "absent": pa.int8()})),
    ]
)
ALIASES = {"user_id": ["uid"]}


def datum(row: dict, writer: dict = WRITER) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer), row)
    return out.getvalue()


def made(chance: random.Random, depth: int = 1) -> dict:
    at = datetime.datetime(1960, 1, 1, tzinfo=UTC) + datetime.timedelta(microseconds=chance.randrange(1 << 51))
    inner = {"x": chance.randrange(-(1 << 31), 1 << 31), "k": chance.choice(["VIEW", "BUY"])}
    ignored = [{"a": made(chance, depth - 1)}, {}] if depth and chance.random() < 0.3 else None
    return {
        "uid": chance.choice([0, -1, 1, (1 << 63) - 1, -(1 << 63), chance.randrange(1 << 40)]),
        "page": chance.choice([None, "", f"/p/{chance.random()}é"]),
        "at": at,
        "local": at.replace(tzinfo=None, microsecond=7000),
        "day": at.date(),
        "clock": at.time().replace(microsecond=1000),
        "price": decimal.Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-3),
        "fixed": decimal.Decimal(chance.randrange(-(10**9), 10**9)),
        "ratio": chance.randrange(-1000, 1000) / 8,
        "exact": chance.random(),
        "raw": chance.randbytes(chance.randrange(4)),
        "is_new": chance.random() < 0.5,
        "kind": chance.choice(["VIEW", "BUY"]),
        "tags": chance.choices([None, "", "a", "é" * 70], k=chance.randrange(4)),
        "scores": {f"k{place}": chance.random() for place in range(chance.randrange(3))},
        "ignored": ignored,
        "place": chance.choice([None, inner]),
    }


def as_column(name: str, row: dict) -> object:
    """What a column has of a row that fastavro wrote."""
    value = row[{"user_id": "uid"}.get(name, name)]
    if name == "place" and value is not None:
        return value | {"absent": None}
    return list(value.items()) if name == "scores" else value


def test_rows_have_what_fastavro_wrote_and_bad_ones_are_set_aside():
    chance = random.Random(7)
    rows = [made(chance) for _ in range(2_000)]
    given, good = [], []
    for row in rows:
        whole = datum(row)
        bad = chance.random() < 0.2
        given.append(chance.choice([whole[:-1], whole + b"\x00", b"", b"\xff" * 30]) if bad else whole)
        good += [] if bad else [row]
    decoder = bowstring.RowDecoder.avro(SCHEMA, json.dumps(WRITER), aliases=ALIASES)
    decoded = decoder.decode(pa.array(given, pa.binary()))
    assert decoded.batch.schema == SCHEMA
    for name in SCHEMA.names:
        column = decoded.batch.column(name)
        # To nanoseconds Python has no type.
        values = (column.cast(pa.timestamp("us", "UTC")) if name == "at" else column).to_pylist()
        assert values == [as_column(name, row) for row in good], name
    decoded.batch.validate(full=True)
    indices = decoded.kept.to_pylist() + decoded.rejected.column("index").to_pylist()
    assert sorted(indices) == list(range(len(given)))
    assert 300 < decoded.rejected.num_rows == len(rows) - len(good)
    for bad in decoded.rejected.to_pylist():
        assert bad["row"] == given[bad["index"]]
        assert bad["reason"]


def test_any_bytes_are_kept_or_set_aside():
    """What is not changed is as it was; fastavro refuses no more than is refused here."""
    chance = random.Random(11)
    decoder = bowstring.RowDecoder.avro(SCHEMA, json.dumps(WRITER), aliases=ALIASES)
    parsed = fastavro.parse_schema(WRITER)
    given = []
    for _ in range(3_000):
        row = bytearray(datum(made(chance)))
        for _ in range(chance.randrange(1, 4)):
            row[chance.randrange(len(row))] ^= 1 << chance.randrange(8)
        given.append(bytes(row[: chance.choice([len(row), chance.randrange(len(row))])]))
    decoded = decoder.decode(given)
    decoded.batch.validate(full=True)
    assert sorted(decoded.kept.to_pylist() + decoded.rejected["index"].to_pylist()) == list(range(len(given)))
    assert decoded.kept
    assert decoded.rejected.num_rows
    for index, user in zip(decoded.kept.to_pylist(), decoded.batch["user_id"].to_pylist(), strict=True):
        try:
            read = fastavro.schemaless_reader(io.BytesIO(given[index]), parsed)
        except (OverflowError, ValueError):
            # Python has no such date.
            continue
        assert read["uid"] == user


def test_rows_name_their_writers_by_number_or_fingerprint():
    """Two versions of a schema in one column: framed as Confluent does, and in the single-object encoding."""
    old = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "int"}, {"name": "gone", "type": "string"}]}
    new = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "x", "type": ["null", "double"]}, {"name": "id", "type": "long"}],
    }
    rows = [
        (old, {"id": 1, "gone": "y"}),
        (new, {"x": 0.5, "id": 2}),
        (new, {"x": None, "id": 3}),
        (old, {"id": 4, "gone": ""}),
    ]
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("x", pa.float32())])
    expected = [{"id": 1, "x": None}, {"id": 2, "x": 0.5}, {"id": 3, "x": None}, {"id": 4, "x": None}]
    numbers = {7: json.dumps(old), (1 << 32) - 1: json.dumps(new)}
    framed = [struct.pack(">bI", 0, 7 if writer is old else (1 << 32) - 1) + datum(row, writer) for writer, row in rows]
    decoded = bowstring.RowDecoder.avro(schema, numbers).decode([*framed, b"\x00\x00\x00\x00\x08\x02", b"\x01", None])
    assert decoded.batch.to_pylist() == expected
    assert ["number 8" in reason for reason in decoded.rejected["reason"].to_pylist()] == [True, False, False]

    def single_object(writer: dict, row: dict) -> bytes:
        canonical = fastavro.schema.to_parsing_canonical_form(writer)
        return b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")) + datum(row, writer)

    decoder = bowstring.RowDecoder.avro(schema, [json.dumps(old), json.dumps(new)])
    decoded = decoder.decode([*(single_object(writer, row) for writer, row in rows), framed[0]])
    assert decoded.batch.to_pylist() == expected
    assert "C3 01" in decoded.rejected["reason"][0].as_py()
    # The fingerprint of a schema with all that there is, too.
    click = made(random.Random(1))
    decoder = bowstring.RowDecoder.avro(SCHEMA, [json.dumps(WRITER)], aliases=ALIASES)
    assert decoder.decode([single_object(WRITER, click)]).batch["user_id"].to_pylist() == [click["uid"]]


def test_what_does_not_fit_gives_no_decoder():
    schema = pa.schema({"x": pa.int64()})

    def record(type_: object) -> str:
        return json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": type_}]})

    with pytest.raises(bowstring.InvalidArgument, match="Int64, and rows have string"):
        bowstring.RowDecoder.avro(schema, record("string"))
    lenient = bowstring.RowDecoder.avro(schema, record("string"), lenient=True)
    assert lenient.decode([b"\x0412"]).batch.to_pylist() == [{"x": 12}]
    twice = [record("int")] * 2
    for nothing in ("", [], {}, "{", "[1]", record("nothing"), json.dumps("int"), twice, {-1: record("int")}):
        with pytest.raises(bowstring.InvalidArgument):
            bowstring.RowDecoder.avro(schema, nothing)
    with pytest.raises(bowstring.InvalidArgument, match="row_bytes_max"):
        bowstring.RowDecoder.avro(schema, record("int"), row_bytes_max=0)
    unknown = bowstring.RowDecoder.avro(pa.schema({"y": pa.int8()}), record("int"), refuse_unknown=True)
    assert '"x" is not in the schema' in unknown.decode([b"\x02"]).rejected["reason"][0].as_py()
