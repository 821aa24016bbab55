"""Epochs for consumers: each whole, in the order of the commits, and acked as a whole."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pytest

import bowstring

from .support import ids, numbered


def acked(client: bowstring.Client, stream: str = "numbers", subscription: str = "default") -> list[int]:
    """The subscription's cursor, by partition."""
    subscriptions = client.describe_stream(stream)["subscriptions"]
    (found,) = (one for one in subscriptions if one["subscription"] == subscription)
    return [place["acked"] for place in found["partitions"]]


def commit(client: bowstring.Client, epoch: int, partitions: Sequence[int], producer: str = "p") -> None:
    """An epoch with a batch of ten rows in each of these partitions, numbered by epoch and partition."""
    receipts = []
    for task, partition in enumerate(partitions):
        writer = client.writer("numbers", producer=producer, run="r", epoch=epoch, task=task, attempt=0)
        writer.append(numbered(epoch * 1000 + task * 10), partition=partition)
        receipts.append(writer.finish())
    client.open_epoch("numbers", producer, "r", epoch)
    assert client.commit_epoch("numbers", producer, "r", epoch, receipts) == "committed"


def large(client: bowstring.Client, epoch: int, batches: int, rows: int) -> None:
    """An epoch with so many batches in each partition."""
    batch = numbered(0, 1).take([0] * rows)
    receipts = []
    for task in range(3):
        writer = client.writer("numbers", producer="p", run="r", epoch=epoch, task=task, attempt=0)
        for _ in range(batches):
            writer.append(batch, partition=task)
        receipts.append(writer.finish())
    client.commit_epoch("numbers", "p", "r", epoch, receipts)


def rows(epoch: int, batches: int) -> list[int]:
    return list(range(epoch * 1000, epoch * 1000 + 10 * batches))


@pytest.fixture
def numbers(client: bowstring.Client) -> bowstring.Client:
    client.create_stream("numbers", partitions=3, max_buffered_batches=1000)
    return client


def test_each_epoch_is_whole_and_in_the_order_of_the_commits(numbers: bowstring.Client) -> None:
    commit(numbers, 0, [0, 1, 2])
    commit(numbers, 0, [2, 2, 0, 1], "q")
    commit(numbers, 1, [])
    commit(numbers, 2, [1])
    numbers.complete_stream("numbers")
    found = [(one.producer, one.id, sorted(ids(one))) for one in numbers.subscription("numbers").epochs()]
    assert found == [("p", 0, rows(0, 3)), ("q", 0, rows(0, 4)), ("p", 2, rows(2, 1))]
    assert acked(numbers) == [2, 3, 4 - 1]


def test_the_next_step_acks_the_epoch_before_even_if_it_was_not_read(numbers: bowstring.Client) -> None:
    for epoch in range(3):
        commit(numbers, epoch, [0, 1, 2])
    epochs = numbers.subscription("numbers").epochs()
    for expected in range(3):
        epoch = next(epochs)
        assert epoch.id == expected
        next(epoch)
        epochs.flush()
        assert acked(numbers) == [expected] * 3, "and nothing of the one that is read"
    epochs.close()
    assert next(numbers.subscription("numbers").epochs()).to_table()["id"].to_pylist() == rows(2, 3)


def test_with_an_epoch_acks_it_unless_an_exception_leaves_the_block(numbers: bowstring.Client) -> None:
    for epoch in range(4):
        commit(numbers, epoch, [0, 1])
    numbers.complete_stream("numbers")
    seen = []
    with numbers.subscription("numbers").epochs() as epochs:
        for epoch in epochs:
            try:
                with epoch:
                    seen.append(epoch.id)
                    if epoch.id == 1:
                        raise LookupError
            except LookupError:
                continue
    assert seen == [0, 1, 2, 3]
    assert acked(numbers) == [1, 1, 0], "those behind the failed one wait for it"
    assert [epoch.id for epoch in numbers.subscription("numbers").epochs()] == [1, 2, 3]


def test_without_auto_ack_an_epoch_is_acked_when_it_says_so(numbers: bowstring.Client) -> None:
    for epoch in range(3):
        commit(numbers, epoch, [0, 1])
    epochs = numbers.subscription("numbers").epochs(auto_ack=False)
    first, second, third = next(epochs), next(epochs), next(epochs)
    third.ack()
    epochs.flush()
    assert acked(numbers) == [0, 0, 0]
    first.ack()
    epochs.flush()
    assert acked(numbers) == [1, 1, 0]
    second.ack()
    epochs.flush()
    assert acked(numbers) == [3, 3, 0]
    epochs.close()
    with pytest.raises(bowstring.InvalidArgument, match="epoch 2 comes again"):
        third.ack()


def test_an_epoch_is_an_arrow_stream(numbers: bowstring.Client) -> None:
    for epoch in range(3):
        commit(numbers, epoch, [0, 1])
    epochs = numbers.subscription("numbers").epochs()
    assert sorted(pl.DataFrame(next(epochs))["id"].to_list()) == rows(0, 2)
    assert sorted(pa.table(next(epochs))["id"].to_pylist()) == rows(1, 2)
    third = next(epochs)
    assert third.schema == numbered(0).schema
    assert repr(third) == "CommittedEpoch(id=2, producer='p')"
    assert third.to_table().num_rows == 20
    assert third.to_table().num_rows == 0, "once"


