"""Many small batches, taken together: each comes with its own place, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.reading import unpacked

from .support import numbered, wait_until


def filled(client: bowstring.Client, partitions: int = 5, epochs: int = 4, each: int = 30) -> dict[Any, pa.RecordBatch]:
    """Small batches of many epochs in many partitions, ended: by partition, offset and epoch."""
    client.create_stream("many", partitions=partitions, max_buffered_batches=10_000)
    expected = {}
    schema = numbered(0).schema
    for epoch in range(epochs):
        client.open_epoch("many", "p", "r", epoch)
        writer = client.writer("many", producer="p", run="r", epoch=epoch, task=0, attempt=0)
        for number in range(each):
            for partition in range(partitions):
                offset = epoch * each + number
                rows = [{"id": partition * 1000 + offset, "text": f"{row}"} for row in range(offset % 4)]
                one = pa.RecordBatch.from_pylist(rows, schema)
                writer.append(one, partition)
                expected[partition, offset, epoch] = one
        client.commit_epoch("many", "p", "r", epoch, [writer.finish()])
    client.complete_stream("many")
    return expected


def acked(client: bowstring.Client, subscription: str) -> dict[int, int]:
    (one,) = [one for one in client.describe_stream("many")["subscriptions"] if one["subscription"] == subscription]
    return {place["partition"]: place["acked"] for place in one["partitions"]}


@pytest.mark.parametrize("local_socket", [True, False])
def test_each_small_batch_of_many_partitions_says_where_it_is_from_and_is_acked_as_that(
    client: bowstring.Client, local_socket: bool
) -> None:
    expected = filled(client)
    found = {}
    done = dict.fromkeys(range(5), 0)
    iterator = client.iterator("many", subscription="a", local_socket=local_socket)
    for number, one in enumerate(iterator):
        found[iterator.partition, iterator.offset, iterator.epoch] = one
        assert iterator.last_batch_id == iterator.offset == done[iterator.partition]
        if number % 100 == 50:
            iterator.flush()
            assert acked(client, "a") == done, "all but this one"
        done[iterator.partition] += 1
    assert found == expected
    assert acked(client, "a") == done == dict.fromkeys(range(5), 120)
    iterator.close()


def test_offsets_come_with_small_batches_in_order_and_a_pickled_iterator_goes_on(client: bowstring.Client) -> None:
    expected = filled(client)
    with client.iterator("many", subscription="a") as iterator:
        seen = {}
        for one in iterator.batches_with_offsets():
            seen[one.partition, one.offset, one.epoch] = one.batch
            if len(seen) == 77:
                break
    copy = pickle.loads(pickle.dumps(iterator))
    assert acked(client, "a") == {
        partition: sum(1 for place in seen if place[0] == partition) for partition in range(5)
    }
    with copy:
        for one in copy.batches_with_offsets():
            place = (one.partition, one.offset, one.epoch)
            assert place not in seen
            seen[place] = one.batch
    assert seen == expected
    one = seen[2, 7, 0]
    assert pickle.loads(pickle.dumps(one)) == one, "a slice"


def test_closing_in_another_thread_ends_an_iteration_over_small_batches(client: bowstring.Client) -> None:
    expected = filled(client)
    client.subscribe("many", "keeps all")
    closed: list[str] = []
    for round_ in range(20):
        iterator = client.iterator("many", subscription=f"s{round_}")
        begun = threading.Event()

        def read(
            iterator: bowstring.StreamingIterator = iterator, begun: threading.Event = begun, stop: int = round_ * 25
        ) -> int:
            number = 0
            try:
                for number, one in enumerate(iterator.batches_with_offsets()):
                    assert one.batch == expected[one.partition, one.offset, one.epoch]
                    if number == stop:
                        begun.set()
            except (bowstring.Cancelled, bowstring.InvalidArgument) as error:
                closed.append(str(error))
            return number

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            wait_until(lambda begun=begun, reading=reading: begun.is_set() or reading.done())
            iterator.close()
            assert reading.result(30) >= round_ * 25
        assert list(iterator) == []
    assert all("closed" in reason for reason in closed)


def test_a_close_while_batches_are_taken_gives_none_of_them_with_the_place_of_another(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(client, partitions=1)
    iterator = client.iterator("many")

    def closing(*taken: Any) -> Iterator[pa.RecordBatch]:
        for number, one in enumerate(unpacked(*taken)):
            if number == 2:
                closer = threading.Thread(target=iterator.close)
                closer.start()
                closer.join()
            yield one

    monkeypatch.setattr("bowstring.feeding.unpacked", closing)
    assert list(iterator) == []
    assert iterator.offset is None


def test_a_cancelled_async_wait_that_is_still_taking_batches_gives_what_is_there(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = filled(client, partitions=1)
    going_on = threading.Event()

    def pausing(*taken: Any) -> Iterator[pa.RecordBatch]:
        for number, one in enumerate(unpacked(*taken)):
            yield one
            if number == 1:
                assert going_on.wait(30)

    async def main() -> list[tuple[int | None, pa.RecordBatch]]:
        iterator = client.iterator("many")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.5)
        found = []
        async for one in iterator:
            found.append((iterator.offset, one))
            if len(found) == 2:
                going_on.set()
        iterator.close()
        return found

    monkeypatch.setattr("bowstring.feeding.unpacked", pausing)
    found = asyncio.run(main())
    assert found == [(offset, one) for (_, offset, _), one in expected.items()]


def test_an_interrupt_between_batches_that_are_taken_together_skips_and_acks_none(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(filled(client, partitions=1).values())

    def interrupted(*taken: Any) -> Iterator[pa.RecordBatch]:
        for number, one in enumerate(unpacked(*taken)):
            if number == 2:
                raise KeyboardInterrupt
            yield one

    iterator = client.iterator("many", subscription="a")
    with monkeypatch.context() as patched:
        patched.setattr("bowstring.feeding.unpacked", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(iterator)
    assert [next(iterator), next(iterator)] == expected[:2]
    for _ in range(2):
        with pytest.raises(bowstring.InvalidArgument, match="make a new one"):
            next(iterator)
    iterator.close()
    assert list(client.iterator("many", subscription="a")) == expected[2:]
