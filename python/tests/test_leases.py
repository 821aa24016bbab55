"""Iterators that share a partitioned subscription: threads of one process, and processes that are killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

import bowstring

from .support import Child, ids, numbered, wait_until


def fill(client: bowstring.Client, batches: int, partitions: int) -> None:
    with client.producer("numbers") as producer:
        for number in range(batches):
            producer.append(numbered(number * 10), partition=number % partitions)


def held(client: bowstring.Client) -> list[int]:
    """How many partitions each consumer has."""
    consumers = client.describe_stream("numbers")["subscriptions"][0]["consumers"]
    return sorted(len(consumer["partitions"]) for consumer in consumers)


def test_iterators_share_partitions_and_each_batch_comes_once(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=4)
    made = client.subscribe("numbers", "team", mode="partitioned")
    assert made["mode"] == "partitioned"
    # Who names no mode does as the subscription does.
    iterators = [client.iterator("numbers", subscription="team", timeout=60) for _ in range(3)]

    def work(iterator: bowstring.StreamingIterator) -> list[int]:
        with iterator:
            return ids(iterator)

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, iterator) for iterator in iterators]
        wait_until(lambda: held(client) == [1, 1, 2])
        fill(client, 40, 4)
        client.complete_stream("numbers")
        found = [one for worked in working for one in worked.result(timeout=60)]
    assert sorted(found) == list(range(400))


def test_what_a_killed_process_held_goes_to_the_others(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers", partitions=2)
    client.subscribe("numbers", "team", mode="partitioned")
    child = start_child("consume", client.url, "numbers", "team", 3, 2, 2.0)
    fill(client, 20, 2)
    done = [int(child.line()) for _ in range(3)]
    assert child.line() == "ready"
    iterator = client.iterator("numbers", subscription="team", timeout=60)
    assert iterator.partitions == [], "what the other one has under way it is to finish first"
    assert len(held(client)) == 2
    child.kill()
    client.complete_stream("numbers")
    with iterator:
        found = ids(iterator)
    acked = [one for start in done for one in range(start, start + 10)]
    assert sorted(found + acked) == list(range(200)), "what it had acked comes no more, and all the rest once"


def test_an_ack_by_a_lost_lease_says_so(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers", subscription="team", mode="partitioned", auto_ack=False, timeout=60)
    assert held_after_opening(client, iterator) == [1]
    fill(client, 3, 1)
    assert ids([next(iterator)]) == list(range(10))
    client.seek("numbers", "team", "latest")
    client.seek("numbers", "team", "latest")
    iterator.ack()
    with pytest.raises(bowstring.LeaseLost) as raised:
        iterator.flush()
    assert raised.value.code == "lease_lost"
    iterator.flush()


def test_a_handle_acks_by_the_lease_by_which_its_batch_came(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers", subscription="team", mode="partitioned", timeout=60)
    fill(client, 3, 1)
    handles = iterator.handles()
    first = next(handles)
    assert first.offset == 0
    client.seek("numbers", "team", "earliest")
    # What was at hand already comes before.
    again = next(handle for handle in handles if handle.offset == 0)
    for ack in (first.ack, first.ack_through):
        ack()
        iterator.flush()
        assert acked(client) == 0, "it comes again, and has"
    again.ack()
    iterator.flush()
    assert acked(client) == 1
    iterator.close()


def acked(client: bowstring.Client) -> int:
    partitions = client.describe_stream("numbers")["subscriptions"][0]["partitions"]
    return sum(int(partition["acked"]) for partition in partitions)


def test_who_holds_what_another_waits_for_at_the_end_is_told_and_goes_on_after_its_acks(
    client: bowstring.Client,
) -> None:
    client.create_stream("numbers", partitions=2, max_buffered_batches=1000)
    client.subscribe("numbers", "team", mode="partitioned")
    fill(client, 200, 2)
    first = client.iterator("numbers", subscription="team", auto_ack=False, timeout=60)
    found = ids(islice(first, 101))
    with ThreadPoolExecutor(1) as pool, client.iterator("numbers", subscription="team", timeout=60) as other:
        working = pool.submit(ids, other)
        # One partition is to go over, and what of it was read ahead is given back.
        wait_until(lambda: len(held(client)) == 2 and in_flight(client) < 200)
        client.complete_stream("numbers")
        found += ids(first)
        assert 1010 <= len(found) < 2000
        first.ack()
        assert ids(first) == [], "now it waits for the other"
        found += working.result(timeout=60)
    assert sorted(found) == list(range(2000))


def in_flight(client: bowstring.Client) -> int:
    consumers = client.describe_stream("numbers")["subscriptions"][0]["consumers"]
    return sum(int(consumer["in_flight_batches"]) for consumer in consumers)


def test_an_asynchronous_loop_ends_while_nothing_more_comes_before_its_acks(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers", subscription="team", mode="partitioned", auto_ack=False, timeout=60)
    fill(client, 3, 1)
    client.complete_stream("numbers")

    async def rest() -> list[int]:
        return ids([batch async for batch in iterator])

    assert asyncio.run(rest()) == list(range(30))
    assert asyncio.run(rest()) == [], "nothing is acked"
    iterator.ack()
    assert asyncio.run(rest()) == [], "the end"
    iterator.close()


@pytest.mark.parametrize("lease", [0.0999, 3601.0])
def test_a_lease_that_is_too_short_or_too_long_is_refused(client: bowstring.Client, lease: float) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers", subscription="team", mode="partitioned", lease=lease)
    with pytest.raises(bowstring.InvalidArgument, match="lease"):
        next(iterator)


def held_after_opening(client: bowstring.Client, iterator: bowstring.StreamingIterator) -> list[int]:
    """An iterator joins when it is first used."""
    assert iterator.partitions == []
    return held(client)


def test_modes_and_what_leases_say_are_checked(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    client.subscribe("numbers", "alone")
    with pytest.raises(bowstring.InvalidArgument, match="is static"):
        client.subscribe("numbers", "alone", mode="partitioned")
    with pytest.raises(bowstring.InvalidArgument, match="no mode of a subscription"):
        client.subscribe("numbers", "team", mode="shared out")
    refused = client.iterator("numbers", subscription="team", mode="partitioned", partitions=[0])
    with pytest.raises(bowstring.InvalidArgument, match="leased"):
        next(refused)
