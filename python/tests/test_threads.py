"""One producer or iterator in several threads: nobody waits for ever for another's wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pytest

import bowstring

from .support import PROMPT, Child, numbered, wait_until


def waiting_reader(client: bowstring.Client, iterator: bowstring.StreamingIterator, pool: ThreadPoolExecutor) -> Future:
    """A step that waits for a batch in another thread."""
    step = pool.submit(next, iterator)
    wait_until(lambda: client.get_stats("numbers")["streams"][0]["readers"] == 1)
    return step


def test_closing_an_iterator_ends_a_wait_in_another_thread_within_a_second(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers")
    with ThreadPoolExecutor(1) as pool:
        step = waiting_reader(client, iterator, pool)
        started = time.monotonic()
        iterator.close()
        with pytest.raises(bowstring.Cancelled, match="closed while it waited"):
            step.result(10)
        assert time.monotonic() - started < PROMPT


def test_an_iterator_can_be_closed_after_a_cancelled_async_wait(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    async def main() -> None:
        iterator = client.iterator("numbers")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.2)
        iterator.close()

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < PROMPT


def test_acks_and_flushes_get_their_turn_while_another_thread_waits_for_a_batch(client: bowstring.Client) -> None:
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
    iterator = client.iterator("numbers", auto_ack=False)
    next(iterator)
    with ThreadPoolExecutor(1) as pool:
        step = waiting_reader(client, iterator, pool)
        started = time.monotonic()
        iterator.ack()
        iterator.flush(timeout=5)
        assert time.monotonic() - started < PROMPT
        client.complete_stream("numbers")
        assert isinstance(step.exception(10), StopIteration)
    (subscription,) = client.describe_stream("numbers")["subscriptions"]
    assert subscription["partitions"][0]["acked"] == 1


def test_a_producers_count_can_be_read_while_another_thread_flushes(client: bowstring.Client) -> None:
    client.create_stream("numbers", max_buffered_batches=1)
    client.subscribe("numbers", "only")
    producer = client.producer("numbers")
    producer.append(numbered(0))
    producer.append(numbered(10))
    flushing = threading.Thread(target=producer.flush)
    flushing.start()
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    started = time.monotonic()
    assert producer.stored == 1
    assert time.monotonic() - started < PROMPT
    client.ack("numbers", "only", {0: 1})
    flushing.join(10)
    assert producer.stored == 2


def test_a_stream_that_feeds_an_append_may_look_at_the_producer(client: bowstring.Client) -> None:
    producer = client.producer("numbers")
    seen: list[int] = []

    def batches() -> object:
        for number in range(3):
            seen.append(producer.stored)
            yield numbered(number * 10)

    producer.append(pa.RecordBatchReader.from_batches(numbered(0).schema, batches()))
    producer.close()
    assert len(seen) == 3
    assert producer.stored == 3


def test_a_program_that_forgets_to_close_its_iterators_ends(
    client: bowstring.Client, start_python: Callable[..., Child]
) -> None:
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
    program = f"""
import bowstring
client = bowstring.connect({client.url!r})
iterator = client.iterator("numbers")
print(next(iterator).num_rows)
producer = client.producer("numbers")
producer.append(next(client.iterator("numbers", subscription="b")))
"""
    child = start_python("-c", program)
    assert child.line() == "10"
    assert child.process.wait(10) == 0


def test_the_package_outlives_the_thread_that_has_imported_it(start_python: Callable[..., Child]) -> None:
    """Each thread ends before the next begins, which gets its place in memory, and with it its id."""
    program = (
        "import threading\n"
        "def use():\n"
        "    import bowstring\n"
        "    with bowstring.StreamCoordinator(http=None) as coordinator:\n"
        "        coordinator.client().create_stream('s')\n"
        "        print('used')\n"
        "for _ in range(5):\n"
        "    thread = threading.Thread(target=use)\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    assert start_python("-c", program).lines_left() == ["used"] * 5
