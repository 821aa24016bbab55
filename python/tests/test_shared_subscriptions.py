"""Iterators that share a subscription batch by batch: refusing, giving back, dying, and the dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa
import pytest

import bowstring

from .support import Child, ids, numbered, wait_until

FOR_EVER = 1_000_000


def fill(client: bowstring.Client, batches: int, partitions: int, rows: int = 10) -> None:
    with client.producer("numbers") as producer:
        for number in range(batches):
            producer.append(numbered(number * rows, rows), partition=number % partitions)


def letters(client: bowstring.Client, stream: str) -> pa.Table:
    with client.iterator(stream, subscription=None, follow=False, timeout=60) as batches:
        return pa.Table.from_batches(batches)


def test_iterators_share_batches_and_outnumber_partitions(client: bowstring.Client) -> None:
    client.create_stream("numbers", max_buffered_batches=1000)
    made = client.subscribe("numbers", "team", mode="shared")
    assert made["mode"] == "shared"
    assert made["sharing"]["max_deliveries"] == 5
    assert made["sharing"]["dead_letters"] == "numbers.dead-letters"
    # Who names no mode does as the subscription does.
    iterators = [client.iterator("numbers", subscription="team", timeout=60) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(ids, iterator) for iterator in iterators]
        fill(client, 40, 1)
        client.complete_stream("numbers")
        found = [one for worked in working for one in worked.result(timeout=60)]
    assert sorted(found) == list(range(400))


def test_a_large_batch_is_divided(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    with client.iterator("numbers", subscription="team", mode="shared", max_rows=64, timeout=60) as batches:
        fill(client, 1, 1, rows=200)
        client.complete_stream("numbers")
        found = [(handle.rows, handle.batch["id"].to_pylist()) for handle in acked(batches)]
    assert [rows for rows, _ in found] == [(0, 64), (64, 128), (128, 192), (192, 200)]
    assert [one for _, rows in found for one in rows] == list(range(200))


def acked(iterator: bowstring.StreamingIterator) -> list[bowstring.BatchHandle]:
    handles = []
    for handle in iterator.handles():
        with handle:
            handles.append(handle)
    return handles


def test_what_raises_comes_again_and_goes_to_the_dead_letters_with_the_reason(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    sharing = bowstring.Sharing(max_deliveries=3, bisect=True, dead_letters="poison")
    found, deliveries = [], Counter[int]()
    with client.iterator("numbers", subscription="team", mode="shared", sharing=sharing, timeout=60) as batches:
        fill(client, 3, 1, rows=8)
        client.complete_stream("numbers")
        for handle in batches.handles():
            rows = handle.batch["id"].to_pylist()
            deliveries[handle.delivery] += 1
            try:
                with handle:
                    if 13 in rows:
                        raise ValueError("thirteen")
                    found += rows
            except ValueError:
                pass
    assert sorted(found) == [one for one in range(24) if one != 13]
    assert deliveries == {1: 3, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2}, "three times the whole, then by halves: 4, 2 and 1 rows"
    poison = letters(client, "poison")
    assert poison["id"].to_pylist() == [13]
    assert poison["bowstring_reason"].to_pylist() == ["ValueError: thirteen"]
    assert poison["bowstring_deliveries"].to_pylist() == [6]
    assert (poison["bowstring_offset"].to_pylist(), poison["bowstring_row"].to_pylist()) == ([1], [5])


def test_an_exception_in_the_loop_is_the_reason_of_a_failure(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    sharing = bowstring.Sharing(max_deliveries=1)
    fill(client, 1, 1)

    def work() -> None:
        with client.iterator("numbers", subscription="team", mode="shared", sharing=sharing, timeout=60) as batches:
            for _ in batches:
                raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        work()
    wait_until(lambda: "numbers.dead-letters" in {found["stream"] for found in client.list_streams()})
    wait_until(lambda: client.describe_stream("numbers")["subscriptions"][0]["partitions"][0]["acked"] == 1)
    assert letters(client, "numbers.dead-letters")["bowstring_reason"][0].as_py() == "RuntimeError: out of luck"


def test_a_batch_is_given_back_renewed_or_delayed(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    fill(client, 1, 1)
    with client.iterator("numbers", subscription="team", mode="shared", ack_within=1.0, timeout=60) as batches:
        handles = batches.handles()
        first = next(handles)
        first.release()
        again = next(handles)
        assert (again.offset, again.delivery) == (0, 1), "nobody had begun with it"
        again.renew(3600.0)
        again.nack(delay=0.2, reason="not now")
        third = next(handles)
        assert (third.offset, third.delivery) == (0, 2)
        third.ack()
        batches.flush()
        first.ack()
        batches.flush()
    assert client.lag("numbers").subscriptions[0].total.batches == 0


def test_only_a_shared_subscription_takes_batches_back(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    fill(client, 1, 1)
    with client.iterator("numbers", timeout=60) as batches:
        handle = next(batches.handles())
        with pytest.raises(bowstring.InvalidArgument, match="shared"):
            handle.nack()
    with pytest.raises(bowstring.InvalidArgument, match="max_rows"):
        next(client.iterator("numbers", subscription="team", mode="shared", max_rows=0, timeout=60))
    with pytest.raises(bowstring.InvalidArgument, match="keys"):
        client.subscribe("numbers", "team", mode="shared", sharing=bowstring.Sharing(keys=["nothing"]))


def test_rows_of_one_key_stay_together(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    sharing = bowstring.Sharing(keys=["user"])
    client.subscribe("numbers", "team", mode="shared", sharing=sharing)
    iterators = [client.iterator("numbers", subscription="team", timeout=60) for _ in range(2)]
    assert [iterator.partitions for iterator in iterators] == [[], []]
    users = pa.array([f"user {one % 50}" for one in range(100)])
    with client.producer("numbers") as producer:
        for number in range(6):
            producer.append(pa.record_batch({"user": users, "n": pa.array(range(100))}), partition=number % 2)
    client.complete_stream("numbers")
    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(lambda one: [row for b in one for row in b["user"].to_pylist()], i) for i in iterators]
        first, second = (worked.result(timeout=60) for worked in working)
    assert len(first) + len(second) == 600
    assert set(first).isdisjoint(second)
    assert len(set(first) | set(second)) == 50


def test_32_processes_share_4_partitions_while_one_hangs_and_two_are_killed(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers", partitions=4, max_buffered_batches=2000)
    client.subscribe("numbers", "team", mode="shared")
    hanging, *killed = stuck = [start_child("share", client.url, "numbers", "team", 1) for _ in range(3)]
    workers = [start_child("share", client.url, "numbers", "team", FOR_EVER) for _ in range(29)]
    assert {child.line() for child in stuck + workers} == {"ready"}
    fill(client, 600, 4)
    done: list[int] = []
    for child in stuck:
        done.append(int(child.line()))
        assert child.line() == "hangs"
    for child in killed:
        child.kill()
    client.complete_stream("numbers")
    busy = []
    for child in workers:
        own = [int(line) for line in iter(child.line, "end")]
        busy.append(len(own))
        done += own
    assert sorted(set(done)) == list(range(0, 6000, 10)), "nothing is lost"
    # What was acked comes no more; what the three had and had not acked came to others.
    assert len(done) == 600, Counter(done).most_common(3)
    # How much each does is its machine's affair; but what is there goes round all that have nothing, whoever hangs.
    assert min(busy) >= 1, f"each of the 29 had something to do: {busy}"
    found = client.describe_stream("numbers")["subscriptions"][0]
    assert [partition["lag_batches"] for partition in found["partitions"]] == [0] * 4
    hanging.kill()


def test_what_a_killed_process_had_comes_again_as_another_delivery(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers")
    client.subscribe("numbers", "team", mode="shared", sharing=bowstring.Sharing(max_deliveries=2))
    child = start_child("share", client.url, "numbers", "team", 0)
    assert child.line() == "ready"
    fill(client, 1, 1)
    assert child.line() == "hangs"
    child.kill()
    with client.iterator("numbers", subscription="team", ack_within=60.0, timeout=60) as batches:
        (again,) = islice(batches.handles(), 1)
        assert again.delivery == 2
        again.nack(reason="twice is enough")
        client.complete_stream("numbers")
        assert list(batches) == []
    assert letters(client, "numbers.dead-letters")["bowstring_reason"].to_pylist() == ["twice is enough"] * 10
