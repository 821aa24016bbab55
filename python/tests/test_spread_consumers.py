"""Consumers of a stream over several coordinators that share a subscription, hang, come back, or are closed."""

from __future__ import annotations

import threading
from contextlib import suppress
from threading import Thread

import pytest

import bowstring
from bowstring import _native
from bowstring.handles import BatchHandle
from bowstring.spread import SpreadClient
from bowstring.spread.part import Part

from .support import ids, numbered, wait_until
from .test_spread import fill, three

__all__ = ["three"]


@pytest.mark.parametrize(("mode", "partitions"), [("shared", 3), ("partitioned", 6)])
def test_consumers_of_a_subscription_have_each_batch_once_together(
    three: SpreadClient, mode: str, partitions: int
) -> None:
    three.create_stream("numbers", partitions=partitions)
    fill(three, "numbers", 60)
    found: list[list[int]] = [[], []]

    def work(number: int) -> None:
        with three.iterator("numbers", subscription="workers", mode=mode) as iterator:
            found[number] += ids(iterator)

    threads = [Thread(target=work, args=(number,)) for number in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found[0] + found[1]) == list(range(600))


def test_what_a_shared_consumer_refuses_comes_again(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    fill(three, "numbers", 3)
    deliveries: dict[int, int] = {}
    with three.iterator("numbers", subscription="workers", mode="shared") as iterator:
        for handle in iterator.handles():
            deliveries[handle.partition] = handle.delivery
            if handle.partition == 2 and handle.delivery < 3:
                handle.nack(reason="not yet")
            else:
                handle.ack()
    assert deliveries == {0: 1, 1: 1, 2: 3}


def test_what_a_hanging_consumer_was_not_given_goes_to_others(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    fill(three, "numbers", 60)
    options = {"subscription": "workers", "mode": "shared", "timeout": 60.0}
    hanging = three.iterator("numbers", ack_within=2.0, auto_ack=False, **options)
    next(hanging)
    with three.iterator("numbers", **options) as other:
        assert sorted(ids(other)) == list(range(600))
    # On a busy machine it may have lost more than it was given, and says so.
    with suppress(bowstring.LeaseLost):
        hanging.close()


def test_a_consumer_that_was_away_goes_on_when_it_is_back(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    fill(three, "numbers", 6)
    with three.iterator("numbers", subscription="workers", mode="shared", ack_within=9.0, timeout=60) as iterator:
        found = ids([next(iterator)])
        iterator.ack()
        table = iterator._consumer._table
        wait_until(lambda: all(one.state == "ready" for one in table.seats))
        with table.changed:
            # As after nine seconds.
            table.caller_at -= 9
        wait_until(lambda: [one.state for one in table.seats] == ["idle"] * 3)
        found += ids(iterator)
        assert sorted(found) == list(range(60))


def test_an_ack_while_there_is_nothing_else_is_no_end(
    coordinator: bowstring.StreamCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SpreadClient([coordinator.url])
    client.create_stream("numbers")
    options = {"subscription": "workers", "mode": "shared", "ack_within": 600.0, "max_in_flight_batches": 1}
    holder = coordinator.client().iterator("numbers", auto_ack=False, **options)
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
        assert ids([next(holder)]) == list(range(10))
        producer.append(numbered(10))
        producer.complete()
    iterator = client.iterator("numbers", timeout=60, **options | {"max_in_flight_batches": None})
    handles = iterator.handles()
    table = iterator._open()._table
    given: list[BatchHandle] = []
    take = Part.take
    is_acked = threading.Event()

    def crossed(part: Part) -> object:
        if is_acked.is_set():
            holder.close()
        found = take(part)
        if found is None and not part.has_ended and not is_acked.is_set():
            # Nothing more before that is acked; before anybody hears of this, it is.
            wait_until(lambda: given and table.callers)
            given[0].ack()
            is_acked.set()
        return found

    monkeypatch.setattr(Part, "take", crossed)
    given.append(next(handles))
    given.append(next(handles))
    assert [one.offset for one in given] == [1, 0]
    given[1].ack()
    iterator.close()


def test_what_opens_while_the_iterator_is_closed_is_closed_too(
    three: SpreadClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.create_stream("numbers", partitions=3)
    iterator = three.iterator("numbers", subscription=None)
    # Nobody closes it a second time when it goes.
    consumer = iterator._open()
    before = set(threading.enumerate())
    opened: list[_native.Consumer] = []
    make = Part._consumer

    def late(part: Part, client: bowstring.Client) -> _native.Consumer:
        opened.append(make(part, client))
        iterator.close()
        return opened[-1]

    monkeypatch.setattr(Part, "_consumer", late)
    with pytest.raises(bowstring.Cancelled):
        next(iterator)
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert opened
    assert consumer.partitions == [0, 1, 2]
    for one in opened:
        with pytest.raises(bowstring.InvalidArgument, match="closed"):
            one.take(0.0)
