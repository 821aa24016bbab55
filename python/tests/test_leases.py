"""Iterators that share a partitioned subscription: threads of one process, and processes that are killed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
