"""A batch whose header is in order and whose values are not: what it does to pyarrow, and what full validation does."""

from __future__ import annotations

import struct
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import flight

import bowstring

BATCH = pa.record_batch({"c": ["one", "two", "three", "four"]})
OFFSETS = struct.pack("<5i", 0, 3, 6, 11, 15)
# The ends are in order: only who looks at every offset finds it.
HOSTILE = struct.pack("<5i", 0, 1 << 30, 6, 11, 15)

READ = """
import sys, pyarrow as pa
batch = pa.ipc.open_stream(sys.stdin.buffer.read()).read_next_batch()
print("decoded", flush=True)
print(len(str(batch.column(0)[0])), flush=True)
"""


def hostile_stream() -> bytes:
    """An Arrow stream of a few hundred bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    stream = sink.getvalue().to_pybytes()
    assert stream.count(OFFSETS) == 1
    return stream.replace(OFFSETS, HOSTILE)


def append_hostile(url: str) -> None:
    """By a Flight client that believes what it is given: the batch's memory is that of the stream."""
    batch = pa.ipc.open_stream(hostile_stream()).read_next_batch()
    with flight.connect(url) as client:
        writer, _ = client.do_put(flight.FlightDescriptor.for_path("s"), batch.schema)
        writer.write_batch(batch)
        writer.close()


def test_pyarrow_is_crashed_by_it() -> None:
    """Were it not, there would be nothing to protect it from."""
    arguments = [sys.executable, "-c", READ]
    child = subprocess.run(arguments, input=hostile_stream(), capture_output=True, check=False, timeout=60)
    assert b"decoded" in child.stdout, child.stderr
    assert child.returncode < 0, (child.returncode, child.stdout)


def test_full_validation_refuses_it_and_structure_does_not() -> None:
    with bowstring.StreamCoordinator(validation="full") as strict:
        with pytest.raises(pa.ArrowInvalid, match="fails full validation"):
            append_hostile(strict.url)
        client = strict.client()
        assert client.describe_stream("s")["partitions"][0]["end"] == 0
        with client.producer("s") as producer:
            producer.append(BATCH)
        assert client.describe_stream("s")["partitions"][0]["end"] == 1
    with bowstring.StreamCoordinator() as trusting:
        append_hostile(trusting.url)
        assert trusting.client().describe_stream("s")["partitions"][0]["end"] == 1


def test_a_validation_has_one_of_two_names() -> None:
    with pytest.raises(bowstring.InvalidArgument, match='"structure" or "full"'):
        bowstring.StreamCoordinator(validation="none")  # type: ignore[arg-type]
