"""Rows that Python's protobuf wrote become batches of a declared schema; bad ones are set aside with the reason."""

import datetime
import random
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError

import bowstring

NUMBERS = ["int32", "int64", "uint32", "uint64", "sint32", "sint64"]
NUMBERS += ["fixed32", "fixed64", "sfixed32", "sfixed64", "float", "double"]
PLAIN = [*NUMBERS, "bool", "string", "bytes"]
IMPORTED = (timestamp_pb2, duration_pb2, wrappers_pb2)


def add(message: Any, name: str, type_: str, label: str = "optional", **more: Any) -> None:
    """A field with the next number; a type that is none of Protobuf's own is a message or an enum."""
    field = message.field.add(name=name, number=len(message.field) + 1, **more)
    field.label = descriptor_pb2.FieldDescriptorProto.Label.Value(f"LABEL_{label.upper()}")
    if type_ in PLAIN:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{type_.upper()}")
    else:
        field.type_name = type_


def described() -> tuple[bytes, Any]:
    """A file's descriptors, and the class of its second message, `shop.Click`."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTED)
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="VIEW", number=0)
    kind.value.add(name="BUY", number=-3)
    place = file.message_type.add(name="Place")
    add(place, "x", "sint32")
    add(place, "inner", ".shop.Place")
    click = file.message_type.add(name="Click")
    click.oneof_decl.add(name="one")
    for type_ in PLAIN:
        add(click, f"a_{type_}", type_)
        add(click, f"many_{type_}", type_, "repeated")
    for key in ("string", "sint64"):
        entry = click.nested_type.add(name=f"By{key.capitalize()}Entry")
        entry.options.map_entry = True
        add(entry, "key", key)
        add(entry, "value", ".shop.Place")
        add(click, f"by_{key}", f".shop.Click.{entry.name}", "repeated")
    add(click, "kind", ".shop.Kind")
    add(click, "kinds", ".shop.Kind", "repeated")
    add(click, "place", ".shop.Place")
    add(click, "places", ".shop.Place", "repeated")
    add(click, "at", ".google.protobuf.Timestamp")
    add(click, "took", ".google.protobuf.Duration")
    add(click, "count", ".google.protobuf.Int64Value")
    add(click, "left", "string", oneof_index=0)
    add(click, "right", "int64", oneof_index=0)
    click.oneof_decl.add(name="_maybe")
    add(click, "maybe", "int32", oneof_index=1, proto3_optional=True)
    add(click, "ignored", ".shop.Click", "repeated")
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet()
    for module in IMPORTED:
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    for one in files.file:
        pool.Add(one)
    return files.SerializeToString(), message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Click"))


ARROW = {"float": pa.float32(), "double": pa.float64(), "bool": pa.bool_(), "string": pa.string(), "bytes": pa.binary()}
ARROW |= {
    "sint32": pa.int32(),
    "sint64": pa.int64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
}
ARROW |= {"fixed32": pa.uint32(), "fixed64": pa.uint64(), "sfixed32": pa.int32(), "sfixed64": pa.int64()}
PLACE = pa.struct({"x": pa.int32(), "inner": pa.struct({"x": pa.int64()}), "absent": pa.int8()})
SCHEMA = pa.schema(
    [
        *((f"a_{type_}", ARROW[type_]) for type_ in PLAIN),
        *((f"many_{type_}", pa.list_(ARROW[type_])) for type_ in PLAIN),
        ("by_string", pa.map_(pa.string(), PLACE)),
        ("by_sint64", pa.map_(pa.int64(), PLACE)),
        ("kind", pa.string()),
        ("kinds", pa.list_(pa.int32())),
        ("place", PLACE),
        ("places", pa.large_list(PLACE)),
        ("at", pa.timestamp("us", "UTC")),
        ("took", pa.duration("us")),
        ("count", pa.int64()),
        ("left", pa.string()),
        ("right", pa.int64()),
        ("perhaps", pa.int16()),
    ]
)
ALIASES = {"perhaps": ["maybe"]}
DESCRIPTORS, Click = described()


def plain(chance: random.Random, type_: str) -> Any:
    if type_ in ("string", "bytes"):
        text = chance.choice(["", "a", "é" * 70])
        return text if type_ == "string" else text.encode() + chance.randbytes(chance.randrange(3))
    if type_ in ("float", "double"):
        return chance.choice([0.0, -0.5, chance.randrange(1000) / 8])
    if type_ == "bool":
        return chance.random() < 0.5
    bits = 64 if type_.endswith("64") else 32
    low, high = (0, (1 << bits) - 1) if type_[0] in "uf" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return chance.choice([low, high, max(low, -1), 0, 1, chance.randrange(low, high)])


def place(chance: random.Random, into: Any) -> None:
    into.SetInParent()
    into.x = plain(chance, "sint32")
    if chance.random() < 0.5:
        into.inner.inner.x = 3
        into.inner.x = plain(chance, "sint32")


def made(chance: random.Random, depth: int = 1) -> Any:
    row = Click()
    for type_ in PLAIN:
        if chance.random() < 0.7:
            setattr(row, f"a_{type_}", plain(chance, type_))
        getattr(row, f"many_{type_}").extend(plain(chance, type_) for _ in range(chance.randrange(3)))
    for key in range(chance.randrange(3)):
        place(chance, row.by_string[f"k{key}"])
        place(chance, row.by_sint64[-key])
    row.kind = chance.choice([0, -3])
    row.kinds.extend(chance.choices([0, -3], k=chance.randrange(3)))
    if chance.random() < 0.5:
        place(chance, row.place)
        row.at.FromMicroseconds(chance.randrange(-(1 << 50), 1 << 50))
        row.took.FromMicroseconds(chance.randrange(-(1 << 40), 1 << 40))
        row.count.value = plain(chance, "int64")
        row.maybe = chance.choice([0, -5])
        row.ignored.extend([made(chance, depth - 1)] if depth else [])
    for _ in range(chance.randrange(3)):
        place(chance, row.places.add())
    match chance.randrange(3):
        case 1:
            row.left = ""
        case 2:
            row.right = 4
    return row


def as_place(read: Any) -> dict[str, object]:
    inner = {"x": read.inner.x} if read.HasField("inner") else None
    return {"x": read.x, "inner": inner, "absent": None}


def as_row(read: Any) -> dict[str, object]:
    """What a batch has of a message that Python has read."""
    row: dict[str, object] = {}
    for type_ in PLAIN:
        row[f"a_{type_}"] = getattr(read, f"a_{type_}")
        row[f"many_{type_}"] = list(getattr(read, f"many_{type_}"))
    for name in ("by_string", "by_sint64"):
        row[name] = sorted((key, as_place(value)) for key, value in getattr(read, name).items())
    row["kind"] = {0: "VIEW", -3: "BUY"}.get(read.kind)
    row["kinds"] = list(read.kinds)
    row["place"] = as_place(read.place) if read.HasField("place") else None
    row["places"] = [as_place(one) for one in read.places]
    zero = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    row["at"] = zero + of_time(read.at) if read.HasField("at") else None
    row["took"] = of_time(read.took) if read.HasField("took") else None
    row["count"] = read.count.value if read.HasField("count") else None
    for name in ("left", "right"):
        row[name] = getattr(read, name) if read.HasField(name) else None
    row["perhaps"] = read.maybe if read.HasField("maybe") else None
    return row


def of_time(time: Any) -> datetime.timedelta:
    return datetime.timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)


def rows_of(batch: pa.RecordBatch) -> list[dict[str, object]]:
    rows = batch.to_pylist()
    for row in rows:
        for name in ("by_string", "by_sint64"):
            row[name] = sorted(row[name])
    return rows


def decoder(**options: Any) -> bowstring.RowDecoder:
    return bowstring.RowDecoder.protobuf(SCHEMA, DESCRIPTORS, "shop.Click", aliases=ALIASES, **options)


def test_rows_have_what_protobuf_wrote_and_bad_ones_are_set_aside():
    chance = random.Random(7)
    messages = [made(chance) for _ in range(1_000)]
    given, good = [], []
    for message in messages:
        whole = message.SerializeToString()
        bad = chance.random() < 0.2
        given.append(chance.choice([whole + b"\x08", b"\x00", b"\xff" * 30, b"\x0c"]) if bad else whole)
        good += [] if bad else [message]
    decoded = decoder().decode(pa.array(given, pa.binary()))
    assert decoded.batch.schema == SCHEMA
    assert rows_of(decoded.batch) == [as_row(message) for message in good]
    decoded.batch.validate(full=True)
    indices = decoded.kept.to_pylist() + decoded.rejected.column("index").to_pylist()
    assert sorted(indices) == list(range(len(given)))
    for bad in decoded.rejected.to_pylist():
        assert bad["row"] == given[bad["index"]]
        assert bad["reason"]


def test_any_bytes_are_kept_as_protobuf_reads_them_or_set_aside():
    """Flipped bits, rows cut off, and rows one after the other, which are one message with the fields of both."""
    chance = random.Random(11)
    given = []
    for _ in range(3_000):
        row = bytearray(made(chance).SerializeToString())
        if chance.random() < 0.3:
            row += made(chance).SerializeToString()
        for _ in range(chance.randrange(3)):
            row[chance.randrange(len(row))] ^= 1 << chance.randrange(8)
        given.append(bytes(row[: chance.choice([len(row), len(row), chance.randrange(len(row))])]))
    decoded = decoder().decode(given)
    decoded.batch.validate(full=True)
    assert sorted(decoded.kept.to_pylist() + decoded.rejected["index"].to_pylist()) == list(range(len(given)))
    assert decoded.batch.num_rows > 300
    assert decoded.rejected.num_rows > 300
    refused = 0
    for index, row in zip(decoded.kept.to_pylist(), rows_of(decoded.batch), strict=True):
        try:
            read = Click.FromString(given[index])
        except DecodeError:
            # Bytes that no column has are not looked into here.
            refused += 1
            continue
        expected = as_row(read)
        assert {name for name in row if str(row[name]) != str(expected[name])} == set(), index
    assert refused < decoded.batch.num_rows / 10


def test_framed_rows_are_of_the_message_that_they_name():
    row = Click(a_int32=7).SerializeToString()
    header = b"\x00\x00\x00\x01\x02"
    framed = decoder(confluent=True)
    decoded = framed.decode([header + b"\x02\x02" + row, header + b"\x00" + row, row, b"", None])
    assert (decoded.batch["a_int32"].to_pylist(), decoded.kept.to_pylist()) == ([7], [0])
    assert "another message" in decoded.rejected["reason"][0].as_py()


def test_what_does_not_fit_gives_no_decoder():
    def of(name: str, type_: pa.DataType, message: str = "shop.Click", **options: Any) -> bowstring.RowDecoder:
        return bowstring.RowDecoder.protobuf(pa.schema({name: type_}), DESCRIPTORS, message, **options)

    with pytest.raises(bowstring.InvalidArgument, match="Int64, and rows have string"):
        of("a_string", pa.int64())
    lenient = of("a_string", pa.int64(), lenient=True)
    assert lenient.decode([Click(a_string="12").SerializeToString()]).batch.to_pylist() == [{"a_string": 12}]
    for name, type_ in [("many_int32", pa.int32()), ("a_int32", pa.list_(pa.int32())), ("place", pa.string())]:
        with pytest.raises(bowstring.InvalidArgument):
            of(name, type_)
    with pytest.raises(bowstring.InvalidArgument, match="no message"):
        of("a_int32", pa.int32(), "Click")
    for descriptors in (b"", b"\xff"):
        with pytest.raises(bowstring.InvalidArgument):
            bowstring.RowDecoder.protobuf(SCHEMA, descriptors, "shop.Click")
    with pytest.raises(bowstring.InvalidArgument, match="row_bytes_max"):
        of("a_int32", pa.int32(), row_bytes_max=0)
    unknown = of("a_bool", pa.bool_(), refuse_unknown=True)
    assert "not in the schema" in unknown.decode([Click(a_int32=1).SerializeToString()]).rejected["reason"][0].as_py()
