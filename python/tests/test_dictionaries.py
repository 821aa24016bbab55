"""The memory that dictionaries may take."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import bowstring

SCHEMA = pa.schema([("word", pa.dictionary(pa.int32(), pa.string()))])
BYTES_MAX = 1 << 20


def batch(number: int) -> pa.RecordBatch:
    """One row, whose dictionary of its own takes 400 kB."""
    values = pa.array([f"{number}" * 200_000, "x" * 200_000])
    return pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), values)], schema=SCHEMA)


def append(stock: flight.FlightClient, numbers: range) -> None:
    writer, _ = stock.do_put(flight.FlightDescriptor.for_path("words"), SCHEMA)
    with writer:
        for number in numbers:
            writer.write_batch(batch(number))


def test_dictionaries_are_bounded_and_their_room_comes_back_with_the_acks(
    client: bowstring.Client, stock: flight.FlightClient
) -> None:
    client.create_stream("words", schema=SCHEMA, max_buffered_bytes=BYTES_MAX)
    client.subscribe("words", "reader")
    with pytest.raises(pa.ArrowException, match=r"\[buffer_full\].*dictionaries hold"):
        append(stock, range(10))
    stored = client.describe_stream("words")["partitions"][0]["end"]
    assert stored == 2
    iterator = client.iterator("words", subscription="reader", follow=False)
    assert [one["word"][0].as_py()[0] for one in iterator] == ["0", "1"]
    iterator.close()
    append(stock, range(2, 4))
    with client.iterator("words", subscription="reader", follow=False) as rest:
        assert [one["word"][0].as_py()[0] for one in rest] == ["2", "3"]
