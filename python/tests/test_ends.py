"""The end of a stream, its failure, a time-out and a lost producer are four different signals."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import bowstring

from .support import PROMPT, Child, ids, numbered, wait_until


def started(client: bowstring.Client) -> None:
    with client.producer("numbers") as producer:
        for number in range(3):
            producer.append(numbered(number * 10))


def take_all(iterator: bowstring.StreamingIterator, got: list[int]) -> None:
    for batch in iterator:
        got += ids([batch])


def test_the_end_of_a_stream_ends_the_loop_and_stays_the_end(client: bowstring.Client) -> None:
    started(client)
    client.complete_stream("numbers")
    with client.iterator("numbers") as iterator:
        assert ids(iterator) == list(range(30))
        assert next(iterator, None) is None
    assert list(client.iterator("numbers")) == [], "all is acked"
    with pytest.raises(bowstring.InvalidArgument, match="closed"):
        _ = iterator.schema


def test_a_failed_stream_gives_what_was_buffered_and_then_the_reason(client: bowstring.Client) -> None:
    started(client)
    client.fail_stream("numbers", "the source has run dry")
    for prefetch in (1, 64):
        got: list[int] = []
        iterator = client.iterator("numbers", subscription=None, prefetch_batches=prefetch)
        with pytest.raises(bowstring.StreamFailed, match="the source has run dry") as caught:
            take_all(iterator, got)
        assert got == list(range(30))
        assert (caught.value.code, caught.value.retryable) == ("stream_failed", False)
    producer = client.producer("numbers")
    with pytest.raises(bowstring.StreamFailed, match="the source has run dry"):
        producer.append(numbered(30))
        producer.flush()


def test_a_producers_own_failure_comes_after_what_it_had_appended(client: bowstring.Client) -> None:
    producer = client.producer("numbers")
    for number in range(20):
        producer.append(numbered(number * 10))
    producer.fail("no more money")
    got: list[int] = []
    with pytest.raises(bowstring.StreamFailed, match="no more money"):
        take_all(client.iterator("numbers"), got)
    assert got == list(range(200))


def test_a_timeout_comes_after_what_was_there_and_reading_goes_on_afterwards(client: bowstring.Client) -> None:
    started(client)
    iterator = client.iterator("numbers", timeout=0.3)
    got: list[int] = []
    with pytest.raises(bowstring.Timeout) as caught:
        take_all(iterator, got)
    assert got == list(range(30))
    assert caught.value.retryable
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        next(iterator)
    assert 0.2 < time.monotonic() - before < PROMPT
    with client.producer("numbers") as producer:
        producer.append(numbered(30))
        producer.complete()
    take_all(iterator, got)
    assert got == list(range(40)), "nothing is lost and nothing comes twice"


def test_a_killed_producer_is_reported_lost_after_what_it_had_stored(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    child = start_child("keep_alive", client.url, "numbers", 1.0)
    assert child.line() == "ready"
    iterator = client.iterator("numbers", timeout=30)
    got: list[int] = []
    for _ in range(3):
        got += ids([next(iterator)])
    killed = time.monotonic()
    child.kill()
    with pytest.raises(bowstring.ProducerLost, match="lively") as caught:
        take_all(iterator, got)
    assert time.monotonic() - killed < PROMPT
    assert caught.value.retryable
    assert got == list(range(30))


def test_reading_goes_on_once_a_lost_producer_is_back(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    child = start_child("keep_alive", client.url, "numbers", 0.5)
    assert child.line() == "ready"
    child.kill()
    iterator = client.iterator("numbers", timeout=30)
    got: list[int] = []
    with pytest.raises(bowstring.ProducerLost):
        take_all(iterator, got)
    assert got == list(range(30)), "also for one who asks when it is lost already"
    with client.producer("numbers", producer_id="lively", keep_alive=5) as again:
        again.append(numbered(30))
        again.complete()
    take_all(iterator, got)
    assert got == list(range(40))


def test_a_producer_that_says_goodbye_is_not_lost(client: bowstring.Client) -> None:
    with client.producer("numbers", producer_id="polite", keep_alive=0.3) as producer:
        producer.append(numbered(0))
        producer.flush()
        wait_until(lambda: client.describe_stream("numbers")["producers"])
    iterator = client.iterator("numbers", timeout=1.0)
    next(iterator)
    with pytest.raises(bowstring.Timeout):
        next(iterator)


def test_an_error_while_waiting_reaches_the_consumer_within_a_second(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers", timeout=0.2)
    with pytest.raises(bowstring.Timeout):
        next(iterator)
    client.fail_stream("numbers", "gone")
    before = time.monotonic()
    with pytest.raises(bowstring.StreamFailed):
        next(iterator)
    assert time.monotonic() - before < PROMPT


def test_a_deleted_stream_ends_its_readers_with_a_reason(client: bowstring.Client) -> None:
    started(client)
    iterator = client.iterator("numbers", timeout=10)
    for _ in range(3):
        next(iterator)
    # An ack that is still on its way would be the first to hear of it.
    iterator.flush()
    client.delete_stream("numbers")
    with pytest.raises(bowstring.StreamFailed, match="the stream was deleted"):
        next(iterator)
