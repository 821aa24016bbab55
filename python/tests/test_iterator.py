"""Reading: who reads it, what is acked, where it goes on, and the four ways in which it ends."""

from __future__ import annotations

import asyncio
import base64
import decimal
import multiprocessing
import pickle
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import bowstring

from .support import Child, ids, numbered, wait_until


def acked(client: bowstring.Client, stream: str, subscription: str = "default") -> list[int]:
    """The subscription's cursor, by partition."""
    subscriptions = client.describe_stream(stream)["subscriptions"]
    (found,) = (one for one in subscriptions if one["subscription"] == subscription)
    return [place["acked"] for place in found["partitions"]]


def fill(client: bowstring.Client, stream: str = "numbers", batches: int = 6, *, complete: bool = True) -> None:
    with client.producer(stream) as producer:
        for number in range(batches):
            producer.append(numbered(number * 10))
        if complete:
            producer.complete()


READERS: dict[str, Callable[[object], list[int]]] = {
    "pyarrow": lambda stream: pa.table(stream)["id"].to_pylist(),
    "polars": lambda stream: pl.DataFrame(stream)["id"].to_list(),
    "pandas": lambda stream: pa.table(stream).to_pandas()["id"].to_list(),
    "duckdb": lambda stream: [row[0] for row in duckdb.from_arrow(stream).fetchall()],
}


@pytest.mark.parametrize("reader", READERS)
def test_arrow_readers_take_an_iterator_directly(client: bowstring.Client, reader: str) -> None:
    fill(client)
    with client.iterator("numbers") as iterator:
        assert READERS[reader](iterator) == list(range(60))


def test_an_empty_stream_is_a_table_with_its_schema(client: bowstring.Client) -> None:
    client.create_stream("numbers", schema=numbered(0).schema)
    client.complete_stream("numbers")
    table = pa.table(client.iterator("numbers"))
    assert (table.num_rows, table.schema) == (0, numbered(0).schema)
    client.create_stream("nothing")
    client.complete_stream("nothing")
    assert list(client.iterator("nothing")) == []


