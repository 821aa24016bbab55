"""Coordinators of a spread stream that go, and come back at another address or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

import bowstring
from bowstring.spread import SpreadClient, finding

from .support import Served, ids, numbered, wait_until
from .test_spread import by_partition, patient


class Urls:
    """Where the coordinators are now, for a client that asks."""

    def __init__(self, urls: list[str | None]) -> None:
        self.urls = urls

    def __call__(self) -> list[str | None]:
        return list(self.urls)


@pytest.fixture
def moving(serve: Callable[..., Served], tmp_path: Path) -> Callable[[int], Served]:
    """Starts coordinator 0, 1, ... on its own folder, each time at another address."""
    return lambda index: serve("--data-dir", str(tmp_path / str(index)))


def test_a_producer_goes_on_at_another_address_and_each_batch_is_stored_once(moving: Callable[[int], Served]) -> None:
    served = [moving(0), moving(1)]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers", partitions=2, max_buffered_batches=100_000)
    producer = client.producer("numbers")
    for number in range(1, 4):
        for one in range(number * 100, number * 100 + 100):
            producer.append(numbered(one * 10))
        # In the middle of what is on its way.
        served[0].child.kill()
        where.urls[0] = None
        producer.append(numbered(number * 10_000), partition=1)
        served[0] = moving(0)
        where.urls[0] = served[0].url
    producer.append(numbered(0), partition=0)
    producer.flush()
    assert producer.stored == 304
    producer.complete()
    found = by_partition(client.iterator("numbers"))
    sent = [one * 10 for one in range(100, 400)]
    assert [first for _, first in found[0]] == [*sent[0::2], 0]
    assert [first for _, first in found[1] if first < 10_000] == sent[1::2]


def test_a_producer_with_a_name_goes_on_too_and_a_newer_run_fences_it(moving: Callable[[int], Served]) -> None:
    served = moving(0)
    where = Urls([served.url])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers")
    before = client.producer("numbers", producer_id="job")
    before.append(numbered(0))
    before.flush()
    producer = client.producer("numbers", producer_id="job")
    producer.append(numbered(10))
    producer.flush()
    served.child.kill()
    served = moving(0)
    where.urls[0] = served.url
    producer.append(numbered(20))
    producer.flush()
    with pytest.raises(bowstring.Fenced):
        before.append(numbered(30))
        before.flush()
    producer.complete()
    assert ids(client.iterator("numbers")) == list(range(30))


def test_an_iterator_goes_on_at_another_address_and_others_go_on_meanwhile(moving: Callable[[int], Served]) -> None:
    served = [moving(0), moving(1)]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers", partitions=2, max_buffered_batches=100_000)
    producer = client.producer("numbers")
    for number in range(100):
        producer.append(numbered(number * 10))
    producer.flush()
    iterator = client.iterator("numbers", timeout=60)
    found: dict[int, list[int]] = {0: [], 1: []}

    def take() -> None:
        batch = next(iterator)
        found[iterator.partition].append(batch["id"][0].as_py())

    for _ in range(20):
        take()
    served[0].child.kill()
    where.urls[0] = None
    # All that is left of the one that is there, and what is appended to it while the other one is away.
    for number in range(100, 110):
        producer.append(numbered(number * 10), partition=1)
    while len(found[1]) < 60:
        take()
    served[0] = moving(0)
    where.urls[0] = served[0].url
    producer.complete()
    for _ in range(110 - len(found[0]) - len(found[1])):
        take()
    with pytest.raises(StopIteration):
        next(iterator)
    assert found[0] == [number * 10 for number in range(0, 100, 2)]
    assert found[1] == [*(number * 10 for number in range(1, 100, 2)), *(number * 10 for number in range(100, 110))]
    wait_until(lambda: client.lag("numbers")["default"].total.batches == 0)


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_read_without_a_subscription_goes_on_at_another_address(moving: Callable[[int], Served], start: str) -> None:
    served = moving(0)
    where = Urls([served.url])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers", partitions=2, retain_seconds=3600)
    producer = client.producer("numbers")
    producer.append(numbered(0), partition=0)
    producer.flush()
    iterator = client.iterator("numbers", subscription=None, start=start, timeout=0.5)
    if start == "earliest":
        assert ids([next(patient(iterator))]) == list(range(10))
    with pytest.raises(bowstring.Timeout):
        next(iterator)
    (part,) = iterator._consumer._parts.values()
    wait_until(lambda: part._begin is not None)
    served.child.kill()
    where.urls[0] = None
    served = moving(0)
    # Both are there before it is read on: they come because it was known where the read had begun.
    with bowstring.connect(served.url).producer("numbers") as other:
        other.append(numbered(10), partition=0)
        other.append(numbered(20), partition=1)
    where.urls[0] = served.url
    client.complete_stream("numbers")
    assert sorted(ids(patient(iterator))) == list(range(10, 30))


def test_single_acks_at_another_address_lose_nothing(moving: Callable[[int], Served]) -> None:
    served = moving(0)
    where = Urls([served.url])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers")
    with client.producer("numbers") as producer:
        for number in range(4):
            producer.append(numbered(number * 10))
    iterator = client.iterator("numbers")
    handles = iterator.handles()
    first, second = next(handles), next(handles)
    assert (first.offset, second.offset) == (0, 1)
    second.ack()
    served.child.kill()
    served = moving(0)
    where.urls[0] = served.url
    client.complete_stream("numbers")
    again = []
    for handle in handles:
        again.append(handle.offset)
        handle.ack()
    iterator.close()
    assert set(again) >= {0, 2, 3}, "what was not acked comes again"
    assert list(client.iterator("numbers")) == []


@pytest.mark.parametrize("mode", ["partitioned", "shared"])
def test_leases_end_with_the_address_and_what_is_not_acked_comes_again(
    moving: Callable[[int], Served], mode: str
) -> None:
    served = [moving(0), moving(1)]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=60)
    client.create_stream("numbers", partitions=4)
    with client.producer("numbers") as producer:
        for number in range(40):
            producer.append(numbered(number * 10))
    with client.iterator("numbers", subscription="workers", mode=mode, timeout=60) as iterator:
        found = ids(next(iterator) for _ in range(10))
        iterator.flush()
        served[0].child.kill()
        served[0] = moving(0)
        where.urls[0] = served[0].url
        client.complete_stream("numbers")
        found += ids(iterator)
        iterator.flush()
    assert set(found) == set(range(400))
    assert client.lag("numbers")["workers"].total.batches == 0


def test_a_coordinator_that_stays_away_is_an_error_after_the_deadline(moving: Callable[[int], Served]) -> None:
    served = [moving(0), moving(1)]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=3)
    client.create_stream("numbers")
    with client.producer("numbers") as producer:
        producer.append(numbered(0), partition=0)
        producer.append(numbered(10), partition=1)
    iterator = client.iterator("numbers")
    assert sorted(ids([next(iterator), next(iterator)])) == list(range(20))
    served[1].child.kill()
    where.urls[1] = None
    with pytest.raises(bowstring.Unavailable) as caught:
        next(iterator)
    assert caught.value.retryable
    with pytest.raises(bowstring.Unavailable):
        client.describe_stream("numbers")


def test_a_failure_waits_for_what_is_at_a_coordinator_that_is_away(moving: Callable[[int], Served]) -> None:
    served = [moving(0), moving(1)]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=300)
    client.create_stream("numbers")
    with client.producer("numbers") as producer:
        for number in range(20):
            producer.append(numbered(number * 10))
    iterator = client.iterator("numbers", prefetch_batches=1)
    found = [next(iterator)["id"][0].as_py()]
    served[1].child.kill()
    where.urls[1] = None
    client.coordinator(0).fail_stream("numbers", "no more")
    raised: list[BaseException] = []

    def read() -> None:
        try:
            for batch in iterator:
                found.append(batch["id"][0].as_py())
        except bowstring.BowstringError as error:
            raised.append(error)

    reading = Thread(target=read)
    reading.start()
    table = iterator._consumer._table
    wait_until(lambda: isinstance(table.seats[0].found, bowstring.StreamFailed))
    with table.changed:
        # As after a hundred seconds.
        table.seats[0].since -= 100
        table.changed.notify_all()
    served[1] = moving(1)
    where.urls[1] = served[1].url
    back = bowstring.connect(served[1].url)
    with back.producer("numbers") as other:
        other.append(numbered(200))
    back.fail_stream("numbers", "no more")
    reading.join(120)
    assert isinstance(raised[0], bowstring.StreamFailed)
    assert sorted(found) == list(range(0, 210, 10))


def test_streams_that_a_coordinator_has_lost_are_told_wherever_it_is(serve: Callable[..., Served]) -> None:
    served = [serve(), serve()]
    where = Urls([one.url for one in served])
    client = SpreadClient(where, retry_deadline=30)
    client.create_stream("numbers")
    producer = client.producer("numbers")
    producer.append(numbered(0), partition=1)
    producer.flush()
    iterator = client.iterator("numbers", timeout=60)
    next(iterator)
    served[1].child.kill()
    where.urls[1] = serve().url
    with pytest.raises((bowstring.StreamNotFound, bowstring.StreamReplaced)):
        next(iterator)
    with pytest.raises((bowstring.StreamNotFound, bowstring.StreamReplaced)):
        producer.append(numbered(10), partition=1)
        producer.flush()
    with pytest.raises(bowstring.StreamNotFound, match="data directory"):
        client.describe_stream("numbers")


def test_a_coordinator_that_moves_while_its_client_is_made_is_reached_where_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bowstring.StreamCoordinator() as former, bowstring.StreamCoordinator() as now:
        where = Urls([former.url])
        client = SpreadClient(where)

        class Moving(bowstring.Client):
            def __init__(self, url: str, **options: object) -> None:
                super().__init__(url, **options)
                if url == former.url:
                    where.urls[0] = now.url
                    client._finder.look_again(0)

        monkeypatch.setattr(finding, "Client", Moving)
        first = client.coordinator(0)
        assert first.url == now.url
        assert client.coordinator(0) is first, "it is made once"
