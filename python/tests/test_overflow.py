"""Where room runs out: subscriptions that skip or are evicted, waits that end, spilling."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pyarrow as pa
import pytest

import bowstring


@pytest.fixture
def client() -> Iterator[bowstring.Client]:
    with bowstring.StreamCoordinator(http=None) as coordinator:
        yield coordinator.client()


def append(client: bowstring.Client, numbers: range) -> None:
    with client.producer("s") as producer:
        for number in numbers:
            producer.append(pa.table({"n": [number]}))


def test_an_iterator_is_told_of_what_was_dropped_under_it(
    client: bowstring.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_stream("s", max_buffered_batches=4)
    described = client.subscribe("s", "screen", on_overflow="skip")
    assert (described["on_overflow"], described["eviction"]) == ("skip", None)
    append(client, range(10))
    with caplog.at_level(logging.WARNING, logger="bowstring"):
        iterator = client.iterator("s", subscription="screen", follow=False)
        delivered = list(iterator.batches_with_offsets())
    assert [(one.offset, one.skipped) for one in delivered] == [(6, 6), (7, 0), (8, 0), (9, 0)]
    assert iterator.skipped == 6
    assert [record.getMessage() for record in caplog.records] == [
        "6 batches of partition 0 of stream 's' were dropped before offset 6, where subscription 'screen' goes on"
    ]
    assert client.describe_stream("s")["subscriptions"][0]["partitions"][0]["skipped"] == 6


def test_an_evicted_subscription_is_refused_until_a_seek(client: bowstring.Client) -> None:
    client.create_stream("s", max_buffered_batches=4)
    client.subscribe("s", "job", on_overflow="evict")
    append(client, range(10))
    with pytest.raises(bowstring.SubscriptionEvicted, match="seek it") as evicted:
        next(client.iterator("s", subscription="job"))
    assert (evicted.value.code, evicted.value.retryable) == ("subscription_evicted", False)
    (described,) = client.describe_stream("s")["subscriptions"]
    assert described["eviction"]["lag_batches"] == 4
    assert any(reason.cause == "evicted" for reason in client.why("s").reasons)
    client.seek("s", "job", "earliest")
    with client.iterator("s", subscription="job", follow=False) as batches:
        assert [batch["n"][0].as_py() for batch in batches] == [6, 7, 8, 9]


def test_a_wait_ends_with_who_is_to_blame(client: bowstring.Client) -> None:
    described = client.create_stream("s", max_buffered_batches=4, max_wait_seconds=0.01, resume_percent=50)
    assert (described["options"]["max_wait_ms"], described["options"]["resume_percent"]) == (10, 50)
    client.subscribe("s", "slow")
    with pytest.raises(bowstring.BufferFull, match="subscription slow has held offset 0"):
        append(client, range(5))


def test_what_does_not_fit_is_spilled(client: bowstring.Client) -> None:
    client.create_stream("s", max_buffered_batches=4, full_policy="spill")
    client.subscribe("s", "slow")
    append(client, range(20))
    stats = client.get_stats("s")["streams"][0]
    assert (stats["buffered_batches"], stats["spooled_batches"]) == (4, 16)
    with client.iterator("s", subscription="slow", follow=False) as batches:
        assert [batch["n"][0].as_py() for batch in batches] == list(range(20))


def test_what_cannot_be_used_is_refused(client: bowstring.Client) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="resume_percent"):
        client.create_stream("s", resume_percent=101)
    client.create_stream("s")
    with pytest.raises(bowstring.InvalidArgument, match="hold, skip, evict"):
        client.subscribe("s", "job", on_overflow="drop")


def test_a_coordinator_says_how_streams_wait_that_do_not_say_it() -> None:
    with bowstring.StreamCoordinator(http=None, max_wait_seconds=1.5, resume_percent=40) as coordinator:
        client = coordinator.client()
        options = client.create_stream("s")["options"]
        assert (options["max_wait_ms"], options["resume_percent"]) == (1500, 40)
        options = client.create_stream("t", max_wait_seconds=0, resume_percent=100)["options"]
        assert (options["max_wait_ms"], options["resume_percent"]) == (0, 100)
    with pytest.raises(bowstring.InvalidArgument, match="resume_percent is 101"):
        bowstring.StreamCoordinator(http=None, resume_percent=101)
