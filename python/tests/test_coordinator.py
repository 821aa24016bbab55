"""The coordinator inside a Python process."""

from __future__ import annotations

import multiprocessing
import urllib.error
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

import bowstring

from .support import Served, get, ids, metric, numbered, wait_until


def fill(client: bowstring.Client, first: int = 0) -> None:
    with client.producer("numbers") as producer:
        for number in range(5):
            producer.append(numbered(first + number * 10))


def test_leaving_the_with_block_stops_it_and_a_second_stop_does_nothing() -> None:
    with bowstring.StreamCoordinator() as coordinator:
        fill(coordinator.client())
        url = coordinator.url
    coordinator.stop()
    with pytest.raises(bowstring.Unavailable):
        bowstring.connect(url, timeout=0.2)


def test_readers_are_told_when_it_stops(coordinator: bowstring.StreamCoordinator) -> None:
    client = bowstring.connect(coordinator.url, retry_deadline=0.5)
    fill(client)
    iterator = client.iterator("numbers")
    for _ in range(5):
        next(iterator)
    coordinator.stop(grace=0.5)
    with pytest.raises(bowstring.Unavailable):
        next(iterator)


def test_two_in_one_process_know_nothing_of_each_other(coordinator: bowstring.StreamCoordinator) -> None:
    with bowstring.StreamCoordinator() as other:
        assert coordinator.url != other.url
        assert coordinator.http_url != other.http_url
        fill(coordinator.client())
        fill(other.client(), first=1000)
        got = [list(one.client().iterator("numbers", subscription=None, follow=False)) for one in (coordinator, other)]
    assert [ids(batches)[0] for batches in got] == [0, 1000]
    assert ids(coordinator.client().iterator("numbers", subscription="b", follow=False)) == list(range(50))


def test_an_address_that_cannot_be_used_is_named() -> None:
    with pytest.raises(bowstring.InvalidArgument, match="nowhere"):
        bowstring.StreamCoordinator(listen="nowhere")
    with pytest.raises(bowstring.InvalidArgument, match="max_buffered_batches"):
        bowstring.StreamCoordinator(max_buffered_batches=0)
    with bowstring.StreamCoordinator(http=None) as running:
        assert running.http_url is None
        with pytest.raises(bowstring.InvalidArgument, match="in use"):
            bowstring.StreamCoordinator(listen=running.url.removeprefix("grpc://"))


def test_stats_have_the_keys_that_drls_users_know(coordinator: bowstring.StreamCoordinator) -> None:
    client = coordinator.client()
    client.create_stream("numbers", max_buffered_batches=16, max_buffered_bytes=1 << 20)
    fill(client)
    with client.iterator("numbers", subscription="trainer") as iterator:
        next(iterator)
        next(iterator)
        iterator.flush()
        stats = coordinator.get_stats()
        assert stats["batches_published"] == 5
        assert stats["batches_gc"] == 1, "acked by the only subscription"
        assert stats["buffer_size"] == 4
        assert stats["max_buffered"] == 16
        assert 0 < stats["buffered_bytes"] <= stats["max_buffered_bytes"] == 1 << 20
        assert stats["num_consumers"] == 1
        assert stats["consumer_cursors"] == {"trainer": {0: 1}}
        assert (stats["complete"], stats["error"], stats["latest_watermark"]) == (False, None, None)
    client.create_stream("failed")
    coordinator.signal_error("failed", "broken")
    coordinator.signal_complete("numbers")
    both = coordinator.get_stats()
    assert (both["streams"]["numbers"]["complete"], both["streams"]["failed"]["error"]) == (True, "broken")
    assert coordinator.get_stats("failed")["complete"] is False
    with pytest.raises(bowstring.StreamNotFound):
        coordinator.get_stats("none")


def test_waiting_for_the_drain_ends_with_the_last_ack_or_says_what_is_left(
    coordinator: bowstring.StreamCoordinator,
) -> None:
    client = coordinator.client()
    fill(client)
    client.subscribe("numbers", "only")
    with pytest.raises(bowstring.Timeout, match="'numbers': 5"):
        coordinator.wait_for_drain(0.1)
    client.ack("numbers", "only", {0: 5})
    coordinator.wait_for_drain(5, "numbers")