def test_each_batch_comes_with_its_partition_and_offset_and_time(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    before = time.time_ns() // 1000
    fill(client)
    iterator = client.iterator("numbers")
    assert (iterator.partition, iterator.offset, iterator.epoch) == (None, None, None)
    seen = [(one.partition, one.offset) for one in iterator.batches_with_offsets()]
    assert sorted(seen) == [(partition, offset) for partition in range(2) for offset in range(3)]
    assert (iterator.partition, iterator.offset) == seen[-1]
    for one in client.iterator("numbers", subscription=None).batches_with_offsets():
        assert before <= one.appended_at_micros <= time.time_ns() // 1000
        assert one.epoch is None


def test_a_batch_of_an_epoch_says_which(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    for epoch in (7, 8):
        assert client.open_epoch("numbers", "job", "run", epoch) == "open"
        writer = client.writer("numbers", producer="job", run="run", epoch=epoch, task=0, attempt=0)
        writer.append(numbered(epoch * 10))
        assert client.commit_epoch("numbers", "job", "run", epoch, [writer.finish()]) == "committed"
    client.complete_stream("numbers")
    iterator = client.iterator("numbers")
    assert [(batch["id"][0].as_py(), iterator.epoch) for batch in iterator] == [(70, 7), (80, 8)]


def test_tables_and_windows_have_the_same_rows(client: bowstring.Client) -> None:
    fill(client, batches=5)
    tables = list(client.iterator("numbers", subscription=None).tables())
    assert [type(one) for one in tables] == [pa.Table] * 5
    assert pa.concat_tables(tables)["id"].to_pylist() == list(range(50))
    windows = list(client.iterator("numbers", subscription=None).iter_datasets(2))
    assert [one.num_rows for one in windows] == [20, 20, 10]
    with pytest.raises(bowstring.InvalidArgument, match="window_size is 0"):
        next(client.iterator("numbers").iter_datasets(0))


def test_the_next_step_acks_the_batch_before_and_a_good_end_acks_the_last(client: bowstring.Client) -> None:
    fill(client, batches=4)
    with client.iterator("numbers") as iterator:
        next(iterator)
        iterator.flush()
        assert acked(client, "numbers") == [0]
        next(iterator)
        iterator.flush()
        assert acked(client, "numbers") == [1]
    assert acked(client, "numbers") == [2]
    assert ids(client.iterator("numbers")) == list(range(20, 40))


def test_an_exception_leaves_the_last_batch_to_the_next_iterator(client: bowstring.Client) -> None:
    fill(client, batches=3)
    with pytest.raises(ZeroDivisionError), client.iterator("numbers") as iterator:
        for batch in iterator:
            1 // (10 - batch["id"][0].as_py())
    assert acked(client, "numbers") == [1]
    with client.iterator("numbers") as iterator:
        assert ids(iterator) == list(range(10, 30))


def test_a_window_is_acked_when_the_next_one_is_asked_for(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    client.subscribe("numbers", "default")
    fill(client, batches=8)
    with pytest.raises(LookupError), client.iterator("numbers") as iterator:
        for number, _ in enumerate(iterator.iter_datasets(4)):
            if number == 1:
                raise LookupError
    assert sum(acked(client, "numbers")) == 4
    windows = client.iterator("numbers").iter_datasets(3)
    assert [window.num_rows for window in windows] == [30, 10]
    wait_until(lambda: sum(acked(client, "numbers")) == 8)


def test_without_auto_ack_only_ack_moves_the_cursor(client: bowstring.Client) -> None:
    fill(client, batches=3)
    with client.iterator("numbers", auto_ack=False) as iterator:
        next(iterator)
        next(iterator)
        iterator.ack()
        iterator.ack()
        next(iterator)
    assert acked(client, "numbers") == [2]


def test_an_iterator_without_subscription_acks_nothing_and_several_read_alike(client: bowstring.Client) -> None:
    fill(client)
    assert ids(client.iterator("numbers", subscription=None)) == list(range(60))
    assert ids(client.iterator("numbers", subscription="a")) == list(range(60))
    assert [one["subscription"] for one in client.describe_stream("numbers")["subscriptions"]] == ["a"]


def test_only_the_partitions_asked_for_are_read(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=3)
    fill(client)
    iterator = client.iterator("numbers", partitions=[2, 0])
    assert sorted(iterator.partitions) == [0, 2]
    assert {one.partition for one in iterator.batches_with_offsets()} == {0, 2}
    with pytest.raises(bowstring.OffsetError, match="3"):
        next(client.iterator("numbers", partitions=[3]))


def test_an_iterator_waits_for_a_stream_that_comes_later(client: bowstring.Client) -> None:
    got: list[int] = []
    reading = threading.Thread(target=lambda: got.extend(ids(client.iterator("later"))))
    reading.start()
    fill(client, "later")
    reading.join(10)
    assert got == list(range(60))
    with pytest.raises(bowstring.StreamNotFound, match="never"):
        next(client.iterator("never", stream_wait=0.1))


def test_async_iteration_leaves_the_event_loop_to_others(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    async def main() -> tuple[list[int], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        async def produce() -> None:
            while ticks < 10:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(fill, client, "numbers")

        others = [asyncio.create_task(tick()), asyncio.create_task(produce())]
        got = ids([batch async for batch in client.iterator("numbers")])
        others[0].cancel()
        await others[1]
        return got, ticks

    got, ticks = asyncio.run(main())
    assert got == list(range(60))
    assert ticks >= 10


def test_a_cancelled_async_wait_loses_no_batch(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    async def main() -> list[int]:
        iterator = client.iterator("numbers")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.2)
        await asyncio.to_thread(fill, client, "numbers")
        got = [batch async for batch in iterator]
        iterator.close()
        return ids(got)

    assert asyncio.run(main()) == list(range(60))


def test_a_pickled_iterator_continues_in_a_spawned_process(client: bowstring.Client) -> None:
    fill(client)
    iterator = client.iterator("numbers")
    next(iterator)
    next(iterator)
    iterator.ack()
    iterator.flush()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(list, iterator).result(60)
    assert ids(there) == list(range(20, 60))


def test_a_pickled_iterator_keeps_its_options_and_continues_in_any_process(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers", partitions=2)
    fill(client)
    iterator = client.iterator("numbers", subscription="mine", partitions=[1], prefetch_batches=1)
    assert next(iterator)["id"][0].as_py() == 10
    iterator.ack()
    iterator.close()
    child = start_child("continue_iterator", base64.b64encode(pickle.dumps(iterator)).decode())
    assert child.lines_left() == ["30", "50"]
    assert child.process.returncode == 0
    assert acked(client, "numbers", "mine") == [0, 3]


def test_a_client_pickles_by_its_url_and_options(client: bowstring.Client) -> None:
    short = bowstring.connect(client.url, retry_deadline=0.5)
    copy = pickle.loads(pickle.dumps(short))
    assert copy.url == client.url
    assert copy.list_streams() == []
    assert copy.__reduce__() == short.__reduce__()


def test_waiting_for_a_batch_leaves_the_gil_to_other_threads(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers")
    got: list[int] = []
    reading = threading.Thread(target=lambda: got.extend(ids(iterator)))
    reading.start()
    wait_until(lambda: client.get_stats("numbers")["streams"][0]["readers"] == 1)
    switch, most = sys.getswitchinterval(), 0.0
    last = time.monotonic()
    for _ in range(200_000):
        now = time.monotonic()
        most, last = max(most, now - last), now
    assert reading.is_alive()
    assert most < 0.5 + switch, "this thread was never held up"
    fill(client, "numbers")
    reading.join(10)
    assert got == list(range(60))


def test_small_batches_come_one_by_one_as_they_were_appended(client: bowstring.Client) -> None:
    schema = pa.schema(
        {"n": pa.int64(), "b": pa.bool_(), "s": pa.string(), "l": pa.list_(pa.int32()), "d": pa.decimal128(20, 3)}
    )

    def rows(first: int, count: int) -> list[dict[str, Any]]:
        numbers = range(first, first + count)
        return [
            {"n": n, "b": n % 3 == 0, "s": None if n % 5 else "x" * n, "l": list(range(n % 4)), "d": decimal.Decimal(n)}
            for n in numbers
        ]

    sizes = [3, 0, 1, 20, 0, 7, 5000, 2, 2, 600, 1, *[5] * 200]
    appended = [pa.RecordBatch.from_pylist(rows(index, size), schema) for index, size in enumerate(sizes)]
    client.create_stream("small", schema=schema, max_buffered_batches=1000)
    with client.producer("small") as producer:
        for batch in appended:
            producer.append(batch)
        producer.complete()
    with client.iterator("small", subscription=None) as iterator:
        for offset, batch in enumerate(iterator):
            assert (iterator.offset, batch.num_rows) == (offset, sizes[offset])
            assert batch.equals(appended[offset])
        assert offset == len(sizes) - 1
    assert list(client.read("small", 0, 5, 150)) == appended[5:150]


def test_each_small_batch_keeps_its_dictionary(client: bowstring.Client) -> None:
    def worded(number: int) -> pa.RecordBatch:
        words = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), [f"a{number}", f"b{number % 3}"])
        return pa.record_batch({"w": words})

    appended = [worded(number) for number in range(100)]
    client.create_stream("worded", max_buffered_batches=1000)
    with client.producer("worded") as producer:
        for batch in appended:
            producer.append(batch)
        producer.complete()
    taken = list(client.iterator("worded"))
    assert taken == appended
    assert [batch["w"].dictionary for batch in taken] == [batch["w"].dictionary for batch in appended]
