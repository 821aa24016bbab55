"""Batches of the size that is asked for, how many may be in flight, and batches that are acked one by one."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time

import pyarrow as pa
import pytest

import bowstring

from .support import ids, numbered, wait_until


def acked(client: bowstring.Client, stream: str = "numbers", subscription: str = "default") -> list[int]:
    """The subscription's cursor, by partition."""
    subscriptions = client.describe_stream(stream)["subscriptions"]
    (found,) = (one for one in subscriptions if one["subscription"] == subscription)
    return [place["acked"] for place in found["partitions"]]


def fill(client: bowstring.Client, sizes: list[int], *, complete: bool = True) -> None:
    """Batches with so many rows, numbered over all of them."""
    with client.producer("numbers") as producer:
        first = 0
        for size in sizes:
            producer.append(numbered(first, size))
            first += size
        if complete:
            producer.complete()


def test_small_batches_are_put_together_and_large_ones_cut(client: bowstring.Client) -> None:
    fill(client, [3, 3, 3, 3, 25, 1])
    iterator = client.iterator("numbers", target_rows=10)
    found = list(iterator.batches_with_offsets())
    assert [(one.first_offset, one.offset, one.rows, one.batch.num_rows) for one in found] == [
        (0, 2, None, 9),
        (3, 3, None, 3),
        (4, 4, (0, 8), 8),
        (4, 4, (8, 16), 8),
        (4, 4, (16, 25), 9),
        (5, 5, None, 1),
    ]
    assert ids(one.batch for one in found) == list(range(38))
    assert acked(client) == [6]


def test_auto_ack_acks_a_batch_with_its_last_part(client: bowstring.Client) -> None:
    fill(client, [1, 20, 1])
    iterator = client.iterator("numbers", target_rows=10, max_in_flight_batches=1, timeout=20)
    for expected in [0, 1, 1, 2]:
        next(iterator)
        iterator.flush()
        assert acked(client) == [expected]
    assert list(iterator) == []
    assert acked(client) == [3]


def test_a_small_part_of_a_large_batch_pickles_small(client: bowstring.Client) -> None:
    fill(client, [100_000])
    with client.iterator("numbers", target_rows=10) as iterator:
        assert len(pickle.dumps(next(iterator))) < 4_000
        part = next(iterator)
        assert part.get_total_buffer_size() < 4_000


def test_a_small_batch_waits_for_the_linger_but_not_beyond_the_timeout(client: bowstring.Client) -> None:
    fill(client, [1, 1], complete=False)
    iterator = client.iterator("numbers", subscription=None, target_rows=10, linger=3600, timeout=0.3)
    assert next(iterator).num_rows == 2
    with pytest.raises(bowstring.Timeout):
        next(iterator)
    # Longer than a turn of the native module's waits, and far shorter than the timeout.
    iterator = client.iterator("numbers", subscription=None, target_rows=10, linger=0.5, timeout=100)
    start = time.monotonic()
    assert next(iterator).num_rows == 2
    assert 0.4 < time.monotonic() - start < 50


def test_no_more_is_in_flight_than_allowed_and_the_timeout_says_who_holds_it(client: bowstring.Client) -> None:
    fill(client, [10] * 5)
    with client.iterator("numbers", max_in_flight_batches=2, timeout=0.3, auto_ack=False) as iterator:
        held = [next(iterator), next(iterator)]
        with pytest.raises(bowstring.Timeout, match=r"2 batches of \d+ bytes .* max_in_flight_batches is 2"):
            next(iterator)
        iterator.ack()
        held += [next(iterator), next(iterator)]
        iterator.ack()
        held += iterator
        assert ids(held) == list(range(50))
    with pytest.raises(bowstring.InvalidArgument, match="max_in_flight_bytes"):
        next(client.iterator("numbers", subscription=None, max_in_flight_bytes=1))


def test_an_ack_from_another_thread_ends_the_wait_at_once(client: bowstring.Client) -> None:
    fill(client, [10] * 40)
    handles = client.iterator("numbers", max_in_flight_batches=1, timeout=60).handles()
    start = time.monotonic()
    got = []
    for handle in handles:
        got.append(handle.batch)
        threading.Timer(0.001, handle.ack).start()
    assert ids(got) == list(range(400))
    # 40 turns of 100 ms, if acks had to wait for them.
    assert time.monotonic() - start < 3


def test_handles_are_acked_in_any_order_and_the_cursor_follows_the_gaps(client: bowstring.Client) -> None:
    fill(client, [10] * 4)
    iterator = client.iterator("numbers")
    handles = list(iterator.handles())
    assert [(one.partition, one.offset, one.first_offset, one.rows, one.epoch) for one in handles] == [
        (0, offset, offset, None, None) for offset in range(4)
    ]
    assert handles[0].appended_at_micros > 10**15
    assert repr(handles[3]) == "BatchHandle(partition=0, offset=3, 10 rows)"
    for index, expected in [(2, 0), (0, 1), (0, 1), (1, 3)]:
        handles[index].ack()
        iterator.flush()
        assert acked(client) == [expected]
    handles[3].ack_through()
    iterator.flush()
    assert acked(client) == [4]


def test_with_a_batch_acks_it_unless_an_exception_leaves_the_block(client: bowstring.Client) -> None:
    fill(client, [10] * 3)
    with client.iterator("numbers") as iterator:
        for number, handle in enumerate(iterator.handles()):
            try:
                with handle as batch:
                    assert batch.batch.num_rows == 10
                    1 // (1 - number)
            except ZeroDivisionError:
                continue
    assert acked(client) == [1], "the third waits for the second"
    assert ids(client.iterator("numbers")) == list(range(10, 30)), "and both come again"


def test_a_handle_of_a_closed_iterator_says_that_its_batch_comes_again(client: bowstring.Client) -> None:
    fill(client, [10])
    with client.iterator("numbers") as iterator:
        handle = next(iterator.handles())
    with pytest.raises(bowstring.InvalidArgument, match="batch 0 of partition 0 comes again"):
        handle.ack()
    assert ids(client.iterator("numbers")) == list(range(10))


def test_handles_do_not_mix_with_what_steps_ack(client: bowstring.Client) -> None:
    fill(client, [10] * 4)
    with client.iterator("numbers") as iterator:
        next(iterator)
        handle = next(iterator.handles())
        next(iterator)
        handle.ack()
        next(iterator)
    assert acked(client) == [4], "all that steps have given, and the handle's"


def test_async_with_acks_as_with_does(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    fill(client, [10] * 6)

    async def consume() -> list[pa.RecordBatch]:
        got = []
        async for handle in client.iterator("numbers", max_in_flight_batches=2, timeout=60).handles():
            async with handle as batch:
                await asyncio.sleep(0)
                got.append(batch.batch)
        return got

    assert sorted(ids(asyncio.run(consume()))) == list(range(60))
    wait_until(lambda: acked(client) == [3, 3])


def test_what_cannot_be_meant_is_refused(client: bowstring.Client) -> None:
    fill(client, [10])
    for wrong in ({"target_rows": 0}, {"target_bytes": 0}, {"max_in_flight_batches": 0}, {"linger": -1}):
        (name,) = wrong
        with pytest.raises(bowstring.InvalidArgument, match=name):
            next(client.iterator("numbers", **wrong))
    with pytest.raises(bowstring.InvalidArgument, match="window_size is 3"):
        next(client.iterator("numbers", max_in_flight_batches=2).iter_datasets(3))
    handle = next(client.iterator("numbers", subscription=None).handles())
    with pytest.raises(bowstring.InvalidArgument, match="without a subscription"):
        handle.ack()
