"""Small batches of plain columns, which go their own way in and out: they come back equal, and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import bowstring

from .support import Child, numbered

PLAIN = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_()),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns")),
    *(pa.duration("s"), pa.duration("ms"), pa.duration("us"), pa.duration("ns"), pa.month_day_nano_interval()),
    *(pa.decimal32(9, 2), pa.decimal64(18, 3), pa.decimal128(38, 9), pa.decimal256(70, 3)),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
]
TEXTS = (pa.string(), pa.large_string())
BYTES = (pa.binary(), pa.large_binary())

#: Appends them all with what is given, and ends the stream.
Append = Callable[[bowstring.Client, list[Any]], None]


def append_with_producer(client: bowstring.Client, values: list[Any]) -> None:
    with client.producer("s") as producer:
        for value in values:
            producer.append(value)
        producer.complete()


def append_with_writer(client: bowstring.Client, values: list[Any]) -> None:
    names = {"producer": "p", "run": "r", "epoch": 0}
    client.open_epoch("s", *names.values())
    writer = client.writer("s", **names, task=0, attempt=0)
    for value in values:
        writer.append(value)
    client.commit_epoch("s", *names.values(), [writer.finish()])
    client.complete_stream("s")


@pytest.fixture(params=[append_with_producer, append_with_writer], ids=["producer", "writer"])
def append(request: pytest.FixtureRequest, client: bowstring.Client) -> Append:
    client.create_stream("s", max_buffered_batches=10_000)
    return request.param


def column(kind: pa.DataType, rows: int, nulls: bool) -> pa.Array:
    """Values of any bits, every third one null. How many are null nobody has counted yet."""
    valid = [not nulls or row % 3 != 1 for row in range(rows)]
    if kind == pa.bool_():
        return pa.array([row % 5 < 2 if valid[row] else None for row in range(rows)], kind)
    if kind in TEXTS:
        return pa.array(["aé" * (row % 7) if valid[row] else None for row in range(rows)], kind)
    if kind in BYTES:
        return pa.array([b"\xff\0" * (row % 7) if valid[row] else None for row in range(rows)], kind)
    bits = pa.array(valid, pa.bool_()).buffers()[1] if nulls else None
    width = kind.bit_width // 8
    values = bytes(byte % 100 for byte in range(rows * width))
    if pa.types.is_decimal(kind) or pa.types.is_time(kind) or kind == pa.date64():
        unit = 86_400_000 if kind == pa.date64() else 1
        values = b"".join((row % 90 * unit).to_bytes(width, "little") for row in range(rows))
    values = pa.py_buffer(values)
    return pa.Array.from_buffers(kind, rows, [bits, values])


def batch(kind: pa.DataType, rows: int, nulls: bool = False) -> pa.RecordBatch:
    return pa.record_batch({"row": pa.array(range(rows), pa.int32()), "value": column(kind, rows, nulls)})


def got(client: bowstring.Client) -> list[pa.RecordBatch]:
    batches = list(client.iterator("s", subscription=None))
    for one in batches:
        one.validate(full=True)
    return batches


def check(client: bowstring.Client, append: Append, batches: list[pa.RecordBatch]) -> None:
    append(client, batches)
    back = got(client)
    assert [one.num_rows for one in back] == [one.num_rows for one in batches]
    for number, (one, appended) in enumerate(zip(back, batches, strict=True)):
        assert one.equals(appended), number
        assert one.schema.equals(appended.schema, check_metadata=True)
        assert [each.null_count for each in one.columns] == [each.null_count for each in appended.columns]


@pytest.mark.parametrize("kind", PLAIN, ids=str)
def test_each_plain_type_comes_back_with_and_without_nulls_whole_and_sliced(
    client: bowstring.Client, append: Append, kind: pa.DataType
) -> None:
    sizes = [5, 0, 1, 7, 8, 9, 64, 100, 0, 3]
    whole = [batch(kind, rows, nulls) for nulls in (False, True) for rows in sizes]
    slices = [
        one.slice(start, length)
        for one in (batch(kind, 100), batch(kind, 100, True))
        for start, length in [(0, 100), (0, 9), (1, 8), (3, 0), (8, 8), (9, 20), (16, 84), (63, 37), (100, 0)]
    ]
    large = [batch(kind, 20_000, nulls) for nulls in (False, True)]
    assert large[0].nbytes > 64 << 10
    check(client, append, [*whole, large[0], *slices, large[1], *whole[:5], large[1].slice(7, 12), *slices])


def test_many_columns_of_all_types_come_back(client: bowstring.Client, append: Append) -> None:
    def every(rows: int, first_null: int) -> pa.RecordBatch:
        columns = [column(kind, rows, number % 3 == first_null) for number, kind in enumerate(PLAIN)]
        return pa.record_batch(columns, names=[str(kind) + str(number) for number, kind in enumerate(PLAIN)])

    check(client, append, [every(rows % 12, rows % 4) for rows in range(60)])


def test_nulls_that_nobody_has_counted_and_bitmaps_without_nulls_come_back(
    client: bowstring.Client, append: Append
) -> None:
    values = pa.py_buffer(bytes(range(64)))

    def of(bits: bytes | None, nulls: int, offset: int = 0) -> pa.RecordBatch:
        bitmap = None if bits is None else pa.py_buffer(bits)
        array = pa.Array.from_buffers(pa.int32(), 9, [bitmap, values], null_count=nulls, offset=offset)
        return pa.record_batch([array], names=["n"])

    all_valid, two_nulls = b"\xff\xff", b"\xfa\xff"
    check(
        client,
        append,
        [
            of(None, 0),
            of(all_valid, 0),
            of(all_valid, -1),
            of(two_nulls, 2),
            of(two_nulls, -1),
            of(two_nulls, -1, offset=1),
            of(two_nulls, -1, offset=3),
            of(None, 0, offset=5),
        ],
    )


@pytest.mark.parametrize("kind", [*TEXTS, *BYTES], ids=str)
def test_no_strings_need_no_offset(client: bowstring.Client, append: Append, kind: pa.DataType) -> None:
    """As Java writes them. What lies behind the empty buffer is none of the column's."""
    behind = pa.py_buffer(b"\x07" * 16)

    def empty(offsets: pa.Buffer, data: pa.Buffer) -> pa.RecordBatch:
        return pa.record_batch([pa.Array.from_buffers(kind, 0, [None, offsets, data])], names=["s"])

    some = pa.record_batch({"s": pa.array(["a", "bc"]).cast(kind)})
    nothing = behind.slice(0, 0)
    check(
        client,
        append,
        [some, empty(nothing, nothing), some, empty(nothing, behind), some, some.slice(1, 0), some],
    )