def test_an_epoch_comes_with_its_commit_and_not_before(numbers: bowstring.Client) -> None:
    writer = numbers.writer("numbers", producer="p", run="r", epoch=0, task=0, attempt=0)
    writer.append(numbered(0), partition=0)
    receipt = writer.finish()
    epochs = numbers.subscription("numbers").epochs(timeout=0.3)
    with pytest.raises(bowstring.Timeout):
        next(epochs)
    committing = threading.Timer(0.1, numbers.commit_epoch, ("numbers", "p", "r", 0, [receipt]))
    committing.start()
    epochs = numbers.subscription("numbers").epochs(timeout=60)
    assert ids(next(epochs)) == list(range(10))
    committing.join()


def test_batches_without_an_epoch_are_epochs_by_themselves(numbers: bowstring.Client) -> None:
    commit(numbers, 0, [0, 1])
    with numbers.producer("numbers") as producer:
        producer.append(numbered(100), partition=0)
        producer.append(numbered(110), partition=0)
        producer.flush()
    commit(numbers, 1, [0, 1])
    numbers.complete_stream("numbers")
    found = [(one.id, one.producer, sorted(ids(one))) for one in numbers.subscription("numbers").epochs()]
    assert found[0] == (0, "p", rows(0, 2))
    assert found[-1] == (1, "p", rows(1, 2))
    assert [one[:2] for one in found[1:-1]] == [(None, None)] * 2
    assert [one[2] for one in found[1:-1]] == [list(range(100, 110)), list(range(110, 120))]


def test_epochs_of_some_partitions_are_their_share(numbers: bowstring.Client) -> None:
    commit(numbers, 0, [0, 1, 2])
    commit(numbers, 1, [2])
    commit(numbers, 2, [0])
    numbers.complete_stream("numbers")
    found = [(one.id, sorted(ids(one))) for one in numbers.subscription("numbers", "some").epochs(partitions=[0, 1])]
    assert found == [(0, rows(0, 2)), (2, rows(2, 1))]


def test_sizes_go_together_with_epochs(numbers: bowstring.Client) -> None:
    numbers.subscribe("numbers", "cut")
    for epoch in range(3):
        commit(numbers, epoch, [0, 0, 1, 1, 1])
    numbers.complete_stream("numbers")
    epochs = numbers.subscription("numbers").epochs(target_rows=25, linger=60)
    found = [[batch.num_rows for batch in epoch] for epoch in epochs]
    assert [sorted(sizes) for sizes in found] == [[10, 20, 20]] * 3
    assert acked(numbers) == [6, 9, 0]
    cut = numbers.subscription("numbers", "cut").epochs(target_rows=3)
    assert [len(list(epoch)) for epoch in cut] == [20] * 3
    assert acked(numbers, subscription="cut") == [6, 9, 0]


def test_a_large_epoch_does_not_have_to_fit_in_the_read_ahead(numbers: bowstring.Client) -> None:
    large(numbers, 0, batches=40, rows=20_000)
    numbers.complete_stream("numbers")
    epochs = numbers.subscription("numbers").epochs(prefetch_batches=2, prefetch_bytes=1 << 20)
    (total,) = [sum(batch.num_rows for batch in epoch) for epoch in epochs]
    assert total == 3 * 40 * 20_000


def test_async_epochs(numbers: bowstring.Client) -> None:
    for epoch in range(4):
        commit(numbers, epoch, [0, 1, 2])
    numbers.complete_stream("numbers")

    async def consume() -> list[tuple[int | None, list[int]]]:
        found = []
        async for epoch in numbers.subscription("numbers").epochs():
            async with epoch:
                if epoch.id != 2:
                    found.append((epoch.id, sorted(ids([batch async for batch in epoch]))))
        return found

    assert asyncio.run(consume()) == [(epoch, rows(epoch, 3)) for epoch in (0, 1, 3)]
    assert acked(numbers) == [4, 4, 4]


def test_a_seek_ends_the_epoch_with_an_error_and_not_as_if_it_were_whole(numbers: bowstring.Client) -> None:
    # Far more than can be on its way when the seek comes.
    large(numbers, 0, batches=50, rows=100_000)
    commit(numbers, 1, [0, 1] * 40)
    options = {"prefetch_batches": 1, "prefetch_bytes": 1, "local_socket": False}
    epochs = numbers.subscription("numbers").epochs(timeout=60, **options)
    epoch = next(epochs)
    next(epoch)
    numbers.seek("numbers", "default", {0: 50, 1: 50, 2: 50})
    with pytest.raises(bowstring.OffsetError, match="a seek"):
        epoch.to_table()
    with pytest.raises(bowstring.OffsetError, match="epoch 0"):
        epoch.ack()
    epoch = next(epochs)
    assert (epoch.id, epoch.to_table().num_rows) == (1, 800)
    epochs.close()


def test_immediate_streams_and_bounds_in_flight_are_refused(client: bowstring.Client) -> None:
    client.create_stream("fast", visibility="immediate")
    with pytest.raises(bowstring.InvalidArgument, match="fast is immediate"):
        next(client.subscription("fast").epochs())
    client.create_stream("numbers")
    with pytest.raises(bowstring.InvalidArgument, match="max_in_flight_batches"):
        next(client.subscription("numbers").epochs(max_in_flight_batches=1))


def test_a_subscription_pickles_and_gives_batches_too(numbers: bowstring.Client) -> None:
    commit(numbers, 0, [0])
    numbers.complete_stream("numbers")
    subscription = pickle.loads(pickle.dumps(numbers.subscription("numbers", "other")))
    assert (subscription.stream, subscription.name) == ("numbers", "other")
    assert repr(subscription) == f"Subscription({numbers.url!r}, 'numbers', 'other')"
    assert ids(subscription.iterator(auto_ack=False)) == list(range(10))
    epochs = pickle.loads(pickle.dumps(subscription.epochs()))
    assert [epoch.id for epoch in epochs] == [0]
