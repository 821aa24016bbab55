"""What a producer takes, where it goes, and what is true when an append fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bowstring

from .support import PROMPT, filler, ids, numbered, wait_until

TABLE = pa.table({"id": pa.array(range(100), pa.int64()), "text": [f"row {one}" for one in range(100)]})


class ArrayOnly:
    """What offers the interface for one batch only."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self.batch.__arrow_c_array__(requested_schema)


class StreamOnly:
    """What offers the interface for many batches only."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


SOURCES: dict[str, Callable[[], object]] = {
    "pyarrow table": lambda: TABLE,
    "pyarrow batch": lambda: TABLE.combine_chunks().to_batches()[0],
    "pyarrow reader": lambda: pa.RecordBatchReader.from_batches(TABLE.schema, iter(TABLE.to_batches(max_chunksize=30))),
    "polars frame": lambda: pl.from_arrow(TABLE),
    "pandas frame": lambda: TABLE.to_pandas(),
    "duckdb relation": lambda: duckdb.from_arrow(TABLE),
    "array interface": lambda: ArrayOnly(TABLE.combine_chunks().to_batches()[0]),
    "stream interface": lambda: StreamOnly(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_arrow_source_is_appended_row_by_row_as_it_is(client: bowstring.Client, source: str) -> None:
    with client.producer("numbers") as producer:
        producer.append(SOURCES[source]())
        producer.complete()
    got = pa.Table.from_batches(client.iterator("numbers"))
    assert got["id"].to_pylist() == TABLE["id"].to_pylist()
    assert got["text"].to_pylist() == TABLE["text"].to_pylist()


def test_what_has_no_arrow_interface_is_refused_with_what_to_give_instead(client: bowstring.Client) -> None:
    producer = client.producer("numbers")
    with pytest.raises(TypeError, match=r"ndarray.*give a pyarrow, polars or pandas table"):
        producer.append(np.arange(3))
    with pytest.raises(TypeError, match="Int64 is no record batch"):
        producer.append(ArrayOnly(pa.array([1, 2, 3])))
    producer.append(pd.DataFrame({"id": [1]}))
    producer.close()
    assert client.describe_stream("numbers")["partitions"][0]["end"] == 1, "the producer goes on"


def test_batches_of_one_schema_follow_the_producers_own_choice_of_partition(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=3)
    with client.producer("numbers", partition=2) as fixed:
        fixed.append(numbered(0))
        fixed.append(numbered(10), partition=1)
    with client.producer("numbers") as turns:
        for number in range(2, 8):
            turns.append(numbered(number * 10))
    ends = [one["end"] for one in client.describe_stream("numbers")["partitions"]]
    assert ends == [2, 3, 3], "one batch each as asked, then two each in turn"


def test_a_batch_of_another_schema_is_refused_and_names_the_column(client: bowstring.Client) -> None:
    client.create_stream("numbers", schema=numbered(0).schema)
    producer = client.producer("numbers")
    with pytest.raises(bowstring.SchemaMismatch, match="text") as caught:
        producer.append(pa.table({"id": [1], "text": [2.5]}))
        producer.flush()
    assert (caught.value.code, caught.value.retryable) == ("schema_mismatch", False)
    assert client.describe_stream("numbers")["partitions"][0]["end"] == 0


@pytest.mark.parametrize("source", ["record batch", "table"])
def test_nulls_where_the_schema_promises_none_are_not_stored(client: bowstring.Client, source: str) -> None:
    """No Arrow reader in Rust takes them, so that a subscription would come to a stop at them."""
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    good = pa.RecordBatch.from_arrays([pa.array([1, 2])], schema=schema)
    nulls = pa.RecordBatch.from_arrays([pa.array([1, None])], schema=schema)
    with client.producer("s") as producer:
        producer.append(good)
        with pytest.raises(bowstring.InvalidArgument, match="'n' is declared as non-nullable but contains null values"):
            producer.append(pa.Table.from_batches([nulls]) if source == "table" else nulls)
        producer.append(good)
        producer.complete()
    assert list(client.iterator("s", subscription="a")) == [good, good]


def test_an_exception_in_a_source_ends_the_append_with_its_text(client: bowstring.Client) -> None:
    def batches() -> object:
        yield numbered(0)
        raise ValueError("the disk of the source is gone")

    producer = client.producer("numbers")
    with pytest.raises(RuntimeError, match="the disk of the source is gone"):
        producer.append(pa.RecordBatchReader.from_batches(numbered(0).schema, batches()))
    producer.append(numbered(10))
    producer.close()
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(20)), "what came before it is stored"


def test_a_partition_that_does_not_exist_is_refused_by_number(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    producer = client.producer("numbers")
    with pytest.raises(bowstring.OffsetError, match="2") as caught:
        producer.append(numbered(0), partition=2)
        producer.flush()
    assert caught.value.code == "partition_out_of_range"


def full_stream(client: bowstring.Client, batches: int = 3) -> None:
    """A stream that takes no more."""
    client.create_stream("numbers", max_buffered_batches=batches)
    with client.producer("numbers") as producer:
        for number in range(batches):
            producer.append(numbered(number * 10))


def test_a_blocked_append_fails_at_its_deadline_and_is_not_stored(client: bowstring.Client) -> None:
    full_stream(client)
    producer = client.producer("numbers", append_timeout=0.5)
    started = time.monotonic()
    with pytest.raises(bowstring.Timeout, match="nothing of this batch is stored") as caught:
        producer.append(numbered(990))
        producer.flush()
    assert 0.4 < time.monotonic() - started < PROMPT
    assert caught.value.retryable
    assert isinstance(caught.value, TimeoutError)
    stats = client.get_stats("numbers")["streams"][0]
    assert (stats["appended_batches"], stats["buffered_batches"], producer.stored) == (3, 3, 0)

    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(30)), "the refused batch is nowhere"


def test_a_producer_goes_on_after_its_append_timed_out(client: bowstring.Client) -> None:
    full_stream(client)
    producer = client.producer("numbers", append_timeout=0.2)
    producer.append(numbered(990))
    with pytest.raises(bowstring.Timeout):
        producer.flush()
    client.subscribe("numbers", "only")
    client.ack("numbers", "only", {0: 3})
    producer.append(numbered(30))
    producer.complete()
    assert ids(client.iterator("numbers", subscription="only")) == list(range(30, 40))


def test_a_flush_with_a_deadline_ends_in_time_and_may_be_called_again(client: bowstring.Client) -> None:
    full_stream(client)
    client.subscribe("numbers", "only")
    producer = client.producer("numbers")
    producer.append(numbered(30))
    started = time.monotonic()
    with pytest.raises(bowstring.Timeout):
        producer.flush(timeout=0.3)
    assert time.monotonic() - started < PROMPT
    client.ack("numbers", "only", {0: 1})
    producer.flush(timeout=10)
    assert producer.stored == 1


def test_a_blocked_producer_waits_without_the_gil_and_wakes_when_there_is_room(client: bowstring.Client) -> None:
    full_stream(client)
    client.subscribe("numbers", "only")
    producer = client.producer("numbers")
    producer.append(numbered(30))
    flushing = threading.Thread(target=producer.flush)
    flushing.start()
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    assert flushing.is_alive(), "and this thread runs all the same"
    client.ack("numbers", "only", {0: 1})
    flushing.join(1)
    assert not flushing.is_alive()
    assert producer.stored == 1


def test_a_producer_that_is_dropped_while_blocked_leaves_nothing_behind(client: bowstring.Client) -> None:
    full_stream(client)
    producer = client.producer("numbers")
    producer.append(numbered(990))
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    dropped = time.monotonic()
    del producer
    wait_until(lambda: not client.describe_stream("numbers")["waiting"])
    assert time.monotonic() - dropped < PROMPT
    client.subscribe("numbers", "only")
    client.ack("numbers", "only", {0: 3})
    with client.producer("numbers") as other:
        other.append(numbered(30))
        other.complete()
    assert ids(client.iterator("numbers", subscription="only")) == list(range(30, 40))


def test_closing_a_blocked_producer_in_another_thread_takes_effect_within_its_deadline(
    client: bowstring.Client,
) -> None:
    full_stream(client)
    producer = client.producer("numbers")
    producer.append(numbered(990))
    started = time.monotonic()
    with pytest.raises(bowstring.Timeout):
        producer.close(timeout=0.3)
    assert time.monotonic() - started < PROMPT


def test_the_limit_in_bytes_is_kept_to_the_batch(client: bowstring.Client) -> None:
    client.create_stream("bytes", max_buffered_bytes=1 << 20)
    producer = client.producer("bytes", append_timeout=0.2)
    with pytest.raises(bowstring.Timeout):
        for _ in range(20):
            producer.append(filler(100_000))
        producer.flush()
    stats = client.get_stats("bytes")["streams"][0]
    assert stats["buffered_bytes"] <= 1 << 20
    assert stats["appended_batches"] == stats["buffered_batches"] == 10


def test_the_policies_reject_and_drop_oldest_do_as_they_are_named(client: bowstring.Client) -> None:
    client.create_stream("refusing", max_buffered_batches=2, full_policy="reject")
    producer = client.producer("refusing")
    with pytest.raises(bowstring.BufferFull) as caught:
        for number in range(3):
            producer.append(numbered(number * 10))
        producer.flush()
    assert caught.value.retryable

    client.create_stream("newest", max_buffered_batches=2, full_policy="drop_oldest")
    with client.producer("newest") as producer:
        for number in range(5):
            producer.append(numbered(number * 10))
        producer.complete()
    with pytest.raises(bowstring.OffsetError) as gone:
        list(client.read("newest", 0, 1, 5))
    assert gone.value.code == "offset_gone"
    assert ids(client.read("newest", 0, 3, 5)) == list(range(30, 50))
    assert ids(client.iterator("newest")) == list(range(30, 50))


def test_a_newer_run_of_the_same_producer_fences_the_older(client: bowstring.Client) -> None:
    older = client.producer("numbers", producer_id="job")
    older.append(numbered(0))
    older.flush()
    with client.producer("numbers", producer_id="job") as newer:
        newer.append(numbered(10))
    with pytest.raises(bowstring.Fenced):
        older.append(numbered(20))
        older.flush()
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(20))


def test_a_completed_stream_takes_no_more(client: bowstring.Client) -> None:
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
        producer.complete()
    late = client.producer("numbers")
    with pytest.raises(bowstring.StreamEnded) as caught:
        late.append(numbered(10))
        late.flush()
    assert caught.value.code == "stream_completed"


@pytest.mark.parametrize("as_table", [False, True])
def test_nulls_nested_where_the_schema_promises_none_are_not_stored(client: bowstring.Client, as_table: bool) -> None:
    items = pa.list_(pa.field("item", pa.int64(), nullable=False))
    points = pa.struct([pa.field("x", pa.int64(), nullable=False)])
    for kind, bad, good in ((items, [[1, None]], [[1, 2], None]), (points, [{"x": None}], [{"x": 1}, None])):
        schema = pa.schema([("c", kind)])
        stream = f"nested-{kind.id}"
        producer = client.producer(stream, schema=schema)

        def batch(values: list[object], schema: pa.Schema = schema) -> pa.RecordBatch | pa.Table:
            made = pa.record_batch([pa.array(values, schema.field(0).type)], schema=schema)
            return pa.Table.from_batches([made]) if as_table else made

        with pytest.raises(bowstring.InvalidArgument, match="null"):
            producer.append(batch(bad))
        producer.append(batch(good))
        producer.complete()
        assert [row for got in client.iterator(stream) for row in got.column(0).to_pylist()] == good