def test_other_objects_and_batches_of_an_equal_schema_come_in_between(client: bowstring.Client, append: Append) -> None:
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    same = pa.schema({"id": pa.int64(), "text": pa.string()})

    class ArrayOnly:
        def __init__(self, one: pa.RecordBatch) -> None:
            self.one = one

        def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
            return self.one.__arrow_c_array__(requested_schema)

    values: list[Any] = []
    for first in range(0, 200, 10):
        by_schema = pa.RecordBatch.from_arrays(numbered(first).columns, schema=same if first % 20 else schema)
        values += {
            0: [by_schema],
            1: [pa.Table.from_batches([by_schema])],
            2: [ArrayOnly(by_schema)],
            3: [by_schema.to_pandas()],
            4: [pa.RecordBatchReader.from_batches(schema, [by_schema])],
            5: [by_schema.replace_schema_metadata({"by": "somebody else"})],
        }[first // 10 % 6]
    assert isinstance(values[3], pd.DataFrame)
    append(client, values)
    back = got(client)
    assert pa.Table.from_batches(back).equals(pa.Table.from_batches([numbered(0, 200)]).combine_chunks())
    assert [one.num_rows for one in back] == [10] * 20


def test_pyarrow_makes_no_batches_of_a_class_that_is_made_of_its_own(client: bowstring.Client, append: Append) -> None:
    class Mine(pa.RecordBatch):
        pass

    check(client, append, [numbered(0), Mine.from_arrays(numbered(10).columns, names=["id", "text"]), numbered(20)])


@pytest.mark.parametrize(
    "other",
    [
        {"id": pa.array([1], pa.int32()), "text": ["a"]},
        {"id": [1], "text": pa.array(["a"], pa.large_string())},
        {"id": [1], "text": pa.array([b"a"])},
        {"id": [1], "name": ["a"]},
        {"text": ["a"], "id": [1]},
        {"id": [1]},
        {"id": [1], "text": ["a"], "more": [1]},
    ],
    ids=["narrower", "larger offsets", "bytes", "another name", "another order", "fewer", "more"],
)
def test_a_small_batch_of_another_schema_is_refused_and_the_rest_goes_on(
    client: bowstring.Client, append: Append, other: dict[str, Any]
) -> None:
    def values() -> Iterator[pa.RecordBatch]:
        yield numbered(0)
        yield numbered(10)
        yield numbered(20)

    if append is append_with_producer:
        with client.producer("s") as producer:
            for one in values():
                producer.append(one)
                with pytest.raises(bowstring.SchemaMismatch):
                    producer.append(pa.record_batch(other))
            producer.complete()
    else:
        writer = client.writer("s", producer="p", run="r", epoch=0, task=0, attempt=0)
        client.open_epoch("s", "p", "r", 0)
        for one in values():
            writer.append(one)
            with pytest.raises(bowstring.SchemaMismatch):
                writer.append(pa.record_batch(other))
        client.commit_epoch("s", "p", "r", 0, [writer.finish()])
        client.complete_stream("s")
    assert got(client) == list(values())


def test_threads_that_append_their_first_batch_together_do_not_wait_for_each_other(
    client: bowstring.Client, start_python: Callable[..., Child]
) -> None:
    """What is learned of the first batch is learned from pyarrow, which may let other threads run."""
    program = f"""
import builtins, threading, time
import pyarrow as pa, bowstring
producer = bowstring.connect({client.url!r}).producer("s")
batch = pa.record_batch({{"n": [1, 2, 3]}})
imports = builtins.__import__
def slow(name, *more):
    if name == "pyarrow":
        time.sleep(0.2)
    return imports(name, *more)
builtins.__import__ = slow
threads = [threading.Thread(target=producer.append, args=(batch,)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
builtins.__import__ = imports
producer.close()
print(producer.stored)
"""
    assert start_python("-c", program).line(30) == "4"