def test_metrics_and_health_are_served_over_http(coordinator: bowstring.StreamCoordinator) -> None:
    client = coordinator.client()
    assert get(f"{coordinator.http_url}/healthz")
    assert get(f"{coordinator.http_url}/readyz")
    fill(client)
    with client.iterator("numbers", subscription="trainer", follow=False) as iterator:
        assert len(list(iterator)) == 5
    text = get(f"{coordinator.http_url}/metrics")
    numbers = {"stream": "numbers"}
    assert metric(text, "bowstring_appended_rows_total", **numbers, partition="0") == 50
    assert metric(text, "bowstring_delivered_batches_total", **numbers) == 5
    assert metric(text, "bowstring_acked_batches_total", **numbers, subscription="trainer") == 5
    assert metric(text, "bowstring_buffered_batches", **numbers) == 0
    assert metric(text, "bowstring_buffered_batches_limit", **numbers) == 64
    assert metric(text, "bowstring_delivery_latency_seconds_count", **numbers) == 5
    with pytest.raises(bowstring.StreamNotFound):
        client.describe_stream("none")
    text = get(f"{coordinator.http_url}/metrics")
    assert metric(text, "bowstring_errors_total", code="stream_not_found") == 1
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{coordinator.http_url}/nothing")


def test_a_blocked_producer_shows_in_the_metrics(coordinator: bowstring.StreamCoordinator) -> None:
    client = coordinator.client()
    client.create_stream("numbers", max_buffered_batches=1)
    producer = client.producer("numbers")
    producer.append(numbered(0))
    producer.append(numbered(10))

    def waiting() -> float:
        return metric(get(f"{coordinator.http_url}/metrics"), "bowstring_waiting_appenders", stream="numbers")

    wait_until(lambda: waiting() == 1)
    client.subscribe("numbers", "only")
    client.ack("numbers", "only", {0: 1})
    producer.flush()
    text = get(f"{coordinator.http_url}/metrics")
    assert waiting() == 0
    assert metric(text, "bowstring_producer_blocked_seconds_total", stream="numbers") > 0


def read_in_child(url: str, iterator: bowstring.StreamingIterator, results: Connection) -> None:
    """What a forked child can do; it ends by itself."""
    got = ids(bowstring.connect(url).iterator("numbers", subscription="child", follow=False))
    results.send(("read", got))
    try:
        next(iterator)
    except bowstring.BowstringError as error:
        results.send(("inherited", error.code))
    with bowstring.connect(url).producer("numbers") as producer:
        producer.append(numbered(50))
    results.send(("appended", producer.stored))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_connects_reads_and_appends_and_the_parent_goes_on(
    coordinator: bowstring.StreamCoordinator,
) -> None:
    client = coordinator.client()
    fill(client)
    iterator = client.iterator("numbers", subscription="parent")
    next(iterator)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=read_in_child, args=(coordinator.url, iterator, there))
    child.start()
    for expected in (("read", list(range(50))), ("inherited", "invalid_argument"), ("appended", 1)):
        assert here.poll(20)
        assert here.recv() == expected
    child.join(20)
    assert child.exitcode == 0
    client.complete_stream("numbers")
    assert ids(iterator) == list(range(10, 60)), "the parent's own objects work as before"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_can_leave_the_parents_coordinator_alone(coordinator: bowstring.StreamCoordinator) -> None:
    child = multiprocessing.get_context("fork").Process(target=coordinator.stop)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    fill(coordinator.client())
    assert coordinator.get_stats("numbers")["batches_published"] == 5


def test_the_served_coordinator_has_the_same_http_endpoints(serve: Callable[..., Served]) -> None:
    served = serve()
    client = bowstring.connect(served.url)
    fill(client)
    assert get(f"{served.http_url}/readyz")
    text = get(f"{served.http_url}/metrics")
    assert metric(text, "bowstring_buffered_batches", stream="numbers") == 5
    assert metric(text, "bowstring_open_connections") >= 1
