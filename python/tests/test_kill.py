"""Processes that are killed with SIGKILL: what is there afterwards, counted and compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread

import pyarrow as pa
import pytest

import bowstring

from .support import PROMPT, Child, Served, ids, numbered, wait_until

BATCHES = 40


def fill(client: bowstring.Client, stream: str, batches: int = BATCHES) -> None:
    with client.producer(stream) as producer:
        for number in range(batches):
            producer.append(numbered(number * 10))
        producer.complete()


def test_another_consumer_gets_exactly_what_a_killed_one_had_not_acked(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    fill(client, "numbers")
    child = start_child("consume", client.url, "numbers", "workers", 13, 5)
    done = [int(child.line()) for _ in range(13)]
    assert child.line() == "ready"
    child.kill()
    assert done == [number * 10 for number in range(13)]
    with client.iterator("numbers", subscription="workers") as iterator:
        batches = list(iterator.batches_with_offsets())
    assert [one.offset for one in batches] == list(range(13, BATCHES))
    assert ids(one.batch for one in batches) == list(range(130, BATCHES * 10))


def test_a_killed_consumer_holds_up_its_subscription_only_until_another_takes_over(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers", max_buffered_batches=8, partitions=2)
    client.subscribe("numbers", "workers")
    child = start_child("consume", client.url, "numbers", "workers", 4, 2)
    producer = client.producer("numbers")
    for number in range(12):
        producer.append(numbered(number * 10))
    acked = [int(child.line()) for _ in range(4)]
    assert child.line() == "ready"
    child.kill()
    got = [one for first in acked for one in range(first, first + 10)]
    with client.iterator("numbers", subscription="workers", timeout=20) as iterator:
        while len(got) < 120:
            got += ids([next(iterator)])
        for number in range(12, 30):
            producer.append(numbered(number * 10))
        completing = Thread(target=producer.complete)
        completing.start()
        got += ids(iterator)
    completing.join()
    assert sorted(got) == list(range(300))


def test_a_killed_producer_leaves_whole_batches_in_order_and_all_that_were_confirmed(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    client.create_stream("numbers", max_buffered_batches=100_000)
    child = start_child("produce", client.url, "numbers", 200)
    confirmed = [int(child.line()) for _ in range(50)][-1]
    child.kill()
    confirmed = max([confirmed, *(int(line) for line in child.lines_left() if line)])
    wait_until(lambda: client.get_stats("numbers")["streams"][0]["appenders"] == 0)
    client.complete_stream("numbers")
    got = ids(client.iterator("numbers"))
    assert len(got) >= confirmed * 10 > 0
    assert got == list(range(len(got))), "a prefix of what it sent, without gaps or halves"
    assert len(got) % 10 == 0


def test_a_writer_that_comes_after_the_abort_leaves_nothing_behind(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    client.abort_epoch("numbers", "job", "run", 1)
    with pytest.raises(bowstring.EpochError) as caught:
        late = client.writer("numbers", producer="job", run="run", epoch=1, task=0, attempt=0)
        late.append(numbered(0))
        late.finish()
    assert caught.value.code == "epoch_not_open"
    assert client.describe_stream("numbers")["buffered_batches"] == 0
    assert client.open_epoch("numbers", "job", "run", 1) == "open"
    again = client.writer("numbers", producer="job", run="run", epoch=1, task=0, attempt=1)
    again.append(numbered(10))
    assert client.commit_epoch("numbers", "job", "run", 1, [again.finish()]) == "committed"
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(10, 20))


def test_nothing_of_a_killed_writers_epoch_is_visible_and_the_next_run_starts_afresh(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
    child = start_child("write_epoch", client.url, "numbers", 1)
    assert child.line() == "ready"
    assert client.get_stats("numbers")["streams"][0]["buffered_batches"] == 6, "five are staged"
    child.kill()
    assert ids(client.iterator("numbers", subscription=None, follow=False)) == list(range(10))

    assert client.open_epoch("numbers", "job", "second run", 1) == "open"
    writer = client.writer("numbers", producer="job", run="second run", epoch=1, task=0, attempt=0)
    writer.append(numbered(10))
    receipts = [writer.finish()]
    assert client.commit_epoch("numbers", "job", "second run", 1, receipts) == "committed"
    assert client.commit_epoch("numbers", "job", "second run", 1, receipts) == "already_committed"
    assert client.get_stats("numbers")["streams"][0]["buffered_batches"] == 2, "what was staged is gone"
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(20))


def test_a_killed_coordinator_gives_every_client_a_retryable_error_within_its_deadline(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    client = bowstring.connect(served.url, retry_deadline=1.0)
    producer = client.producer("numbers")
    producer.append(numbered(0))
    producer.flush()
    iterator = client.iterator("numbers")
    assert ids([next(iterator)]) == list(range(10))
    served.child.kill()
    producer.append(numbered(10))

    calls: dict[str, Callable[[], object]] = {
        "read": lambda: next(iterator),
        "append": producer.flush,
        "control": lambda: client.describe_stream("numbers"),
        "epoch": lambda: client.open_epoch("numbers", "job", "run", 1),
    }
    for name, call in calls.items():
        started = time.monotonic()
        with pytest.raises(bowstring.Unavailable) as caught:
            call()
        assert time.monotonic() - started < PROMPT, name
        assert caught.value.retryable, name
        assert isinstance(caught.value, ConnectionError)
        assert served.address in str(caught.value), name
    with pytest.raises(bowstring.Unavailable):
        bowstring.connect(served.url, timeout=0.3)


def test_a_coordinator_that_ends_in_good_order_says_so(serve: Callable[..., Served]) -> None:
    served = serve("--shutdown-grace", "1s")
    client = bowstring.connect(served.url, retry_deadline=0.5)
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
    iterator = client.iterator("numbers")
    next(iterator)
    served.child.process.terminate()
    with pytest.raises(bowstring.Unavailable) as caught:
        next(iterator)
    assert caught.value.code in ("shutting_down", "unavailable")
    assert served.child.process.wait(10) == 0


def test_clients_that_wait_longer_than_a_restart_go_on_by_themselves(serve: Callable[..., Served]) -> None:
    served = serve()
    client = bowstring.connect(served.url, retry_deadline=30)
    client.create_stream("numbers")
    served.child.kill()
    again = serve("--listen", served.address)
    assert again.address == served.address
    assert client.list_streams() == [], "a coordinator keeps its streams in memory"
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
        producer.complete()
    assert pa.table(client.iterator("numbers")).num_rows == 10


def test_a_consumer_of_a_stream_that_a_restart_has_lost_is_told(serve: Callable[..., Served]) -> None:
    served = serve()
    client = bowstring.connect(served.url, retry_deadline=30)
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
    iterator = client.iterator("numbers", timeout=30)
    next(iterator)
    served.child.kill()
    serve("--listen", served.address)
    with pytest.raises((bowstring.StreamNotFound, bowstring.StreamReplaced)):
        next(iterator)
